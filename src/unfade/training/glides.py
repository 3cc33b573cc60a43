"""Footage made of photos: a camera that glides over each, for models too small to learn from real footage alone."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from unfade.degrade.framing import Size
from unfade.degrade.resample import resize

# How much closer or farther than the frame's size the photo is shown, pixels a frame it glides, and how it zooms.
_CLOSEST, _FASTEST, _ZOOM = 2.0, 1.0, 0.008


def glide(photo: Tensor, size: Size, frames: int, dice: torch.Generator) -> Tensor:
    """A clip of a camera that glides over a photo and zooms a little, at an even pace.

    Args:
        photo: `[3, H, W]`, bytes; not smaller than the frames.
        size: (height, width) of the frames.
        frames: how many.
        dice: of distance, way, pace and zoom.

    Returns:
        `[T, 3, h, w]` in [0, 1].
    """
    height, width = size
    roll = torch.rand(6, generator=dice).tolist()
    closest = min(photo.shape[1] / height, photo.shape[2] / width, _CLOSEST)
    # 1 shows as much of the photo as there is; a margin is kept for the way.
    shown = (1.15 if closest > 1.15 else 1.0) * (closest / min(closest, 1.15)) ** roll[0]
    large = max(shown * height / photo.shape[1], shown * width / photo.shape[2])
    canvas = resize(
        photo[None].float() / 255,
        max(height, round(photo.shape[1] * large)),
        max(width, round(photo.shape[2] * large)),
    ).clamp(0, 1)
    down, across = canvas.shape[2:]
    angle, pace = 2 * math.pi * roll[1], _FASTEST * roll[2]
    steps = torch.arange(frames) - (frames - 1) / 2
    zoom = torch.exp(_ZOOM * (2 * roll[3] - 1) * steps)
    room = [max(0.0, (side - frame) / 2) for side, frame in ((down, height), (across, width))]
    middle = [
        (side - 1) / 2 + (2 * place - 1) * free
        for side, place, free in zip((down, across), roll[4:], room, strict=True)
    ]
    ways = math.sin(angle) * pace * steps, math.cos(angle) * pace * steps
    rows, columns = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    y = (middle[0] + ways[0])[:, None] + rows[None] * zoom[:, None]
    x = (middle[1] + ways[1])[:, None] + columns[None] * zoom[:, None]
    places = torch.stack(
        [
            (2 * x / max(1, across - 1) - 1)[:, None].expand(-1, height, -1),
            (2 * y / max(1, down - 1) - 1)[:, :, None].expand(-1, -1, width),
        ],
        dim=3,
    )
    seen = functional.grid_sample(
        canvas.expand(frames, -1, -1, -1), places, "bicubic", "reflection", align_corners=True
    )
    return seen.clamp(0, 1)
