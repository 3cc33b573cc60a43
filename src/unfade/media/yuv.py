"""Decoded pictures <-> RGB tensors, by the matrix and range of their tags, not by a library's guess."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
import torch
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from torch import Tensor

UNSPECIFIED = 2
_RGB = 0
_MATRICES = {
    1: Colorspace.ITU709, 4: Colorspace.FCC, 5: Colorspace.ITU601, 6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M, 9: Colorspace.BT2020, 10: Colorspace.BT2020,
}  # fmt: skip
_BT709, _BT601 = 1, 6
_HD_HEIGHT = 720
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
Siting = Literal["left", "center", "topleft", "top", "bottomleft", "bottom"]
# Where it puts the first chroma sample, in luma pixels to the right of and below the first luma sample.
_SITINGS: dict[tuple[float, float], Siting] = {
    (0, 0.5): "left", (0.5, 0.5): "center", (0, 0): "topleft",
    (0.5, 0): "top", (0, 1): "bottomleft", (0.5, 1): "bottom",
}  # fmt: skip
# "Center" is also what ffmpeg assumes where nothing is said. These say it, or are centred by their standard.
_CENTRED = {"mjpeg", "theora"}
_CENTRED_420 = _CENTRED | {"h264", "hevc", "mpeg1video", "h261", "h263", "flv", "rawvideo"}
_PROBE = 16
# swscale's 16-bit RGB is 8-bit RGB shifted up: white is 255 << 8, not 65535.
_SHIFTED_WHITE = 255 << 8


@dataclass(frozen=True, slots=True)
class ColourTags:
    """How a video's numbers stand for colours, in the code points of ITU-T H.273.

    Attributes:
        matrix: of YUV; never unspecified, see `tags_of`.
        full_range: whether black is 0, not 16 (of 255).
        primaries, transfer: passed on as they are; 2 is unspecified. No tone mapping is done.
        siting: of chroma where it is coarser than luma, by ffmpeg's names. "left" lies on every second column and
            between two rows.
    """

    matrix: int = _BT709
    full_range: bool = False
    primaries: int = _BT709
    transfer: int = _BT709
    siting: Siting = "left"


def tags_of(frame: av.VideoFrame, codec: str) -> ColourTags:
    """The tags of a decoded picture.

    Where the matrix is missing, it is BT.709 from 720 rows on and BT.601 below, as players assume. Where the siting is
    missing, it is "left".

    Args:
        frame: as the decoder gave it.
        codec: by ffmpeg's name.
    """
    matrix = frame.colorspace
    if matrix not in _MATRICES:
        matrix = _BT709 if max(frame.height, frame.width * 9 // 16) >= _HD_HEIGHT or is_rgb(frame) else _BT601
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    siting: Siting = _siting(frame) if _is_subsampled(frame.format) else "left"
    quartered = frame.format.chroma_height(8) == 4
    if siting == "center" and codec not in (_CENTRED_420 if quartered else _CENTRED):
        siting = "left"
    return ColourTags(matrix, full and not is_rgb(frame), frame.color_primaries, frame.color_trc, siting)


def is_rgb(frame: av.VideoFrame) -> bool:
    return frame.format.is_rgb or frame.format.name == "pal8"


def _is_subsampled(format: av.VideoFormat) -> bool:
    return format.chroma_width(8) < 8 or format.chroma_height(8) < 8


def _siting(frame: av.VideoFrame) -> Siting:
    """Where ffmpeg puts the chroma samples of a picture like this one; it keeps the tag, but PyAV can't read it.

    A picture of ramps with the same tag is enlarged, and the ramps say where their samples were thought to be.
    """
    limited = ColorRange.MPEG
    ramps = frame.reformat(_PROBE, _PROBE, "yuv420p", src_color_range=limited, dst_color_range=limited)
    rising = np.arange(_PROBE // 2, dtype=np.uint8) * 20 + 40
    for plane, ramp in zip(ramps.planes, (rising[:1], rising[None], rising[:, None]), strict=True):
        buffer: Any = plane
        rows = np.frombuffer(buffer, np.uint8).reshape(plane.height, plane.line_size)
        rows[:, : plane.width] = ramp
    whole = ramps.reformat(
        format="yuv444p", src_color_range=limited, dst_color_range=limited, interpolation=_EXACT
    )
    middle = _PROBE // 2
    right, down = (middle - (value - 40) / 10 for value in whole.to_ndarray()[1:, middle, middle].tolist())
    return _SITINGS[round(right * 2) / 2, round(down * 2) / 2]


def _sited(frame: av.VideoFrame, siting: Siting) -> av.VideoFrame:
    """The same picture with a tag that says where chroma lies, or is to lie; PyAV can't write it either."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    tag, sink = graph.add("setparams", f"chroma_location={siting}"), graph.add("buffersink")
    source.link_to(tag)
    tag.link_to(sink)
    graph.configure()
    graph.push(frame)
    tagged = graph.pull()
    assert isinstance(tagged, av.VideoFrame), "a graph of video gives video"
    return tagged


def bits_of(frame: av.VideoFrame) -> int:
    """Bits a sample."""
    return max((component.bits for component in frame.format.components), default=8)


def picture_to_rgb(frame: av.VideoFrame, tags: ColourTags) -> np.ndarray:
    """A decoded picture as float32 RGB `[H, W, 3]` in [0, 1], as stored (not yet turned upright)."""
    bits = bits_of(frame)
    if is_rgb(frame):
        format, white = ("rgb24", 255) if bits <= 8 else ("rgb48le", 65535)
        array = frame.reformat(format=format, interpolation=_EXACT).to_ndarray()
    else:
        if _is_subsampled(frame.format):
            frame = _sited(frame, tags.siting)
        deep_full = tags.full_range and bits > 8
        white = (2**bits - 1) << (16 - bits) if deep_full else _SHIFTED_WHITE
        array = frame.reformat(
            format="rgb48le",
            src_colorspace=_MATRICES[tags.matrix],
            src_color_range=ColorRange.JPEG if tags.full_range else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=_EXACT,
        ).to_ndarray()
    return np.minimum(np.divide(array, np.float32(white), dtype=np.float32), 1)


def rgb_to_picture(image: Tensor, pix_fmt: str, tags: ColourTags) -> av.VideoFrame:
    """An RGB tensor `[3, H, W]`, clamped to [0, 1], as a YUV picture.

    Raises:
        ValueError: a pixel is not finite.
    """
    array = image.detach().to("cpu", torch.float32).numpy()
    if not np.isfinite(array).all():
        raise ValueError("a frame to be written must be finite; it holds NaN or infinity")
    deep = pix_fmt.endswith("10le")
    white = _SHIFTED_WHITE if deep else 255
    integers = np.rint(np.clip(array, 0, 1) * np.float32(white)).transpose(1, 2, 0)
    if deep:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(integers, np.uint16), "rgb48le")
    else:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(integers, np.uint8), "rgb24")
    # What it is converted to inherits the tag.
    return _sited(picture, tags.siting).reformat(
        format=pix_fmt,
        src_color_range=ColorRange.JPEG,
        dst_colorspace=_MATRICES[tags.matrix],
        dst_color_range=ColorRange.JPEG if tags.full_range else ColorRange.MPEG,
        interpolation=_EXACT,
    )
