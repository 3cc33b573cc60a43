"""What every corruption has in common: drawn once per sample, applied at any severity."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Self, final

import torch
from torch import Tensor

from unfade.degrade.view import View

Strength = Literal["mild", "strong", "any"]
Codec = Literal["libjpeg", "torch"]
# (lowest, highest) of a mild draw and of a strong one.
Ranges = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Draw:
    """The dice and what they are thrown for.

    Attributes:
        generator: source of all randomness; everything drawn lives on its device.
        batch, height, width: the pixels that fields such as noise are drawn for.
        strength: "mild" and "strong" are disjoint ranges, "any" spans both and a little more.
        codec: the JPEG implementation: "libjpeg" is the real codec, "torch" its batched equal on any device.
    """

    generator: torch.Generator
    batch: int
    height: int
    width: int
    strength: Strength = "any"
    codec: Codec = "libjpeg"

    def uniform(self, low: float, high: float) -> Tensor:
        """`[B]` values, uniform in [low, high)."""
        return self._rand(self.batch) * (high - low) + low

    def log_uniform(self, low: float, high: float) -> Tensor:
        """`[B]` values whose logarithm is uniform."""
        return low * (high / low) ** self._rand(self.batch)

    def ranged(self, mild: tuple[float, float], strong: tuple[float, float]) -> Tensor:
        """`[B]` values from the range of this draw's strength; "any" covers both."""
        both = (min(*mild, *strong), max(*mild, *strong))
        low, high = {"mild": mild, "strong": strong, "any": both}[self.strength]
        return self.uniform(low, high)

    def choice(self, count: int) -> Tensor:
        """`[B]` integers below `count`."""
        return torch.randint(count, (self.batch,), generator=self.generator, device=self.generator.device)

    def chance(self, probability: float) -> Tensor:
        """`[B]` booleans."""
        return self._rand(self.batch) < probability

    def normal(self, *shape: int) -> Tensor:
        """Standard normal values of any shape."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def rand(self, *shape: int) -> Tensor:
        """Values uniform in [0, 1) of any shape."""
        return self._rand(*shape)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device)


class Degradation(ABC):
    """A physical corruption whose every random parameter is already drawn.

    Calling it with severity 1 gives the full corruption, 0 the input itself bit for bit, and nothing is drawn
    anew in between: a sequence of severities is one corruption fading.
    """

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def draw(cls, draw: Draw) -> Self:
        """One set of parameters per sample of the batch."""

    @abstractmethod
    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        """The corruption at `severity` `[B, 1, 1, 1]`; need not be exact at 0 and may leave [0, 1]."""

    def anew(self, generator: torch.Generator) -> Self:
        """The same corruption in another frame of footage: same parameters, but noise and falling rain of its own."""
        return self

    @final
    def __call__(self, x: Tensor, severity: float | Tensor = 1.0, view: View | None = None) -> Tensor:
        """The corrupted batch.

        Args:
            x: clean pixels `[B, 3, H, W]` in [0, 1], sRGB.
            severity: in [0, 1], one for all or `[B]`.
            view: where `x` lies in its photo; the whole photo unless told.

        Returns:
            A tensor of the same shape in [0, 1].

        Raises:
            ValueError: severity lies outside [0, 1].
        """
        amount = torch.as_tensor(severity, dtype=x.dtype, device=x.device).expand(x.shape[0])
        if not bool(((amount >= 0) & (amount <= 1)).all()):
            raise ValueError(f"severity must lie in [0, 1], not {severity}")
        if not bool((amount > 0).any()):
            return x
        amount = amount.reshape(-1, 1, 1, 1)
        corrupted = self.corrupt(x, amount, view if view is not None else View.whole(x)).clamp(0, 1)
        return torch.where(amount > 0, corrupted, x)


def per_sample(values: Tensor) -> Tensor:
    """`[B]` parameters shaped to multiply a batch of images."""
    return values.reshape(-1, 1, 1, 1)


def to_linear(x: Tensor) -> Tensor:
    """sRGB values to linear light by the plain 2.2 power, the GoPro and REDS convention."""
    return x.clamp(0, 1) ** 2.2


def from_linear(x: Tensor) -> Tensor:
    """Linear light back to sRGB values."""
    return x.clamp(0, 1) ** (1 / 2.2)
