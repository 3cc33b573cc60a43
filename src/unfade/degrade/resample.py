"""Too few pixels: down and up again, with JPEG at the low resolution where a camera would have put it."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from unfade.degrade.degradation import Codec, Degradation, Draw, Ranges
from unfade.degrade.jpeg import jpeg_round_trip
from unfade.degrade.view import View

_FILTERS = ("bicubic", "bilinear", "area")


def resize(x: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    """Anti-aliased resize; "bicubic" is Catmull-Rom (a = -0.5), the convention of the published SR tests."""
    if (height, width) == tuple(x.shape[2:]):
        return x
    if mode == "area":
        return functional.interpolate(x, (height, width), mode="area")
    return functional.interpolate(x, (height, width), mode=mode, antialias=True, align_corners=False)


@dataclass(frozen=True, slots=True)
class Downsample(Degradation):
    """Reduced to a share of its size and enlarged back by bicubic interpolation.

    Attributes:
        share: `[B]` remaining share of each side at severity 1, in (0, 1].
        filter: `[B]` index of the reducing filter: 0 bicubic, 1 bilinear, 2 area.
        quality: `[B]` JPEG quality at the low resolution at severity 1, rising to 95; 0 for no JPEG.
        codec: the JPEG implementation.
    """

    name: ClassVar[str] = "downsample"
    share: Tensor
    filter: Tensor
    quality: Tensor
    codec: Codec

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        """Mostly bicubic by 2, 3 or 4, as super-resolution is tested; else any share and filter."""
        factors = {"mild": (2, 2), "strong": (3, 4), "any": (2, 4)}[draw.strength]
        span = factors[1] - factors[0] + 1
        whole = 1.0 / (draw.choice(span) + factors[0])
        free = draw.uniform(1 / factors[1], 0.95 if draw.strength == "any" else 1 / factors[0])
        classic = draw.chance(0.7)
        filters = torch.where(classic, 0, draw.choice(len(_FILTERS)))
        return cls(torch.where(classic, whole, free), filters, torch.zeros_like(whole), draw.codec)

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        if view.is_reduced(x):
            return x
        height, width = x.shape[2:]
        corrupted: list[Tensor] = []
        for index, amount in enumerate(severity.reshape(-1).tolist()):
            share = 1 - (1 - float(self.share[index])) * amount
            size = max(1, round(height * share)), max(1, round(width * share))
            small = resize(x[index : index + 1], *size, _FILTERS[int(self.filter[index])]).clamp(0, 1)
            quality = float(self.quality[index])
            if quality > 0 and share < 1:
                now = torch.tensor([95 - (95 - quality) * amount], device=x.device)
                small = jpeg_round_trip(small, now, self.codec)
            corrupted.append(resize(small, height, width))
        return torch.cat(corrupted)


@dataclass(frozen=True, slots=True)
class Resolution(Downsample):
    """Progressive's loss of resolution: a share of 1/3 to 1/2 (mild) or 1/8 to 1/4 (strong), with JPEG.

    Source: Progressive Restoration (arXiv 2512.02273), first dataset; ranges are this project's.
    """

    name: ClassVar[str] = "resolution"
    shares: ClassVar[Ranges] = ((1 / 3, 1 / 2), (1 / 8, 1 / 4))
    qualities: ClassVar[Ranges] = ((60, 90), (30, 60))

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        share = draw.ranged(*cls.shares)
        quality = draw.ranged(*cls.qualities)
        return cls(share, torch.zeros_like(share, dtype=torch.int64), quality, draw.codec)
