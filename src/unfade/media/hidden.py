"""Colour where nothing is seen: under full transparency a file may hold anything."""

import torch
from torch import Tensor
from torch.nn import functional


def filled(colour: Tensor, alpha: Tensor) -> Tensor:
    """`colour` with the pixels under alpha 0 replaced by what is seen around them, ever coarser with distance.

    So that filters, thumbnails and networks that look at a neighbourhood don't take invisible black for night.

    Args:
        colour: `[T, 3, H, W]`.
        alpha: `[T, 1, H, W]`; visible is what is above 0.

    Returns:
        A tensor of the same size, equal where visible; mid-grey where nothing at all is visible.
    """
    seen = (alpha > 0).to(colour.dtype)
    return torch.where(seen > 0, colour, _spread(colour * seen, seen))


def _spread(weighted: Tensor, weight: Tensor) -> Tensor:
    here = weighted / weight.clamp_min(1e-6)
    if max(weight.shape[2:]) == 1 or bool((weight > 0).all()):
        return torch.where(weight > 0, here, 0.5)
    halves = [
        functional.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in (weighted, weight)
    ]
    size = (weight.shape[2], weight.shape[3])
    around = functional.interpolate(_spread(*halves), size, mode="bilinear", align_corners=False)
    return torch.where(weight > 0, here, around)
