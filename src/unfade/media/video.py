"""Footage from files, one upright RGB frame at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError, InvalidDataError
from torch import Tensor

from unfade.core import InputError
from unfade.media.pixels import as_stored, displayed_size
from unfade.media.source import read_head, sniff_image
from unfade.media.times import Counted, has_no_times
from unfade.media.yuv import ColourTags, bits_of, is_rgb, picture_to_rgb, tags_of

_ATTACHED_PICTURE = 0x400
_CLOCKWISE = {1: 0, 2: 0, 3: 180, 4: 180, 5: 270, 6: 90, 7: 90, 8: 270}
# (a, b, c, d) of a display matrix, reduced to signs -> EXIF orientation.
_ORIENTATIONS = {
    (1, 0, 0, 1): 1, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5, (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a video says about itself.

    Attributes:
        path: of the file.
        width, height: of a frame as displayed, rotation applied.
        fps: average frames a second.
        time_base: seconds a tick of `VideoFrame.pts`.
        orientation: EXIF orientation of the stored pictures, 1 to 8.
        num_frames: as the container says or as its duration suggests; None where neither is known.
        duration: seconds, or None.
        has_audio: whether there is a sound track.
        codec, pix_fmt: how it is coded.
        bit_depth: bits a sample.
        tags: matrix, range, primaries and transfer of its colours.
        pixel_aspect: width of a displayed pixel over its height.
        counted: whether the container doesn't know when pictures are shown, so that times go by their order.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    time_base: Fraction
    orientation: int
    num_frames: int | None
    duration: float | None
    has_audio: bool
    codec: str
    pix_fmt: str
    bit_depth: int
    tags: ColourTags
    pixel_aspect: Fraction
    counted: bool = False

    @property
    def step(self) -> int:
        """How long a frame is shown where the file doesn't say, in ticks."""
        return round(1 / (self.fps * self.time_base))

    @property
    def rotation(self) -> int:
        """Degrees clockwise by which the stored pictures were turned, after any mirroring."""
        return _CLOCKWISE[self.orientation]


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One frame of footage.

    Attributes:
        index: from 0.
        pts: when it is shown, in ticks.
        time_base: seconds a tick.
        duration: in ticks, or None where the file does not say.
        image: float32 `[3, H, W]` in [0, 1], upright.
    """

    index: int
    pts: int
    time_base: Fraction
    duration: int | None
    image: Tensor


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """How many frames a file holds and when the first and the last of them are shown, in its ticks."""

    count: int
    first: int
    last: int


def frame_times(path: Path) -> FrameTimes:
    """Reads a video to its end without decoding anything; of a damaged one, as far as it can be read.

    Raises:
        InputError: as for `open_footage` and `main_stream`, or there is no frame.
    """
    count, first, last = 0, 0, 0
    with open_footage(path) as container, suppress(FFmpegError):
        for packet in container.demux(main_stream(path, container)):
            if packet.size and not packet.is_discard:
                when = packet.dts if packet.pts is None else packet.pts
                if when is not None:
                    first, last = (min(first, when), max(last, when)) if count else (when, when)
                count += 1
    if not count:
        raise InputError(f"{path} holds no frame")
    return FrameTimes(count, first, last)


def probe_video(path: Path) -> VideoInfo:
    """What a video says about itself; decodes the first frame.

    Raises:
        InputError: the file is missing, empty, no video, has sound only, or no frame can be decoded.
    """
    path = Path(path)
    with open_footage(path) as container:
        stream = main_stream(path, container)
        try:
            frame = next(pictures_of(container, stream), None)
        except FFmpegError as error:
            raise InputError(f"{path} is damaged: not one frame can be decoded") from error
        if frame is None:
            raise InputError(f"{path} holds no frame")
        fps = stream.average_rate or stream.guessed_rate or Fraction(25)
        orientation = _orientation(frame)
        width, height = displayed_size(frame.width, frame.height, orientation)
        seconds = _promised_seconds(stream)
        if seconds is None and container.duration:
            seconds = container.duration / av.time_base
        aspect = stream.codec_context.sample_aspect_ratio or stream.sample_aspect_ratio or Fraction(1)
        return VideoInfo(
            path=path,
            width=width,
            height=height,
            fps=fps,
            time_base=stream.time_base or Fraction(1, 1000),
            orientation=orientation,
            num_frames=stream.frames or (round(seconds * fps) if seconds else None),
            duration=seconds,
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
            pix_fmt=frame.format.name,
            bit_depth=bits_of(frame) if not is_rgb(frame) else max(8, bits_of(frame)),
            tags=tags_of(frame, stream.codec_context.name),
            pixel_aspect=1 / aspect if orientation >= 5 else aspect,
            counted=_is_counted(path),
        )


def _is_counted(path: Path) -> bool:
    # Opened anew, since the stream has to be read from its beginning.
    with open_footage(path) as container:
        return has_no_times(container, main_stream(path, container))


def read_video(path: Path) -> Iterator[VideoFrame]:
    """The frames of a video in the order they are shown, decoded as they are asked for.

    Where the container has no times of showing, pictures take those it has in their order. Colours follow the file's
    matrix and range tags; there is no tone mapping. Interlaced fields stay woven.

    Raises:
        InputError: as for `probe_video`, at once; or, after the last frame that could be decoded, that the
            file is damaged or cut short, saying how many frames were read.
    """
    return _frames(probe_video(path))


def _frames(info: VideoInfo) -> Iterator[VideoFrame]:
    path, index, end = info.path, 0, None
    failure: Exception | None = None
    with open_footage(path) as container:
        stream = main_stream(path, container)
        stream.thread_type = "AUTO"
        try:
            for picture in timed_pictures(container, stream, info):
                frame = upright(picture, index, end, info)
                yield frame
                index, end = index + 1, frame.pts + (frame.duration or info.step)
        except FFmpegError as error:
            failure = error
        # Where frames are reordered, containers may promise a longer time than all their frames take.
        complete = bool(stream.frames) and index >= stream.frames
        missing = 0.0 if complete else missing_seconds(stream, end, info)
    if failure is not None or missing > max(0.1, float(2 / info.fps)):
        raise InputError(f"{path} is damaged or cut short: only {index} frames could be read") from failure


def timed_pictures(
    container: InputContainer, stream: av.VideoStream, info: VideoInfo
) -> Iterator[av.VideoFrame]:
    """Pictures from the file's beginning up to any damage, at the times they are shown; then the error."""
    if not info.counted:
        yield from until_damage(pictures_of(container, stream), stream)
        return
    times = Counted(info.step)
    for picture in until_damage(pictures_of(container, stream, times.hear), stream):
        picture.pts = times.next()
        yield picture


def pictures_of(
    container: InputContainer,
    stream: av.VideoStream,
    hear: Callable[["av.Packet[av.VideoStream]"], None] = lambda packet: None,
) -> Iterator[av.VideoFrame]:
    """Decoded pictures; what can't be decoded before the first one is passed over.

    Recordings of broadcasts start anywhere, and there is nothing to decode before their first key frame.

    Args:
        container, stream: to be read.
        hear: told of each packet that was decoded, before its pictures come.
    """
    started = False
    for packet in container.demux(stream):
        try:
            decoded = packet.decode()
        except InvalidDataError:
            if started:
                raise
            continue
        hear(packet)
        for picture in decoded:
            started = True
            yield picture


def until_damage(pictures: Iterator[av.VideoFrame], stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """The pictures; after damage, those from before it that decoder threads still hold, and then the error."""
    try:
        yield from pictures
    except FFmpegError:
        with suppress(FFmpegError):
            yield from stream.codec_context.decode(None)
        raise


def upright(picture: av.VideoFrame, index: int, end: int | None, info: VideoInfo) -> VideoFrame:
    orientation = info.orientation
    size = displayed_size(picture.width, picture.height, orientation)
    if size != (info.width, info.height):
        raise InputError(
            f"{info.path} changes its size from {info.width} x {info.height} to {size[0]} x {size[1]} "
            f"at frame {index}; split it there"
        )
    stored = picture_to_rgb(picture, info.tags)
    image = torch.empty(3, info.height, info.width)
    for channel, plane in enumerate(image.numpy()):
        as_stored(plane, orientation)[:] = stored[:, :, channel]
    pts = picture.pts if picture.pts is not None else picture.dts
    if pts is None:
        pts = end or 0
    return VideoFrame(index, pts, info.time_base, picture.duration or None, image)


@contextmanager
def open_footage(path: Path) -> Iterator[InputContainer]:
    """A video file, opened for reading.

    Raises:
        InputError: it is missing, empty, a folder, a pipe or a device, a photo, or nothing that holds
        footage.
    """
    head = read_head(path)
    if sniff_image(head) not in (None, "gif"):
        raise InputError(f"{path} is a photo, not a video")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path} is not a video of a known format, or is damaged") from error
    with container:
        yield container


def main_stream(path: Path, container: InputContainer) -> av.VideoStream:
    """The first video stream that is not a cover picture.

    Raises:
        InputError: there is none.
    """
    for stream in _pictured(container):
        return stream
    if container.streams.audio:
        raise InputError(f"{path} holds sound only, no pictures")
    raise InputError(f"{path} holds no video")


def holds_sound_only(path: Path) -> bool:
    """Whether a file of MP4's kind has sound and, but for a cover, no pictures; one that is damaged doesn't."""
    try:
        with av.open(str(path), format="mov", metadata_errors="replace") as container:
            return bool(container.streams.audio) and not _pictured(container)
    except (FFmpegError, OSError, ValueError):
        return False


def _pictured(container: InputContainer) -> list[av.VideoStream]:
    """The video streams that are not cover pictures."""
    return [one for one in container.streams.video if not int(one.disposition) & _ATTACHED_PICTURE]


def _orientation(frame: av.VideoFrame) -> int:
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return 1
    matrix = np.frombuffer(bytes(data), np.int32)
    a, b, c, d = (int(np.sign(value)) if abs(value) > 1 << 12 else 0 for value in matrix[[0, 1, 3, 4]])
    return _ORIENTATIONS.get((a, b, c, d), 1)


def _promised_seconds(stream: av.VideoStream) -> float | None:
    """How long the container says this stream is."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    for name, text in stream.metadata.items():
        if name.upper().startswith("DURATION"):
            with suppress(ValueError):
                hours, minutes, seconds = text.split(":")
                return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return None


def missing_seconds(stream: av.VideoStream, end: int | None, info: VideoInfo) -> float:
    """How much earlier the frames ended than the container promised; 0 where it promised nothing."""
    promised = _promised_seconds(stream)
    if promised is None or end is None:
        return 0.0
    # Matroska counts its tag from zero, the others from the first frame.
    start = (stream.start_time or 0) if stream.duration else 0
    return promised - float((end - start) * info.time_base)
