"""A training run of Progressive restoration as data: CogVideo's fine-tuning values, and what its objective needs."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.conditioning.lora import PROGRESSIVE, LoraSettings
from unfade.core import generator
from unfade.degrade.framing import Size
from unfade.training.v_objective import drawn_times
from unfade.training.video_run import VideoRun


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressiveRun(VideoRun):
    """A whole training run; what the paper leaves open is that of CogVideo's own fine-tuning, at a LoRA's rate.

    Attributes:
        stages: (epochs, (height, width)).
        frames: of a sequence, 8k + 1.
        crops: kept latents for each sequence; 0 draws crop, degradation and noise on the photo anew every time.
        image_noise: mean and spread of the logarithm of the noise's standard deviation (pixels in [-1, 1]) that is put
            on the photo the model sees, so that it leans on it less than blindly; None puts none.
        later: weight of the latents that get better, beside 1 for those that repeat the photo.
        even: has samples that change little count as much as those that change much, whose errors are as much larger:
            the floor of `v_objective.evened`. None weighs all alike, as CogVideo does.
        late: share of the diffusion times in the last fifth; None spreads them evenly.

    Raises:
        ValueError: a value is out of range.

    Source: Progressive Image Restoration via Text-Conditioned Video Generation (arXiv 2512.02273), which names neither
    rank nor rate nor length.
    """

    stages: tuple[tuple[int, int | Size], ...] = ((10, (768, 1360)),)
    lr: float = 1e-4
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    lora: LoraSettings | None = PROGRESSIVE
    crops: int = 1
    image_noise: tuple[float, float] | None = (-3.0, 0.5)
    later: float = 1.0
    even: float | None = None
    late: float | None = None

    def __post_init__(self) -> None:
        # The zero-argument form does not know a class that `slots=True` has made anew.
        VideoRun.__post_init__(self)
        self.check_positive("later")
        if self.even is not None:
            self.check_positive("even")
        if self.late is not None and not 0 < self.late < 1:
            raise ValueError(f"late must be above 0 and below 1, not {self.late}")
        if self.image_noise is not None and not self.image_noise[1] >= 0:
            raise ValueError(f"the spread of image_noise must be at least 0, not {self.image_noise[1]}")

    def times(self, step: int) -> Tensor:
        """The diffusion times of a step's samples, `[batch]`, spread evenly over their law."""
        return drawn_times(self.batch, generator(self.seed, "times", step), late=self.late)

    def seen(self, photo: Tensor, dice: torch.Generator) -> Tensor:
        """The degraded photo `[1, 3, H, W]` in [0, 1] as the model sees it in training."""
        if self.image_noise is None:
            return photo
        mean, spread = self.image_noise
        sigma = float(torch.exp(mean + spread * torch.randn((), generator=dice)))
        # Pixels are in [-1, 1] there, so half as much of it here.
        return photo + 0.5 * sigma * torch.randn(photo.shape, generator=dice)
