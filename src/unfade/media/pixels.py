"""Rows of integers <-> planes of floats, a few rows at a time, so that no second float copy exists."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Rows = Callable[[int, int], np.ndarray]
"""`rows(top, count)` gives stored pixels as integers `[count, W, bands]`; called from top to bottom."""

_CHUNK_PIXELS = 1 << 18
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


def displayed_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """(width, height) of an image as displayed; EXIF orientations 5 to 8 swap the sides."""
    return (height, width) if orientation >= 5 else (width, height)


def read_planes(
    rows: Rows, width: int, height: int, orientation: int, num_colours: int, has_alpha: bool, white: float
) -> tuple[Tensor, Tensor | None]:
    """Stored rows as `[1, 3, H, W]` and, where there is alpha, `[1, 1, H, W]`, upright and in [0, 1].

    A single colour band fills all three channels. `white` is the integer that stands for 1.
    """
    shown_width, shown_height = displayed_size(width, height, orientation)
    frames = torch.empty(1, 3, shown_height, shown_width)
    alpha = torch.empty(1, 1, shown_height, shown_width) if has_alpha else None
    planes = [as_stored(plane, orientation) for plane in frames[0].numpy()]
    alpha_plane = None if alpha is None else as_stored(alpha[0, 0].numpy(), orientation)
    step = max(1, _CHUNK_PIXELS // width)
    scale = np.float32(white)
    for top in range(0, height, step):
        count = min(step, height - top)
        chunk = rows(top, count)
        for channel, plane in enumerate(planes):
            band = chunk[:, :, channel if num_colours == 3 else 0]
            np.divide(band, scale, out=plane[top : top + count], dtype=np.float32)
        if alpha_plane is not None:
            np.divide(chunk[:, :, num_colours], scale, out=alpha_plane[top : top + count], dtype=np.float32)
    return frames, alpha


def quantise(image: Tensor, alpha: Tensor | None, bits: int, grey: bool) -> np.ndarray:
    """Float planes as interleaved integers `[H, W, bands]`, rounded to the nearest of `2 ** bits` levels.

    Up to 8 bits give uint8. More give uint16 with the levels in the upper bits, where libvips expects them.
    Values outside [0, 1] are clamped. `grey` weighs the channels by BT.709.

    Raises:
        ValueError: a value is not finite.
    """
    _, height, width = image.shape
    num_colours = 1 if grey else 3
    kind = np.uint8 if bits <= 8 else np.uint16
    result = np.empty((height, width, num_colours + (alpha is not None)), kind)
    levels, shift = 2**bits - 1, max(0, 16 - bits) if bits > 8 else 0
    step = max(1, _CHUNK_PIXELS // width)
    for top in range(0, height, step):
        rows = slice(top, top + step)
        planes = list(_floats(image[:, rows]))
        if grey:
            planes = [sum(plane * weight for plane, weight in zip(planes, _LUMA, strict=True))]
        if alpha is not None:
            planes.append(_floats(alpha[:, rows])[0])
        for band, plane in enumerate(planes):
            if not np.isfinite(plane).all():
                raise ValueError("an image to be written must be finite; it holds NaN or infinity")
            integers = np.rint(np.clip(plane, 0, 1) * np.float32(levels)).astype(kind)
            result[rows, :, band] = integers << shift if shift else integers
    return result


def _floats(planes: Tensor) -> np.ndarray:
    return planes.detach().to("cpu", torch.float32).numpy()


def as_stored(plane: np.ndarray, orientation: int) -> np.ndarray:
    """A view of an upright plane `[H, W]` in which row and column count as in the stored image."""
    match orientation:
        case 2:
            return plane[:, ::-1]
        case 3:
            return plane[::-1, ::-1]
        case 4:
            return plane[::-1]
        case 5:
            return plane.T
        case 6:
            return plane[:, ::-1].T
        case 7:
            return plane[::-1, ::-1].T
        case 8:
            return plane[::-1].T
        case _:
            return plane
