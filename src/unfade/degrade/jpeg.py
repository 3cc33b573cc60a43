"""JPEG compression: by the real codec, or by its arithmetic in torch, batched on any device.

The torch form does what libjpeg does between the entropy coder's two ends (which lose nothing): colour
transform, 2x2 chroma averaging, 8x8 DCT, quantisation by Annex K's tables scaled by quality, and back with
"fancy" chroma interpolation. A test holds the two against each other.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from unfade.degrade.degradation import Codec, Degradation, Draw
from unfade.degrade.view import View

# ITU-T T.81, Annex K, tables K.1 and K.2, row by row.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
)  # fmt: skip


@cache
def _dct(device: torch.device) -> Tensor:
    """The orthonormal 8-point DCT-II matrix."""
    index = torch.arange(8, dtype=torch.float32, device=device)
    matrix = torch.cos((2 * index[None, :] + 1) * index[:, None] * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def quantisation_table(base: tuple[int, ...], quality: Tensor) -> Tensor:
    """Annex K's table scaled as libjpeg does, `[B, 8, 8]` for qualities `[B]` in 1 to 100."""
    quality = quality.round().clamp(1, 100)
    scale = torch.where(quality < 50, torch.floor(5000 / quality), 200 - 2 * quality)
    table = torch.tensor(base, dtype=torch.float32, device=quality.device)
    return torch.floor((table * scale[:, None] + 50) / 100).clamp(1, 255).reshape(-1, 8, 8)


def _quantise(plane: Tensor, table: Tensor) -> Tensor:
    """One plane `[B, H, W]` on the 0 to 255 scale, sides multiples of 8, through DCT and quantiser."""
    batch, height, width = plane.shape
    blocks = plane.reshape(batch, height // 8, 8, width // 8, 8).transpose(2, 3) - 128
    matrix = _dct(plane.device)
    steps = table[:, None, None]
    coefficients = torch.round(matrix @ blocks @ matrix.T / steps) * steps
    restored = torch.round(matrix.T @ coefficients @ matrix) + 128
    return restored.clamp(0, 255).transpose(2, 3).reshape(batch, height, width)


def _pad(x: Tensor, multiple: int) -> Tensor:
    bottom, right = -x.shape[2] % multiple, -x.shape[3] % multiple
    return functional.pad(x, (0, right, 0, bottom), mode="replicate")


def _upsample(chroma: Tensor) -> Tensor:
    """Twice the size by libjpeg's triangle filter: 3/4 of the nearer sample, 1/4 of the farther, per axis."""
    return functional.interpolate(chroma[:, None], scale_factor=2.0, mode="bilinear", align_corners=False)[
        :, 0
    ]


def _torch_round_trip(x: Tensor, quality: Tensor) -> Tensor:
    height, width = x.shape[2:]
    red, green, blue = _pad(torch.round(x * 255), 16).unbind(1)
    luma = torch.round(0.299 * red + 0.587 * green + 0.114 * blue)
    blue_difference = torch.round(128 - 0.168736 * red - 0.331264 * green + 0.5 * blue)
    red_difference = torch.round(128 + 0.5 * red - 0.418688 * green - 0.081312 * blue)
    luma = _quantise(luma, quantisation_table(_LUMA, quality))
    table = quantisation_table(_CHROMA, quality)
    half = (height + 1) // 2, (width + 1) // 2
    cb, cr = (
        torch.round(
            _upsample(_quantise(torch.round(functional.avg_pool2d(plane, 2)), table)[:, : half[0], : half[1]])
        )
        - 128
        for plane in (blue_difference, red_difference)
    )
    luma = luma[:, : 2 * half[0], : 2 * half[1]]
    rgb = torch.stack((luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb), 1)
    return (torch.round(rgb).clamp(0, 255) / 255)[:, :, :height, :width]


def _libjpeg_round_trip(x: Tensor, quality: Tensor) -> Tensor:
    import numpy as np
    import pyvips

    decoded: list[Tensor] = []
    for image, level in zip(x, quality.tolist(), strict=True):
        pixels = torch.round(image.detach().cpu() * 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        encoded = pyvips.Image.new_from_array(pixels, interpretation="srgb").jpegsave_buffer(
            Q=min(100, max(1, round(level))), subsample_mode="on"
        )
        back = np.asarray(pyvips.Image.jpegload_buffer(encoded).numpy(), dtype=np.float32)
        decoded.append(torch.from_numpy(back).permute(2, 0, 1) / 255)
    return torch.stack(decoded).to(x)


def jpeg_round_trip(x: Tensor, quality: Tensor, codec: Codec = "libjpeg") -> Tensor:
    """Compressed with 4:2:0 chroma and decoded again.

    Args:
        x: `[B, 3, H, W]` in [0, 1]; rounded to 8 bits first, as a file would be.
        quality: `[B]` in 1 to 100.
        codec: "libjpeg" for the real one, "torch" for its arithmetic on the tensor's own device.
    """
    return _libjpeg_round_trip(x, quality) if codec == "libjpeg" else _torch_round_trip(x, quality)


@dataclass(frozen=True, slots=True)
class Jpeg(Degradation):
    """JPEG compression; quality rises to 100 as severity falls.

    Attributes:
        quality: `[B]` in 1 to 100.
        codec: which implementation.
    """

    name: ClassVar[str] = "jpeg"
    quality: Tensor
    codec: Codec

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        return cls(draw.ranged((35, 75), (8, 35)), draw.codec)

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        if view.is_reduced(x):
            return x
        quality = 100 - (100 - self.quality) * severity.reshape(-1)
        return jpeg_round_trip(x, quality, self.codec)
