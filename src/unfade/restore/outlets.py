"""Where the frames of a restored clip go: the clip itself, its film, its sheet, its single frames."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from unfade.core import Clip, Metadata, Plan
from unfade.media.images import write_image
from unfade.media.resize import enlarge, resized
from unfade.media.video import FrameTimes, VideoFrame, VideoInfo, frame_times
from unfade.restore.comparison import PairSheet, swept
from unfade.restore.cut_short import EndingWriter
from unfade.restore.filing import Filing, Written, noted
from unfade.restore.frames import FrameFolder
from unfade.restore.outputs import Job


class Outlets:
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
        self._clip = stack.enter_context(EndingWriter(job.output, info, **options))
        self._film = self._folder = self._sheet = None
        self._times = FrameTimes(0, 0, 0)
        if job.film is not None or job.sheet is not None:
            self._times = frame_times(info.path)
        if job.film is not None:
            stack.push(_told_when_published(job.film, written))
            self._film = stack.enter_context(EndingWriter(job.film, info, subtitles=False, **options))
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

    def end_here(self) -> None:
        """There is no picture after the last one, so there shall be no sound."""
        for writer in (self._clip, self._film):
            if writer is not None:
                writer.end_here()

    def write(self, frame: VideoFrame, result: Tensor, filmed: Tensor | None) -> None:
        self._clip.write(result, frame.pts, frame.duration)
        if self._folder is not None:
            metadata = Metadata(bit_depth=16 if self._info.bit_depth > 8 else 8)
            self._folder.write(noted(Clip(result[None], metadata=metadata), self._notes))
        on_sheet = self._sheet is not None and self._sheet.wants(frame.index)
        if self._film is not None and filmed is not None:
            self._film.write(filmed, frame.pts, frame.duration)
        to_sweep = self._film is not None and filmed is None
        if not to_sweep and not on_sheet:
            return
        before = enlarge(Clip.of(frame.image), self._scale).frames[0]
        before = resized(before, result.shape[1], result.shape[2])
        if self._film is not None and to_sweep:
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
