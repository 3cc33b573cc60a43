"""The engine for pixel backbones: enlarge, look at the whole, walk the bridge in tiles, keep the way."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.catalog import CATALOG
from unfade.backbones.gather import REACH, Gather
from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import SIZE_MULTIPLE, Tiny, thumbnail_of
from unfade.backbones.tiny_denoiser import TinyCondition, TinyDenoiser
from unfade.backbones.tiny_weights import TinyWeights
from unfade.backbones.trust import trusting
from unfade.core import Clip, Denoiser, Plan, Restoration, Trajectory, UsageError
from unfade.core.contracts import Progress
from unfade.diffusion import bridge, tiled
from unfade.diffusion.tiled import tiles_along
from unfade.media.hidden import filled
from unfade.media.images import read_image
from unfade.media.resize import enlarge
from unfade.prompts import Wish, read_wish
from unfade.restore.asked import settled
from unfade.restore.border import as_the_file
from unfade.restore.device import choose_device, choose_dtype
from unfade.restore.shots import Shot
from unfade.restore.window import gathered, glimpses, windows
from unfade.version import __version__

# The largest tile side chosen by "auto" per precision: what keeps a photo of 24 megapixels under 1.5 GB.
_AUTO_TILE = {torch.bfloat16: 1472, torch.float32: 896}
# Up to this many pixels a photo is restored whole.
_WHOLE = {torch.bfloat16: 2_000_000, torch.float32: 1_000_000}


class PixelRestorer:
    """Restores with a network that works on pixels (`tiny`)."""

    def __init__(self, name: str, weights: TinyWeights) -> None:
        self.name = name
        self.weights = weights
        self._denoisers: dict[tuple[torch.device, torch.dtype], TinyDenoiser] = {}
        self._gathers: dict[tuple[torch.device, torch.dtype], Gather] = {}

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
        """Restores a clip or an image file, each frame on its own; `restore_stream` is for footage.

        Args:
            clip: what to restore, or the path of an image.
            prompt: what to achieve; None, a blank one or one without a goal that is known means "restore everything".
            plan: how; `Plan()` if left out.
            progress: called with the share done, 0 to 1.
            changes: fields of the plan by name, e.g. `steps=4`.

        Raises:
            InputError: the file can't be read.
            UsageError: the plan can't be carried out here or names something unknown.
        """
        plan, wish = settled(plan, changes), read_wish(prompt)
        if not isinstance(clip, Clip):
            clip = read_image(Path(clip))
        begun = time.perf_counter()
        provenance = self.provenance(clip.height, clip.width, prompt, plan)
        clip = enlarge(clip, plan.scale)
        in_all = clip.num_frames * (plan.steps or 1) * self.num_tiles(clip.height, clip.width, plan)
        done = 0

        def count(*_: int) -> None:
            nonlocal done
            done += 1
            if progress:
                progress(done / in_all)

        denoiser, wrapped = self._denoisers_for(
            clip.height, clip.width, plan, wish.strength, count, brightness=wish.brightness
        )
        if plan.confidence:
            self.check_confidence()
        ways: list[tuple[Tensor, ...]] = []
        sure: list[Tensor] = []
        taus: tuple[float, ...] = ()
        visible = clip.frames if clip.alpha is None else filled(clip.frames, clip.alpha)
        for frame in visible.split(1):
            context = _context(denoiser, thumbnail_of(frame), wish)
            told = TinyCondition(frame, context, spectrum_of(frame), self.weights.model.config.halo)
            taus, states = bridge(wrapped, frame, told, plan.steps or 1, plan.keep)
            ways.append(states)
            if plan.confidence and self.weights.doubt is not None:
                error = self.weights.doubt.expected_error(frame, states[-1], context.cpu())
                sure.append((1 - 2 * error).clamp_min(0))
        clips = [clip]
        for states in list(zip(*ways, strict=True))[1:]:
            frames = states[0] if len(states) == 1 else torch.cat(states)
            clips.append(clip.with_frames(as_the_file(frames, clip)))
        return Restoration(
            Trajectory(taus, tuple(clips)),
            provenance,
            time.perf_counter() - begun,
            plan.frames,
            torch.cat(sure) if sure else None,
        )

    def check_confidence(self) -> None:
        """Whether this model can tell how sure it is.

        Raises:
            UsageError: it can't.
        """
        if self.weights.doubt is None:
            raise UsageError(f"{self.name} can't tell how sure it is; leave --confidence out")

    def restore_stream(
        self,
        frames: Iterable[Tensor],
        prompt: str | None = None,
        plan: Plan | None = None,
        **changes: Any,
    ) -> Iterator[Tensor]:
        """Restores the frames of footage as they come, holding no more than a few at a time.

        The light is that of the shot so far (`Shot`), so that it doesn't flicker; it is looked at anew after a
        hard cut. Where the weights have a `Gather`, each frame is made better by its neighbours in the scene first, and
        results come `plan.neighbours` frames late; else each result is given before the next frame is taken.

        Args:
            frames: `[3, H, W]` in [0, 1], all of one size.
            prompt, plan, changes: as for `restore`; `plan.frames` and `plan.keep` mean nothing here.

        Returns:
            An iterator over as many results, `[3, H * scale, W * scale]` in [0, 1].

        Raises:
            UsageError: the plan can't be carried out here or names something unknown; at once.
            ValueError: frames differ in size.
        """
        plan = settled(plan, changes)
        choose_device(plan.device)
        return self._stream(frames, read_wish(prompt), plan)

    def _stream(self, frames: Iterable[Tensor], wish: Wish, plan: Plan) -> Iterator[Tensor]:
        shot = Shot()
        denoisers: tuple[TinyDenoiser, Denoiser] | None = None
        gather, device = self._gather(plan), choose_device(plan.device)
        reach = min(plan.neighbours, REACH) if gather else 0

        def enlarged(image: Tensor) -> Tensor:
            return enlarge(Clip(image), plan.scale).frames

        # Neighbours look at one another as they came, before anything is enlarged.
        for frame, others in windows(glimpses(frames, device if reach else None), reach):
            image = original = enlarged(frame.image)
            if denoisers is None:
                # Neighbours and network go their way together, and a wish's strength is that of both.
                strength = 1.0 if reach else wish.strength
                height, width = image.shape[2:]
                denoisers = self._denoisers_for(
                    height,
                    width,
                    plan,
                    strength,
                    steady=partial(shot.average, "evidence"),
                    brightness=wish.brightness,
                )
            denoiser, wrapped = denoisers
            context = _context(denoiser, shot.add(thumbnail_of(image)), wish)
            if gather is not None and others:
                image = enlarged(gathered(gather, frame, others, context))
            spectrum = shot.average("spectrum", spectrum_of(image))
            told = TinyCondition(image, context, spectrum, self.weights.model.config.halo)
            _, states = bridge(wrapped, image, told, plan.steps or 1, keep=False)
            result = states[-1]
            if reach and wish.strength != 1 and wish.brightness is None:
                result = torch.lerp(original, result, wish.strength).clamp_(0, 1)
            # A generator keeps its variables while it waits.
            del image, original, frame, others, told, states
            yield result[0]
            del result

    def _gather(self, plan: Plan) -> Gather | None:
        """What makes frames better by their neighbours, on the plan's device; None where that isn't wanted."""
        if self.weights.gather is None or plan.neighbours == 0:
            return None
        device = choose_device(plan.device)
        key = (device, choose_dtype(plan.dtype, device))
        if key not in self._gathers:
            gather = copy.deepcopy(self.weights.gather).to(device)
            for part in gather.trunk():
                part.to(dtype=key[1], memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._gathers[key] = gather
        return self._gathers[key]

    def _denoisers_for(
        self,
        height: int,
        width: int,
        plan: Plan,
        strength: float,
        on_tile: Callable[[int, int], None] | None = None,
        steady: Callable[[Tensor], Tensor] = lambda evidence: evidence,
        brightness: float | None = None,
    ) -> tuple[TinyDenoiser, Denoiser]:
        """The network, and the network in tiles and as far as it is trusted, for an enlarged canvas of this size."""
        device = choose_device(plan.device)
        denoiser = self._denoiser(device, choose_dtype(plan.dtype, device))
        tile = self.tile_for(height, width, plan)
        wrapped = tiled(denoiser, tile, self.weights.model.config.halo, SIZE_MULTIPLE, on_tile)
        if self.weights.trust is None and strength == 1 and brightness is None:
            return denoiser, wrapped
        return denoiser, trusting(wrapped, self.weights.trust, strength, steady, brightness)

    def provenance(self, height: int, width: int, prompt: str | None, plan: Plan) -> dict[str, str]:
        """What is told of how frames of this size (before enlarging) are restored."""
        device = choose_device(plan.device)
        dtype = choose_dtype(plan.dtype, device)
        height, width = height * plan.scale, width * plan.scale
        tile, parts = self.tile_for(height, width, plan), self.num_tiles(height, width, plan)
        known, wish = CATALOG.get(self.name), read_wish(prompt)
        return {
            "software": f"unfade {__version__}",
            "model": self.name,
            "licence": known.licence if known else "unknown",
            "weights": self.weights.sha256,
            "prompt": (prompt or "").strip(),
            "strength": f"{wish.strength:g}",
            **({} if wish.brightness is None else {"brightness": f"{wish.brightness:g}"}),
            "understood": "yes" if wish.understood else "no goal known in the prompt: everything is restored",
            "steps": str(plan.steps or 1),
            "frames": str(plan.frames),
            "scale": str(plan.scale),
            "seed": str(plan.seed),
            "device": device.type,
            "dtype": str(dtype).removeprefix("torch."),
            "tile": str(tile) if parts > 1 else "none",
            **({"neighbours": str(plan.neighbours)} if self.weights.gather else {}),
        }


def _context(denoiser: TinyDenoiser, thumbnail: Tensor, wish: Wish) -> Tensor:
    with torch.inference_mode():
        return denoiser.model.context(thumbnail.to(denoiser.device), [wish.text])
