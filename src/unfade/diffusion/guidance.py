"""Classifier-free guidance around any denoiser, with a scale and an interval of diffusion times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from unfade.core import Condition, Denoiser


@dataclass(frozen=True, slots=True)
class Contrast:
    """What a guided denoiser is told: what to go towards and what to go away from.

    Attributes:
        positive: condition of the first evaluation.
        negative: condition of the second.
    """

    positive: Condition
    negative: Condition

    def crop(self, top: int, left: int, height: int, width: int) -> "Contrast":
        return Contrast(
            self.positive.crop(top, left, height, width), self.negative.crop(top, left, height, width)
        )


def guided(denoiser: Denoiser, scale: float, above: float = -math.inf) -> Denoiser:
    """The denoiser led away from the negative condition: `n + scale (p - n)`.

    Args:
        denoiser: evaluated once for the positive condition and once for the negative one.
        scale: at least 1; 1 is no guidance and costs a single evaluation.
        above: guidance acts only at diffusion times larger than this; elsewhere there is one evaluation.

    Returns:
        A denoiser that takes a `Contrast`.

    Raises:
        ValueError: the scale is below 1.

    Source: Ho and Salimans 2022 (arXiv 2207.12598) as written in Imagen (arXiv 2205.11487, eq. 2).
    """
    if scale < 1:
        raise ValueError(f"a guidance scale is at least 1, not {scale}")

    def contrasted(x: Tensor, t: float, condition: Condition) -> Tensor:
        if not isinstance(condition, Contrast):
            raise TypeError(f"guidance needs a Contrast, not {type(condition).__name__}")
        positive = denoiser(x, t, condition.positive)
        if scale == 1 or t <= above:
            return positive
        negative = denoiser(x, t, condition.negative)
        return negative + scale * (positive - negative)

    return contrasted


def guided_steps(steps: int, end: float) -> int:
    """How many of `steps` come before the share `end` of them is reached; of 50 and 0.85, the first 43.

    Raises:
        ValueError: `end` is not a share.
    """
    if not 0 <= end <= 1:
        raise ValueError(f"guidance ends at a share of the steps, 0 to 1, not {end}")
    return math.ceil(steps * end - 1e-9)


def guidance_floor(times: Sequence[float], end: float) -> float:
    """The diffusion time down to which guidance acts, so that only the first `guided_steps` have it.

    Args:
        times: of the steps, decreasing.
        end: share of the steps after which there is no guidance.
    """
    count = guided_steps(len(times), end)
    return -math.inf if count >= len(times) else times[count]
