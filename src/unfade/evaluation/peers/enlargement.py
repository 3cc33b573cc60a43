"""Enlargement and nothing else: the bicubic one that every trajectory starts with, and Lanczos."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from unfade.core import Clip, Plan, Restoration, Trajectory
from unfade.core.contracts import Progress
from unfade.evaluation.peers.framewise import PLAN, framewise, package
from unfade.media.resize import enlarge


@dataclass(frozen=True, slots=True)
class Identity:
    """Gives back what came, bit for bit; where enlargement is asked for, enlarges bicubically (a = -0.5).

    Attributes:
        name: what it is called in provenance.
    """

    name: str = "identity"

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The same (enlarged) clip at both ends; the prompt changes nothing."""
        started = perf_counter()
        same = enlarge(clip, plan.scale)
        if progress is not None:
            progress(1.0)
        way = Trajectory((0.0, 1.0), (same, same))
        return Restoration(way, {"model": self.name}, perf_counter() - started, plan.frames)


@dataclass(frozen=True, slots=True)
class Lanczos:
    """OpenCV's `INTER_LANCZOS4`: four lobes, 8 by 8 pixels, on 8-bit values; without enlargement, nothing.

    Alpha, where there is any, is enlarged bicubically.
    """

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The clip enlarged frame by frame; the prompt changes nothing."""
        cv2 = package("cv2", "lanczos")

        def apply(pixels: Any) -> Any:
            size = (pixels.shape[1] * plan.scale, pixels.shape[0] * plan.scale)
            return cv2.resize(pixels, size, interpolation=cv2.INTER_LANCZOS4)

        return framewise({"model": "lanczos-4"}, clip, plan, progress, apply, enlarges=True)
