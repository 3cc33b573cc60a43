"""Photos of any size made one size: turned, cropped to its proportions, reduced, and never stretched."""

import torch
from torch import Tensor

from unfade.core import InputError
from unfade.degrade.resample import resize

Size = tuple[int, int]


def sides_of(size: int | Size) -> Size:
    """(height, width) of a size that may be the side of a square."""
    return (size, size) if isinstance(size, int) else size


def name_of(size: int | Size) -> int | str:
    """A size as part of a seed: the side of a square, or "height x width"."""
    return size if isinstance(size, int) else f"{size[0]} x {size[1]}"


def check_fits(height: int, width: int, size: Size, name: object) -> None:
    """Whether a photo has the pixels that are asked for.

    Raises:
        InputError: it has fewer in one direction, so it would have to be enlarged.
    """
    if size[0] > height or size[1] > width:
        raise InputError(
            f"{name} has {width} x {height} pixels, fewer than the {size[1]} x {size[0]} asked for"
        )


def framed(pixels: Tensor, size: Size, place: tuple[float, float] = (0.5, 0.5)) -> Tensor:
    """The largest window of the wanted proportions, brought to the wanted size.

    Args:
        pixels: `[B, C, H, W]` in [0, 1].
        size: (height, width) of the result. A smaller photo is enlarged; `check_fits` tells.
        place: where the window lies, down and across, 0 being top or left, 1 bottom or right.
    """
    height, width = pixels.shape[2:]
    scale = max(size[0] / height, size[1] / width)
    down, across = min(height, round(size[0] / scale)), min(width, round(size[1] / scale))
    top, left = int((height - down) * place[0]), int((width - across) * place[1])
    return resize(pixels[:, :, top : top + down, left : left + across], *size).clamp(0, 1)


def is_turned(height: int, width: int, size: Size) -> bool:
    """Whether a photo stands while the frame lies, or the other way round."""
    return (height > width and size[0] < size[1]) or (height < width and size[0] > size[1])


def turned(pixels: Tensor, size: Size) -> Tensor:
    """The photo by 90 degrees where `is_turned`, so that less of it is cropped away; else as it is."""
    return torch.rot90(pixels, 1, (2, 3)) if is_turned(pixels.shape[2], pixels.shape[3], size) else pixels
