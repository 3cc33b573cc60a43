"""One walk from noise to the frames of a generated clip, on a canvas of legal size."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.video import VideoConfig, VideoModel
from unfade.core import Plan, UnfadeError
from unfade.core.contracts import Progress
from unfade.diffusion.guidance import Contrast, guidance_ceiling, guidance_floor, guided
from unfade.diffusion.sizes import Fit
from unfade.diffusion.tiled import tiled, tiles_along
from unfade.restore.system import LatentSettings

HALO = 128  # pixels that a tile sees besides what it contributes, on each side


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of a canvas in places of its latents.

    Attributes:
        side: of what a tile contributes.
        halo: what it sees besides, on each side.
        multiple: borders between tiles lie at multiples of this.
        count: how many tiles there are.
    """

    side: int
    halo: int
    multiple: int
    count: int

    @staticmethod
    def of(config: VideoConfig, fit: Fit, settings: LatentSettings, plan: Plan) -> "Tiling":
        """The tiles that a plan asks for: "auto" has some only where `large` is "tile" and the canvas is large."""
        stride = config.stride
        multiple = config.size_multiple // stride
        rows, columns = fit.canvas_height // stride, fit.canvas_width // stride
        chosen = plan.tile
        if chosen == "auto":
            large = fit.canvas_height * fit.canvas_width > settings.area
            chosen = settings.auto_tile if settings.large == "tile" and large else 0
        side = max(multiple, chosen // stride) if chosen else max(rows, columns)
        halo = -(-HALO // config.size_multiple) * multiple
        count = len(tiles_along(rows, side, halo, multiple)) * len(tiles_along(columns, side, halo, multiple))
        return Tiling(side, halo, multiple, count)

    def windows(self, rows: int, columns: int) -> list[tuple[int, int]]:
        """Height and width of what each tile of a canvas sees, in places of the latents."""
        spans = (
            [
                one.outer_stop - one.outer_start
                for one in tiles_along(length, self.side, self.halo, self.multiple)
            ]
            for length in (rows, columns)
        )
        heights, widths = spans
        return [(height, width) for height in heights for width in widths]


class Tally:
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
            self.progress(min(1.0, self.done / self.parts))


@dataclass(frozen=True, slots=True)
class Walk:
    """How to generate: the model, what it is told, and the steps.

    Attributes:
        model: with the adapter to be used switched on.
        settings: how to sample.
        texts: embeddings of the prompt and, where there is guidance, of the negative one.
        tiling: of the canvas.
        keep: whether all frames are wanted or the last one alone.
        tell: counts steps (times tiles) and latents decoded.
    """

    model: VideoModel
    settings: LatentSettings
    texts: Sequence[Tensor]
    tiling: Tiling
    keep: bool
    tell: Tally

    def frames(self, image: Tensor, noise: Tensor, dice: torch.Generator | None = None) -> Iterator[Tensor]:
        """The generated frames after the first, or the last one alone; others go as they are decoded.

        Args:
            image: the first frame, `[1, 3, H, W]` in [0, 1], of the canvas's size.
            noise: for the whole canvas, `[1, z, k, h, w]`.
            dice: of whatever noise the sampler adds on its way.

        Yields:
            `[t, 3, H, W]` in [0, 1].

        Raises:
            UnfadeError: the model answered with something that isn't a number.
        """
        settings, model = self.settings, self.model
        schedule = settings.schedule(model.config.scheduler)
        times = schedule.times()
        floor = guidance_floor(times, settings.guidance_end)
        ceiling = guidance_ceiling(times, settings.guidance_begin)
        tiling = self.tiling
        denoiser = tiled(
            guided(model.denoiser, settings.guidance, above=floor, below=ceiling),
            tiling.side,
            tiling.halo,
            tiling.multiple,
            self.tell,
        )
        told: Any = model.conditions(image, self.texts)
        with torch.inference_mode(), model.denoiser.remembering():
            latents = schedule.sample(denoiser, noise, Contrast(told[0], told[-1]), dice)
            if not bool(torch.isfinite(latents.sum())):
                raise UnfadeError("the network's answer is not a number; try --dtype fp32")
        return decoded(model, model.finished(latents, told[0]), self.keep, self.tell)


def decoded(model: VideoModel, latents: Tensor, keep: bool, tell: Tally | None = None) -> Iterator[Tensor]:
    """The frames `[t, 3, H, W]` after the first, or the last one alone; others go as they are decoded.

    A clip of one latent has one frame, which is its last.
    """
    every, waiting = model.config.temporal_stride, latents.shape[2]
    first, last = 1, None
    for chunk in model.vae.decode(latents, last=not keep):
        frames, come = chunk[0].transpose(0, 1), -(-chunk.shape[2] // every)
        waiting -= come
        if tell:
            tell.add(come)
        if not keep:
            last = frames[-1:].clone()
        elif first < len(frames):
            yield frames[first:]
        first = 0
        del chunk, frames
    # The last frame of a clip that was decoded in tiles comes alone.
    if tell and waiting:
        tell.add(waiting)
    if last is not None:
        yield last
