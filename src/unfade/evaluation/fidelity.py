"""How near a picture is to the truth: PSNR and SSIM with the conventions of the published tables.

Both take pictures in [0, 1] and count on the scale 0 to 255. "rgb" pools or averages the three channels; "y"
is the luma of BT.601 in its studio range 16 to 235, not rounded, as the super-resolution tables use it.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Convention = Literal["rgb", "y"]

_WINDOW = 11
_SIGMA = 1.5


def luma(x: Tensor) -> Tensor:
    """BT.601 luma of `[..., 3, H, W]` in [0, 1]: `[..., 1, H, W]` in 16 to 235, float64."""
    red, green, blue = x.to(torch.float64).unbind(-3)
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue).unsqueeze(-3)


def psnr(x: Tensor, truth: Tensor, colour: Convention = "rgb", border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB with peak 255; `math.inf` where the two are equal.

    Args:
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1]; the squared error is pooled over everything.
        colour: "rgb" for all channels together, "y" for luma only.
        border: pixels left out on every side.

    Raises:
        ValueError: the shapes differ, or the border leaves nothing.
    """
    first, second = _counted(x, truth, colour, border)
    error = float(((first - second) ** 2).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(x: Tensor, truth: Tensor, colour: Convention = "rgb", border: int = 0) -> float:
    """Structural similarity, at most 1: Gaussian window 11x11 of sigma 1.5, only where it fits entirely.

    Args:
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1], at least 11x11 without the border.
        colour: "rgb" for the mean over the channels, "y" for luma only.
        border: pixels left out on every side.

    Raises:
        ValueError: the shapes differ, or less than one window is left.

    Source: Wang et al. 2004, Image Quality Assessment, eq. 13, with K1 = 0.01, K2 = 0.03, L = 255.
    """
    first, second = _counted(x, truth, colour, border)
    if min(first.shape[-2:]) < _WINDOW:
        raise ValueError(f"SSIM needs at least {_WINDOW}x{_WINDOW} pixels, not {tuple(first.shape[-2:])}")
    first, second = (plane.reshape(-1, 1, *plane.shape[-2:]) for plane in (first, second))
    mean_a, mean_b = _smooth(first), _smooth(second)
    variance_a = _smooth(first * first) - mean_a**2
    variance_b = _smooth(second * second) - mean_b**2
    covariance = _smooth(first * second) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    likeness = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    size = (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    return float((likeness / size).mean())


def _counted(x: Tensor, truth: Tensor, colour: Convention, border: int) -> tuple[Tensor, Tensor]:
    """Both pictures as they are counted: cropped, in float64 on the scale 0 to 255."""
    if x.shape != truth.shape or x.dim() not in (3, 4) or x.shape[-3] != 3:
        raise ValueError(
            f"two pictures [3, H, W] of one size are compared, not {tuple(x.shape)} and {tuple(truth.shape)}"
        )
    height, width = x.shape[-2:]
    if border < 0 or min(height, width) <= 2 * border:
        raise ValueError(f"a border of {border} does not fit a picture of {height}x{width}")
    inner = (..., slice(border, height - border), slice(border, width - border))
    pair = x[inner].detach().cpu(), truth[inner].detach().cpu()
    if colour == "y":
        return luma(pair[0]), luma(pair[1])
    if colour == "rgb":
        return pair[0].to(torch.float64) * 255, pair[1].to(torch.float64) * 255
    raise ValueError(f'colour is "rgb" or "y", not {colour!r}')


def _smooth(planes: Tensor) -> Tensor:
    """`[N, 1, H, W]` weighted by the window, rows first, only where it fits: 10 pixels less each way."""
    distance = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
    weights = torch.exp(-(distance**2) / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).tolist()
    # Sums of shifted planes: in float64 several times faster than a convolution.
    for axis in (-2, -1):
        size = planes.shape[axis] - _WINDOW + 1
        total = planes.narrow(axis, 0, size) * weights[0]
        for index in range(1, _WINDOW):
            total.add_(planes.narrow(axis, index, size), alpha=weights[index])
        planes = total
    return planes
