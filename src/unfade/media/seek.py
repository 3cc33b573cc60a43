"""Any frames of footage without decoding all that comes before them: from the nearest key frame on, exactly."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
from av.container import InputContainer
from av.error import FFmpegError

from unfade.core import InputError
from unfade.media.video import (
    VideoFrame,
    VideoInfo,
    main_stream,
    open_footage,
    probe_video,
    timed_pictures,
    until_damage,
    upright,
)

# Seconds before the wanted frame at which a key frame is looked for, one after the other. Containers that seek by the
# time of decoding land on a key frame that is shown too late, and some land on no key frame at all.
_BACK = (0, 1, 4, 16)


@dataclass(frozen=True, slots=True)
class Mark:
    """A frame that can be found again.

    Attributes:
        index: its number from 0, as `read_video` counts.
        pts: when it is shown, in ticks.
    """

    index: int
    pts: int


class FrameReader:
    """A video that is kept open to read some of its frames, each as `read_video` would give it.

    Decoding begins at a key frame that is shown no later than the mark, so pictures that lean on what lies before it
    (the leading ones of an open group) are never taken. Where no such frame can be sought, or the container knows no
    times of showing, it begins with the file.

    Args:
        path: of the video.

    Attributes:
        info: what the video says of itself.
        num_rewinds: how often decoding had to begin with the file although there was a mark.

    Raises:
        InputError: as for `probe_video`.
    """

    def __init__(self, path: Path) -> None:
        self.info: VideoInfo = probe_video(path)
        self.num_rewinds = 0
        self._stack = ExitStack()

    def __enter__(self) -> "FrameReader":
        self._container = self._stack.enter_context(open_footage(self.info.path))
        self._stream = _threaded(self.info.path, self._container)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, start: int, stop: int, mark: Mark | None = None) -> Iterator[VideoFrame]:
        """Frames `start` up to but without `stop`; one is held at a time.

        Args:
            start, stop: counted from 0.
            mark: of a frame not after `start`, the nearer the faster; None decodes from the beginning.

        Raises:
            InputError: the mark is not that of this file, or it is damaged or ends too early.
            ValueError: the frames are none, or the mark lies after the first of them.
        """
        if not 0 <= start < stop or (mark is not None and not 0 <= mark.index <= start):
            raise ValueError(f"frames {start} to {stop} can't be read from {mark}")
        path, index, end = self.info.path, 0, None
        try:
            with closing(self._from(mark)) as pictures:
                for index, picture in pictures:
                    if index < start:
                        continue
                    frame = upright(picture, index, end, self.info)
                    end = frame.pts + (frame.duration or self.info.step)
                    yield frame
                    if index + 1 == stop:
                        return
        except FFmpegError as error:
            raise InputError(f"{path} is damaged after frame {index}") from error
        raise InputError(f"{path} ends after frame {index}, before the {stop} frames that were asked for")

    def _from(self, mark: Mark | None) -> Generator[tuple[int, av.VideoFrame], None, None]:
        """Pictures with their numbers, the mark's first or, where it can't be sought, from the beginning."""
        sought = None if mark is None or self.info.counted else self._sought(mark.pts)
        if mark is not None and sought is not None:
            yield from enumerate(until_damage(sought, self._stream), mark.index)
            return
        self.num_rewinds += mark is not None
        with open_footage(self.info.path) as container:
            stream = _threaded(self.info.path, container)
            for index, picture in enumerate(timed_pictures(container, stream, self.info)):
                if mark is not None and index == mark.index and _time_of(picture) not in (None, mark.pts):
                    raise InputError(
                        f"{self.info.path} does not show frame {index} at the time that was noted of it; is it "
                        "another file?"
                    )
                yield index, picture

    def _sought(self, pts: int) -> Iterator[av.VideoFrame] | None:
        """The pictures from that shown at `pts` on; None where no key frame leads there."""
        for seconds in _BACK:
            try:
                ticks = int(seconds / self.info.time_base)
                self._container.seek(pts - ticks, stream=self._stream)
                found = _decoded(self._container, self._stream, pts)
            except FFmpegError:
                continue
            if found is not None:
                return found
        return None


def _decoded(container: InputContainer, stream: av.VideoStream, pts: int) -> Iterator[av.VideoFrame] | None:
    """Decodes from the next key frame to the picture shown at `pts`; None if one or the other is not to be had."""
    packets = container.demux(stream)
    key = next((packet for packet in packets if packet.is_keyframe), None)
    if key is None or key.pts is None or key.pts > pts:
        return None
    pictures = (picture for packet in chain((key,), packets) for picture in packet.decode())
    for picture in pictures:
        if picture.pts is None or picture.pts > pts:
            return None
        if picture.pts == pts:
            return chain((picture,), pictures)
    return None


def _threaded(path: Path, container: InputContainer) -> av.VideoStream:
    stream = main_stream(path, container)
    stream.thread_type = "AUTO"
    return stream


def _time_of(picture: av.VideoFrame) -> int | None:
    return picture.pts if picture.pts is not None else picture.dts
