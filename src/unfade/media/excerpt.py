"""A few seconds of footage as a file of their own: pictures without loss, sound as it is."""

import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from unfade.core import InputError, OutputError, UsageError
from unfade.media.atomic import atomic_output
from unfade.media.times import Counted
from unfade.media.video import VideoInfo, main_stream, open_footage, probe_video
from unfade.media.video_writer import tag_stream

_LENGTH = r"(\d+(?:\.\d+)?)\s*s?"
_WHEN = r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)s?"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of footage.

    Attributes:
        start: seconds from its first frame.
        seconds: how long it is.
    """

    start: Fraction
    seconds: Fraction


def read_span(text: str) -> Span:
    """A span written as length and place: "2s@00:10", "1@1:02:03.5", "3s" (from the beginning).

    Raises:
        UsageError: it is written otherwise, or empty.
    """
    found = re.fullmatch(rf"{_LENGTH}(?:@{_WHEN})?", text.strip())
    if found is None or Fraction(found[1]) == 0:
        raise UsageError(f"{text!r} is no part of footage; write its length and where it begins: 2s@00:10")
    hours, minutes, seconds = (Fraction(found[place] or 0) for place in (2, 3, 4))
    return Span(3600 * hours + 60 * minutes + seconds, Fraction(found[1]))


def write_excerpt(source: Path, span: Span, target: Path) -> int:
    """Writes the frames that are shown in a span, and the sound that begins there; gives the number of frames.

    The pictures are coded again without loss in their own pixel format where H.264 has it, else in 4:4:4; their times
    count from the excerpt's first frame.

    Args:
        source: of the footage.
        span: what to take.
        target: .mp4, .mov or .mkv.

    Raises:
        InputError: the source can't be read, or ends before the span begins.
        OutputError: the target can't be written.
    """
    info = probe_video(source)
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
                video, first = _declared(made, info, stream), None
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
                        kept = picture.reformat(format=video.codec_context.pix_fmt)
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


def _declared(made: Any, info: VideoInfo, source: av.VideoStream) -> Any:
    video = made.add_stream("libx264", rate=info.fps, options={"qp": "0", "preset": "veryfast"})
    context = video.codec_context
    context.width, context.height = source.codec_context.width, source.codec_context.height
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
