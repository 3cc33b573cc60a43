"""A degraded clip and its ground truth."""

from dataclasses import dataclass

from unfade.core.clip import Clip


@dataclass(frozen=True, slots=True)
class Pair:
    """An aligned (LQ, HQ) pair.

    Attributes:
        lq: the degraded clip.
        hq: the ground truth, of the same size.
        prompt: what a user would ask for, if anything.
        degradation: the label of what was done to it, e.g. "Lowlight_Noise".

    Raises:
        ValueError: the two differ in size.
    """

    lq: Clip
    hq: Clip
    prompt: str | None = None
    degradation: str | None = None

    def __post_init__(self) -> None:
        if self.lq.frames.shape != self.hq.frames.shape:
            raise ValueError(
                f"a pair's clips have one size, not {tuple(self.lq.frames.shape)} "
                f"and {tuple(self.hq.frames.shape)}"
            )
