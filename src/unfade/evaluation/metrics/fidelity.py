"""How near a picture is to the truth: PSNR and SSIM with the conventions of the published tables.

All take pictures in [0, 1] and count in float64 on the scale 0 to 255. "rgb" pools or averages the three
channels; "y" is the luma of BT.601 in its studio range 16 to 235, not rounded, as the super-resolution tables
use it. `psnr_by` and `ssim_by` follow a `Convention`; the masked and weighted figures are those of local blur.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

import unfade.evaluation.metrics.convention as conventions

Colour = Literal["rgb", "y"]

SMALLEST = 11
"""Pixels an SSIM window is wide: the smallest side that can be judged."""

_SIGMA = 1.5


def luma(x: Tensor) -> Tensor:
    """BT.601 luma of `[..., 3, H, W]` in [0, 1]: `[..., 1, H, W]` in 16 to 235, float64."""
    red, green, blue = x.to(torch.float64).unbind(-3)
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue).unsqueeze(-3)


def full_luma(x: Tensor) -> Tensor:
    """Full-range BT.601 luma (the Y of YIQ) of `[..., 3, H, W]` in [0, 1]: `[..., 1, H, W]` in 0 to 255, float64."""
    red, green, blue = x.to(torch.float64).unbind(-3)
    return (255 * (0.299 * red + 0.587 * green + 0.114 * blue)).unsqueeze(-3)


def psnr(x: Tensor, truth: Tensor, colour: Colour = "rgb", border: int = 0) -> float:
    """Peak signal-to-noise ratio in dB with peak 255; `math.inf` where the two are equal.

    Args:
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1]; the squared error is pooled over everything.
        colour: "rgb" for all channels together, "y" for luma only.
        border: pixels left out on every side.

    Raises:
        ValueError: the shapes differ, or the border leaves nothing.
    """
    first, second = _counted(x, truth, _checked(colour), border)
    return _decibels((first - second) ** 2)


def ssim(x: Tensor, truth: Tensor, colour: Colour = "rgb", border: int = 0) -> float:
    """Structural similarity, at most 1: Gaussian window 11x11 of sigma 1.5, only where it fits entirely.

    Args:
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1], at least 11x11 without the border.
        colour: "rgb" for the mean over the channels, "y" for luma only.
        border: pixels left out on every side.

    Raises:
        ValueError: the shapes differ, or less than one window is left.

    Source: Wang et al. 2004, Image Quality Assessment, eq. 13, with K1 = 0.01, K2 = 0.03, L = 255.
    """
    first, second = _counted(x, truth, _checked(colour), border)
    return _mean_ssim(first, second)


def psnr_by(convention: conventions.Convention, x: Tensor, truth: Tensor, scale: int = 1) -> float:
    """PSNR in dB as a convention counts it; `math.inf` where the two are equal, unless its epsilon limits it.

    Footage is counted frame by frame and the decibels averaged, as video tables do (`psnr` pools the squared
    error instead; for one frame that is the same). One perfect frame, or one perfect channel where channels
    are averaged, makes the mean infinite.

    Args:
        convention: planes, epsilon (on the mean squared error at peak 1) and border.
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1].
        scale: pixels that a border of "scale" leaves out; none for scale 1.

    Raises:
        ValueError: the shapes differ, or the border leaves nothing.
    """
    border = border_of(convention, scale)

    def one(frame: Tensor, true: Tensor) -> float:
        first, second = _counted(frame, true, convention.psnr, border)
        errors = (first - second) ** 2
        if convention.psnr == "channels":
            return sum(_decibels(channel, convention.epsilon) for channel in errors) / 3
        return _decibels(errors, convention.epsilon)

    return _per_frame(one, x, truth)


def ssim_by(convention: conventions.Convention, x: Tensor, truth: Tensor, scale: int = 1) -> float:
    """SSIM as a convention counts it, at most 1; of footage, the mean of its frames.

    Args:
        convention: planes, border, and whether the contrast-structure term is held at 0 or above.
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1], at least 11x11 without the border.
        scale: pixels that a border of "scale" leaves out; none for scale 1.

    Raises:
        ValueError: the shapes differ, or less than one window is left.
    """
    border = border_of(convention, scale)

    def one(frame: Tensor, true: Tensor) -> float:
        first, second = _counted(frame, true, convention.ssim, border)
        return _mean_ssim(first, second, convention.clamped, convention.window, convention.sigma)

    return _per_frame(one, x, truth)


def border_of(convention: conventions.Convention, scale: int = 1) -> int:
    """The pixels a convention leaves out on every side of a picture enlarged by `scale`."""
    if convention.border == "scale":
        return scale if scale > 1 else 0
    return convention.border


def masked_psnr(x: Tensor, truth: Tensor, mask: Tensor) -> float:
    """PSNR on RGB in dB, counting only the pixels whose mask is above one half; of footage, the mean of its frames.

    Args:
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1].
        mask: `[1, H, W]` for every frame, or `[T, 1, H, W]`, in [0, 1].

    Raises:
        ValueError: the shapes don't fit, or the mask leaves nothing.
    """
    return weighted_psnr(x, truth, (mask > 0.5).to(torch.float64))


def weighted_psnr(x: Tensor, truth: Tensor, mask: Tensor) -> float:
    """PSNR on RGB in dB with the squared error weighted by a mask; of footage, the mean of its frames.

    Args:
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1].
        mask: `[1, H, W]` for every frame, or `[T, 1, H, W]`, in [0, 1].

    Raises:
        ValueError: the shapes don't fit, or the mask is zero everywhere.

    Source: Li et al. 2023, Real-World Deep Local Motion Deblurring (ReLoBlur), weighted PSNR.
    """

    def one(frame: Tensor, true: Tensor, weight: Tensor) -> float:
        first, second = _counted(frame, true, "rgb", 0)
        return _decibels((first - second) ** 2 * weight / _share(weight))

    return _per_frame(one, x, truth, _weights(mask, x))


def weighted_ssim(x: Tensor, truth: Tensor, mask: Tensor) -> float:
    """SSIM on RGB with its map weighted by a mask, at most 1; of footage, the mean of its frames.

    A window counts with the mask's value at its centre, so the outermost five pixels of the mask don't.

    Args:
        x, truth: `[3, H, W]` or `[T, 3, H, W]` in [0, 1], at least 11x11.
        mask: `[1, H, W]` for every frame, or `[T, 1, H, W]`, in [0, 1].

    Raises:
        ValueError: the shapes don't fit, less than one window fits, or the mask is zero at every centre.

    Source: Li et al. 2023, Real-World Deep Local Motion Deblurring (ReLoBlur), weighted SSIM.
    """

    def one(frame: Tensor, true: Tensor, weight: Tensor) -> float:
        first, second = _counted(frame, true, "rgb", 0)
        edge = SMALLEST // 2
        inner = weight[:, edge : weight.shape[1] - edge, edge : weight.shape[2] - edge]
        maps = (_ssim_map(a[None], b[None]) for a, b in zip(first, second, strict=True))
        return sum(float((likeness * inner).mean()) for likeness in maps) / (3 * float(_share(inner)))

    return _per_frame(one, x, truth, _weights(mask, x))


def _checked(colour: Colour) -> Colour:
    if colour not in ("rgb", "y"):
        raise ValueError(f'colour is "rgb" or "y", not {colour!r}')
    return colour


def _weights(mask: Tensor, x: Tensor) -> Tensor:
    """A mask in float64, one for every frame of `x`."""
    weights = mask.detach().cpu().to(torch.float64)
    if weights.dim() == 3 and x.dim() == 4:
        weights = weights.expand(x.shape[0], *weights.shape)
    if weights.shape != (*x.shape[:-3], 1, *x.shape[-2:]):
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not fit pictures of shape {tuple(x.shape)}"
        )
    return weights


def _share(weight: Tensor) -> Tensor:
    share = weight.mean()
    if weight.numel() == 0 or float(share) <= 0:
        raise ValueError("the mask leaves no pixel to count")
    return share


def _per_frame(measure: Callable[..., float], *clips: Tensor) -> float:
    """The mean over the frames of `[T, ..., H, W]`, or the value of one picture `[..., H, W]`."""
    if clips[0].dim() != 4 or clips[0].shape != clips[1].shape:
        return measure(*clips)
    values = [measure(*frames) for frames in zip(*clips, strict=True)]
    return sum(values) / len(values)


def _counted(
    x: Tensor, truth: Tensor, planes: conventions.PsnrPlanes | conventions.SsimPlanes, border: int
) -> tuple[Tensor, Tensor]:
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
    if planes == "y":
        return luma(pair[0]), luma(pair[1])
    if planes == "yiq":
        return full_luma(pair[0]).round(), full_luma(pair[1]).round()
    return pair[0].to(torch.float64) * 255, pair[1].to(torch.float64) * 255


def _decibels(squared: Tensor, epsilon: float = 0.0) -> float:
    """PSNR from squared errors on the scale 0 to 255, epsilon being added at peak 1."""
    error = float(squared.mean()) / 255**2 + epsilon
    return math.inf if error == 0 else -10 * math.log10(error)


def _mean_ssim(
    first: Tensor, second: Tensor, clamped: bool = False, window: int = SMALLEST, sigma: float = _SIGMA
) -> float:
    pairs = zip(*(planes.reshape(-1, 1, *planes.shape[-2:]) for planes in (first, second)), strict=True)
    # One plane at a time: the intermediate planes of a large photo take much memory.
    values = [float(_ssim_map(a, b, clamped, window, sigma).mean()) for a, b in pairs]
    return sum(values) / len(values)


def _ssim_map(
    first: Tensor, second: Tensor, clamped: bool = False, window: int = SMALLEST, sigma: float = _SIGMA
) -> Tensor:
    """SSIM of every window that fits into two planes `[1, H, W]`: `[1, H - 10, W - 10]` for a window of 11."""
    if min(first.shape[-2:]) < window:
        raise ValueError(f"SSIM needs at least {window}x{window} pixels, not {tuple(first.shape[-2:])}")

    def smooth(planes: Tensor) -> Tensor:
        return _smooth(planes, window, sigma)

    mean_a, mean_b = smooth(first), smooth(second)
    variance_a = smooth(first * first) - mean_a**2
    variance_b = smooth(second * second) - mean_b**2
    covariance = smooth(first * second) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    contrast = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return light * (contrast.clamp(min=0) if clamped else contrast)


def _smooth(planes: Tensor, window: int, sigma: float) -> Tensor:
    """`[N, H, W]` weighted by the window, rows first, only where it fits: a window less one each way."""
    distance = torch.arange(window, dtype=torch.float64) - window // 2
    weights = torch.exp(-(distance**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).tolist()
    # Sums of shifted planes: in float64 several times faster than a convolution.
    for axis in (-2, -1):
        size = planes.shape[axis] - window + 1
        total = planes.narrow(axis, 0, size) * weights[0]
        for index in range(1, window):
            total.add_(planes.narrow(axis, index, size), alpha=weights[index])
        planes = total
    return planes
