"""Where a camera goes and what moves besides, measured on a few small frames by phase correlation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

Camera = Literal["still", "panning", "moving", "unknown"]

# Shifts a second below this share of a side are those of a camera that stands.
_STILL = 0.01
# Root mean square below which nothing changes at all.
_FAINT = 0.003
# A shift is believed if it takes at least this share of the change between two looks away. Where it doesn't, a cut, a
# zoom or large subjects are as likely; with more of them than the second number, nothing is said of the camera.
_EXPLAINED, _UNKNOWN = 0.4, 0.25
# Share of the whole path by which a camera has to get on for its way to be a pan.
_STEADY = 0.7


@dataclass(frozen=True, slots=True)
class Motion:
    """How a picture changes over time.

    Attributes:
        camera: "still"; "panning" where all shifts go one way; "moving" where they don't; "unknown" where no shift
            explains what changes.
        right, down: where a panning camera goes, in widths and heights a second; else 0.
        change: root mean square difference of luma between looks, after the shift and without the noise.
    """

    camera: Camera
    right: float
    down: float
    change: float


@dataclass(frozen=True, slots=True)
class _Step:
    """From one look to the next: where the camera went in widths and heights, and what changed besides."""

    right: float
    down: float
    seconds: float
    change: float
    explained: bool


def measure_motion(luma: Tensor, times: Sequence[float], noise: float) -> Motion | None:
    """The motion in a few looks at footage; None where there is one look only, or they are smaller than 16 pixels.

    A pan is seen as long as half of a look is still there in the next.

    Args:
        luma: `[T, H, W]` in [0, 1]; some 200 pixels wide are enough.
        times: of the looks, in seconds, increasing.
        noise: variance of their noise, which changes nothing.
    """
    if len(luma) < 2 or min(luma.shape[1:]) < 16:
        return None
    seconds = [later - earlier for earlier, later in pairwise(times)]
    steps = [_step(*looks, took, noise) for looks, took in zip(pairwise(luma), seconds, strict=True)]
    known = [step for step in steps if step.explained]
    change = sum(step.change for step in steps) / len(steps)
    if len(known) < (1 - _UNKNOWN) * len(steps):
        return Motion("unknown", 0.0, 0.0, change)
    took = sum(step.seconds for step in known)
    right, down = sum(step.right for step in known), sum(step.down for step in known)
    path = sum(math.hypot(step.right, step.down) for step in known)
    if path < _STILL * max(1.0, took):
        return Motion("still", 0.0, 0.0, change)
    if math.hypot(right, down) < _STEADY * path:
        return Motion("moving", 0.0, 0.0, change)
    return Motion("panning", right / took, down / took, change)


def _step(before: Tensor, after: Tensor, seconds: float, noise: float) -> _Step:
    height, width = before.shape
    stays = _change(before, after, 0, 0, noise)
    if stays < _FAINT:
        return _Step(0.0, 0.0, seconds, stays, True)
    down, right = _shift(before, after)
    if max(abs(down), abs(right)) <= 1:
        return _Step(right / width, down / height, seconds, stays, True)
    moved = _change(before, after, down, right, noise)
    if moved < (1 - _EXPLAINED) * stays:
        return _Step(right / width, down / height, seconds, moved, True)
    return _Step(0.0, 0.0, seconds, stays, False)


def _change(before: Tensor, after: Tensor, down: int, right: int, noise: float) -> float:
    """Root mean square difference where two looks overlap, if the camera went so far; a change of the mean is none."""
    rows, columns = before.shape[0] - abs(down), before.shape[1] - abs(right)
    top, left = max(0, down), max(0, right)
    one = before[top : top + rows, left : left + columns]
    two = after[top - down : top - down + rows, left - right : left - right + columns]
    return math.sqrt(max(0.0, float((two - one).var(correction=0)) - 2 * noise))


def _shift(before: Tensor, after: Tensor) -> tuple[int, int]:
    """How far the camera went down and right between two looks, in pixels, at most half of a side.

    Source: Kuglin and Hines 1975, The phase correlation image alignment method; under a Hann window, or the borders
    would be the strongest edges.
    """
    height, width = before.shape
    down, across = (torch.hann_window(side, periodic=False, device=before.device) for side in (height, width))
    window = torch.outer(down, across)
    one, two = (torch.fft.rfft2((look - look.mean()) * window) for look in (before, after))
    cross = one * two.conj()
    size = cross.abs()
    # Frequencies that hold next to nothing would have as much say as the others.
    surface = torch.fft.irfft2(cross / (size + 0.01 * size.mean() + 1e-12), s=(height, width))
    row, column = divmod(int(surface.argmax()), width)
    return row - height * (2 * row > height), column - width * (2 * column > width)
