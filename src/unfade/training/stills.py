"""Sequences that stand still: what a base learns from that copies its input, whatever it is told."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.degrade.framing import Size
from unfade.training.progression import Prompted


@dataclass(frozen=True, slots=True)
class Stills:
    """Each sequence's first or last frame all along, either as often; its prompt stays with it.

    Attributes:
        sequences: whose frames they are.
    """

    sequences: Prompted

    @property
    def names(self) -> tuple[str, ...]:
        return self.sequences.names

    def __len__(self) -> int:
        return len(self.sequences)

    def prompt(self, index: int) -> str:
        return self.sequences.prompt(index)

    def identity(self, index: int) -> str:
        return f"{self.sequences.identity(index)} still"

    def enlarged(self, index: int, size: int | Size) -> bool:
        return self.sequences.enlarged(index, size)

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """`[T, 3, H, W]` in [0, 1], all frames alike."""
        clip = self.sequences.draw(index, size, 2, generator)
        chosen = int(torch.randint(2, (), generator=generator))
        return clip[chosen].expand(frames, -1, -1, -1)
