"""Footage as a tensor, and what its file said about itself. A photo is a clip with one frame."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

Colour = Literal["grey", "rgb", "cmyk"]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file said about itself and its copy must say again.

    `blobs` holds raw metadata blocks by kind ("exif", "xmp", "iptc"); orientation is already baked into the
    pixels and reset in them. `notes` are short texts to store with the output (provenance).
    """

    format: str | None = None
    bit_depth: int = 8
    colour: Colour = "rgb"
    icc: bytes | None = None
    blobs: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    notes: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames in sRGB with their timing.

    Attributes:
        frames: float tensor `[T, 3, H, W]` in [0, 1], sRGB-encoded (grey footage has three equal channels).
        fps: frames a second as an exact fraction; None for a photo.
        alpha: float tensor `[T, 1, H, W]` in [0, 1], or None where the file has no alpha.
        metadata: what the file said about itself.

    Raises:
        ValueError: the shapes don't fit together or the frames aren't floating point.
    """

    frames: Tensor
    fps: Fraction | None = None
    alpha: Tensor | None = None
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape = tuple(self.frames.shape)
        if len(shape) != 4 or shape[1] != 3 or 0 in shape:
            raise ValueError(f"a clip's frames are [T, 3, H, W] with nothing empty, not {shape}")
        if not self.frames.is_floating_point():
            raise ValueError(f"a clip's frames are floating point in [0, 1], not {self.frames.dtype}")
        if self.alpha is not None and tuple(self.alpha.shape) != (shape[0], 1, *shape[2:]):
            raise ValueError(f"alpha of shape {tuple(self.alpha.shape)} does not fit frames of shape {shape}")

    @property
    def num_frames(self) -> int:
        return self.frames.shape[0]

    @property
    def height(self) -> int:
        return self.frames.shape[2]

    @property
    def width(self) -> int:
        return self.frames.shape[3]

    @property
    def megapixels(self) -> float:
        """Millions of pixels in one frame."""
        return self.height * self.width / 1e6

    def with_frames(self, frames: Tensor) -> "Clip":
        """The same clip with other pixels; alpha is kept only if it still fits."""
        alpha = self.alpha
        if alpha is not None and (alpha.shape[0], *alpha.shape[2:]) != (frames.shape[0], *frames.shape[2:]):
            raise ValueError("frames of another size need their own alpha: pass it with dataclasses.replace")
        return replace(self, frames=frames)

    @staticmethod
    def of(image: Tensor) -> "Clip":
        """A photo `[3, H, W]` as a clip of one frame."""
        return Clip(image.unsqueeze(0).to(torch.float32))
