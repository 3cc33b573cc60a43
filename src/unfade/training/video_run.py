"""A training run of a video model as data: what is drawn when, at what rate and size."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from unfade.backbones.video import VideoConfig
from unfade.conditioning.lora import LoraSettings, Role
from unfade.core import UsageError, generator
from unfade.degrade.framing import Size, sides_of

Precision = Literal["bf16", "fp32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoRun:
    """A whole training run, whatever the model; a system adds what its objective needs.

    Attributes:
        stages: (epochs, crop), from coarse to fine; a crop is the side of a square or (height, width).
        frames: of a sequence.
        lr, warmup: rate, reached after this many steps and constant until it cools; a stage does not start it again.
        cooling: share of the steps, the last ones, over which the rate falls to 0 in a straight line; a model trained
            from nothing needs that.
        weight_decay, eps, betas: of AdamW.
        clip: largest norm of the gradient.
        batch: samples of one step, over all processes and micro-batches together.
        accumulation: micro-batches each process takes for its share of a step.
        text_dropout: share of samples trained with the empty prompt, which guidance at inference needs.
        lora: the adapter that is trained, or None for all weights.
        seed: of everything random.
        crops: kept latents for each sequence and crop size; 0 encodes a fresh crop every time.
        precision: of the arithmetic. "bf16" is autocast: what is learnt and AdamW's moments stay float32.
        gradient_checkpointing: blocks are evaluated again in the backward pass instead of being kept.
        checkpoint_every, validate_every, log_every: steps.
        validate_steps: of the sampler when validating.

    Raises:
        ValueError: a value is out of range.
    """

    stages: tuple[tuple[int, int | Size], ...]
    frames: int = 9
    lr: float
    warmup: int = 100
    cooling: float = 0.0
    weight_decay: float
    eps: float = 1e-8
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    batch: int = 8
    accumulation: int = 1
    text_dropout: float = 0.1
    lora: LoraSettings | None = None
    seed: int = 42
    crops: int = 4
    precision: Precision = "bf16"
    gradient_checkpointing: bool = True
    checkpoint_every: int = 250
    validate_every: int = 1000
    log_every: int = 10
    validate_steps: int = 20

    def __post_init__(self) -> None:
        if not self.stages or any(epochs < 1 or min(sides_of(size)) < 1 for epochs, size in self.stages):
            raise ValueError("a run needs stages of at least one epoch and one pixel")
        if self.frames < 2:
            raise ValueError(f"frames must be at least 2, not {self.frames}")
        if not 0 <= self.text_dropout < 1:
            raise ValueError(f"text_dropout must be at least 0 and below 1, not {self.text_dropout}")
        if not 0 <= self.cooling <= 1:
            raise ValueError(f"cooling must be 0 to 1, not {self.cooling}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision must be bf16 or fp32, not {self.precision!r}")
        counts = (
            "batch",
            "accumulation",
            "checkpoint_every",
            "validate_every",
            "log_every",
            "validate_steps",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("crops", "warmup", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("lr", "eps", "clip"):
            self.check_positive(name)

    def check_positive(self, name: str) -> None:
        """Whether a value is above 0 and finite.

        Raises:
            ValueError: it isn't.
        """
        if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
            raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")

    def epoch_steps(self, sequences: int) -> int:
        """Steps of one epoch over this many sequences; the last one is filled up from the beginning."""
        return -(-sequences // self.batch)

    def steps(self, sequences: int) -> int:
        """Steps of the whole run."""
        return sum(epochs for epochs, _ in self.stages) * self.epoch_steps(sequences)

    def size(self, step: int, sequences: int) -> int | Size:
        """The crop at a step; beyond the end, the last one."""
        epoch = step // self.epoch_steps(sequences)
        for epochs, size in self.stages:
            if epoch < epochs:
                return size
            epoch -= epochs
        return self.stages[-1][1]

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at a step of so many."""
        left = (steps - step) / (self.cooling * steps) if self.cooling else 1.0
        return self.lr * min(1.0, (step + 1) / max(1, self.warmup), left)

    def chosen(self, step: int, sequences: int) -> list[int]:
        """The sequences of a step: each once an epoch, in an order of its own."""
        epoch, place = divmod(step, self.epoch_steps(sequences))
        order = torch.randperm(sequences, generator=generator(self.seed, "order", epoch)).tolist()
        return [order[(place * self.batch + slot) % sequences] for slot in range(self.batch)]

    def without_text(self, step: int) -> torch.Tensor:
        """Which of a step's samples see the empty prompt, `[batch]`."""
        thrown = torch.rand(self.batch, generator=generator(self.seed, "text", step))
        return thrown < self.text_dropout


def parse_stages(text: str) -> tuple[tuple[int, int | Size], ...]:
    """Stages written as "100x512,100x704" (epochs, then the crop's side) or "30x768x1360" (epochs, height, width).

    Raises:
        UsageError: they are written otherwise.
    """
    try:
        stages = [[int(part) for part in stage.split("x")] for stage in text.split(",")]
    except ValueError:
        stages = [[]]
    if any(len(stage) not in (2, 3) for stage in stages):
        raise UsageError(
            f"stages are written as 100x512,100x704 (epochs x pixels) or 30x768x1360 (epochs x height x width), not "
            f"{text!r}"
        )
    return tuple((one[0], one[1] if len(one) == 2 else (one[1], one[2])) for one in stages)


def check_adapter(run: VideoRun, role: Role, start: Path | None) -> None:
    """Whether what is asked of the adapter goes with a run that has one.

    Raises:
        UsageError: all weights are trained.
    """
    asked = [name for name, given in (("start", start is not None), ("role", role != "restore")) if given]
    if run.lora is None and asked:
        raise UsageError(
            f"--{asked[0]} is for an adapter, and this run trains all weights; add --lora, or leave it out"
        )


def check_run(run: VideoRun, config: VideoConfig, processes: int) -> None:
    """Whether a run fits its model and the machine.

    Args:
        run: the run.
        config: of the model.
        processes: how many there are.

    Raises:
        UsageError: it doesn't.
    """
    try:
        for _, size in run.stages:
            config.latent_shape(run.frames, *sides_of(size))
    except ValueError as error:
        raise UsageError(f"this run does not fit the model: {error}") from error
    fewest = sum(config.frame_rule)
    if run.frames < fewest:
        raise UsageError(f"{run.frames} frames are a single latent, which is given; take {fewest}")
    shares = run.accumulation * processes
    if run.batch % shares:
        raise UsageError(
            f"a batch of {run.batch} can't be split over {processes} processes with {run.accumulation} "
            f"micro-batches each; choose a multiple of {shares}"
        )
