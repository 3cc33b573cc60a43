"""A small fixed table on held-out photos: gain over the input per classic task."""

import math

import torch

from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny, thumbnail_of
from unfade.core import generator
from unfade.degrade.classic import CLASSIC
from unfade.training.photos import Photos

TASKS = (
    "noise-15",
    "noise-25",
    "noise-50",
    "x2",
    "x4",
    "jpeg-20",
    "motion-15",
    "defocus-3",
    "dark-0.2",
    "clean",
)
SIDE = 192


@torch.no_grad()
def validate(model: Tiny, photos: Photos, seed: int = 0) -> dict[str, list[float | None]]:
    """Mean RGB PSNR in dB of input and output for each task, over the centres of the photos.

    The thumbnail is that of the centre: it is the whole photo here. A clean photo's input is perfect and has no
    figure (None); the second one says how far the network changed it.
    """
    device = next(model.parameters()).device
    table: dict[str, list[float | None]] = {}
    for task in TASKS:
        figures: list[tuple[float, float]] = []
        for index in range(len(photos)):
            photo = photos[index]
            side = min(SIDE, *photo.shape[1:]) // 8 * 8
            top, left = (photo.shape[1] - side) // 2, (photo.shape[2] - side) // 2
            clean = photo[None, :, top : top + side, left : left + side] / 255
            degraded = CLASSIC[task](clean, generator(seed, task, index)).to(device)
            clean = clean.to(device)
            with torch.autocast(device.type, torch.bfloat16):
                context = model.context(thumbnail_of(degraded), [None])
                start = torch.zeros(1, device=device)
                restored = model(degraded, start, degraded, context, spectrum_of(degraded)).clamp(0, 1)
            figures.append((psnr(degraded, clean), psnr(restored, clean)))
        columns = [sum(column) / len(figures) for column in zip(*figures, strict=True)]
        table[task] = [round(figure, 3) if math.isfinite(figure) else None for figure in columns]
    return table


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """In dB for values in [0, 1], over all of them; infinite where they are the same."""
    error = float(((a - b) ** 2).mean())
    return float("inf") if error == 0 else -10 * float(torch.log10(torch.tensor(error)))
