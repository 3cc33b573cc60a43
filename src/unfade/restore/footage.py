"""One clip from file to file, a frame at a time: memory is flat however long it is."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from unfade.core import InputError, OutputError, Plan, UsageError
from unfade.core.contracts import Progress
from unfade.media.video import VideoFrame, VideoInfo, frame_times, probe_video, read_video
from unfade.media.video_writer import check_container
from unfade.restore.cut_short import CutShort, note_of_damage
from unfade.restore.filing import Filing, check_targets, is_done, taken_back_on_failure
from unfade.restore.outlets import Outlets
from unfade.restore.outputs import Job
from unfade.restore.report import JobReport, Pace, explained, peak_memory_mb


@runtime_checkable
class StreamRestorer(Protocol):
    """A restorer that takes footage a few frames at a time."""

    def restore_stream(
        self, frames: Iterable[Tensor], prompt: str | None = None, plan: Plan | None = None
    ) -> Iterator[Tensor]:
        """A result `[3, H * scale, W * scale]` for each frame `[3, H, W]`, in their order.

        Of a generator, the value it returns in the end may be the provenance, where that depends on the frames.
        """
        ...

    def provenance(self, height: int, width: int, prompt: str | None, plan: Plan) -> Mapping[str, str]:
        """What is told of how frames of this size are restored."""
        ...


@runtime_checkable
class FootageRestorer(Protocol):
    """A restorer that needs to see footage whole, from its file, and keeps what it has done in a folder.

    Attributes:
        told: the provenance of the footage whose frames it gives, known with the first of them. Where it says
            "stopped", the work stays in its folder.
    """

    told: Mapping[str, str]

    def restore_footage(
        self,
        info: VideoInfo,
        prompt: str | None,
        plan: Plan,
        work: Path,
        progress: Progress | None = None,
        film: Callable[[Tensor], None] | None = None,
    ) -> Iterator[Tensor]:
        """A result `[3, h, w]` for each frame of the video, in their order; `film` is given its film's frame before.

        Raises:
            CutShort: the video is damaged, after the last frame before that.
        """
        ...

    def target(self, height: int, width: int, plan: Plan) -> tuple[int, int]:
        """(height, width) of the result for footage of this size."""
        ...

    def provenance(self, height: int, width: int, prompt: str | None, plan: Plan) -> Mapping[str, str]:
        """What is told of how frames of this size are restored."""
        ...


def check_work(job: Job, info: VideoInfo, restorer: object, plan: Plan) -> None:
    """What depends on the restorer and can be known to go wrong before anything is restored.

    Raises:
        OutputError: the container can't hold a result that large, or unfinished work of another model is in the way.
    """
    work = work_folder(job.output)
    if isinstance(restorer, FootageRestorer):
        height, width = restorer.target(info.height, info.width, plan)
        check_container(job.output, info, size=(width, height))
    elif work.exists():
        raise OutputError(
            f"{work} keeps the unfinished work of another model for {job.output}; go on with that one's command, or "
            "delete the folder"
        )


def work_folder(output: Path) -> Path:
    """Where a restorer that needs one keeps its work until the result is there: hidden, beside the result."""
    return output.with_name(f".{output.name}.unfade-work")


def check_footage(job: Job, scale: int = 1, filing: Filing | None = None) -> VideoInfo:
    """Everything that can be known to go wrong with a clip before it is restored; gives what it says of itself.

    Raises:
        InputError: the clip can't be read, or its frames are too large.
        OutputError: something is in the way of a result, or its container can't hold the sound.
    """
    filing = filing or Filing()
    info = probe_video(job.input)
    megapixels = info.width * info.height / 1e6
    if megapixels > filing.max_megapixels:
        raise InputError(
            f"{job.input} is too large: a frame of {info.width} x {info.height} is {megapixels:.2g} megapixels, "
            f"the limit is {filing.max_megapixels:g}"
        )
    check_targets(job, filing)
    check_container(job.output, info, scale)
    if job.film is not None:
        check_container(job.film, info, scale, subtitles=False)
    return info


def pace_of(info: VideoInfo) -> Pace:
    """How long a clip is, from what its container promises or, where that is nothing, by looking through it."""
    return Pace(info.num_frames or frame_times(info.path).count, info.fps)


def run_footage(
    job: Job,
    restorer: object,
    plan: Plan,
    *,
    prompt: str | None = None,
    filing: Filing | None = None,
    progress: Progress | None = None,
) -> JobReport:
    """Carry out the job of a clip. Whatever fails is in the report; only an interruption is raised.

    Everything is written in one pass; the clip appears last, and only if all else could be written. `progress`
    hears the share of the frames that are done. A report of what is done and has an error all the same is of damaged
    footage, whose result ends where the damage begins; only a `FootageRestorer` gives one.
    """
    filing = filing or Filing()
    if is_done(job, filing):
        return JobReport(job, "skipped")
    begun = time.perf_counter()
    megapixels = pace = None
    try:
        if not isinstance(restorer, (StreamRestorer, FootageRestorer)):
            raise UsageError(f"{job.input} is footage, which this model can't restore; choose another model")
        info = check_footage(job, plan.scale, filing)
        check_work(job, info, restorer, plan)
        megapixels, pace = info.width * info.height / 1e6, pace_of(info)
        provenance = restorer.provenance(info.height, info.width, prompt, plan)
        count, told, damage = _restore(job, info, pace, restorer, plan, prompt, filing, provenance, progress)
    except Exception as error:
        told = explained(error, job)
        seconds = time.perf_counter() - begun
        return JobReport(job, "failed", seconds, megapixels, peak_memory_mb(), told, footage=pace)
    seconds, pace = time.perf_counter() - begun, Pace(count, info.fps)
    return JobReport(job, "done", seconds, megapixels, peak_memory_mb(), damage, told, pace)


def _restore(
    job: Job,
    info: VideoInfo,
    pace: Pace,
    restorer: StreamRestorer | FootageRestorer,
    plan: Plan,
    prompt: str | None,
    filing: Filing,
    provenance: Mapping[str, str],
    progress: Progress | None,
) -> tuple[int, Mapping[str, str], CutShort | None]:
    """Writes everything; gives the number of frames, the provenance, and what ended it early."""
    if isinstance(restorer, FootageRestorer):
        made = _whole(job, info, restorer, plan, prompt, progress)
        provenance = restorer.told
    else:
        made = _streamed(info, restorer, plan, prompt, pace, progress)
    note = note_of_damage(info)
    provenance = {**note, **provenance}
    with taken_back_on_failure(job.targets()) as written, ExitStack() as stack:
        outlets = Outlets(job, info, plan, filing, provenance, stack, written)
        count, later, damage = _written(made, outlets)
        outlets.finish()
    if isinstance(restorer, FootageRestorer) and "stopped" not in provenance:
        shutil.rmtree(work_folder(job.output), ignore_errors=True)
    if progress:
        progress(1.0)
    return count, {**note, **(later or provenance)}, damage


# Frames of the source with their results and those of the film, where it isn't to be made of the two; what the
# generator returns is the provenance, where it is known only then.
_Made = Generator[tuple[VideoFrame, Tensor, Tensor | None], None, Mapping[str, str] | None]


def _written(made: _Made, outlets: Outlets) -> tuple[int, Mapping[str, str] | None, CutShort | None]:
    count = 0
    with closing(made):
        while True:
            try:
                frame, result, filmed = next(made)
            except StopIteration as end:
                return count, end.value, None
            except CutShort as error:
                outlets.end_here()
                return count, None, error
            outlets.write(frame, result, filmed)
            count += 1
            del frame, result, filmed


def _streamed(
    info: VideoInfo,
    restorer: StreamRestorer,
    plan: Plan,
    prompt: str | None,
    pace: Pace,
    progress: Progress | None,
) -> _Made:
    # What was taken from the file and not yet given back restored: one frame, more for a model that looks ahead.
    waiting: deque[VideoFrame] = deque()

    def taken() -> Generator[Tensor, None, None]:
        for frame in read_video(info.path):
            waiting.append(frame)
            yield frame.image
            del frame

    later: Mapping[str, str] | None = None

    def restored(images: Iterable[Tensor]) -> Generator[Tensor, None, None]:
        nonlocal later
        later = yield from restorer.restore_stream(images, prompt, plan)

    with closing(taken()) as images:
        for count, result in enumerate(restored(images), 1):
            yield waiting.popleft(), result, None
            del result
            if progress:
                progress(min(1.0, count / pace.frames))
    if waiting:
        raise RuntimeError(f"{len(waiting)} frames were taken and not given back")
    return later


def _whole(
    job: Job,
    info: VideoInfo,
    restorer: FootageRestorer,
    plan: Plan,
    prompt: str | None,
    progress: Progress | None,
) -> _Made:
    """All the work is done before this returns, so that nothing of the result is on disk meanwhile."""
    filmed: deque[Tensor] = deque()
    film = None if job.film is None else filmed.append
    results = restorer.restore_footage(info, prompt, plan, work_folder(job.output), progress, film)
    first = next(results)

    def shown() -> _Made:
        sources, result = read_video(info.path), first
        while True:
            # No frame is read before its result is there: of damaged footage there may be none.
            yield next(sources), result, filmed.popleft() if filmed else None
            try:
                result = next(results)
            except StopIteration:
                if next(sources, None) is not None:
                    raise RuntimeError(f"{info.path} has more frames than were restored") from None
                return None

    return shown()
