"""Frames through a real video codec and back, in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import OutputError, UsageError

if TYPE_CHECKING:
    import av

VideoCodec = Literal["h264", "h265", "mpeg4"]
Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]

QUALITIES: dict[VideoCodec, tuple[float, float]] = {"h264": (0, 51), "h265": (0, 51), "mpeg4": (1, 31)}
"""The range of `quality` of each codec, best first."""

_NAMES: dict[VideoCodec, str] = {"h264": "H.264", "h265": "H.265", "mpeg4": "MPEG-4 part 2"}
_ENCODERS: dict[VideoCodec, str] = {"h264": "libx264", "h265": "libx265", "mpeg4": "mpeg4"}
_DECODERS: dict[VideoCodec, str] = {"h264": "h264", "h265": "hevc", "mpeg4": "mpeg4"}
# x265 refuses sides below 16, and up to 64, its largest block, it gives another stream in every run.
_SMALLEST: dict[VideoCodec, int] = {"h264": 16, "h265": 80, "mpeg4": 16}
# What they look ahead for to see which blocks later frames refer to. Where rows are short, the vector code reads and
# writes beyond them: x264 then gives another stream in every run, and x265 now and then ends the process.
_NO_TREE: dict[VideoCodec, str] = {"h264": "mbtree=0", "h265": "cutree=0"}
# Of chroma. The same on both sides it only decides between which pixels colours are averaged, and here a picture's
# mirror image is treated like the picture.
_SITING = "center"


def compressed(
    frames: Tensor,
    codec: VideoCodec,
    quality: float,
    fps: Fraction | float = 25,
    preset: Preset = "medium",
    *,
    constant: bool = False,
) -> Tensor:
    """Frames encoded as one piece of footage and decoded again: 8 bits, 4:2:0, BT.709, limited range.

    The same frames give the same result: both sides use one thread, and x264 and x265 neither macroblock nor CU tree.
    Sides that are odd or too small for the codec are padded by repeating the border, and cropped again. A single frame
    is an intra picture.

    Args:
        frames: `[T, 3, H, W]` in [0, 1], clamped and rounded to 8 bits first.
        codec: "h264" (x264), "h265" (x265) or "mpeg4" (part 2, by ffmpeg's own encoder).
        quality: for H.264 and H.265 the constant rate factor, 0 (best) to 51; for MPEG-4 the quantiser, 1 to 31.
        fps: frames a second, which rate control looks at.
        preset: effort of x264 and x265; MPEG-4 has none.
        constant: whether `quality` is the quantiser of every picture instead of a rate factor, then a whole number;
            that of MPEG-4 always is.

    Returns:
        `[T, 3, H, W]` in [0, 1], of the type and on the device of `frames`.

    Raises:
        UsageError: PyAV is missing, or was built without this encoder.
        OutputError: the codec refuses the frames.
        ValueError: the shape, quality, preset or fps is impossible, or a pixel is not finite.
    """
    rate = Fraction(fps).limit_denominator(1001)
    _check(frames, codec, quality, rate, preset)
    height, width = frames.shape[2:]
    options = _options(codec, quality, preset, constant)
    with _explained(codec, width, height):
        packets = _encoded(_padded(frames, _SMALLEST[codec]), codec, rate, options)
        result = frames.new_empty(frames.shape)
        count = 0
        for image in _decoded(packets, codec):
            if count < len(result):
                result[count] = image[:, :height, :width]
            count += 1
    if count != len(frames):
        raise OutputError(
            f"{_NAMES[codec]} made {count} frames of {len(frames)}; try another codec or quality"
        )
    return result


def _check(frames: Tensor, codec: VideoCodec, quality: float, rate: Fraction, preset: Preset) -> None:
    if codec not in QUALITIES:
        raise ValueError(f"unknown codec {codec!r}; known: {', '.join(QUALITIES)}")
    if frames.ndim != 4 or frames.shape[1] != 3 or not frames.numel():
        raise ValueError(f"frames must be [T, 3, H, W] and not empty, not {tuple(frames.shape)}")
    best, worst = QUALITIES[codec]
    if not best <= quality <= worst:
        raise ValueError(f"the quality of {_NAMES[codec]} lies in {best:g} to {worst:g}, not {quality}")
    if preset not in get_args(Preset):
        raise ValueError(f"unknown preset {preset!r}; known: {', '.join(get_args(Preset))}")
    if rate <= 0:
        raise ValueError(f"fps must be above 0, not {rate}")


def _padded(frames: Tensor, smallest: int) -> Tensor:
    """On the CPU in single precision, both sides even and not too small."""
    height, width = frames.shape[2:]
    bottom, right = (max(smallest, side + side % 2) - side for side in (height, width))
    return functional.pad(frames.detach().to("cpu", torch.float32), (0, right, 0, bottom), mode="replicate")


def _options(codec: VideoCodec, quality: float, preset: Preset, constant: bool) -> dict[str, str]:
    if codec == "mpeg4":
        # Between equal bounds rate control has no choice.
        return {"qmin": str(round(quality)), "qmax": str(round(quality))}
    rate = {"qp": str(round(quality))} if constant else {"crf": str(quality)}
    private = [_NO_TREE[codec]]
    if constant:
        # Intra pictures would get a finer quantiser than the one that was asked for, and B-frames a coarser one.
        private += ["ipratio=1", "pbratio=1"]
    if codec == "h265":
        # Neither threads nor lines on the terminal.
        private += ["pools=none", "frame-threads=1", "log-level=none"]
    name = {"h264": "x264-params", "h265": "x265-params"}[codec]
    return {**rate, "preset": preset, name: ":".join(private)}


def _encoded(
    frames: Tensor, codec: VideoCodec, rate: Fraction, options: dict[str, str]
) -> "list[av.Packet[av.VideoStream]]":
    import av

    from unfade.media.yuv import ColourTags, rgb_to_picture

    tags = ColourTags(siting=_SITING)
    encoder = av.CodecContext.create(_ENCODERS[codec], "w")
    assert isinstance(encoder, av.VideoCodecContext), "it was asked for by the name of a video codec"
    encoder.width, encoder.height, encoder.pix_fmt = frames.shape[3], frames.shape[2], "yuv420p"
    encoder.time_base, encoder.framerate = 1 / rate, rate
    encoder.colorspace, encoder.color_range = tags.matrix, 2 if tags.full_range else 1
    encoder.color_primaries, encoder.color_trc = tags.primaries, tags.transfer
    encoder.thread_count = 1
    encoder.options = options
    packets = []
    for index, image in enumerate(frames):
        picture = rgb_to_picture(image, "yuv420p", tags)
        picture.pts, picture.time_base = index, 1 / rate
        packets += encoder.encode(picture)
    return packets + encoder.encode(None)


def _decoded(packets: "list[av.Packet[av.VideoStream]]", codec: VideoCodec) -> Iterator[Tensor]:
    """The pictures `[3, H, W]` in the order they are shown.

    The matrix is the one they were encoded by: MPEG-4 part 2 as ffmpeg writes it names none.
    """
    import av

    from unfade.media.yuv import ColourTags, picture_to_rgb

    decoder = av.CodecContext.create(_DECODERS[codec], "r")
    assert isinstance(decoder, av.VideoCodecContext), "it was asked for by the name of a video codec"
    decoder.thread_count = 1
    for packet in (*packets, None):
        for picture in decoder.decode(packet):
            yield torch.from_numpy(picture_to_rgb(picture, ColourTags(siting=_SITING))).permute(2, 0, 1)


@contextmanager
def _explained(codec: VideoCodec, width: int, height: int) -> Iterator[None]:
    """Turns a missing library and ffmpeg's failures into sentences."""
    try:
        import av
        from av.codec.codec import UnknownCodecError
        from av.error import FFmpegError
    except ImportError as error:
        raise UsageError(f"compressing footage needs PyAV ({error}): pip install av") from error
    try:
        yield
    except UnknownCodecError as error:
        raise UsageError(
            f"PyAV {av.__version__} was built without {_NAMES[codec]} ({_ENCODERS[codec]}); choose another codec, or "
            "install the wheel from PyPI"
        ) from error
    except FFmpegError as error:
        raise OutputError(
            f"frames of {width} x {height} can't be compressed by {_NAMES[codec]}: the encoder says {error}"
        ) from error
