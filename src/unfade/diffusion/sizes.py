"""Any photo on a canvas of legal size and exactly back: reflected borders, or above 2K resizing there and back."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# The released code shrinks what is higher or wider than this to the area of 2560 x 1440.
HIGHEST, WIDEST = 1440, 2560
AREA = HIGHEST * WIDEST


@dataclass(frozen=True, slots=True)
class Fit:
    """How a photo of one size enters a canvas of another, and how what comes out goes back.

    Attributes:
        height, width: of the photo.
        canvas_height, canvas_width: what the model sees.
        resized: whether the photo is resized to the canvas; otherwise its borders are reflected.

    Raises:
        ValueError: a side is empty, or a canvas to be reached by reflecting is smaller than the photo.
    """

    height: int
    width: int
    canvas_height: int
    canvas_width: int
    resized: bool = False

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.canvas_height, self.canvas_width) < 1:
            raise ValueError(f"no side may be empty: {self}")
        if not self.resized and (self.canvas_height < self.height or self.canvas_width < self.width):
            raise ValueError(f"reflecting borders can't make a photo smaller: {self}")

    @property
    def top(self) -> int:
        """Rows added above the photo; the odd one goes below."""
        return 0 if self.resized else (self.canvas_height - self.height) // 2

    @property
    def left(self) -> int:
        """Columns added left of the photo; the odd one goes right."""
        return 0 if self.resized else (self.canvas_width - self.width) // 2

    def enter(self, frames: Tensor) -> Tensor:
        """Frames `[..., C, height, width]` in [0, 1] on the canvas.

        Raises:
            ValueError: the frames have another size.
        """
        if tuple(frames.shape[-2:]) != (self.height, self.width):
            raise ValueError(f"frames of {tuple(frames.shape[-2:])} don't fit {self}")
        if self.resized:
            return _resized(frames, self.canvas_height, self.canvas_width)
        rows = _reflected(self.height, self.top, self.canvas_height)
        columns = _reflected(self.width, self.left, self.canvas_width)
        return frames.index_select(-2, rows.to(frames.device)).index_select(-1, columns.to(frames.device))

    def leave(self, frames: Tensor) -> Tensor:
        """Frames `[..., C, canvas_height, canvas_width]` in [0, 1] in the size of the photo.

        Without resizing, exactly what `enter` was given; with it, a bicubic answer.

        Raises:
            ValueError: the frames have another size.
        """
        if tuple(frames.shape[-2:]) != (self.canvas_height, self.canvas_width):
            raise ValueError(f"frames of {tuple(frames.shape[-2:])} don't come from {self}")
        if self.resized:
            return _resized(frames, self.height, self.width)
        return frames[..., self.top : self.top + self.height, self.left : self.left + self.width]


def padded_fit(height: int, width: int, multiple: int) -> Fit:
    """The smallest canvas whose sides are multiples, reached by reflecting borders; exactly undone."""
    return Fit(height, width, height + -height % multiple, width + -width % multiple)


def published_fit(height: int, width: int, multiple: int) -> Fit:
    """V-Bridge's rule: reflected borders up to 2560 x 1440, resizing above.

    Above, the photo is shrunk to the area of 2560 x 1440 where it has more, keeping its shape, and both sides
    are floored to multiples (at least one); the result is resized back. 1920x1080 enters 1920x1088, 2720x1528
    enters 2560x1408, 2496x1656 enters 2336x1536.

    Source: V-Bridge (arXiv 2603.13089), released evaluation code.
    """
    if height <= HIGHEST and width <= WIDEST:
        return padded_fit(height, width, multiple)
    scale = math.sqrt(min(AREA, height * width) / (height * width))
    floored = (max(1, int(side * scale) // multiple) * multiple for side in (height, width))
    return Fit(height, width, *floored, resized=True)


def bounded_fit(height: int, width: int, multiple: int, bounds: tuple[int, int]) -> Fit:
    """Reflected borders for photos within bounds, for others the nearest size that lies within them.

    Larger photos are shrunk, keeping their shape but for rounding each side to the nearest multiple, and the result
    is resized back.

    Args:
        height, width: of the photo.
        multiple: of both sides of the canvas.
        bounds: the longest shorter side and the longest longer side, multiples both.
    """
    short, long = sorted((height, width))
    scale = min(bounds[0] / short, bounds[1] / long)
    if scale >= 1:
        return padded_fit(height, width, multiple)
    rounded = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    return Fit(height, width, *rounded, resized=True)


def _reflected(length: int, before: int, total: int) -> Tensor:
    """Where each of `total` places looks in a line of `length`: mirrored at the ends as often as it takes."""
    if length == 1:
        return torch.zeros(total, dtype=torch.long)
    period = 2 * (length - 1)
    place = (torch.arange(total) - before) % period
    return torch.minimum(place, period - place)


def _resized(frames: Tensor, height: int, width: int) -> Tensor:
    if tuple(frames.shape[-2:]) == (height, width):
        return frames
    flat = frames.reshape(-1, *frames.shape[-3:])
    resized = functional.interpolate(flat, size=(height, width), mode="bicubic", antialias=True)
    return resized.clamp_(0, 1).reshape(*frames.shape[:-2], height, width)
