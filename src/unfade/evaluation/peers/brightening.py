"""Brightening without a model: local equalisation, a gamma curve, and the true gain undone."""

from dataclasses import dataclass
from typing import Any

import torch

from unfade.core import Clip, Plan, Restoration
from unfade.core.contracts import Progress
from unfade.evaluation.peers.framewise import PLAN, framewise, package

MIDDLE_GREY = 118 / 255
_STRONGEST = 1 / 16
_HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Clahe:
    """Contrast-limited adaptive histogram equalisation of CIELAB lightness.

    Attributes:
        limit: OpenCV's clip limit.
        tiles: tiles along each side.

    Source: Zuiderveld 1994.
    """

    limit: float = 2.0
    tiles: int = 8

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The (enlarged) clip equalised frame by frame; the prompt changes nothing."""
        cv2 = package("cv2", "clahe")
        equaliser = cv2.createCLAHE(self.limit, (self.tiles, self.tiles))

        def apply(pixels: Any) -> Any:
            lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
            lab[..., 0] = equaliser.apply(lab[..., 0])
            return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)

        return framewise({"model": "clahe"}, clip, plan, progress, apply)


@dataclass(frozen=True, slots=True)
class Gamma:
    """A power curve on sRGB values, the one that lifts a frame's mean to a given grey; it never darkens.

    Attributes:
        grey: mean of all values of the result, in (0, 1); 118 / 255 is a surface that reflects 18 % of the light.
    """

    grey: float = MIDDLE_GREY

    def exponent(self, histogram: torch.Tensor) -> float:
        """The power in [1/16, 1] that brings the mean of 8-bit values, given by their 256 counts, to the grey."""
        values = torch.arange(256, dtype=torch.float64) / 255
        shares = histogram.to(torch.float64) / histogram.sum()
        weak, strong = 1.0, _STRONGEST
        if float((shares * values).sum()) >= self.grey or float(shares[0]) == 1:
            return weak
        for _ in range(_HALVINGS):
            middle = (weak + strong) / 2
            if float((shares * values**middle).sum()) < self.grey:
                weak = middle
            else:
                strong = middle
        return strong

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The (enlarged) clip brightened, each frame by a curve of its own; the prompt changes nothing."""

        def apply(pixels: Any) -> Any:
            counts = torch.bincount(torch.from_numpy(pixels).flatten().long(), minlength=256)
            values = torch.arange(256, dtype=torch.float64) / 255
            curve = (values ** self.exponent(counts)).mul(255).round().to(torch.uint8)
            return curve.numpy()[pixels]

        return framewise({"model": f"gamma-{self.grey:.3f}"}, clip, plan, progress, apply)


@dataclass(frozen=True, slots=True)
class MeanGain:
    """sRGB values divided by the factor that darkened them: an oracle, as nobody is told that factor.

    Attributes:
        gain: the factor, above 0.

    Raises:
        ValueError: the factor is not above 0.
    """

    gain: float

    def __post_init__(self) -> None:
        if not self.gain > 0:
            raise ValueError(f"a gain is above 0, not {self.gain}")

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The (enlarged) clip brightened, clipped at white; the prompt changes nothing."""
        curve = (torch.arange(256, dtype=torch.float64) / self.gain).round().clamp(max=255).to(torch.uint8)
        table = curve.numpy()
        return framewise(
            {"model": f"mean-gain-{self.gain:g}"}, clip, plan, progress, lambda pixels: table[pixels]
        )
