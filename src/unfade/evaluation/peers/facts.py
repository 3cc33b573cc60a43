"""What is known about how an input came about."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Facts:
    """Known truths about a degraded picture; only peers that say they are told look at them.

    Attributes:
        sigma: of white Gaussian noise, on the scale 0 to 255.
        kernel: point-spread function `[k, k]` that acted in linear light.
        gain: factor on the sRGB values that darkened it.
        scale: enlargement that is asked for.
    """

    sigma: float | None = None
    kernel: Tensor | None = None
    gain: float | None = None
    scale: int = 1
