"""How far a video model in training has come, on sequences it never sees."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unfade.core import Clip, generator
from unfade.degrade.framing import Size, name_of
from unfade.training.sequences import Sequences
from unfade.training.validation import psnr

# A figure of two pictures `[3, H, W]` in [0, 1]: the one to judge, and the truth.
Measure = Callable[[Tensor, Tensor], float]
# For a sequence's number, its name and its true clip `[T, 3, H, W]`: the generated frames `[T, 3, H, W]`, and the last
# frame of the true clip as the VAE gives it back.
Walked = Callable[[int, str, Tensor], tuple[Tensor, Tensor]]

_PICTURED = 4


def validate(
    sequences: Sequences,
    frames: int,
    size: int | Size,
    seed: int,
    walked: Walked,
    measures: Mapping[str, Measure] | None = None,
) -> tuple[dict[str, Any], Clip]:
    """Mean PSNR in dB against the truth, and a picture of the first few sequences.

    The crop of each depends on the seed, its name and the size, so one validation compares with another.

    Args:
        sequences: held out.
        frames, size: of a sequence.
        seed: of the crops.
        walked: the model as it stands.
        measures: other figures by name, such as SSIM.

    Returns:
        The figures "input", "result", "gain", "ceiling" (the VAE's own last frame of the true sequence) and "frames"
        (every generated frame), and by category the gain, the result and by how much it is better than the first
        generated frame ("rises"); for every measure "input_NAME", "result_NAME" and
        "ceiling_NAME"; and rows of generated frames, the truth at their ends.
    """
    rows: list[Tensor] = []
    figures: list[list[float]] = []
    gains: dict[str, list[float]] = {}
    results: dict[str, list[float]] = {}
    rises: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for index, name in enumerate(sequences.names):
        clip = sequences.draw(index, size, frames, generator(seed, "held out", name, name_of(size)))
        truth = clip[-1]
        shown, ceiling = walked(index, name, clip)
        each = [psnr(frame, truth) for frame in shown]
        figures.append([psnr(clip[0], truth), psnr(ceiling, truth), *each])
        category = name.rpartition("/")[0]
        gains.setdefault(category, []).append(each[-1] - figures[-1][0])
        results.setdefault(category, []).append(each[-1])
        rises.setdefault(category, []).append(each[-1] - each[0])
        for measure, of in (measures or {}).items():
            for shot, frame in (("input", clip[0]), ("result", shown[-1]), ("ceiling", ceiling)):
                others.setdefault(f"{shot}_{measure}", []).append(of(frame, truth))
        if len(rows) < _PICTURED:
            rows.append(torch.cat([clip[0], *shown, truth], dim=2))
    mean = [_mean(column) for column in zip(*figures, strict=True)]
    report = {
        "input": mean[0],
        "result": mean[-1],
        "gain": _mean([figure[-1] - figure[0] for figure in figures]),
        "ceiling": mean[1],
        "frames": mean[2:],
        "gains": _by_category(gains),
        "results": _by_category(results),
        "rises": _by_category(rises),
        **{name: _mean(values, 4) for name, values in others.items()},
    }
    return report, Clip(torch.cat(rows, dim=1)[None].clamp(0, 1))


def decoded(chunks: Iterable[Tensor]) -> Tensor:
    """Frames `[T, 3, H, W]` on the CPU of a VAE's chunks `[1, 3, t, H, W]`, rounded to 8 bits as if saved."""
    frames = torch.cat([chunk[0].transpose(0, 1).cpu() for chunk in chunks])
    return frames.clamp(0, 1).mul(255).round().div(255)


def _by_category(values: Mapping[str, Sequence[float]]) -> dict[str, float | None]:
    return {category: _mean(of) for category, of in sorted(values.items())}


def _mean(values: Sequence[float], digits: int = 3) -> float | None:
    """Rounded; None where the mean is not finite (the PSNR of a truth that is its own input)."""
    mean = sum(values) / len(values)
    return round(mean, digits) if math.isfinite(mean) else None
