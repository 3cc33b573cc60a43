"""Real clips and those of a concept distillation in one, in a proportion that holds exactly in every epoch."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from unfade.core import UsageError, subseed
from unfade.degrade.framing import Size
from unfade.training.footage_clips import FootageClips

RATIO = 0.2


@dataclass(frozen=True, slots=True)
class MixedClips:
    """What an epoch draws from: every real clip once, and `ratio` times as many made ones, rounded.

    Where there are more made ones than that, they are a choice by seed and names; where there are fewer, all of them
    as often as they fit in, and a choice for the rest. Repeated ones have names of their own, so that their draws
    differ.

    Attributes:
        real: clips of curated footage.
        made: clips of a distillation.
        ratio: made clips for each real one.
        seed: of the choice.

    Raises:
        UsageError: the ratio is below 0.

    Source: Vivid-VR (arXiv 2508.14483), section 3.2: 100 K made clips beside 500 K real ones.
    """

    real: FootageClips
    made: FootageClips
    ratio: float = RATIO
    seed: int = 0
    _taken: tuple[tuple[FootageClips, int], ...] = field(init=False, repr=False)
    _names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < float("inf"):
            raise UsageError(f"the ratio of made clips to real ones is 0 or more, not {self.ratio}")
        wanted = round(self.ratio * len(self.real))
        if wanted and not len(self.made):
            raise ValueError("there is no made clip to be mixed in")
        names = self.made.names
        drawn = sorted(
            range(len(names)), key=lambda index: (subseed(self.seed, "mixed", names[index]), index)
        )
        repeated = [(drawn[number % len(drawn)], number // len(drawn)) for number in range(wanted)]
        object.__setattr__(
            self,
            "_taken",
            (
                *((self.real, index) for index in range(len(self.real))),
                *((self.made, index) for index, _ in repeated),
            ),
        )
        told = [f"{names[index]}-again-{times}" if times else names[index] for index, times in repeated]
        object.__setattr__(self, "_names", (*self.real.names, *told))

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __len__(self) -> int:
        return len(self._taken)

    def prompt(self, index: int) -> str:
        """The clip's caption.

        Raises:
            InputError: it has none.
        """
        clips, own = self._taken[index]
        return clips.prompt(own)

    def identity(self, index: int) -> str:
        """Path, size and time of the file, and which frames.

        Raises:
            InputError: the file is gone or has changed since it was curated.
        """
        clips, own = self._taken[index]
        return clips.identity(own)

    def enlarged(self, index: int, size: int | Size) -> bool:
        """Whether the frames are smaller than the crop; such clips are not drawn."""
        clips, own = self._taken[index]
        return clips.enlarged(own, size)

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """Consecutive frames `[T, 3, H, W]` in [0, 1], as `FootageClips.draw`.

        Raises:
            InputError: as there.
        """
        clips, own = self._taken[index]
        return clips.draw(own, size, frames, generator)
