"""A training run of Vivid-VR as data: the published values, and what they leave open."""

import math
from dataclasses import dataclass, field

from torch import Tensor

from unfade.conditioning.control import ControlSettings
from unfade.core import generator
from unfade.degrade.framing import Size
from unfade.training.footage_clips import drawn_frames
from unfade.training.v_objective import drawn_times
from unfade.training.video_run import VideoRun


@dataclass(frozen=True, slots=True, kw_only=True)
class VividRun(VideoRun):
    """A whole training run of control; the base stays as it is.

    Attributes:
        stages: one of them, for its crop; how long training lasts is `iterations`.
        iterations: steps of the run, however many clips there are.
        frames: of the longest sequence.
        least_frames: of the shortest; each step draws one legal number between them.
        lr: after `warmup` it falls to 0 as half a cosine.
        text_dropout: share of samples trained with the empty prompt; the paper doesn't say that there are any, but
            what it is compared with in guidance is never empty either.
        control: what is trained.

    Raises:
        ValueError: a value is out of range.
        UsageError: no number of frames between the shortest and the longest is legal.

    Source: Vivid-VR (arXiv 2508.14483), section 4: AdamW at 1e-4 with cosine annealing, 30,000 steps on 32 GPUs with a
        clip each, 17 to 37 frames of 1024 x 1024. Weight decay, warm-up, dropout and the spread of times are this
        project's.
    """

    stages: tuple[tuple[int, int | Size], ...] = ((1, 1024),)
    iterations: int = 30_000
    frames: int = 33
    least_frames: int = 17
    lr: float = 1e-4
    weight_decay: float = 0.01
    batch: int = 32
    crops: int = 0
    control: ControlSettings = field(default_factory=ControlSettings)

    def __post_init__(self) -> None:
        # The zero-argument form does not know a class that `slots=True` has made anew.
        VideoRun.__post_init__(self)
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, not {self.iterations}")
        if self.lora is not None:
            raise ValueError("Vivid-VR trains control and no adapter")
        if self.cooling:
            raise ValueError(
                f"the rate falls as half a cosine already, so cooling must be 0, not {self.cooling}"
            )
        if self.least_frames < 2:
            raise ValueError(f"least_frames must be at least 2, not {self.least_frames}")
        drawn_frames(self.least_frames, self.frames, generator(0))

    def steps(self, sequences: int) -> int:
        """Of the whole run."""
        del sequences
        return self.iterations

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step of so many."""
        return (
            self.lr
            * min(1.0, (step + 1) / max(1, self.warmup))
            * 0.5
            * (1 + math.cos(math.pi * step / steps))
        )

    def times(self, step: int) -> Tensor:
        """The diffusion times of a step's samples, `[batch]`, spread evenly over 0 to 999."""
        return drawn_times(self.batch, generator(self.seed, "times", step))

    def length(self, step: int) -> int:
        """How many frames all clips of a step have."""
        return drawn_frames(self.least_frames, self.frames, generator(self.seed, "frames", step))
