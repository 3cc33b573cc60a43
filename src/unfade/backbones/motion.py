"""How footage moves from one frame to another: optical flow at half the size, coarse to fine.

Lucas and Kanade's least squares over a small square around each pixel, on averages of the luma (so that noise
counts little), begun where everything moves by less than a pixel and refined level by level. What is computed of
the frame looked from, gradients and their products, is computed once for all frames looked at (Baker and Matthews).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Halvings of the frame; rounds of least squares at each, from the coarsest to the finest.
_LEVELS = 4
_ROUNDS = (3, 2, 2, 1)
# Sides of the squares whose pixels move alike, and over which the result of a level is averaged.
_SQUARE, _SMOOTH = 7, 7
# Mean square gradient of what counts as flat.
_FLAT = 3e-4
# Pixels of its level by which a round may move anything.
_STRIDE = 1.0
_SMALLEST = 4
# Pixels of the finest level, of all frames that are looked at together.
_TOGETHER = 2**20


@dataclass(frozen=True, slots=True)
class Levels:
    """A frame's luma, averaged.

    Attributes:
        lumas: `[B, 1, h, w]` at 1/16 (where the frame is that large), 1/8, 1/4 and 1/2 of the frame's size.
    """

    lumas: tuple[Tensor, ...]

    @classmethod
    def of(cls, frame: Tensor) -> "Levels":
        """Those of frames `[B, 3, H, W]` in [0, 1]."""
        weights = frame.new_tensor([0.299, 0.587, 0.114])[:, None, None]
        luma = (frame * weights).sum(1, keepdim=True)
        lumas: list[Tensor] = []
        for _ in range(_LEVELS):
            luma = functional.avg_pool2d(luma, 2, ceil_mode=True)
            if lumas and min(luma.shape[2:]) < _SMALLEST:
                break
            lumas.append(luma)
        return cls(tuple(reversed(lumas)))


def motion(frame: Levels, others: Sequence[Levels]) -> Tensor:
    """Where in other frames the pixels of a frame are to be found: optical flow.

    Args:
        frame: that is looked from, of B clips.
        others: N frames that are looked at, at least one, each of the same clips and size.

    Returns:
        `[N, B, 2, h, w]` at half the frame's size: right and down, in pixels of that size.

    Source: Lucas and Kanade 1981; Bouguet 2001 for the pyramid; Baker and Matthews 2004, section 3.2, for what is
        computed once.
    """
    fits = [_Fit.of(luma) for luma in frame.lumas]
    # As many at once as take little room.
    many = max(1, _TOGETHER // frame.lumas[-1].numel())
    groups = [others[start : start + many] for start in range(0, len(others), many)]
    return torch.cat([_flows(fits, group) for group in groups])


@dataclass(frozen=True, slots=True)
class _Fit:
    """What least squares need of a level of the frame that is looked from.

    Attributes:
        luma: `[B, 1, h, w]`.
        gradient: across and down, `[B, 2, h, w]`.
        inverse: of each pixel's symmetric matrix of gradients, `[B, 3, h, w]`: first, mixed and second.
    """

    luma: Tensor
    gradient: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, luma: Tensor) -> "_Fit":
        gradient = torch.cat(_gradient(luma), 1)
        across, down = gradient.split(1, 1)
        one, both, two = _averaged(
            torch.cat((across * across, across * down, down * down), 1), _SQUARE
        ).unbind(1)
        one, two = one + _FLAT, two + _FLAT
        return cls(luma, gradient, torch.stack((two, both, one), 1) / (one * two - both * both)[:, None])

    def repeated(self, count: int) -> "_Fit":
        """For so many other frames at once."""
        return _Fit(*(part.repeat(count, 1, 1, 1) for part in (self.luma, self.gradient, self.inverse)))

    def step(self, other: Tensor, flow: Tensor) -> Tensor:
        """A better flow."""
        first, mixed, second = self.inverse.unbind(1)
        right, down = _averaged(self.gradient * (fetched(other, flow) - self.luma), _SQUARE).unbind(1)
        step = torch.stack((first * right - mixed * down, second * down - mixed * right), 1)
        return flow - step.clamp_(-_STRIDE, _STRIDE)


def _flows(fits: Sequence[_Fit], others: Sequence[Levels]) -> Tensor:
    """To some other frames, `[N, B, 2, h, w]`."""
    flow: Tensor | None = None
    rounds = _ROUNDS[-len(fits) :]
    for level, fit in enumerate(fits):
        luma, fit = torch.cat([other.lumas[level] for other in others]), fit.repeated(len(others))
        height, width = luma.shape[2:]
        flow = luma.new_zeros(len(luma), 2, height, width) if flow is None else larger(flow, height, width)
        for _ in range(rounds[level]):
            flow = fit.step(luma, flow)
        flow = _averaged(flow, _SMOOTH)
    assert flow is not None, "every frame has a level"
    return flow.unflatten(0, (len(others), -1))


def larger(flow: Tensor, height: int, width: int) -> Tensor:
    """A flow `[B, 2, h, w]` for the next finer level, `[B, 2, height, width]`; an odd last row or column is cut off."""
    twice = functional.interpolate(2 * flow, scale_factor=2, mode="bilinear", align_corners=False)
    return twice[:, :, :height, :width]


def fetched(picture: Tensor, flow: Tensor, top: int = 0) -> Tensor:
    """What is to be found in a picture where a flow leads, bilinearly; borders repeat.

    Args:
        picture: `[B, C, H, W]`.
        flow: `[B, 2, h, W]`, of h rows of the picture's own size.
        top: the first of them.

    Returns:
        `[B, C, h, W]`.
    """
    height, width = picture.shape[2:]
    # grid_sample's own coordinates: -1 and 1 are the outer edges of the border pixels.
    rows = torch.arange(top, top + flow.shape[2], device=flow.device, dtype=flow.dtype)
    rows = (2 * rows + 1) / height - 1
    columns = (2 * torch.arange(width, device=flow.device, dtype=flow.dtype) + 1) / width - 1
    right = columns[None, None, :] + flow[:, 0] * (2 / width)
    down = rows[None, :, None] + flow[:, 1] * (2 / height)
    grid = torch.stack((right, down), 3)
    return functional.grid_sample(picture, grid, "bilinear", "border", align_corners=False)


def _averaged(part: Tensor, side: int) -> Tensor:
    """Means over squares around each pixel; borders repeat."""
    part = functional.pad(part, (side // 2,) * 4, mode="replicate")
    return functional.avg_pool2d(functional.avg_pool2d(part, (side, 1), 1), (1, side), 1)


def _gradient(luma: Tensor) -> tuple[Tensor, Tensor]:
    """Across and down, a pixel, by Sobel's operator."""
    padded = functional.pad(luma, (1, 1, 1, 1), mode="replicate")
    rows = (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4
    columns = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    return (rows[..., 2:] - rows[..., :-2]) / 2, (columns[:, :, 2:] - columns[:, :, :-2]) / 2
