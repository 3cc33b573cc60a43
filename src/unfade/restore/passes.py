"""The first pass over a frame, and the drift correction after it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.video import VideoConfig
from unfade.core import Clip, Trajectory, generator, subseed
from unfade.diffusion.sizes import Fit
from unfade.restore.adapters import DRIFT, RESTORE, Adapters
from unfade.restore.border import as_the_file
from unfade.restore.cogvideox_load import CogVideoXLoad
from unfade.restore.drift import worth_keeping
from unfade.restore.placement import Load
from unfade.restore.samples import Samples
from unfade.restore.system import LatentSettings
from unfade.restore.walk import Tiling, Walk


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first pass, and the second if there was one, made of a frame."""

    base: Samples
    corrected: Samples | None

    def chosen(self, taken: bool | None) -> Samples:
        return self.base if self.corrected is None or taken is False else self.corrected

    def way(self, taken: bool | None, keep: bool) -> Tensor:
        chosen = self.chosen(taken)
        return torch.cat((self.base.mean, chosen.mean)) if keep and chosen is not self.base else chosen.mean


@dataclass(frozen=True, slots=True)
class Passes:
    """What is the same for all frames of a clip.

    Attributes:
        walk: how a clip is generated.
        fit: between the frame and the canvas.
        shape: of the first pass's noise, without the batch.
        second: of the second pass's, which may have another number of frames; None where there is no second pass.
        seed: of all noise; see `noise_seed`.
        device: that it is computed on.
        adapters: of the two passes.
        load: what the longer clip asks of the memory.
    """

    walk: Walk
    fit: Fit
    shape: tuple[int, int, int, int]
    second: tuple[int, int, int, int] | None
    seed: int
    device: torch.device
    adapters: Adapters
    load: Load

    @property
    def corrects(self) -> bool:
        """Whether there is a second pass."""
        return self.second is not None

    def answer(self, frame: Tensor, corrected: bool = True) -> Answer:
        """The restored frames of `[1, 3, H, W]`, averaged over the samples."""
        canvas = self.fit.enter(frame)
        base, second = Samples(), Samples() if self.corrects and corrected else None
        for index in range(self.walk.settings.samples):
            last = self._walked(base, canvas, frame.device, RESTORE, index, self.shape)
            if second is not None and self.second is not None:
                self._walked(second, last, frame.device, DRIFT, index, self.second)
        return Answer(base, second)

    def _walked(
        self,
        into: Samples,
        canvas: Tensor,
        home: torch.device,
        name: str,
        index: int,
        shape: tuple[int, int, int, int],
    ) -> Tensor:
        """Adds a way to the samples; gives its last frame on the canvas, `[1, 3, H, W]`."""
        system = self.walk.settings.system
        names: Sequence[str | int] = (system,) if (name, index) == (RESTORE, 0) else (system, name, index)
        dice = generator(self.seed, *names, "steps")
        noise = torch.randn(1, *shape, generator=generator(self.seed, *names)).to(self.device)
        self.adapters.use(self.walk.model, name)
        last = canvas
        way: list[Tensor] = []
        for part in self.walk.frames(canvas, noise, dice):
            last = part[-1:]
            way.append(self.fit.leave(part).to(home))
        into.add(torch.cat(way))
        return last

    def takes_correction(self, answers: Sequence[Answer]) -> bool | None:
        """Whether the second pass is the result; None where nothing had to be decided."""
        if not self.corrects or self.walk.settings.drift != "gated":
            return None
        base = torch.cat([answer.base.mean[-1:] for answer in answers])
        second = torch.cat([answer.corrected.mean[-1:] for answer in answers if answer.corrected is not None])
        return worth_keeping(base, second)

    def correction(self, taken: bool | None) -> str:
        """What became of the second pass, for provenance."""
        if not self.corrects:
            return "none"
        if taken is None:
            return self.walk.settings.drift
        return "gated, taken" if taken else "gated, left out"


def load_of(
    config: VideoConfig,
    fit: Fit,
    tiling: Tiling,
    settings: LatentSettings,
    dtype: torch.dtype,
    frames: int | None = None,
    last: bool = False,
) -> Load:
    """What a walk over a canvas asks of the memory; the largest tile stands for all.

    Args:
        config: of the model.
        fit: the canvas.
        tiling: of the canvas.
        settings: how to sample.
        dtype: of the transformer.
        frames: of the longest clip that is generated; those of the settings by default.
        last: whether its last frame is all that is wanted.
    """
    frames = frames or settings.frames
    stride = config.stride
    seen = tiling.windows(fit.canvas_height // stride, fit.canvas_width // stride)
    height, width = max(seen, key=lambda size: size[0] * size[1])
    canvas, prompts = (fit.canvas_height, fit.canvas_width), 2 if settings.guidance > 1 else 1
    denoised = height * stride, width * stride
    if isinstance(config, CogVideoXConfig):
        return CogVideoXLoad(config, canvas, denoised, frames, prompts, dtype, last)  # type: ignore[arg-type]
    return Load(config, canvas, denoised, frames, prompts, dtype, last)


def noise_seed(seed: int, photo: Tensor) -> int:
    """The seed of a photo's noise: of the plan's seed and the photo itself, in 8 bits, wherever it lies and whatever
    else is restored with it.

    Args:
        seed: of the plan.
        photo: `[3, H, W]` in [0, 1], as it was read.
    """
    pixels = (photo * 255).round().to(torch.uint8).cpu().contiguous()
    shape = "x".join(map(str, pixels.shape))
    return subseed(seed, "photo", shape, hashlib.sha256(pixels.numpy().tobytes()).hexdigest())


def trajectory_of(clip: Clip, ways: list[Tensor]) -> Trajectory:
    """Clips at even times from the input itself to the result; `ways` holds `[K, 3, H, W]` for each frame."""
    count = ways[0].shape[0]
    clips = [clip]
    for index in range(count):
        frames = torch.stack([way[index] for way in ways]).to(clip.frames.dtype)
        clips.append(clip.with_frames(as_the_file(frames, clip)))
    return Trajectory(tuple(index / count for index in range(count + 1)), tuple(clips))
