"""Noise of footage: one strength for a clip, a fresh field of it for every frame."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from unfade.degrade.degradation import Draw
from unfade.degrade.kernels import Range

_LEVELS = 256
# A count of 256 is exceeded by this much less often than once in 1e20.
_COUNTS = 512
# ITU-R BT.601, as Real-ESRGAN makes its grey noise.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, slots=True)
class GrainRanges:
    """What noise is drawn from.

    Attributes:
        chance: that there is any.
        gaussian: share of Gaussian noise; the rest is Poisson.
        sigma: of Gaussian noise, on the 0 to 255 scale.
        scale: of Poisson noise; 1 is the shot noise of 256 photons at white.
        grey: share of noise that is the same in the three channels.
    """

    chance: float = 1.0
    gaussian: float = 0.5
    sigma: Range = (1.0, 30.0)
    scale: Range = (0.05, 3.0)
    grey: float = 0.4


@dataclass(frozen=True, slots=True)
class Grain:
    """Noise whose strength is drawn.

    Attributes:
        kind: "gaussian" or "poisson".
        strength: standard deviation on the 0 to 255 scale, or the scale of Poisson noise.
        grey: whether the three channels share it.
    """

    kind: Literal["gaussian", "poisson"]
    strength: float
    grey: bool

    @staticmethod
    def draw(draw: Draw, ranges: GrainRanges) -> "Grain | None":
        """Always the same number of throws."""
        is_there, is_gaussian = bool(draw.chance(ranges.chance)), bool(draw.chance(ranges.gaussian))
        sigma, scale = float(draw.uniform(*ranges.sigma)), float(draw.uniform(*ranges.scale))
        is_grey = bool(draw.chance(ranges.grey))
        if not is_there:
            return None
        return Grain("gaussian", sigma, is_grey) if is_gaussian else Grain("poisson", scale, is_grey)

    def __call__(self, x: Tensor, dice: torch.Generator) -> Tensor:
        """One frame `[1, 3, H, W]` with noise, clamped to [0, 1].

        Args:
            x: the frame.
            dice: a CPU generator; the same one in the same state gives the same field, whatever the frame shows.

        Source: Wang et al. 2021 (arXiv 2107.10833), section 3.1. There the number of photons at white follows the
        number of tones in a picture, 256 for nearly all; here it is 256 always, or noise would pulse where a scene
        fades.
        """
        shape = (1, 1 if self.grey else 3, *x.shape[2:])
        if self.kind == "gaussian":
            noise = torch.randn(shape, generator=dice) * (self.strength / 255)
        else:
            signal = x.detach().to("cpu", torch.float32)
            if self.grey:
                signal = torch.einsum("bchw,c->bhw", signal, torch.tensor(_LUMA))[:, None]
            uniform = torch.rand(shape, generator=dice, dtype=torch.float64)
            noise = poisson_noise(signal, uniform) * self.strength
        return (x + noise.to(x)).clamp(0, 1)


def poisson_noise(signal: Tensor, uniform: Tensor) -> Tensor:
    """What Poisson counts with 256 photons at white deviate from their mean, on the scale of the signal.

    Args:
        signal: clamped to [0, 1] and rounded to 8 bits first.
        uniform: of the same shape, in [0, 1), double precision; counts are its quantiles.
    """
    levels = signal.clamp(0, 1).mul(_LEVELS - 1).round().long()
    rows = _cumulative()
    # Rows lie one after another, each raised by its number, so that one search serves all.
    places = torch.searchsorted(rows.flatten(), uniform + levels, right=True)
    counts = (places - levels * _COUNTS).clamp(0, _COUNTS - 1)
    return (counts / _LEVELS - levels / (_LEVELS - 1)).float()


@cache
def _cumulative() -> Tensor:
    """`[256, 512]`: the chance of at most so many photons for each 8-bit level, plus the level's number."""
    mean = torch.arange(_LEVELS, dtype=torch.float64)[:, None] / (_LEVELS - 1) * _LEVELS
    count = torch.arange(_COUNTS, dtype=torch.float64)
    # The logarithm of 0^0 is that of 1.
    chance = torch.exp(torch.special.xlogy(count, mean) - mean - torch.lgamma(count + 1))
    return chance.cumsum(1).clamp(max=1) + torch.arange(_LEVELS)[:, None]
