"""The engine for pixel backbones: enlarge, look at the whole, walk the bridge in tiles, keep the way."""

import copy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.catalog import CATALOG
from unfade.backbones.tiny import SIZE_MULTIPLE, Tiny, thumbnail_of
from unfade.backbones.tiny_denoiser import TinyCondition, TinyDenoiser
from unfade.backbones.tiny_weights import TinyWeights
from unfade.core import Clip, Plan, Restoration, Trajectory, UsageError
from unfade.core.contracts import Progress
from unfade.diffusion import bridge, tiled
from unfade.diffusion.tiled import tiles_along
from unfade.media.hidden import filled
from unfade.media.images import read_image
from unfade.media.resize import enlarge
from unfade.restore.device import choose_device, choose_dtype
from unfade.version import __version__

# The largest tile side chosen by "auto" per precision. One activation of a tile then stays below 32 MiB, above
# which the C library asks the system for fresh memory every time, at a fifth of the speed lost.
_AUTO_TILE = {torch.bfloat16: 1344, torch.float32: 896}
# Up to this many pixels a photo is restored whole.
_WHOLE = {torch.bfloat16: 2_000_000, torch.float32: 1_000_000}


class PixelRestorer:
    """Restores with a network that works on pixels (`tiny`)."""

    def __init__(self, name: str, weights: TinyWeights) -> None:
        self.name = name
        self.weights = weights
        self._denoisers: dict[tuple[torch.device, torch.dtype], TinyDenoiser] = {}

    def _denoiser(self, device: torch.device, dtype: torch.dtype) -> TinyDenoiser:
        key = (device, dtype)
        if key not in self._denoisers:
            model: Tiny = copy.deepcopy(self.weights.model)
            self._denoisers[key] = TinyDenoiser(model, device, dtype)
        return self._denoisers[key]

    def tile_for(self, height: int, width: int, plan: Plan) -> int:
        """The tile side for a canvas of this size; a side of the canvas's own length means no tiles."""
        dtype = choose_dtype(plan.dtype, choose_device(plan.device))
        if plan.tile == 0 or (plan.tile == "auto" and height * width <= _WHOLE[dtype]):
            return max(height, width)
        return _AUTO_TILE[dtype] if plan.tile == "auto" else plan.tile

    def num_tiles(self, height: int, width: int, plan: Plan) -> int:
        """How many tiles a canvas of this size takes."""
        tile = self.tile_for(height, width, plan)
        halo = self.weights.model.config.halo
        rows, columns = (tiles_along(side, tile, halo, SIZE_MULTIPLE) for side in (height, width))
        return len(rows) * len(columns)

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
            prompt: what to achieve; None or a blank one means "restore everything".
            plan: how; `Plan()` if left out.
            progress: called with the share done, 0 to 1.
            changes: fields of the plan by name, e.g. `steps=4`.

        Raises:
            InputError: the file can't be read.
            UsageError: the plan can't be carried out here or names something unknown.
        """
        try:
            plan = replace(plan or Plan(), **changes)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error
        if not isinstance(clip, Clip):
            clip = read_image(Path(clip))
        prompt = prompt.strip() or None if prompt else None
        begun = time.perf_counter()
        clip = enlarge(clip, plan.scale)
        device = choose_device(plan.device)
        dtype = choose_dtype(plan.dtype, device)
        denoiser = self._denoiser(device, dtype)
        tile = self.tile_for(clip.height, clip.width, plan)
        parts = self.num_tiles(clip.height, clip.width, plan)
        in_all = clip.num_frames * plan.steps * parts
        done = 0

        def count(*_: int) -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done / in_all)

        wrapped = tiled(denoiser, tile, self.weights.model.config.halo, SIZE_MULTIPLE, count)
        ways: list[tuple[torch.Tensor, ...]] = []
        taus: tuple[float, ...] = ()
        visible = clip.frames if clip.alpha is None else filled(clip.frames, clip.alpha)
        for frame in visible.split(1):
            with torch.inference_mode():
                context = denoiser.model.context(thumbnail_of(frame).to(device), [prompt])
            taus, states = bridge(wrapped, frame, TinyCondition(frame, context), plan.steps, plan.keep)
            ways.append(states)
        clips = [clip]
        for states in list(zip(*ways, strict=True))[1:]:
            frames = states[0] if len(states) == 1 else torch.cat(states)
            clips.append(clip.with_frames(_as_the_file(frames, clip)))
        return Restoration(
            Trajectory(taus, tuple(clips)),
            self._provenance(prompt, plan, device, dtype, tile, parts),
            time.perf_counter() - begun,
            plan.frames,
        )

    def _provenance(
        self, prompt: str | None, plan: Plan, device: torch.device, dtype: torch.dtype, tile: int, parts: int
    ) -> dict[str, str]:
        known = CATALOG.get(self.name)
        return {
            "software": f"unfade {__version__}",
            "model": self.name,
            "licence": known.licence if known else "unknown",
            "weights": self.weights.sha256,
            "prompt": prompt or "",
            "steps": str(plan.steps),
            "frames": str(plan.frames),
            "scale": str(plan.scale),
            "seed": str(plan.seed),
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
            "tile": str(tile) if parts > 1 else "none",
        }


def _as_the_file(frames: torch.Tensor, clip: Clip) -> torch.Tensor:
    """Restored frames as `clip` can hold them: grey stays grey, and what is invisible stays what it was."""
    if clip.metadata.colour == "grey":
        luma = torch.tensor((0.299, 0.587, 0.114), device=frames.device).reshape(1, 3, 1, 1)
        frames = (frames * luma).sum(1, keepdim=True).expand_as(frames)
    if clip.alpha is not None:
        frames = torch.where(clip.alpha > 0, frames, clip.frames)
    return frames
