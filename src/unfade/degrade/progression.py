"""Progressive's training clips: one clean photo, one drawn degradation, nine frames in which it fades."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from unfade.core import generator
from unfade.degrade.composition import PROGRESSIONS, Composition, Kinds, draw_composition
from unfade.degrade.degradation import Codec, Strength
from unfade.degrade.trajectory import fade_frames

FRAMES = 9
FPS = 5
# (height, width), the largest CogVideoX1.5 was made for.
SIZE = (768, 1360)
STRENGTHS: tuple[Strength, ...] = ("mild", "strong")
# Another number whenever the same draw gives other pixels, so that what is kept from before is not mixed with them.
PHYSICS = 2

# A drawn parameter of up to this many numbers is told; larger ones are fields of random pixels.
_TOLD = 8


@dataclass(frozen=True, slots=True)
class Progression:
    """One photo's way from degraded to clean under one draw.

    Attributes:
        task: "resolution", "blur" or "lowlight".
        truth: `[1, 3, H, W]` in [0, 1], the last frame.
        composition: what was drawn, once for all frames.
    """

    task: str
    truth: Tensor
    composition: Composition

    @staticmethod
    def draw(
        task: str,
        truth: Tensor,
        strength: Strength,
        dice: torch.Generator,
        codec: Codec = "libjpeg",
        kinds: Mapping[str, Kinds] = PROGRESSIONS,
    ) -> "Progression":
        """One draw for `truth`, of the degradations that `kinds` has for its task.

        Raises:
            KeyError: there is no such task.
        """
        height, width = truth.shape[2:]
        return Progression(
            task, truth, draw_composition(kinds[task], dice, (1, height, width), strength, codec)
        )

    def frames(self, count: int = FRAMES) -> Iterator[Tensor]:
        """`[1, 3, H, W]` each, made one at a time: the first rounded to 8 bits as a file would hold it, the last
        the truth bit for bit."""
        made = fade_frames(self.truth, self.composition, count)
        yield next(made).mul(255).round().div(255)
        yield from made

    def parameters(self) -> list[dict[str, Any]]:
        """The drawn numbers, one row for each degradation."""
        return [described(part) for part in self.composition.parts]


def dice_of(seed: int, photo: str, task: str, strength: str) -> torch.Generator:
    """The dice of one clip of a built set; they depend on nothing else, so order and company change nothing."""
    return generator(seed, "progression", photo, task, strength)


def described(part: object) -> dict[str, Any]:
    """The drawn numbers of a degradation, nested ones included, fields of random pixels left out."""
    row: dict[str, Any] = {"name": getattr(part, "name", type(part).__name__)}
    if not is_dataclass(part):
        return row
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            if value.numel() <= _TOLD:
                numbers = value.flatten().tolist()
                row[field.name] = numbers[0] if len(numbers) == 1 else numbers
        elif is_dataclass(value):
            row[field.name] = described(value)
        else:
            row[field.name] = value
    return row
