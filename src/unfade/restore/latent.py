"""Restoring with a video diffusion model in latents: V-Bridge's way through Wan."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from unfade.backbones.wan import Wan
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_denoiser import WanCondition
from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.backbones.wan_text import Embed, PromptEmbeddings
from unfade.core import (
    Clip,
    Condition,
    Denoiser,
    Plan,
    Restoration,
    Trajectory,
    UnfadeError,
    UsageError,
    generator,
)
from unfade.core.contracts import Progress
from unfade.diffusion.flow import FlowSchedule, sample_flow
from unfade.diffusion.guidance import Contrast, guidance_floor, guided, guided_steps
from unfade.diffusion.sizes import Fit, padded_fit, published_fit
from unfade.media.hidden import filled
from unfade.media.images import read_image
from unfade.media.resize import enlarge
from unfade.prompts.vbridge import NEGATIVE_PROMPT, vbridge_prompt
from unfade.restore.asked import settled
from unfade.restore.border import as_the_file
from unfade.restore.device import choose_device, choose_dtype
from unfade.version import __version__

Large = Literal["resize", "whole"]


@dataclass(frozen=True, slots=True)
class VBridgeSettings:
    """How V-Bridge samples, besides what every plan says.

    Attributes:
        frames: of the generated clip, 4k + 1; the last one is the result.
        steps: of the sampler.
        shift: of its grid towards high noise.
        guidance: scale of classifier-free guidance; 1 is none and halves the cost.
        guidance_end: share of the steps after which there is no guidance.
        large: what happens above 2560 x 1440: "resize" there and back as published, or "whole", which takes the
            photo as it is.

    Raises:
        ValueError: a value is out of range.
    """

    frames: int = 9
    steps: int = 50
    shift: float = 5.0
    guidance: float = 5.0
    guidance_end: float = 1.0
    large: Large = "resize"

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ValueError(f"frames must be at least 2, not {self.frames}")
        if self.guidance < 1:
            raise ValueError(f"guidance must be at least 1 (none), not {self.guidance}")
        if self.large not in get_args(Large):
            raise ValueError(f"large must be one of {', '.join(get_args(Large))}, not {self.large!r}")
        FlowSchedule(self.steps, self.shift)
        guided_steps(self.steps, self.guidance_end)

    @property
    def evaluations(self) -> int:
        """How often the transformer is evaluated for one photo."""
        return self.steps + (guided_steps(self.steps, self.guidance_end) if self.guidance > 1 else 0)


PAPER = VBridgeSettings()
RELEASE = VBridgeSettings(guidance=6.0, guidance_end=0.85)


class LatentRestorer:
    """Restores each frame on its own: it becomes the first frame of a short clip whose last one is the result.

    The noise is the same for every frame and depends on the plan's seed and the size only, so a photo's result
    doesn't depend on what was restored before it. The plan's `steps` and `tile` mean nothing here.

    Attributes:
        name: of the model.
        config: of the model.
        settings: how to sample.
    """

    def __init__(
        self,
        name: str,
        config: WanConfig,
        load: Callable[[torch.device, torch.dtype], Wan],
        embed: Embed,
        settings: VBridgeSettings = PAPER,
    ) -> None:
        self.name = name
        self.config = config
        self.settings = settings
        self._load = load
        self._embed = embed
        self._held: tuple[torch.device, torch.dtype, Wan] | None = None

    @staticmethod
    def of_folder(
        path: Path, settings: VBridgeSettings = PAPER, cache: Path | None = None
    ) -> "LatentRestorer":
        """A restorer for a model folder in diffusers' layout; weights are read when they are first needed.

        Raises:
            ModelError: the folder can't be used.
        """
        folder = open_wan(path)

        def load(device: torch.device, dtype: torch.dtype) -> Wan:
            return load_wan(folder, dtype, device=device)

        return LatentRestorer(path.name, folder.config, load, PromptEmbeddings(path, cache), settings)

    def fit_for(self, height: int, width: int) -> Fit:
        """The canvas for a photo of this size."""
        rule = published_fit if self.settings.large == "resize" else padded_fit
        return rule(height, width, self.config.size_multiple)

    def restore(
        self,
        clip: Clip | str | Path,
        prompt: str | None = None,
        plan: Plan | None = None,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Restoration:
        """Restores a clip or an image file.

        Args:
            clip: what to restore, or the path of an image.
            prompt: a wish that is added to the published prompt.
            plan: scale, seed, device, dtype, length of the film and whether the way is kept.
            progress: called with the share done, 0 to 1.
            changes: fields of the plan by name.

        Returns:
            A trajectory with a clip for each generated frame (the first being the input itself), or with the
            input and the result only if the plan does not keep the way.

        Raises:
            InputError: the file can't be read.
            ModelError: the model can't be used.
            UsageError: the plan or the settings can't be carried out.
            UnfadeError: the model answered with something that isn't a number.
        """
        plan = settled(plan, changes)
        if not isinstance(clip, Clip):
            clip = read_image(Path(clip))
        begun = time.perf_counter()
        clip = enlarge(clip, plan.scale)
        fit = self.fit_for(clip.height, clip.width)
        shape = self._latent_shape(fit)
        device = choose_device(plan.device)
        dtype = choose_dtype(plan.dtype, device)
        asked = vbridge_prompt(prompt)
        texts = self._embed([asked, NEGATIVE_PROMPT] if self.settings.guidance > 1 else [asked], device)
        wan = self._model(device, dtype)
        schedule = FlowSchedule(self.settings.steps, self.settings.shift, self.config.scheduler)
        floor = guidance_floor(schedule.times(), self.settings.guidance_end)
        denoiser = guided(wan.denoiser, self.settings.guidance, above=floor)
        noise = torch.randn(1, *shape, generator=generator(plan.seed, "vbridge")).to(device)
        tell = _Tally(clip.num_frames * (self.settings.steps + shape[1]), progress)
        ways: list[Tensor] = []
        visible = clip.frames if clip.alpha is None else filled(clip.frames, clip.alpha)
        for frame in visible.split(1):
            first = wan.vae.encode(fit.enter(frame).unsqueeze(2)).to(device)
            told = [WanCondition(first, text) for text in texts]
            latents = _sampled(denoiser, noise, Contrast(told[0], told[-1]), schedule, tell)
            shown = _frames(wan, told[0].pinned(latents), plan.keep, tell)
            ways.append(torch.cat([fit.leave(part).to(frame.device) for part in shown]))
        trajectory = _trajectory(clip, ways)
        provenance = self._provenance(wan, asked, plan, device, dtype, fit)
        return Restoration(trajectory, provenance, time.perf_counter() - begun, plan.frames)

    def _latent_shape(self, fit: Fit) -> tuple[int, int, int, int]:
        try:
            return self.config.latent_shape(self.settings.frames, fit.canvas_height, fit.canvas_width)
        except ValueError as error:
            raise UsageError(f"{self.name} can't do this: {error}") from error

    def _model(self, device: torch.device, dtype: torch.dtype) -> Wan:
        if self._held is None or self._held[:2] != (device, dtype):
            self._held = None  # never two of them in memory
            self._held = (device, dtype, self._load(device, dtype))
        return self._held[2]

    def _provenance(
        self, wan: Wan, prompt: str, plan: Plan, device: torch.device, dtype: torch.dtype, fit: Fit
    ) -> dict[str, str]:
        settings = self.settings
        return {
            "software": f"unfade {__version__}",
            "model": self.name,
            "method": "V-Bridge (arXiv 2603.13089)",
            "weights": wan.provenance.get("weights", "unknown"),
            "prompt": prompt,
            "negative_prompt": NEGATIVE_PROMPT if settings.guidance > 1 else "",
            "frames": str(settings.frames),
            "steps": str(settings.steps),
            "shift": f"{settings.shift:g}",
            "guidance": f"{settings.guidance:g}",
            "guidance_end": f"{settings.guidance_end:g}",
            "evaluations": str(settings.evaluations),
            "canvas": f"{fit.canvas_width}x{fit.canvas_height}, {'resized' if fit.resized else 'padded'}",
            "scale": str(plan.scale),
            "seed": str(plan.seed),
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
            "vae_dtype": str(wan.vae.dtype).removeprefix("torch."),
            "tile": "none",
        }


class _Tally:
    """Counts equal parts of the work and tells the share done."""

    def __init__(self, parts: int, progress: Progress | None) -> None:
        self.parts = parts
        self.done = 0
        self.progress = progress

    def __call__(self, *_: int) -> None:
        self.add(1)

    def add(self, parts: int) -> None:
        self.done += parts
        if self.progress:
            self.progress(self.done / self.parts)


def _sampled(
    denoiser: Denoiser, noise: Tensor, condition: Condition, schedule: FlowSchedule, tell: _Tally
) -> Tensor:
    with torch.inference_mode():
        latents = sample_flow(denoiser, noise, condition, schedule, tell)
        if not bool(torch.isfinite(latents.sum())):
            raise UnfadeError("the network's answer is not a number; try --dtype fp32")
    return latents


def _frames(wan: Wan, latents: Tensor, keep: bool, tell: _Tally) -> Iterator[Tensor]:
    """The generated frames `[t, 3, H, W]` after the first, or the last one alone; others go as they are decoded."""
    every = wan.config.vae["scale_factor_temporal"]
    done, in_all = 0, every * (latents.shape[2] - 1) + 1
    for chunk in wan.vae.decode(latents):
        tell.add(-(-chunk.shape[2] // every))
        first = 0 if done else 1
        done += chunk.shape[2]
        if keep and done > 1:
            yield chunk[0, :, first:].transpose(0, 1)
        elif not keep and done == in_all:
            yield chunk[0, :, -1:].transpose(0, 1)
        del chunk


def _trajectory(clip: Clip, ways: list[Tensor]) -> Trajectory:
    """Clips at even times from the input itself to the result; `ways` holds `[K, 3, H, W]` for each frame."""
    count = ways[0].shape[0]
    clips = [clip]
    for index in range(count):
        frames = torch.stack([way[index] for way in ways]).to(clip.frames.dtype)
        clips.append(clip.with_frames(as_the_file(frames, clip)))
    return Trajectory(tuple(index / count for index in range(count + 1)), tuple(clips))
