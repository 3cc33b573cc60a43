"""Vivid-VR's concept distillation: footage noised half-way and denoised by the frozen base as its caption says."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_denoiser import padded_in_front
from unfade.core import Denoiser, InputError, UnfadeError, UsageError, generator, subseed
from unfade.degrade.framing import Size
from unfade.diffusion.guidance import Contrast, guided
from unfade.diffusion.v_schedule import Sampler, VSchedule
from unfade.training.footage_clips import FootageClips
from unfade.training.v_objective import v_target


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptRun:
    """How clips are made anew; what is published is the strength alone.

    Attributes:
        strength: the share of the schedule that a clip goes back, above 0; 1 begins with pure noise.
        steps: of the whole schedule, of which the share is taken; best a divisor of 1000.
        sampler: "dpm" or "ddim".
        guidance: scale, at least 1.
        negative: the prompt to go away from, empty as the base was trained.
        suffix: whether captions are followed by what Vivid-VR adds to every one.
        frames: of a clip, 8k + 1.
        size: (height, width) of a frame.
        seed: of all draws.
        count: how many clips; None for all.

    Raises:
        UsageError: a value is out of range.

    Source: Vivid-VR (arXiv 2508.14483), section 3.2: half of the T steps. Sampler, steps, guidance and prompts are not
        said; these are those of its restoration.
    """

    strength: float = 0.5
    steps: int = 50
    sampler: Sampler = "dpm"
    guidance: float = 6.0
    negative: str = ""
    suffix: bool = False
    frames: int = 33
    size: Size = (1024, 1024)
    seed: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise UsageError(
                f"the strength is a share of the schedule, above 0 and up to 1, not {self.strength:g}"
            )
        if not self.guidance >= 1:
            raise UsageError(f"a guidance scale is at least 1, not {self.guidance:g}")
        if self.count is not None and self.count < 1:
            raise UsageError(f"at least 1 clip is made, not {self.count}")
        try:
            VSchedule(self.steps, self.sampler)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def told(self) -> dict[str, Any]:
        """What decides what a clip becomes; how many are made does not."""
        told = asdict(self)
        del told["count"]
        return {**told, "size": list(self.size)}

    def first_step(self, times: Sequence[float]) -> int:
        """The number of the first step taken: the first whose time is at or below `strength * 1000`.

        Args:
            times: of all steps, decreasing, in [0, 999].

        Raises:
            UsageError: there is none.
        """
        limit = self.strength * 1000 + 1e-6
        for index, when in enumerate(times):
            if when <= limit:
                return index
        raise UsageError(
            f"none of {len(times)} steps lies in the last {self.strength:.3g} of the schedule; take more steps"
        )


def reimagined(
    denoiser: Denoiser,
    clean: Tensor,
    told: Contrast,
    run: ConceptRun,
    scheduler: Mapping[str, Any],
    padding: int,
    dice: torch.Generator,
) -> Tensor:
    """What a model makes of a clip's latents, noised to `run.strength` of the schedule, by the steps that remain.

    Args:
        denoiser: predicts v for `(x, t, condition)`; is asked for either part of `told`.
        clean: scaled latents, `[1, z, k, h, w]`.
        told: the caption, and what to go away from.
        run: how.
        scheduler: the model's configuration of it.
        padding: copies of the first latent that the model wants in front; they are taken away again.
        dice: of the noise, of the CPU.

    Returns:
        A tensor like `clean`.

    Raises:
        UnfadeError: the model answered with something that isn't a number.

    Source: Vivid-VR (arXiv 2508.14483), section 3.2; noising and denoising as SDEdit (Meng et al. 2021,
        arXiv 2108.01073).
    """
    schedule = VSchedule(run.steps, run.sampler, scheduler)
    stepper = schedule.stepper()
    first = run.first_step(stepper.times)
    padded = padded_in_front(clean, padding)
    noise = torch.randn(padded.shape, generator=dice).to(padded)
    state, _ = v_target(padded, noise, schedule.signal()[stepper.times[first]])
    led: Tensor | None = None
    answering = guided(denoiser, run.guidance)
    for index in range(first, len(stepper.times)):
        v = answering(state, float(stepper.times[index]), told).float()
        state, led = stepper(index, v, state, led, dice)
    if not bool(torch.isfinite(state).all()):
        raise UnfadeError("the model's answer is not a number; use --dtype fp32, or less guidance")
    return state[:, :, padding:]


def reimagined_clip(
    video: CogVideoX, frames: Tensor, told: Contrast, run: ConceptRun, name: str, device: torch.device
) -> Tensor:
    """A clip as a frozen text-to-video model would have it, `[T, 3, H, W]` in [0, 1], on the CPU.

    Args:
        video: the model, which stays as it is.
        frames: `[T, 3, H, W]` in [0, 1]; T is 8k + 1, sides are multiples of 16.
        told: the caption, and what to go away from.
        run: how.
        name: of the clip; with `run.seed`, all noise depends on it.
        device: where it is computed.

    Raises:
        UnfadeError: the model answered with something that isn't a number.
    """
    config = video.config
    with torch.inference_mode(), video.denoiser.remembering():
        latents = video.vae.encode_frames(frames, generator(run.seed, "posterior", name)).to(device)
        made = reimagined(
            video.denoiser,
            latents,
            told,
            run,
            config.scheduler,
            config.padding(len(frames)),
            generator(run.seed, "concept", name),
        )
        return torch.cat([chunk[0].transpose(0, 1).cpu() for chunk in video.vae.decode(made)])


def chosen_clips(clips: FootageClips, run: ConceptRun, shard: tuple[int, int] = (0, 1)) -> tuple[int, ...]:
    """Which clips are made anew, drawn by their names: more of them only add to fewer, whatever the shards.

    Args:
        clips: to choose from; those smaller than a frame of the run are passed over.
        run: how many, and the seed.
        shard: (index, count): which of several processes this is.

    Raises:
        InputError: no clip is large enough.
        UsageError: there are fewer than are asked for.
    """
    usable = [index for index in range(len(clips)) if not clips.enlarged(index, run.size)]
    if not usable:
        height, width = run.size
        raise InputError(
            f"no clip has {width} x {height} pixels; give larger footage, or choose a smaller --size"
        )
    count = len(usable) if run.count is None else run.count
    if count > len(usable):
        raise UsageError(
            f"there are {len(usable)} clips that can be taken, not {count}; give more footage, or a smaller --count"
        )
    usable.sort(key=lambda index: (subseed(run.seed, "chosen", clips.names[index]), clips.names[index]))
    return tuple(usable[:count][shard[0] :: shard[1]])


class Store(Protocol):
    """Where clips go; `concept_store.ConceptStore` is a folder of them."""

    def has(self, key: str) -> bool:
        """Whether what was made of a clip is there, by the clip's `caption_key`."""
        ...

    def keep(self, key: str, frames: Tensor, fps: str, caption: str) -> None:
        """Keeps what was made of a clip."""
        ...


@dataclass(frozen=True, slots=True)
class ConceptRow:
    """What is told of each clip when it is done.

    Attributes:
        number, of: it is this one of so many.
        name: of the clip that it was made of.
        seconds: it took.
        error: why there is none; None where there is.
    """

    number: int
    of: int
    name: str
    seconds: float
    error: str | None = None


# What is made of a clip's frames `[T, 3, H, W]`, given its caption and its name.
Make = Callable[[Tensor, str, str], Tensor]


def make_concepts(
    clips: FootageClips,
    chosen: Sequence[int],
    make: Make,
    store: Store,
    run: ConceptRun,
    heard: Callable[[ConceptRow], None] | None = None,
) -> int:
    """Makes what the store does not have yet of the chosen clips, one after the other; clips that can't be read are
    passed over.

    What becomes of a clip depends on the run and the clip's name only, neither on the others nor on interruptions.

    Args:
        clips: with a caption each.
        chosen: by `chosen_clips`.
        make: gives the new frames.
        store: where they go, with the caption.
        run: how.
        heard: told of each clip that was made or passed over.

    Returns:
        How many were passed over.

    Raises:
        InputError: a clip has no caption.
        OutputError: the store can't be written.
        UnfadeError: the model answered with something that isn't a number.
    """
    failed = 0
    for number, index in enumerate(chosen, 1):
        name, key = clips.names[index], clips.caption_key(index)
        if store.has(key):
            continue
        begun, error = time.perf_counter(), None
        caption = clips.prompt(index)
        try:
            frames = clips.draw(index, run.size, run.frames, generator(run.seed, "clip", name))
        except InputError as unread:
            error, failed = str(unread), failed + 1
        else:
            video, _ = clips.parts[index]
            assert video.probed is not None, "a video with clips was probed"
            store.keep(key, make(frames, caption, name), video.probed.fps, caption)
        if heard:
            heard(ConceptRow(number, len(chosen), name, time.perf_counter() - begun, error))
    return failed
