"""One clip from file to file, a frame at a time: memory is flat however long it is."""

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from unfade.core import Clip, InputError, Metadata, OutputError, Plan, UsageError
from unfade.core.contracts import Progress
from unfade.media.images import write_image
from unfade.media.resize import enlarge, resized
from unfade.media.video import FrameTimes, VideoFrame, VideoInfo, frame_times, probe_video, read_video
from unfade.media.video_writer import VideoWriter, check_container
from unfade.restore.comparison import PairSheet, swept
from unfade.restore.filing import (
    Filing,
    Written,
    check_targets,
    is_done,
    noted,
    taken_back_on_failure,
)
from unfade.restore.frames import FrameFolder
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
    """A restorer that needs to see footage whole, from its file, and keeps what it has done in a folder."""

    def restore_footage(
        self, info: VideoInfo, prompt: str | None, plan: Plan, work: Path, progress: Progress | None = None
    ) -> Iterator[Tensor]:
        """A result `[3, h, w]` for each frame of the video, in their order."""
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
    hears the share of the frames that are done.
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
        count, later = _restore(job, info, pace, restorer, plan, prompt, filing, provenance, progress)
    except Exception as error:
        told = explained(error, job)
        seconds = time.perf_counter() - begun
        return JobReport(job, "failed", seconds, megapixels, peak_memory_mb(), told, footage=pace)
    seconds, pace = time.perf_counter() - begun, Pace(count, info.fps)
    return JobReport(job, "done", seconds, megapixels, peak_memory_mb(), None, later or provenance, pace)


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
) -> tuple[int, Mapping[str, str] | None]:
    """Writes everything; gives the number of frames and, where it is known only now, the provenance."""
    if isinstance(restorer, FootageRestorer):
        made = _whole(job, info, restorer, plan, prompt, progress)
    else:
        made = _streamed(info, restorer, plan, prompt, pace, progress)
    with taken_back_on_failure(job.targets()) as written, ExitStack() as stack:
        outlets = _Outlets(job, info, plan, filing, provenance, stack, written)
        count, later = _written(made, outlets)
        outlets.finish()
    if isinstance(restorer, FootageRestorer):
        shutil.rmtree(work_folder(job.output), ignore_errors=True)
    if progress:
        progress(1.0)
    return count, later


# Frames of the source with their results; what the generator returns is the provenance, where it is known only then.
_Made = Generator[tuple[VideoFrame, Tensor], None, Mapping[str, str] | None]


def _written(made: _Made, outlets: "_Outlets") -> tuple[int, Mapping[str, str] | None]:
    count = 0
    with closing(made):
        while True:
            try:
                frame, result = next(made)
            except StopIteration as end:
                return count, end.value
            outlets.write(frame, result)
            count += 1
            del frame, result


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
            yield waiting.popleft(), result
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
    results = restorer.restore_footage(info, prompt, plan, work_folder(job.output), progress)
    first = next(results)

    def shown() -> _Made:
        yield from zip(read_video(info.path), chain([first], results), strict=True)
        return None

    return shown()


class _Outlets:
    """Where the frames of a clip go: the clip itself and whatever else was asked for.

    All files but the sheet are published by the stack, the clip last.
    """

    def __init__(
        self,
        job: Job,
        info: VideoInfo,
        plan: Plan,
        filing: Filing,
        provenance: Mapping[str, str],
        stack: ExitStack,
        written: Written,
    ) -> None:
        self._job, self._info, self._scale, self._written = job, info, plan.scale, written
        self._notes = {} if filing.strip_metadata else dict(provenance)
        self._overwrite = filing.existing != "fail"
        options: dict[str, Any] = {"notes": self._notes, "overwrite": self._overwrite}
        self._clip = stack.enter_context(VideoWriter(job.output, info, **options))
        self._film = self._folder = self._sheet = None
        self._times = FrameTimes(0, 0, 0)
        if job.film is not None or job.sheet is not None:
            self._times = frame_times(info.path)
        if job.film is not None:
            stack.push(_told_when_published(job.film, written))
            self._film = stack.enter_context(VideoWriter(job.film, info, subtitles=False, **options))
        if job.sheet is not None:
            self._sheet = PairSheet(self._times.count, plan.frames)
        if job.frames_folder is not None:
            stack.push(_told_when_published(job.frames_folder, written))
            self._folder = stack.enter_context(
                FrameFolder(
                    job.frames_folder,
                    bit_depth=filing.png_depth,
                    strip_metadata=filing.strip_metadata,
                    overwrite=self._overwrite,
                )
            )

    def write(self, frame: VideoFrame, result: Tensor) -> None:
        self._clip.write(result, frame.pts, frame.duration)
        if self._folder is not None:
            metadata = Metadata(bit_depth=16 if self._info.bit_depth > 8 else 8)
            self._folder.write(noted(Clip(result[None], metadata=metadata), self._notes))
        on_sheet = self._sheet is not None and self._sheet.wants(frame.index)
        if self._film is None and not on_sheet:
            return
        before = enlarge(Clip.of(frame.image), self._scale).frames[0]
        before = resized(before, result.shape[1], result.shape[2])
        if self._film is not None:
            self._film.write(swept(before, result, self._share(frame)), frame.pts, frame.duration)
        if self._sheet is not None and on_sheet:
            seconds = float((frame.pts - self._times.first) * frame.time_base)
            self._sheet.add(before, result, f"{seconds:.2f} s")

    def finish(self) -> None:
        """What can only be written once all frames have come."""
        if self._sheet is not None and self._job.sheet is not None:
            self._written(self._job.sheet)
            sheet = noted(Clip.of(self._sheet.image()), self._notes)
            write_image(sheet, self._job.sheet, overwrite=self._overwrite)

    def _share(self, frame: VideoFrame) -> float:
        """Of the time between the first frame and the last; a single frame is the last."""
        span = self._times.last - self._times.first
        return min(1.0, max(0.0, (frame.pts - self._times.first) / span)) if span else 1.0


def _told_when_published(path: Path, written: Written) -> Callable[..., None]:
    """For the stack: notes a path that wasn't there once what was pushed after this has ended well.

    Not earlier: a file that somebody else put there meanwhile is not ours to take back.
    """
    new = not os.path.lexists(path)

    def tell(kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if new and kind is None:
            written.new.append(path)

    return tell
