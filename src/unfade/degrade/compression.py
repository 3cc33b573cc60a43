"""H.264 as a photo meets it: a still taken from footage."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from unfade.degrade.degradation import Degradation, Draw
from unfade.degrade.view import View
from unfade.media.compression import compressed

# 0 would be a lossless mode of its own.
_FINEST, _COARSEST = 1.0, 51.0


@dataclass(frozen=True, slots=True)
class H264(Degradation):
    """An intra picture of H.264 with 4:2:0 chroma; the step of its quantiser is proportional to severity.

    Six points of the quantiser double its step (ITU-T H.264, 8.5.9), so half the severity is six points less.

    Attributes:
        quantiser: `[B]` in 1 to 51, at severity 1; rounded when it is used.
    """

    name: ClassVar[str] = "h264"
    quantiser: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        return cls(draw.ranged((24, 34), (34, 46)))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        if view.is_reduced(x):
            return x
        finer = 6 * torch.log2(severity.reshape(-1).to(self.quantiser).clamp_min(1e-6))
        quantisers = (self.quantiser + finer).clamp(_FINEST, _COARSEST).tolist()
        stills = [
            compressed(image[None], "h264", quantiser, constant=True)
            for image, quantiser in zip(x, quantisers, strict=True)
        ]
        return torch.cat(stills)
