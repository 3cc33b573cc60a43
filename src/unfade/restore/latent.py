"""Restoring with a video diffusion model in latents: V-Bridge on Wan, Progressive restoration on CogVideoX."""

import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from unfade.backbones.catalog import CATALOG
from unfade.backbones.prompt_embeddings import Embed
from unfade.backbones.video import VideoConfig, VideoModel, embeddings_of, load_video, open_video
from unfade.core import Clip, Plan, Restoration, UsageError
from unfade.core.contracts import Progress
from unfade.diffusion.sizes import Fit
from unfade.media.hidden import filled
from unfade.media.images import read_image
from unfade.media.resize import enlarge
from unfade.restore.adapters import NO_ADAPTERS, Adapters, Weights
from unfade.restore.asked import settled
from unfade.restore.device import choose_device, choose_dtype
from unfade.restore.passes import Passes, load_of, noise_seed, trajectory_of
from unfade.restore.photo_prompts import asked_of
from unfade.restore.placement import Placement, Room
from unfade.restore.round_trip import of_film, of_stills
from unfade.restore.samples import check_confidence, stacked
from unfade.restore.system import LatentSettings
from unfade.restore.systems import settings_for
from unfade.restore.vbridge import PAPER, RELEASE, VBridgeSettings
from unfade.restore.walk import Tally, Tiling, Walk
from unfade.version import __version__

T = TypeVar("T")

__all__ = ["PAPER", "RELEASE", "LatentRestorer", "VBridgeSettings"]


class LatentRestorer:
    """Restores each frame on its own: it becomes the first frame of a short clip whose last one is the result.

    The noise is the same for every frame of a clip and is drawn from the plan's seed and the first frame itself
    (`noise_seed`), so photos don't share their noise, and a photo's result depends neither on where it lies nor on what
    else is restored.

    Attributes:
        name: of the model.
        config: of the model.
        settings: how to sample.
        adapters: what the base was taught.
        room: how weights are to be kept.
        placement: how they are kept now.
    """

    def __init__(
        self,
        name: str,
        config: VideoConfig,
        load: Callable[[torch.device, torch.dtype], VideoModel],
        embed: Embed,
        settings: LatentSettings = PAPER,
        adapters: Adapters = NO_ADAPTERS,
        room: Room = Room(),
        sha256: Callable[[], str] = lambda: "unknown",
    ) -> None:
        self.name = name
        self.config = config
        self.settings = settings
        self.adapters = adapters
        self._load = load
        self._embed = embed
        self._sha256 = sha256
        self._held: tuple[torch.device, torch.dtype, VideoModel] | None = None
        self.room = room
        self.placement = Placement(room)

    @staticmethod
    def of_folder(
        path: Path,
        settings: LatentSettings | None = None,
        cache: Path | None = None,
        *,
        name: str | None = None,
        adapters: Adapters = NO_ADAPTERS,
        room: Room = Room(),
    ) -> "LatentRestorer":
        """A restorer for a model folder in diffusers' layout; weights are read when they are first needed.

        Args:
            path: of the folder.
            settings: how to sample; the model's own system by default.
            cache: where embeddings of prompts are kept.
            name: to be told in provenance; the folder's by default.
            adapters: what the base was taught.
            room: how weights are kept.

        Raises:
            ModelError: the folder can't be used, or an adapter isn't one for this model.
        """
        folder = open_video(path)
        adapters.check(folder.config)

        def load(device: torch.device, dtype: torch.dtype) -> VideoModel:
            adapters.check(folder.config, folder.notes())
            return load_video(folder, dtype)

        def sha256() -> str:
            return adapters.sha256(folder.sha256())

        embed = embeddings_of(folder, cache)
        chosen = settings or settings_for(folder.config)
        return LatentRestorer(name or path.name, folder.config, load, embed, chosen, adapters, room, sha256)

    @property
    def weights(self) -> Weights:
        """What identifies the weights, adapters included."""
        return Weights(self._sha256())

    def fit_for(self, height: int, width: int) -> Fit:
        """The canvas for a photo of this size."""
        return self.settings.fit(self.config, height, width)

    def num_tiles(self, height: int, width: int, plan: Plan) -> int:
        """How many tiles a photo of this size takes."""
        return Tiling.of(self.config, self.fit_for(height, width), self.settings, plan).count

    def work(self, height: int, width: int, plan: Plan) -> dict[str, Any]:
        """What one frame of this size (enlarged already) takes: canvas, tiles, evaluations of the transformer and their
        arithmetic in PFLOP, the memory plan with its predicted peak, and predicted seconds, which are right within a
        factor of two. A gated drift correction counts whole; seconds take its clip to be as long as the longer one.

        Raises:
            UsageError: the plan or the settings can't be carried out.
        """
        self._check(plan)
        settings = self.settings.under(plan)
        fit = self.fit_for(height, width)
        tiling = Tiling.of(self.config, fit, settings, plan)
        clips = self._clips(settings)
        seen = [tokens for frames in clips for tokens in self._tokens(fit, tiling, frames)]
        each = settings.evaluations * settings.samples
        evaluations = each * len(seen)
        device = choose_device(plan.device)
        dtype = choose_dtype(plan.dtype, device)
        load = load_of(self.config, fit, tiling, settings, dtype, max(clips), not plan.keep)
        return {
            "canvas": f"{fit.canvas_width}x{fit.canvas_height}",
            "tiles": tiling.count,
            "evaluations": evaluations,
            "petaflops": float(f"{each * sum(map(self.config.forward_flops, seen)) / 1e15:.3g}"),
            **load.forecast(
                self.room, device, evaluations, self.adapters.num_parameters() * load.dtype.itemsize
            ),
        }

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
            prompt: what is wanted: V-Bridge adds it to its published prompt, Progressive restoration takes it as it is.
            plan: `steps` None takes those of the settings.
            progress: called with the share done, 0 to 1.
            changes: fields of the plan by name.

        Returns:
            A trajectory with a clip for each generated frame (the first being the input itself), with those of the
            drift correction after them where it was taken, or with the input and the result only if the plan
            does not keep the way.

        Raises:
            InputError: the file can't be read.
            ModelError: the model or an adapter can't be used.
            UsageError: the plan or the settings can't be carried out.
            UnfadeError: the model answered with something that isn't a number.
        """
        plan = settled(plan, changes)
        self._check(plan)
        if not isinstance(clip, Clip):
            clip = read_image(Path(clip))
        begun = time.perf_counter()
        device = choose_device(plan.device)
        asked, chosen = asked_of(self.settings, prompt, clip.frames[0], device, self._make_way)
        seed = noise_seed(plan.seed, clip.frames[0])
        clip = enlarge(clip, plan.scale)
        job = self._begin(clip.height, clip.width, asked, plan, seed, clip.num_frames, progress)
        visible = clip.frames if clip.alpha is None else filled(clip.frames, clip.alpha)
        answers = self._run(job, lambda: [job.answer(frame) for frame in visible.split(1)])
        taken = job.takes_correction(answers)
        ways = [answer.way(taken, plan.keep) for answer in answers]
        spreads = [answer.chosen(taken).spread for answer in answers] if plan.confidence else None
        return Restoration(
            trajectory_of(clip, ways),
            {**self._told(job, asked, plan, taken), **chosen},
            time.perf_counter() - begun,
            plan.frames,
            None if spreads is None else stacked(spreads),
        )

    def restore_stream(
        self, frames: Iterable[Tensor], prompt: str | None = None, plan: Plan | None = None, **changes: Any
    ) -> Generator[Tensor, None, dict[str, str]]:
        """Restores the frames of footage one by one, each on its own with the same noise.

        Whether a gated drift correction is taken is decided at the first frame and holds for all of them.

        Args:
            frames: `[3, H, W]` in [0, 1], all of one size.
            prompt, plan, changes: as for `restore`; `plan.frames`, `plan.keep` and `plan.confidence` mean nothing.

        Returns:
            A generator of as many results, `[3, H * scale, W * scale]` in [0, 1]; what it returns in the end is the
            provenance, as `provenance` could not tell it before.

        Raises:
            UsageError: the plan can't be carried out here; at once.
            ValueError: frames differ in size.
        """
        plan = replace(settled(plan, changes), keep=False, confidence=False)
        self._check(plan)
        return self._stream(frames, prompt, plan)

    def _stream(
        self, frames: Iterable[Tensor], prompt: str | None, plan: Plan
    ) -> Generator[Tensor, None, dict[str, str]]:
        job: Passes | None = None
        asked = self.settings.asked(prompt)
        taken: bool | None = None
        for image in frames:
            frame = enlarge(Clip.of(image), plan.scale).frames
            if job is None:
                seed = noise_seed(plan.seed, image)
                job = self._begin(frame.shape[2], frame.shape[3], asked, plan, seed)
            if tuple(frame.shape[2:]) != (job.fit.height, job.fit.width):
                raise ValueError(
                    f"footage has frames of one size, not {(job.fit.height, job.fit.width)} and others"
                )
            answer = self._run(job, partial(job.answer, frame, corrected=taken is not False))
            taken = job.takes_correction([answer]) if taken is None else taken
            yield answer.chosen(taken).mean[-1].to(image.device, image.dtype)
        return {} if job is None else self._told(job, asked, plan, taken)

    def round_trip(self, clip: Clip, frames: int = 1) -> Clip:
        """What the VAE alone leaves of a clip: each frame encoded and decoded, the ceiling of what can be reached.

        Args:
            clip: each frame is taken on its own.
            frames: how many copies of the frame go through together as a still clip, 4k + 1, of which the last
                one is returned: results of restorations are decoded in company.

        Raises:
            UsageError: the model can't have so many frames.
            UnfadeError: memory ran out under a smaller memory plan as well.
        """
        through = partial(of_stills, pixels=clip.frames, copies=frames)
        return clip.with_frames(self._through_vae(clip.frames, frames, through, last=True))

    def film_trip(self, film: Tensor) -> Tensor:
        """What the VAE alone leaves of a film that goes through it as one clip: the ceiling of each of its frames.

        Frames share latents (1 | 4 | 4), so those of a film that changes lose more than a still picture does.

        Args:
            film: `[T, 3, H, W]` in [0, 1], as many frames as the model can have.

        Returns:
            The same shape.

        Raises:
            UsageError: the model can't have so many frames.
            UnfadeError: memory ran out under a smaller memory plan as well.
        """
        return self._through_vae(film, len(film), partial(of_film, film=film), last=False)

    def _through_vae(
        self, pixels: Tensor, frames: int, through: Callable[[VideoModel, Fit], Tensor], last: bool
    ) -> Tensor:
        """Frames through the VAE, held as now or as it is by default."""
        held = self._held or (choose_device("auto"), choose_dtype("auto", choose_device("auto")))
        fit = self.fit_for(*pixels.shape[2:])
        self._possible(self.config.latent_shape, frames, fit.canvas_height, fit.canvas_width)
        model = self._model(held[0], held[1])
        tiling = Tiling.of(self.config, fit, self.settings, Plan(tile=0))
        load = load_of(
            self.config, fit, tiling, self.settings, held[1], max(frames, self.settings.frames), last
        )
        self.placement.settle(model, load, held[0])
        result = self.placement.run(model, load, held[0], lambda: through(model, fit))
        return result.to(pixels.device, pixels.dtype)

    def provenance(self, height: int, width: int, prompt: str | None, plan: Plan) -> dict[str, str]:
        """What is told of how frames of footage of this size (before enlarging) are restored."""
        asked, plan = self.settings.asked(prompt), replace(plan, keep=False)
        job = self._begin(height * plan.scale, width * plan.scale, asked, plan, plan.seed)
        return self._told(job, asked, plan, None)

    def _check(self, plan: Plan) -> None:
        if plan.confidence:
            check_confidence(self.settings.samples)

    def _begin(
        self,
        height: int,
        width: int,
        asked: list[str],
        plan: Plan,
        seed: int,
        frames: int = 1,
        progress: Progress | None = None,
    ) -> Passes:
        """Everything that is the same for all frames of a size."""
        settings = self.settings.under(plan)
        fit = self.fit_for(height, width)
        clips, canvas = self._clips(settings), (fit.canvas_height, fit.canvas_width)
        shapes = [self._possible(self.config.latent_shape, count, *canvas) for count in clips]
        tiling = Tiling.of(self.config, fit, settings, plan)
        for count in clips:
            self._tokens(fit, tiling, count)
        device = choose_device(plan.device)
        dtype = choose_dtype(plan.dtype, device)
        texts = self._embed(asked, device)
        model = self._model(device, dtype)
        load = load_of(self.config, fit, tiling, settings, dtype, max(clips), not plan.keep)
        self.placement.settle(model, load, device)
        latents = [(count - 1) // self.config.temporal_stride + 1 for count in clips]
        parts = settings.steps * tiling.count * len(clips) + sum(latents)
        tell = Tally(frames * settings.samples * parts, progress)
        walk = Walk(model, settings, texts, tiling, plan.keep, tell)
        second = shapes[1] if len(shapes) > 1 else None
        return Passes(walk, fit, shapes[0], second, seed, device, self.adapters, load)

    def _clips(self, settings: LatentSettings) -> tuple[int, ...]:
        """Frames of the clip of each pass."""
        if self.adapters.drift is None or settings.drift == "never":
            return (settings.frames,)
        return settings.frames, self.adapters.drift_frames(settings.frames)

    def _run(self, job: Passes, work: Callable[[], T]) -> T:
        """The work, begun again with a smaller memory plan if need be."""

        def begun() -> T:
            job.walk.tell.done = 0
            return work()

        return self.placement.run(job.walk.model, job.load, job.device, begun)

    def _tokens(self, fit: Fit, tiling: Tiling, frames: int) -> list[int]:
        """How many tokens the transformer sees of each tile."""
        stride = self.config.stride
        seen = tiling.windows(fit.canvas_height // stride, fit.canvas_width // stride)
        return [self._possible(self.config.tokens, frames, h * stride, w * stride) for h, w in seen]

    def _possible(self, rule: Callable[[int, int, int], T], frames: int, height: int, width: int) -> T:
        try:
            return rule(frames, height, width)
        except ValueError as error:
            raise UsageError(f"{self.name} can't do this: {error}") from error

    def _model(self, device: torch.device, dtype: torch.dtype) -> VideoModel:
        if self._held is None or self._held[:2] != (device, dtype):
            self._held = None  # never two of them in memory
            self.placement = Placement(self.room)
            # On the host first: what the memory plan doesn't want on the device never gets there.
            model = self._load(torch.device("cpu"), dtype)
            self.adapters.attach(model)
            self._held = (device, dtype, model)
        return self._held[2]

    def _make_way(self) -> None:
        """Takes the model off the device, for another one that is to work there meanwhile."""
        if self._held is not None and self._held[0].type != "cpu":
            self.placement.leave(self._held[2])

    def _told(self, job: Passes, asked: list[str], plan: Plan, taken: bool | None) -> dict[str, str]:
        settings, fit, model, tiling = job.walk.settings, job.fit, job.walk.model, job.walk.tiling
        stride, known = self.config.stride, CATALOG.get(self.name)
        return {
            "software": f"unfade {__version__}",
            "model": self.name,
            "licence": known.licence if known and known.space == "latents" else "unknown",
            "method": settings.method,
            "weights": model.provenance.get("weights", "unknown"),
            **self.adapters.told(),
            "prompt": asked[0],
            "negative_prompt": asked[1] if len(asked) > 1 else "",
            "frames": str(settings.frames),
            "steps": str(settings.steps),
            **settings.told(),
            "guidance": f"{settings.guidance:g}",
            "guidance_begin": f"{settings.guidance_begin:g}",
            "guidance_end": f"{settings.guidance_end:g}",
            "evaluations": str(settings.evaluations),
            "samples": str(settings.samples),
            "drift_correction": job.correction(taken),
            **({"drift_frames": str(self._clips(settings)[-1])} if job.corrects else {}),
            "canvas": f"{fit.canvas_width}x{fit.canvas_height}, {'resized' if fit.resized else 'padded'}",
            "scale": str(plan.scale),
            "seed": str(plan.seed),
            "device": job.device.type,
            "dtype": str(model.denoiser.model.dtype).removeprefix("torch."),
            "vae_dtype": str(model.vae.dtype).removeprefix("torch."),
            "tile": str(tiling.side * stride) if tiling.count > 1 else "none",
            "memory": self.placement.name,
            **({"memory_note": "; ".join(self.placement.said)} if self.placement.said else {}),
        }
