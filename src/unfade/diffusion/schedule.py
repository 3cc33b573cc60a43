"""What a sampler's schedule is to those who only want to walk it."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from unfade.core import Condition, Denoiser


class Schedule(Protocol):
    """The steps from noise to latents, whatever the network predicts."""

    def times(self) -> Sequence[float]:
        """The diffusion times at which the network is asked, decreasing."""
        ...

    def sample(
        self, denoiser: Denoiser, noise: Tensor, condition: Condition, dice: torch.Generator | None = None
    ) -> Tensor:
        """The latents that noise leads to; `dice` draws whatever noise is added on the way."""
        ...
