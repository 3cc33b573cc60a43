"""Footage to files: new pictures with the timing, the sound and the tags of the source."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Stream
from torch import Tensor

from unfade.core import InputError, OutputError, UsageError
from unfade.media.atomic import atomic_output
from unfade.media.notes import container_tags
from unfade.media.video import VideoInfo, main_stream, open_footage, probe_video, read_video
from unfade.media.yuv import ColourTags, rgb_to_picture

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration"}
_OF_THE_STREAM = {"language", "title", "handler_name", "name", "comment"}


def container_format(path: Path) -> str:
    """The muxer for a path's extension.

    Raises:
        UsageError: the extension is not one of .mp4, .m4v, .mov and .mkv.
    """
    if path.suffix.lower() not in CONTAINERS:
        raise UsageError(f"{path} has no known video extension; choose one of {', '.join(CONTAINERS)}")
    return CONTAINERS[path.suffix.lower()]


class VideoWriter:
    """Writes processed frames of a source with its timestamps, its sound and subtitles untouched. A context
    manager.

    The picture is H.264 with the source's chroma sampling, at 8 or 10 bits, with its matrix, range and pixel
    aspect; frames with an odd side are stored as 4:4:4, the only sampling that keeps them whole. Chroma is sited left,
    as decoders of H.264 assume, wherever the source had it. Rotation is
    already in the pixels and not written again. Sound and subtitle packets are copied byte for byte. The file
    appears only when the block ends without an exception.

    Timestamps are exact in .mp4 and .mov. Matroska counts milliseconds, so they are rounded where the source
    is finer.

    Args:
        path: .mp4, .m4v, .mov or .mkv.
        source: the footage the frames come from, or what `probe_video` said about it.
        crf: quality of H.264, 0 (lossless) to 51; 14 is visually lossless.
        preset: of x264, "ultrafast" to "veryslow".
        notes: provenance, stored in the container.
        subtitles: whether to copy them.
        overwrite: replace an existing file.

    Raises:
        UsageError: the extension is unknown.
        InputError: the source can't be read, or its timestamps don't increase.
        OutputError: the file can't be written, or the container can't hold the source's sound or subtitles.
    """

    def __init__(
        self,
        path: Path,
        source: Path | VideoInfo,
        *,
        crf: int = 14,
        preset: str = "medium",
        notes: Mapping[str, str] | None = None,
        subtitles: bool = True,
        overwrite: bool = True,
    ) -> None:
        self.path = Path(path)
        self.info = source if isinstance(source, VideoInfo) else probe_video(source)
        self.num_frames = 0
        self._format = container_format(self.path)
        # With its macroblock tree x264 gives another stream in every run at some sizes: its vector code reads beyond
        # short rows.
        self._options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
        self._colours = _written_tags(self.info)
        self._tags = container_tags(notes or {})
        self._subtitles = subtitles
        self._overwrite = overwrite
        self._stack = ExitStack()
        self._video: av.VideoStream | None = None
        self._size = (0, 0)
        self._last_pts: int | None = None
        self._durations: dict[int, int] = {}
        self._end = 0
        self._first: tuple[int, int] | None = None
        self._num_packets = 0

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_output(self.path, self._overwrite))
            self._source = stack.enter_context(open_footage(self.info.path))
            self._container = stack.enter_context(_output(temporary, self._format, self.info.time_base))
            self._sound = self._sound_packets()
            self._waiting: av.Packet[Any] | None = None
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()

    def write(self, image: Tensor, pts: int, duration: int | None = None) -> None:
        """Add a frame `[3, H, W]` in [0, 1] at `pts` ticks of the source's time base; all have one size."""
        if self._last_pts is not None and pts <= self._last_pts:
            raise InputError(
                f"{self.info.path} has timestamps that don't increase at frame {self.num_frames}"
            )
        size = (image.shape[-1], image.shape[-2])
        if self._video is None:
            self._size = size
            self._video = self._declare(*size)
        if size != self._size:
            raise ValueError(f"frames of one video have one size, not {self._size} and {size}")
        picture = rgb_to_picture(image, str(self._video.codec_context.pix_fmt), self._colours)
        picture.pts, picture.time_base = pts, self.info.time_base
        if duration:
            self._durations[pts] = duration
        self._end = pts + (duration or round(1 / (self.info.fps * self.info.time_base)))
        with _explained(self.path, self.info):
            self._mux(self._video.encode(picture))
            self._copy_sound(until=pts * self.info.time_base)
        self._last_pts = pts
        self.num_frames += 1

    def _declare(self, width: int, height: int) -> av.VideoStream:
        with _explained(self.path, self.info):
            stream, self._copies = _declare(
                self._container, self.info, (width, height), self._options, self._source, self._tracks()
            )
            self._container.metadata.update(
                {k: v for k, v in self._source.metadata.items() if k.lower() not in _OF_THE_FILE} | self._tags
            )
            self._container.set_chapters(self._source.chapters())
            self._container.start_encoding()
        return stream

    def _tracks(self) -> list[Stream]:
        return _tracks(self._source, self._subtitles)

    def _sound_packets(self) -> Iterator["av.Packet[Any]"]:
        tracks = self._tracks()
        if tracks:
            # A demuxer ends with an empty packet for each track.
            yield from (packet for packet in self._source.demux(*tracks) if packet.size)

    def _copy_sound(self, until: Fraction | None) -> None:
        """Copy packets up to a time, so that sound and pictures alternate in the file; all for None."""
        while True:
            packet = self._waiting or next(self._sound, None)
            self._waiting = packet
            if packet is None or (until is not None and (packet.dts or 0) * packet.time_base > until):
                return
            packet.stream = self._copies[packet.stream.index]
            packet.dts = packet.pts if packet.dts is None else packet.dts
            self._container.mux_one(packet)
            self._waiting = None

    def _mux(self, packets: list["av.Packet[Any]"], last: bool = False) -> None:
        for packet in packets:
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
            if self._first is None:
                self._first = (packet.pts or 0, packet.dts or 0)
            if last and packet is packets[-1] and self._format in ("mp4", "mov"):
                # They sum the time up in the order of decoding, and the last frame there may be any.
                shown, decoded = self._end - self._first[0], (packet.dts or 0) - self._first[1]
                packet.duration = max(1, shown - decoded)
            self._num_packets += 1
            self._container.mux_one(packet)

    def _finish(self) -> None:
        if self._video is None:
            raise InputError(f"{self.info.path} gave no frame to write")
        with _explained(self.path, self.info):
            self._mux(self._video.encode(None), last=True)
            self._copy_sound(until=None)
            self._container.close()
        if self._num_packets != self.num_frames:
            raise OutputError(
                f"{self.path} can't be written: of {self.num_frames} frames "
                f"the encoder kept {self._num_packets}"
            )


def check_container(
    path: Path,
    info: VideoInfo,
    scale: int = 1,
    subtitles: bool = True,
    size: tuple[int, int] | None = None,
) -> None:
    """Whether the file a path names could hold footage like this, `scale` times as large or of a (width, height), with
    its sound.

    Nothing is written and no frame decoded.

    Raises:
        UsageError: the extension is unknown.
        OutputError: the container can't hold the source's sound or subtitles, or H.264 not a picture that large.
    """
    format = container_format(path)
    with _explained(path, info), open_footage(info.path) as source:
        container = av.open(BytesIO(), "w", format=format)
        try:
            wanted = size or (info.width * scale, info.height * scale)
            _declare(container, info, wanted, {"preset": "ultrafast"}, source, _tracks(source, subtitles))
            container.start_encoding()
        finally:
            # It holds no packet, about which a container may complain.
            with suppress(FFmpegError, ValueError):
                container.close()


def _tracks(source: InputContainer, subtitles: bool) -> list[Stream]:
    """What is copied besides the picture."""
    return [*source.streams.audio, *(source.streams.subtitles if subtitles else ())]


def _declare(
    container: OutputContainer,
    info: VideoInfo,
    size: tuple[int, int],
    options: dict[str, str],
    source: InputContainer,
    tracks: list[Stream],
) -> tuple[av.VideoStream, dict[int, Stream]]:
    """The picture's stream, and the copy of each track by the index that it has in the source."""
    stream = container.add_stream("libx264", rate=info.fps, options=options)
    context = stream.codec_context
    context.width, context.height = size
    context.pix_fmt = _pixel_format(info, *size)
    context.time_base = stream.time_base = info.time_base
    tag_stream(stream, _written_tags(info))
    if info.pixel_aspect != 1:
        context.sample_aspect_ratio = info.pixel_aspect
    stream.metadata.update(_kept_tags(main_stream(info.path, source)))
    copies: dict[int, Stream] = {}
    for track in tracks:
        copy = container.add_stream_from_template(track)
        copy.time_base, copy.disposition = track.time_base, track.disposition
        copy.metadata.update(_kept_tags(track))
        copies[track.index] = copy
    return stream, copies


def copy_footage(
    source: Path,
    target: Path,
    function: Callable[[Tensor], Tensor],
    *,
    progress: Callable[[float], None] | None = None,
    crf: int = 14,
    preset: str = "medium",
    notes: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> int:
    """Pass every frame `[3, H, W]` of a video through a function, keep all else; gives the number of frames.

    The function may change the size, the same way for every frame. `progress` hears the share done, 0 to 1.

    Raises:
        UsageError, InputError, OutputError: as for `read_video` and `VideoWriter`; nothing is written then.
    """
    info = probe_video(source)
    count, start = 0, 0
    with VideoWriter(target, info, crf=crf, preset=preset, notes=notes, overwrite=overwrite) as writer:
        for frame in read_video(source):
            writer.write(function(frame.image), frame.pts, frame.duration)
            count += 1
            start = frame.pts if count == 1 else start
            if progress is not None:
                progress(min(1.0, float((frame.pts - start) * frame.time_base) / (info.duration or 1e9)))
        if progress is not None:
            progress(1.0)
    assert writer.num_frames == count, "the writer counts what it was given"
    return count


def tag_stream(stream: av.VideoStream, tags: ColourTags) -> None:
    """Say in a stream how its numbers stand for colours."""
    context = stream.codec_context
    context.colorspace, context.color_range = tags.matrix, 2 if tags.full_range else 1
    context.color_primaries, context.color_trc = tags.primaries, tags.transfer
    context.options = context.options | {"chroma_sample_location": tags.siting}


def _written_tags(info: VideoInfo) -> ColourTags:
    return replace(info.tags, siting="left")


def _kept_tags(stream: Stream) -> dict[str, str]:
    return {key: text for key, text in stream.metadata.items() if key.lower() in _OF_THE_STREAM}


@contextmanager
def _output(path: Path, format: str, time_base: Fraction) -> Iterator[OutputContainer]:
    # Matroska would have random numbers of its own.
    options = {"fflags": "+bitexact"} if format == "matroska" else {}
    if format in ("mp4", "mov"):
        # Without the second flag the muxer drops every tag it has no fixed place for, provenance included.
        scale = str(time_base.denominator)
        options = {"movflags": "+faststart+use_metadata_tags", "video_track_timescale": scale}
    container = av.open(str(path), "w", format=format, options=options)
    try:
        yield container
    except BaseException:
        # Closing writes what is missing, and may fail again; the first failure is the one to tell.
        with suppress(FFmpegError, OSError, ValueError):
            container.close()
        raise
    container.close()


@contextmanager
def _explained(path: Path, info: VideoInfo) -> Iterator[None]:
    """Turns ffmpeg's failures into sentences about the output."""
    try:
        yield
    except OSError:
        raise
    except (FFmpegError, ValueError) as error:
        others = " or ".join(suffix for suffix in (".mkv", ".mov") if suffix != path.suffix.lower())
        raise OutputError(
            f"{path} can't be written: its container can't hold the picture, sound or subtitles of "
            f"{info.path} ({error}); try {others}, or convert the sound first"
        ) from error


def _pixel_format(info: VideoInfo, width: int, height: int) -> str:
    sampling = next((name for name in ("444", "422") if name in info.pix_fmt), "420")
    if info.pix_fmt.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "0rgb")):
        sampling = "444"
    if (sampling != "444" and width % 2) or (sampling == "420" and height % 2):
        sampling = "444"
    return f"yuv{sampling}p" + ("10le" if info.bit_depth > 8 else "")
