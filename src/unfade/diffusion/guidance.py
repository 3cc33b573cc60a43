"""Guidance around any denoiser: away from a negative condition, and towards the degraded footage."""

import math
from collections.abc import Callable, Sequence
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


def dynamic_scale(scale: float, steps: int) -> Callable[[float], float]:
    """CogVideoX's dynamic guidance, by diffusion time: `1 + scale (1 - cos(pi ((steps - t) / steps)^5)) / 2`.

    The formula was meant for the number of the step where the time stands; as published models are used with it, the
    scale goes up and down between 1 and 1 + scale.

    Source: diffusers' CogVideoX pipelines (issue 9641 is about the time in it).
    """
    return lambda t: 1 + scale * (1 - math.cos(math.pi * ((steps - t) / steps) ** 5)) / 2


def guided(
    denoiser: Denoiser,
    scale: float,
    above: float = -math.inf,
    at: Callable[[float], float] | None = None,
    below: float = math.inf,
) -> Denoiser:
    """The denoiser led away from the negative condition: `n + scale (p - n)`.

    Args:
        denoiser: evaluated once for the positive condition and once for the negative one.
        scale: at least 1; 1 is no guidance and costs a single evaluation.
        above: guidance acts only at diffusion times larger than this; elsewhere there is one evaluation.
        at: gives the scale by diffusion time where it is not the same everywhere.
        below: guidance acts only at diffusion times smaller than this.

    Returns:
        A denoiser that takes a `Contrast`.

    Raises:
        ValueError: the scale is below 1.

    Source: Ho and Salimans 2022 (arXiv 2207.12598) as written in Imagen (arXiv 2205.11487, eq. 2); in an interval,
    Kynkäänniemi et al. 2024 (arXiv 2404.07724).
    """
    if scale < 1:
        raise ValueError(f"a guidance scale is at least 1, not {scale}")

    def contrasted(x: Tensor, t: float, condition: Condition) -> Tensor:
        if not isinstance(condition, Contrast):
            raise TypeError(f"guidance needs a Contrast, not {type(condition).__name__}")
        positive = denoiser(x, t, condition.positive)
        if scale == 1 or not above < t < below:
            return positive
        negative = denoiser(x, t, condition.negative)
        return negative + (at(t) if at else scale) * (positive - negative)

    return contrasted


def guided_steps(steps: int, end: float) -> int:
    """How many of `steps` come before the share `end` of them is reached; of 50 and 0.85, the first 43.

    Raises:
        ValueError: `end` is not a share.
    """
    if not 0 <= end <= 1:
        raise ValueError(f"guidance ends at a share of the steps, 0 to 1, not {end}")
    return math.ceil(steps * end - 1e-9)


def steps_between(steps: int, begin: float, end: float) -> int:
    """How many of `steps` have guidance where it begins when the share `begin` of them is reached and ends at `end`.

    Raises:
        ValueError: the two are not shares, or the end comes before the beginning.
    """
    before_end = guided_steps(steps, end)
    if not 0 <= begin <= end:
        raise ValueError(
            f"guidance begins at a share of the steps, 0 to where it ends ({end:g}), not {begin}"
        )
    return before_end - guided_steps(steps, begin)


def guidance_floor(times: Sequence[float], end: float) -> float:
    """The diffusion time down to which guidance acts, so that only the first `guided_steps` have it.

    Args:
        times: of the steps, decreasing.
        end: share of the steps after which there is no guidance.
    """
    count = guided_steps(len(times), end)
    return -math.inf if count >= len(times) else times[count]


def guidance_ceiling(times: Sequence[float], begin: float) -> float:
    """The diffusion time below which guidance acts, so that the first `guided_steps` of the share `begin` lack it.

    Args:
        times: of the steps, decreasing.
        begin: share of the steps before which there is no guidance.
    """
    count = guided_steps(len(times), begin)
    return times[count - 1] if count else math.inf


def faithful(
    denoiser: Denoiser, strength: float, signal: Callable[[float], float], low: Callable[[Condition], Tensor]
) -> Denoiser:
    """The denoiser drawn towards the degraded latents: `clean + (t / 1000)^strength (low - clean)`.

    Args:
        denoiser: predicts v.
        strength: above 0; the larger, the sooner it lets go, so the more is invented.
        signal: the share of the signal's variance by diffusion time, below 1.
        low: gives the degraded latents that a condition speaks of.

    Returns:
        A denoiser that predicts v.

    Raises:
        ValueError: the strength is not above 0.

    Source: Vivid-VR's released code (restoration-guided sampling), which does this inside the solver.
    """
    if not strength > 0:
        raise ValueError(f"the strength of fidelity must be above 0, not {strength}")

    def drawn(x: Tensor, t: float, condition: Condition) -> Tensor:
        share = signal(t)
        v = denoiser(x, t, condition).float()
        pull = low(condition).to(v) - (share**0.5 * x - (1 - share) ** 0.5 * v)
        return v - (t / 1000) ** strength * pull / (1 - share) ** 0.5

    return drawn
