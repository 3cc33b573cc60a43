"""A few seconds of footage, or a part of its picture, as a file: pictures without loss, sound as it is."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
from av.error import FFmpegError

from unfade.core import InputError, OutputError, UsageError
from unfade.media.atomic import atomic_output
from unfade.media.times import Counted
from unfade.media.video import VideoInfo, main_stream, open_footage, probe_video
from unfade.media.video_writer import tag_stream

_LENGTH = r"(\d+(?:\.\d+)?)\s*s?"
_WHEN = r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?"
_PART = r"(\d+)x(\d+)\+(\d+)\+(\d+)"
# What a part of the picture is shown of where nothing else is said.
_FIRST = "1s"
# A length that every subsampling of colours divides.
_UNIT = 64


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of the picture, in pixels as it is displayed.

    Attributes:
        width, height: of the part.
        left, top: what lies beside and above it.
    """

    width: int
    height: int
    left: int
    top: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.left}+{self.top}"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of footage.

    Attributes:
        start: seconds from its first frame.
        seconds: how long it is.
        crop: the part of its picture; None for all of it.
    """

    start: Fraction
    seconds: Fraction
    crop: Crop | None = None


def read_span(text: str) -> Span:
    """A span written as length and place, and as a part of the picture.

    "2s@00:10", "1@1:02:03.5", "3s" (from the beginning), "2s@00:10/512x512+100+50" (width, height, what lies to the
    left and above), "512x512+100+50" (of the first second).

    Raises:
        UsageError: it is written otherwise, or empty.
    """
    wanted = text.strip()
    when, slash, part = (_FIRST, "/", wanted) if re.fullmatch(_PART, wanted) else wanted.partition("/")
    found, cut = re.fullmatch(rf"{_LENGTH}(?:@{_WHEN})?", when), re.fullmatch(_PART, part)
    crop = Crop(*map(int, cut.groups())) if cut else None
    empty = crop is not None and 0 in (crop.width, crop.height)
    if found is None or Fraction(found[1]) == 0 or (slash and crop is None) or empty:
        raise UsageError(
            f"{text!r} is no part of footage; write its length and where it begins, a part of its picture (width, "
            "height, left, top), or both: 2s@00:10/512x512+100+50"
        )
    hours, minutes, seconds = (Fraction(found[place] or 0) for place in (2, 3, 4))
    return Span(3600 * hours + 60 * minutes + seconds, Fraction(found[1]), crop)


def write_excerpt(source: Path, span: Span, target: Path) -> int:
    """Writes the frames that are shown in a span, and the sound that begins there; gives the number of frames.

    The pictures are coded again without loss in their own pixel format where H.264 has it, else in 4:4:4; their times
    count from the excerpt's first frame. A part of them begins and ends where a sample of colour does, so it may be a
    pixel larger on each side than was asked for.

    Args:
        source: of the footage.
        span: what to take.
        target: .mp4, .mov or .mkv.

    Raises:
        InputError: the source can't be read, ends before the span begins, or has no such part.
        OutputError: the target can't be written.
    """
    info = probe_video(source)
    crop = None if span.crop is None else _Cropped(info, span.crop)
    count = 0
    with atomic_output(target) as temporary, open_footage(source) as given:
        stream = main_stream(source, given)
        stream.thread_type = "AUTO"
        base = info.time_base
        origin = stream.start_time or 0
        begin, end = (origin + when / base for when in (span.start, span.start + span.seconds))
        sounds = {track.index: track for track in given.streams.audio}
        # Matroska would have random numbers of its own, and what was begun for the excerpt could not go on.
        options = {"fflags": "+bitexact"}
        if target.suffix != ".mkv":
            options = {"video_track_timescale": str(base.denominator)}
        try:
            with av.open(str(temporary), "w", options=options) as made:
                # All streams before any packet: the first one writes the header.
                stored = (stream.codec_context.width, stream.codec_context.height)
                size = stored if crop is None else crop.size
                video, first = _declared(made, info, stream, size), None
                copies = {index: made.add_stream_from_template(track) for index, track in sounds.items()}
                made.start_encoding()
                times = Counted(info.step) if info.counted else None
                if times is None:
                    # Some containers seek by the time of decoding, and that key frame may be shown a little later.
                    given.seek(int(max(origin, begin - 1 / base)), stream=stream)
                packet: Any
                for packet in given.demux(stream, *sounds.values()):
                    if packet.stream.index in sounds:
                        _copy(packet, copies[packet.stream.index], span, origin * base, made)
                        continue
                    for picture in _decoded(packet, source, times):
                        if not begin <= (picture.pts or 0) < end:
                            continue
                        first = picture.pts or 0 if first is None else first
                        if (picture.width, picture.height) != stored:
                            raise InputError(f"{source} changes its size in the part that was asked for")
                        kept = (picture if crop is None else crop(picture)).reformat(
                            format=video.codec_context.pix_fmt
                        )
                        kept.pts, kept.time_base = (picture.pts or 0) - first, base
                        made.mux(video.encode(kept))
                        count += 1
                    if packet.dts is not None and packet.dts > end + 5 / base:
                        break
                if first is None:
                    raise InputError(
                        f"{source} has no frame at {float(span.start):g} s; it lasts {info.duration or 0:.4g} s"
                    )
                made.mux(video.encode(None))
        except (FFmpegError, ValueError) as error:
            raise OutputError(f"{target} can't be written: {error}; try .mkv") from error
    return count


def _decoded(packet: Any, source: Path, times: Counted | None) -> list[Any]:
    try:
        pictures = packet.decode()
    except FFmpegError as error:
        raise InputError(f"{source} is damaged in the part that was asked for; choose another") from error
    if times is not None:
        times.hear(packet)
        for picture in pictures:
            picture.pts = times.next()
    return pictures


class _Cropped:
    """Cuts a part out of stored pictures.

    Attributes:
        size: (width, height) of the part.

    Raises:
        InputError: the pictures have no such part.
    """

    def __init__(self, info: VideoInfo, crop: Crop) -> None:
        columns, rows = (crop.left, crop.left + crop.width), (crop.top, crop.top + crop.height)
        if columns[1] > info.width or rows[1] > info.height:
            raise InputError(
                f"{info.path} has pictures of {info.width} x {info.height}, which {crop} does not lie in"
            )
        if info.orientation in (2, 3, 6, 7):
            columns = (info.width - columns[1], info.width - columns[0])
        if info.orientation in (3, 4, 7, 8):
            rows = (info.height - rows[1], info.height - rows[0])
        lengths = info.width, info.height
        if info.orientation >= 5:
            columns, rows, lengths = rows, columns, lengths[::-1]
        format = av.VideoFormat(info.pix_fmt)
        self._left, right = _grown(*columns, _UNIT // format.chroma_width(_UNIT), lengths[0])
        self._top, bottom = _grown(*rows, _UNIT // format.chroma_height(_UNIT), lengths[1])
        self.size = right - self._left, bottom - self._top
        self._graph: av.filter.Graph | None = None

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The part of a picture; all are of one size."""
        if self._graph is None:
            self._graph = graph = av.filter.Graph()
            given = graph.add_buffer(
                width=picture.width,
                height=picture.height,
                format=picture.format,
                time_base=picture.time_base or Fraction(1),
            )
            cut = graph.add("crop", f"{self.size[0]}:{self.size[1]}:{self._left}:{self._top}")
            graph.link_nodes(given, cut, graph.add("buffersink")).configure()
        self._graph.vpush(picture)
        return self._graph.vpull()


def _grown(start: int, stop: int, step: int, length: int) -> tuple[int, int]:
    """The smallest stretch around another that begins and ends at multiples of a step and reaches no further than
    `length`."""
    end = min(-(-stop // step), length // step) * step
    return min(start // step * step, end - step), end


def _declared(made: Any, info: VideoInfo, source: av.VideoStream, size: tuple[int, int]) -> Any:
    video = made.add_stream("libx264", rate=info.fps, options={"qp": "0", "preset": "veryfast"})
    context = video.codec_context
    context.width, context.height = size
    name = info.pix_fmt.replace("yuvj", "yuv")
    context.pix_fmt = name if re.fullmatch(r"yuv4(20|22|44)p(10le)?", name) else "yuv444p"
    context.time_base = video.time_base = info.time_base
    tag_stream(video, info.tags)
    if source.codec_context.sample_aspect_ratio:
        context.sample_aspect_ratio = source.codec_context.sample_aspect_ratio
    if info.orientation in _DEGREES:
        video.set_display_rotation(_DEGREES[info.orientation])
    return video


# Of a display matrix, counted against the clock.
_DEGREES = {3: 180, 6: -90, 8: 90}


def _copy(packet: Any, copy: Any, span: Span, origin: Fraction, made: Any) -> None:
    if packet.pts is None or not packet.size:
        return
    when = packet.pts * packet.time_base - origin
    if span.start <= when < span.start + span.seconds:
        shift = round((origin + span.start) / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, (packet.dts or packet.pts) - shift
        packet.stream = copy
        made.mux_one(packet)
