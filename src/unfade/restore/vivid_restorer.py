"""Vivid-VR as a restorer: clips in memory, and footage of any length from its file."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_folder import open_cogvideox
from unfade.backbones.prompt_embeddings import T5, Embed, PromptEmbeddings
from unfade.conditioning.control import ControlSettings
from unfade.conditioning.control_file import control_sha256, settings_of
from unfade.core import Clip, Plan, Restoration, Trajectory, UsageError
from unfade.core.contracts import Progress
from unfade.media.hidden import filled
from unfade.media.images import read_image
from unfade.media.resize import resized
from unfade.media.seek import FrameReader
from unfade.media.video import VideoInfo, frame_times, read_video
from unfade.prompts.footage import FootageCaptioner, FootageRules
from unfade.restore.adapters import Weights
from unfade.restore.asked import settled
from unfade.restore.border import as_the_file
from unfade.restore.chunks import Chunks, FolderChunks, MemoryChunks, fingerprint
from unfade.restore.device import choose_device, choose_dtype
from unfade.restore.finish import check_masks, finished
from unfade.restore.placement import Room
from unfade.restore.shot_walk import ShotWalk
from unfade.restore.stretches import Stretch, kept_stretches
from unfade.restore.text_protection import Masks
from unfade.restore.vivid_film import FilmPlan, Part, shown_footage, snapshots
from unfade.restore.vivid_forecast import forecast, load_of, work_of
from unfade.restore.vivid_memory import VividLoad
from unfade.restore.vivid_model import VividModel, load_vivid
from unfade.restore.vivid_placed import PlacedVivid
from unfade.restore.vivid_texts import VividTexts, move_captioner
from unfade.restore.vividvr import VividSettings
from unfade.restore.walk import Tally
from unfade.restore.walker import Awaited
from unfade.version import __version__

# Of a clip in memory that doesn't say.
_FPS = Fraction(24)


class VividRestorer:
    """Restores footage with a controlled video model; a photo is a clip of one frame.

    Attributes:
        name: of the model.
        config: of the base.
        control: what its control is made of.
        settings: how to sample.
        captioner: says what is in the footage where the user doesn't.
        masks: where the input is to be kept, such as text: a picture, folder or video of masks, or what gives the mask
            of a frame of the input in the size of the result, on the CPU; None for none. The latter is asked for frames
            in their order, of a clip in memory once more for each state of its trajectory.
        room: how weights are kept.
        stop_at: after which step to stop, with the clean clip predicted there as the result; 0 takes what an
            interrupted run has done and goes no step further, None goes to the end.
        told: the provenance of the footage whose frames `restore_footage` gives.
    """

    stop_at: int | None = None

    def __init__(
        self,
        name: str,
        config: CogVideoXConfig,
        control: ControlSettings,
        load: Callable[[torch.device, torch.dtype], VividModel],
        embed: Embed,
        count: Callable[[str], int],
        settings: VividSettings = VividSettings(),
        captioner: FootageCaptioner | None = None,
        sha256: Callable[[], str] = lambda: "unknown",
        masks: Path | Masks | None = None,
        room: Room = Room(),
    ) -> None:
        self.name = name
        self.config = config
        self.control = control
        self.settings = settings
        self.captioner = captioner or FootageRules()
        self.masks = masks
        self.room = room
        self.told: Mapping[str, str] = {}
        self._placed = PlacedVivid(load, room)
        self._embed = embed
        self._count = count
        self._sha256 = sha256

    @staticmethod
    def of_folders(
        base: Path,
        control: Path,
        settings: VividSettings = VividSettings(),
        cache: Path | None = None,
        *,
        name: str | None = None,
        captioner: FootageCaptioner | None = None,
        masks: Path | Masks | None = None,
        room: Room = Room(),
    ) -> "VividRestorer":
        """A restorer for a base in diffusers' layout and a control folder; weights are read when first needed.

        Raises:
            ModelError: a folder can't be used.
        """
        folder = open_cogvideox(base, sees_photo=False)
        made_of = settings_of(control)

        def load(device: torch.device, dtype: torch.dtype) -> VividModel:
            return load_vivid(folder, control, dtype)

        def sha256() -> str:
            return control_sha256(control, folder.sha256())

        embed = PromptEmbeddings(base, cache, folder.config.text_tokens, encoder=T5)
        return VividRestorer(
            name or base.name,
            folder.config,
            made_of,
            load,
            embed,
            embed.count,
            settings,
            captioner,
            sha256,
            masks,
            room,
        )

    @property
    def weights(self) -> Weights:
        """What identifies the weights, control included."""
        return Weights(self._sha256())

    def loaded(self, device: torch.device, dtype: torch.dtype) -> VividModel:
        """The model, wherever it lies; read where it isn't yet."""
        return self._placed.loaded(device, dtype)

    def work(
        self, height: int, width: int, plan: Plan, frames: int = 1, film: bool = False
    ) -> dict[str, Any]:
        """What footage of so many frames of this size (before enlarging) takes; see `vivid_forecast.forecast`.

        Args:
            height, width: of the footage.
            plan: `frames` are the states of its film.
            frames: of the footage.
            film: whether its film is asked for.

        Raises:
            UsageError: the plan or the settings can't be carried out.
        """
        settings, device = self._settings(plan), choose_device(plan.device)
        dtype = choose_dtype(plan.dtype, device)
        size = settings.target(height, width, plan.scale)
        last = self._last(settings)
        kept = tuple(step for step in snapshots(settings.steps, plan.frames) if step <= last)
        settings = replace(settings, steps=max(1, last))
        told = forecast(
            self.config,
            self.control,
            settings,
            size,
            frames,
            device,
            dtype,
            self.room,
            kept if film else None,
        )
        return {"width": size[1], "height": size[0], **told}

    def restore(
        self,
        clip: Clip | str | Path,
        prompt: str | None = None,
        plan: Plan | None = None,
        progress: Progress | None = None,
        **changes: Any,
    ) -> Restoration:
        """Restores a clip in memory as one shot.

        Args:
            clip: what to restore, or the path of an image.
            prompt: what is to be seen; the captioner says it by default.
            plan: `steps` None takes those of the settings.
            progress: called with the share done, 0 to 1.
            changes: fields of the plan by name.

        Returns:
            A trajectory of the input, the clean clips predicted after some of the steps, and the result; or of the
            input and the result only if the plan does not keep the way.

        Raises:
            InputError: the file can't be read.
            ModelError: the model can't be used.
            UsageError: the plan or the settings can't be carried out.
            UnfadeError: the model answered with something that isn't a number.
        """
        plan = settled(plan, changes)
        if plan.confidence:
            raise UsageError(f"{self.name} can't tell how sure it is; leave --confidence out")
        if not isinstance(clip, Clip):
            clip = read_image(Path(clip))
        begun = time.perf_counter()
        settings = self._settings(plan)
        size = settings.target(clip.height, clip.width, plan.scale)
        check_masks(self.masks, size, clip.num_frames)
        visible = clip.frames if clip.alpha is None else filled(clip.frames, clip.alpha)
        if self.stop_at == 0:
            raise UsageError("a photo keeps nothing of an interrupted run to be shown; leave --stop-at 0 out")
        stop = self._last(settings)
        kept = tuple(step for step in snapshots(settings.steps, plan.frames) if plan.keep and step < stop)
        walk, texts = self._walk(
            settings, plan, prompt, len(visible), size, MemoryChunks(), "shot 0", _FPS, kept, progress
        )
        end = None if stop == settings.steps else stop
        self._denoised(walk, texts, lambda: iter(visible), plan)
        shown = [(index, state) for state in (*kept, end) for index in range(len(walk.timeline.windows))]
        self._keep(walk, shown, plan)
        before = torch.stack([resized(frame, *size) for frame in visible])
        films = [self._decoded(walk, step) for step in (*kept, end)]
        fixed = [torch.stack(list(self._beside(film, before, size))) for film in films]
        canvas = clip if size == (clip.height, clip.width) else _resized(clip, before)
        states = [canvas, *(canvas.with_frames(as_the_file(one, clip)) for one in fixed)]
        taus = (0.0, *(step / stop for step in kept), 1.0)
        return Restoration(
            Trajectory(taus, tuple(states)),
            self.provenance(clip.height, clip.width, prompt, plan),
            time.perf_counter() - begun,
            plan.frames,
        )

    def restore_footage(
        self,
        info: VideoInfo,
        prompt: str | None,
        plan: Plan,
        work: Path,
        progress: Progress | None = None,
        film: Callable[[Tensor], None] | None = None,
    ) -> Iterator[Tensor]:
        """Restores a video shot by shot; what is done is kept in a folder, where a killed run goes on.

        Args:
            info: of the video.
            prompt: what is to be seen; the captioner says it by default, of every tile of every window.
            plan: `frames` are the states of the film; `keep` and `confidence` mean nothing.
            work: the folder; whoever is done with the frames deletes it, unless `stop_at` left some of it to do.
            progress: called with the share done, 0 to 1.
            film: given each frame of the film before that of the result; None for no film. Of steps that were taken
                without one it shows what came next.

        Yields:
            A result `[3, height, width]` in [0, 1] for each frame, in their order, when all of them are done.

        Raises:
            UsageError: the plan can't be carried out, the folder keeps the work of another run, or nothing that could
                be shown without a step.
            InputError: the video holds nothing that can be read.
            CutShort: it was damaged after the last frame.
            ValueError: what gives masks gave none.
        """
        settings = self._settings(plan)
        size = settings.target(info.height, info.width, plan.scale)
        promised = frame_times(info.path).count
        check_masks(self.masks, size, promised)
        stop = self._last(settings)
        if stop == 0 and not work.is_dir():
            raise _nothing_yet(info)
        chunks = FolderChunks(work, self._identity(info, prompt, plan, settings))
        shots, failure = kept_stretches(info, chunks)
        kept = () if film is None else snapshots(settings.steps, plan.frames)
        seen: FilmPlan | None = None
        if film is not None:
            until = tuple(step for step in kept if step < (stop or settings.steps))
            seen = FilmPlan((0, *until, settings.steps), shots[-1].stop)
        parts: list[Part] = []
        for number, shot in enumerate(shots):
            frames, name = shot.stop - shot.start, f"shot {number}"
            share = _part(progress, shot, shots[-1].stop)
            walk, texts = self._walk(
                settings, plan, prompt, frames, size, chunks, name, info.fps, kept, share
            )
            if not walk.decoded and (stop == settings.steps or walk.level() < stop):
                with FrameReader(info.path) as reader:
                    self._denoised(walk, texts, partial(_images, reader, shot), plan)
            end = None if walk.decoded or (reached := walk.level()) == settings.steps else reached
            part = Part(shot, walk, end, tuple(step for step in kept if walk.has_snapshot(step)))
            self._keep(walk, part.needed(seen), plan)
            if end is None:
                walk.settle()
            parts.append(part)
        if all(part.end == 0 for part in parts):
            raise _nothing_yet(info)
        ends = [settings.steps if part.end is None else part.end for part in parts]
        told = f"after step {min(ends)}" + (f" to {max(ends)}" if max(ends) > min(ends) else "")
        early = {"stopped": f"{told} of {settings.steps}"} if min(ends) < settings.steps else {}
        made_by = self.provenance(info.height, info.width, prompt, plan)
        readable = f"the source can be read up to frame {shots[-1].stop} and no further"
        ends_early = {} if failure is None else {"damaged": readable}
        self.told = {
            **{name: value for name, value in made_by.items() if name != "stopped"},
            **early,
            **ends_early,
        }
        sources = (resized(frame.image, *size) for frame in read_video(info.path))
        for result, filmed in shown_footage(parts, sources, seen, settings, self.masks, size, promised):
            if film is not None and filmed is not None:
                film(filmed)
            yield result
        if failure is not None:
            raise failure

    def target(self, height: int, width: int, plan: Plan) -> tuple[int, int]:
        """(height, width) of the result for footage of this size."""
        return self._settings(plan).target(height, width, plan.scale)

    def provenance(self, height: int, width: int, prompt: str | None, plan: Plan) -> dict[str, str]:
        """What is told of how frames of this size are restored."""
        settings = self._settings(plan)
        stop = self._last(settings)
        stopped = {"stopped": f"at step {stop} of {settings.steps}"} if stop < settings.steps else {}
        return {
            "software": f"unfade {__version__}",
            "method": settings.method,
            "model": self.name,
            "weights": self._sha256(),
            "prompt": prompt or f"captions by {self.captioner.name}",
            **({} if prompt else {"captioner": self.captioner.name}),
            "steps": str(settings.steps),
            "sampler": settings.sampler,
            "guidance": f"{settings.guidance:g}",
            "fidelity": f"{settings.fidelity:g}",
            "colour": settings.colour,
            "crossfade": str(settings.crossfade),
            "seed": str(plan.seed),
            "memory": self._placed.placement.name,
            **stopped,
        }

    def _settings(self, plan: Plan) -> VividSettings:
        try:
            settings = self.settings if plan.steps is None else replace(self.settings, steps=plan.steps)
            settings = settings if plan.tile == "auto" else replace(settings, tile=plan.tile)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if self.stop_at is not None and not 0 <= self.stop_at <= settings.steps:
            raise UsageError(f"it can stop at step 0 to {settings.steps}, not at {self.stop_at}")
        return settings

    def _last(self, settings: VividSettings) -> int:
        return settings.steps if self.stop_at is None else self.stop_at

    def _walk(
        self,
        settings: VividSettings,
        plan: Plan,
        prompt: str | None,
        frames: int,
        size: tuple[int, int],
        chunks: Chunks,
        name: str,
        fps: Fraction,
        kept: tuple[int, ...],
        progress: Progress | None,
    ) -> tuple[ShotWalk, VividTexts]:
        device = choose_device(plan.device)
        dtype, wanted = choose_dtype(plan.dtype, device), self._wanted(settings, size, frames, plan)
        model = Awaited(self.config, lambda: self._placed.placed(wanted, device, dtype))
        move_captioner(self.captioner, device)
        texts = VividTexts(
            self._embed, self._count, self.config.text_tokens, self.captioner, prompt, settings.guidance > 1
        )
        timeline = settings.timeline(self.config, frames)
        evaluations = work_of(self.config, self.control, settings, size, frames)["evaluations"]
        tally = Tally(max(1, evaluations * self._last(settings) // settings.steps), progress)

        def seen(index: int, frame_of: Callable[[int], Tensor]) -> None:
            texts.see(walk, index, frame_of, float(fps))

        walk = ShotWalk(model, settings, timeline, size, chunks, plan.seed, name, kept, tally.add, seen)
        if done := walk.steps_done():
            tally.add(evaluations * done // (settings.steps * len(timeline.windows)))
        return walk, texts

    def _denoised(
        self, walk: ShotWalk, texts: VividTexts, frames: Callable[[], Iterator[Tensor]], plan: Plan
    ) -> None:
        """Encodes and denoises; windows and steps that are done are kept, so a second try goes on from there."""
        self._run(walk, plan, lambda: walk.encode(frames()))
        if (unload := getattr(self.captioner, "unload", None)) is not None:
            unload()
        device = choose_device(plan.device)
        self._run(walk, plan, lambda: walk.denoise(texts.told(walk, device), self._last(walk.settings)))

    def _keep(self, walk: ShotWalk, states: Sequence[tuple[int, int | None]], plan: Plan) -> None:
        """Decodes windows in some of their states."""

        def decode() -> None:
            for index, state in states:
                walk.keep(index, state)

        self._run(walk, plan, decode)

    def _run(self, walk: ShotWalk, plan: Plan, work: Callable[[], None]) -> None:
        """Some work with the model, once more if memory runs out."""
        device, size = choose_device(plan.device), (walk.fit.height, walk.fit.width)
        wanted = self._wanted(walk.settings, size, walk.timeline.windows[-1].stop, plan)
        self._placed.run(wanted, device, choose_dtype(plan.dtype, device), work)

    def _wanted(self, settings: VividSettings, size: tuple[int, int], frames: int, plan: Plan) -> VividLoad:
        dtype = choose_dtype(plan.dtype, choose_device(plan.device))
        return load_of(self.config, self.control, settings, size, frames, dtype)

    def _decoded(self, walk: ShotWalk, step: int | None) -> Iterator[Tensor]:
        for index in range(len(walk.timeline.windows)):
            yield from walk.decode(index, step)

    def _beside(self, restored: Iterator[Tensor], sources: Tensor, size: tuple[int, int]) -> Iterator[Tensor]:
        pairs = ((frame, source, False) for frame, source in zip(restored, sources, strict=True))
        return finished(pairs, self.settings, self.masks, size, len(sources))

    def _identity(
        self, info: VideoInfo, prompt: str | None, plan: Plan, settings: VividSettings
    ) -> Mapping[str, Any]:
        return {
            "footage": fingerprint(info.path),
            "model": self._sha256(),
            "settings": settings.told(),
            "prompt": prompt,
            "captioner": self.captioner.identity,
            "seed": plan.seed,
            "scale": plan.scale,
            "dtype": str(choose_dtype(plan.dtype, choose_device(plan.device))),
            "version": __version__,
            # The only plan that changes results.
            **({"memory": "fp8"} if self.room.memory == "fp8" else {}),
        }


def _resized(clip: Clip, frames: Tensor) -> Clip:
    alpha = None
    if clip.alpha is not None:
        alpha = torch.stack([resized(one, frames.shape[2], frames.shape[3]) for one in clip.alpha])
    return replace(clip, frames=frames, alpha=alpha)


def _images(reader: FrameReader, shot: Stretch) -> Iterator[Tensor]:
    return (frame.image for frame in reader.read(shot.start, shot.stop, shot.mark))


def _nothing_yet(info: VideoInfo) -> UsageError:
    return UsageError(
        f"no step of {info.path} was taken yet, so there is nothing to show; leave --stop-at 0 out"
    )


def _part(progress: Progress | None, shot: Stretch, frames: int) -> Progress | None:
    if progress is None:
        return None
    heard = progress
    return lambda share: heard((shot.start + share * (shot.stop - shot.start)) / frames)
