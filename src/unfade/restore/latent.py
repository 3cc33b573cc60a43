"""Restoring with a video diffusion model in latents: V-Bridge's way through Wan."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from unfade.backbones.wan import Wan
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.backbones.wan_text import Embed, PromptEmbeddings
from unfade.core import Clip, Plan, Restoration, UsageError
from unfade.core.contracts import Progress
from unfade.diffusion.sizes import Fit, padded_fit, published_fit
from unfade.media.hidden import filled
from unfade.media.images import read_image
from unfade.media.resize import enlarge
from unfade.prompts.vbridge import NEGATIVE_PROMPT, vbridge_prompt
from unfade.restore.adapters import NO_ADAPTERS, Adapters, Weights
from unfade.restore.asked import settled
from unfade.restore.device import choose_device, choose_dtype
from unfade.restore.passes import Passes, load_of, trajectory_of
from unfade.restore.placement import Load, Placement, Room
from unfade.restore.samples import check_confidence, stacked
from unfade.restore.vbridge import PAPER, RELEASE, VBridgeSettings
from unfade.restore.walk import Tally, Tiling, Walk, decoded
from unfade.version import __version__

T = TypeVar("T")

__all__ = ["PAPER", "RELEASE", "LatentRestorer", "VBridgeSettings"]


class LatentRestorer:
    """Restores each frame on its own: it becomes the first frame of a short clip whose last one is the result.

    The noise is the same for every frame and depends on the plan's seed and the size only, so a photo's result
    doesn't depend on what was restored before it.

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
        config: WanConfig,
        load: Callable[[torch.device, torch.dtype], Wan],
        embed: Embed,
        settings: VBridgeSettings = PAPER,
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
        self._held: tuple[torch.device, torch.dtype, Wan] | None = None
        self.room = room
        self.placement = Placement(room)

    @staticmethod
    def of_folder(
        path: Path,
        settings: VBridgeSettings = PAPER,
        cache: Path | None = None,
        *,
        name: str | None = None,
        adapters: Adapters = NO_ADAPTERS,
        room: Room = Room(),
    ) -> "LatentRestorer":
        """A restorer for a model folder in diffusers' layout; weights are read when they are first needed.

        Args:
            path: of the folder.
            settings: how to sample.
            cache: where embeddings of prompts are kept.
            name: to be told in provenance; the folder's by default.
            adapters: what the base was taught.
            room: how weights are kept.

        Raises:
            ModelError: the folder can't be used, or an adapter isn't there.
        """
        folder = open_wan(path)

        def load(device: torch.device, dtype: torch.dtype) -> Wan:
            return load_wan(folder, dtype, device=device)

        def sha256() -> str:
            return adapters.sha256(folder.sha256())

        embed = PromptEmbeddings(path, cache)
        return LatentRestorer(name or path.name, folder.config, load, embed, settings, adapters, room, sha256)

    @property
    def weights(self) -> Weights:
        """What identifies the weights, adapters included."""
        return Weights(self._sha256())

    def fit_for(self, height: int, width: int) -> Fit:
        """The canvas for a photo of this size."""
        rule = published_fit if self.settings.large == "resize" else padded_fit
        return rule(height, width, self.config.size_multiple)

    def num_tiles(self, height: int, width: int, plan: Plan) -> int:
        """How many tiles a photo of this size takes."""
        return Tiling.of(self.config, self.fit_for(height, width), self.settings, plan).count

    def work(self, height: int, width: int, plan: Plan) -> dict[str, Any]:
        """What one frame of this size (enlarged already) takes: canvas, tiles, evaluations of the transformer and their
        arithmetic in PFLOP, the memory plan with its predicted peak, and predicted seconds, which are right within a
        factor of two. A gated drift correction counts whole.

        Raises:
            UsageError: the settings can't be carried out.
        """
        settings = self.settings.under(plan)
        fit = self.fit_for(height, width)
        self._latent_shape(fit, settings.frames)
        tiling = Tiling.of(self.config, fit, settings, plan)
        passes = settings.samples * (2 if self.adapters.drift and settings.drift != "never" else 1)
        stride = self.config.vae["scale_factor_spatial"]
        flops = sum(
            self.config.forward_flops(self.config.tokens(settings.frames, rows * stride, columns * stride))
            for rows, columns in tiling.windows(fit.canvas_height // stride, fit.canvas_width // stride)
        )
        evaluations = settings.evaluations * passes * tiling.count
        device = choose_device(plan.device)
        load = load_of(self.config, fit, tiling, settings, choose_dtype(plan.dtype, device))
        return {
            "canvas": f"{fit.canvas_width}x{fit.canvas_height}",
            "tiles": tiling.count,
            "evaluations": evaluations,
            "petaflops": float(f"{settings.evaluations * passes * flops / 1e15:.3g}"),
            **load.forecast(self.room, device, evaluations),
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
            prompt: a wish that is added to the published prompt.
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
        clip = enlarge(clip, plan.scale)
        job = self._begin(clip.height, clip.width, prompt, plan, clip.num_frames, progress)
        visible = clip.frames if clip.alpha is None else filled(clip.frames, clip.alpha)
        answers = self._run(job, lambda: [job.answer(frame) for frame in visible.split(1)])
        taken = job.takes_correction(answers)
        ways = [answer.way(taken, plan.keep) for answer in answers]
        spreads = [answer.chosen(taken).spread for answer in answers] if plan.confidence else None
        return Restoration(
            trajectory_of(clip, ways),
            self._told(job, prompt, plan, taken),
            time.perf_counter() - begun,
            plan.frames,
            None if spreads is None else stacked(spreads),
        )

    def restore_stream(
        self, frames: Iterable[Tensor], prompt: str | None = None, plan: Plan | None = None, **changes: Any
    ) -> Iterator[Tensor]:
        """Restores the frames of footage one by one, each on its own with the same noise.

        Whether a gated drift correction is taken is decided at the first frame and holds for all of them.

        Args:
            frames: `[3, H, W]` in [0, 1], all of one size.
            prompt, plan, changes: as for `restore`; `plan.frames`, `plan.keep` and `plan.confidence` mean nothing.

        Returns:
            An iterator over as many results, `[3, H * scale, W * scale]` in [0, 1].

        Raises:
            UsageError: the plan can't be carried out here; at once.
            ValueError: frames differ in size.
        """
        plan = replace(settled(plan, changes), keep=False, confidence=False)
        self._check(plan)
        return self._stream(frames, prompt, plan)

    def _stream(self, frames: Iterable[Tensor], prompt: str | None, plan: Plan) -> Iterator[Tensor]:
        job: Passes | None = None
        taken: bool | None = None
        for image in frames:
            frame = enlarge(Clip.of(image), plan.scale).frames
            if job is None:
                job = self._begin(frame.shape[2], frame.shape[3], prompt, plan, 1, None)
            if tuple(frame.shape[2:]) != (job.fit.height, job.fit.width):
                raise ValueError(
                    f"footage has frames of one size, not {(job.fit.height, job.fit.width)} and others"
                )
            answer = self._run(job, partial(job.answer, frame, corrected=taken is not False))
            taken = job.takes_correction([answer]) if taken is None else taken
            yield answer.chosen(taken).mean[-1].to(image.device, image.dtype)

    def round_trip(self, clip: Clip, frames: int = 1) -> Clip:
        """What the VAE alone leaves of a clip: each frame encoded and decoded, the ceiling of what can be reached.

        Args:
            clip: each frame is taken on its own.
            frames: how many copies of the frame go through together as a still clip, 4k + 1, of which the last
                one is returned: results of restorations are decoded in company.
        """
        held = self._held or (choose_device("auto"), choose_dtype("auto", choose_device("auto")))
        fit = self.fit_for(clip.height, clip.width)
        self._latent_shape(fit, frames)
        wan = self._model(held[0], held[1])
        canvas = (fit.canvas_height, fit.canvas_width)
        self.placement.settle(
            wan, Load(self.config, canvas, canvas, self.settings.frames, 1, held[1]), held[0]
        )
        results: list[Tensor] = []
        for frame in clip.frames.split(1):
            still = fit.enter(frame).unsqueeze(2).expand(-1, -1, frames, -1, -1)
            last = next(decoded(wan, wan.vae.encode(still), keep=False))
            results.append(fit.leave(last).to(clip.frames.device, clip.frames.dtype))
        return clip.with_frames(torch.cat(results))

    def provenance(self, height: int, width: int, prompt: str | None, plan: Plan) -> dict[str, str]:
        """What is told of how frames of this size (before enlarging) are restored."""
        job = self._begin(height * plan.scale, width * plan.scale, prompt, plan, 1, None)
        return self._told(job, prompt, plan, None)

    def _check(self, plan: Plan) -> None:
        if plan.confidence:
            check_confidence(self.settings.samples)

    def _begin(
        self, height: int, width: int, prompt: str | None, plan: Plan, frames: int, progress: Progress | None
    ) -> Passes:
        """Everything that is the same for all frames of a size."""
        settings = self.settings.under(plan)
        fit = self.fit_for(height, width)
        shape = self._latent_shape(fit, settings.frames)
        device = choose_device(plan.device)
        dtype = choose_dtype(plan.dtype, device)
        asked = [vbridge_prompt(prompt), NEGATIVE_PROMPT][: 2 if settings.guidance > 1 else 1]
        texts = self._embed(asked, device)
        wan = self._model(device, dtype)
        tiling = Tiling.of(self.config, fit, settings, plan)
        load = load_of(self.config, fit, tiling, settings, dtype)
        self.placement.settle(wan, load, device)
        corrects = self.adapters.drift is not None and settings.drift != "never"
        passes = settings.samples * (2 if corrects else 1)
        tell = Tally(frames * passes * (settings.steps * tiling.count + shape[1]), progress)
        walk = Walk(wan, settings, texts, tiling, plan.keep, tell)
        return Passes(walk, fit, shape, plan.seed, device, self.adapters, corrects, load)

    def _run(self, job: Passes, work: Callable[[], T]) -> T:
        """The work, begun again with a smaller memory plan if need be."""

        def begun() -> T:
            job.walk.tell.done = 0
            return work()

        return self.placement.run(job.walk.wan, job.load, job.device, begun)

    def _latent_shape(self, fit: Fit, frames: int) -> tuple[int, int, int, int]:
        try:
            return self.config.latent_shape(frames, fit.canvas_height, fit.canvas_width)
        except ValueError as error:
            raise UsageError(f"{self.name} can't do this: {error}") from error

    def _model(self, device: torch.device, dtype: torch.dtype) -> Wan:
        if self._held is None or self._held[:2] != (device, dtype):
            self._held = None  # never two of them in memory
            self.placement = Placement(self.room)
            # On the host first: what the memory plan doesn't want on the device never gets there.
            wan = self._load(torch.device("cpu"), dtype)
            self.adapters.attach(wan)
            self._held = (device, dtype, wan)
        return self._held[2]

    def _told(self, job: Passes, prompt: str | None, plan: Plan, taken: bool | None) -> dict[str, str]:
        settings, fit, wan, tiling = job.walk.settings, job.fit, job.walk.wan, job.walk.tiling
        stride = self.config.vae["scale_factor_spatial"]
        return {
            "software": f"unfade {__version__}",
            "model": self.name,
            "method": "V-Bridge (arXiv 2603.13089)",
            "weights": wan.provenance.get("weights", "unknown"),
            **self.adapters.told(),
            "prompt": vbridge_prompt(prompt),
            "negative_prompt": NEGATIVE_PROMPT if settings.guidance > 1 else "",
            "frames": str(settings.frames),
            "steps": str(settings.steps),
            "shift": f"{settings.shift:g}",
            "guidance": f"{settings.guidance:g}",
            "guidance_end": f"{settings.guidance_end:g}",
            "evaluations": str(settings.evaluations),
            "samples": str(settings.samples),
            "drift_correction": job.correction(taken),
            "canvas": f"{fit.canvas_width}x{fit.canvas_height}, {'resized' if fit.resized else 'padded'}",
            "scale": str(plan.scale),
            "seed": str(plan.seed),
            "device": job.device.type,
            "dtype": str(wan.denoiser.model.dtype).removeprefix("torch."),
            "vae_dtype": str(wan.vae.dtype).removeprefix("torch."),
            "tile": str(tiling.side * stride) if tiling.count > 1 else "none",
            "memory": self.placement.name,
            **({"memory_note": "; ".join(self.placement.said)} if self.placement.said else {}),
        }
