"""Several draws of one restoration: their mean, and how far they lie apart."""

import torch
from torch import Tensor

from unfade.core import UsageError


class Samples:
    """The running mean of ways, and the spread of their ends; holds no more than two ways at a time.

    The mean of samples is what squared error (PSNR) asks for: the mean of the posterior lies nearer to the truth
    than a draw from it, at the price of texture.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None

    def add(self, way: Tensor) -> None:
        """One more way, `[K, 3, H, W]`; its last frame is the end."""
        self.count += 1
        if self._mean is None:
            self._mean = way
            return
        before = way[-1] - self._mean[-1]
        self._mean = self._mean + (way - self._mean) / self.count
        squares = before * (way[-1] - self._mean[-1])
        self._squares = squares if self._squares is None else self._squares + squares

    @property
    def mean(self) -> Tensor:
        """`[K, 3, H, W]`; of a single way, that way."""
        if self._mean is None:
            raise ValueError("there is no mean of no samples")
        return self._mean

    @property
    def spread(self) -> Tensor:
        """The standard deviation of the ends, `[1, H, W]`, 0 to 0.5: root of the variance averaged over colours.

        Raises:
            ValueError: fewer than two ways were added.
        """
        if self._squares is None:
            raise ValueError("a spread takes at least 2 samples")
        return (self._squares.mean(0, keepdim=True) / self.count).clamp_min(0).sqrt()


def confidence(spread: Tensor) -> Tensor:
    """A spread as confidence in [0, 1]: `1 - 2 sigma`. 1 where all samples agree, 0 where they are black or white."""
    return (1 - 2 * spread).clamp(0, 1)


def check_confidence(samples: int) -> None:
    """Whether a confidence map can be made.

    Raises:
        UsageError: there is nothing that could disagree.
    """
    if samples < 2:
        raise UsageError(
            "how sure a result is shows in the spread of several samples; add --samples 4, or more"
        )


def stacked(spreads: list[Tensor]) -> Tensor:
    """Confidence of a clip's frames, `[T, 1, H, W]`."""
    return torch.stack([confidence(spread) for spread in spreads])
