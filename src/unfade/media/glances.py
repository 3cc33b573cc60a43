"""Footage looked through without its pixels: the time and a thumbnail of every frame, much faster than reading it."""

from collections.abc import Iterator
from dataclasses import dataclass

import av
import torch
from av.error import FFmpegError
from av.video.reformatter import Interpolation
from torch import Tensor

from unfade.core import InputError
from unfade.media.pixels import displayed_size
from unfade.media.video import (
    VideoInfo,
    main_stream,
    missing_seconds,
    open_footage,
    timed_pictures,
)

SIDE = 32
# Without the others a colour is that of every second pixel of the thumbnail.
_AREA = (
    Interpolation.AREA
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True, slots=True)
class Glance:
    """What is seen of one frame in passing.

    Attributes:
        index: from 0, as `read_video` counts.
        pts: when it is shown, in ticks.
        end: when the next one is shown, as far as this one knows, in ticks.
        interlaced: whether it is woven of two fields.
        thumbnail: float32 `[1, 3, 32, 32]` in [0, 1], averages of areas, as stored (not turned upright).
    """

    index: int
    pts: int
    end: int
    interlaced: bool
    thumbnail: Tensor


def glances(info: VideoInfo) -> Iterator[Glance]:
    """Every frame that `read_video` would give, in the order they are shown; one is held at a time.

    Raises:
        InputError: the video is damaged or cut short, changes its size, or its times don't increase.
    """
    index, end, last = 0, None, None
    failure: Exception | None = None
    with open_footage(info.path) as container:
        stream = main_stream(info.path, container)
        stream.thread_type = "AUTO"
        try:
            for picture in timed_pictures(container, stream, info):
                pts = picture.pts if picture.pts is not None else picture.dts
                pts = end or 0 if pts is None else pts
                if displayed_size(picture.width, picture.height, info.orientation) != (
                    info.width,
                    info.height,
                ):
                    raise InputError(f"{info.path} changes its size at frame {index}; split it there")
                if last is not None and pts <= last:
                    raise InputError(f"{info.path} has times that don't increase at frame {index}")
                end, last = pts + (picture.duration or info.step), pts
                yield Glance(index, pts, end, bool(picture.interlaced_frame), _thumbnail(picture))
                index += 1
        except FFmpegError as error:
            failure = error
        complete = bool(stream.frames) and index >= stream.frames
        missing = 0.0 if complete else missing_seconds(stream, end, info)
    if failure is not None or missing > max(0.1, float(2 / info.fps)):
        raise InputError(f"{info.path} is damaged or cut short after frame {index}") from failure


def _thumbnail(picture: av.VideoFrame) -> Tensor:
    small = picture.reformat(SIDE, SIDE, "rgb24", interpolation=_AREA)
    return torch.from_numpy(small.to_ndarray()).permute(2, 0, 1)[None].float() / 255
