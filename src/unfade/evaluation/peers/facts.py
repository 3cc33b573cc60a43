"""What is known about how an input came about."""

from dataclasses import dataclass

from torch import Tensor

from unfade.prompts.progressive import Task


@dataclass(frozen=True, slots=True)
class Facts:
    """Known truths about a degraded picture; only contenders that say they are told look at them.

    Attributes:
        sigma: of white Gaussian noise, on the scale 0 to 255.
        kernel: point-spread function `[k, k]` that acted in linear light.
        gain: factor on the sRGB values that darkened it.
        scale: enlargement that is asked for.
        task: of Progressive's, where one of them is all that is to be done; None elsewhere.
    """

    sigma: float | None = None
    kernel: Tensor | None = None
    gain: float | None = None
    scale: int = 1
    task: Task | None = None
