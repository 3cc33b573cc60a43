"""How far a V-Bridge model in training has come, on sequences it never sees."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.wan import Wan
from unfade.backbones.wan_denoiser import WanCondition
from unfade.core import Clip, Condition, generator
from unfade.diffusion.flow import FlowSchedule, sample_flow
from unfade.training.sequences import Sequences
from unfade.training.validation import psnr
from unfade.training.vbridge_run import Precision

# A figure of two pictures `[3, H, W]` in [0, 1]: the one to judge, and the truth.
Measure = Callable[[Tensor, Tensor], float]

_PICTURED = 4


def validate_vbridge(
    wan: Wan,
    sequences: Sequences,
    text: Tensor,
    frames: int,
    size: int,
    steps: int,
    shift: float,
    seed: int,
    precision: Precision = "fp32",
    measures: Mapping[str, Measure] | None = None,
) -> tuple[dict[str, Any], Clip]:
    """Mean PSNR in dB against the truth, and a picture of the first few sequences.

    Crop and noise of each depend on the seed, its name and the size, so one validation compares with another. There is
    no guidance.

    Args:
        wan: the model as it stands.
        sequences: held out.
        text: embedded prompt `[1, L, D]`.
        frames, size: of a sequence.
        steps, shift: of the sampler.
        seed: of crops and noise.
        precision: of the denoiser's arithmetic; the VAE computes in its weights' own.
        measures: other figures by name, such as SSIM.

    Returns:
        The figures "input", "result", "gain", "ceiling" (the VAE's own last frame of the true sequence) and "frames"
        (every generated frame), and by category the gain; for every measure "input_NAME", "result_NAME" and
        "ceiling_NAME"; and rows of generated frames, the truth at their ends.
    """

    def denoiser(x: Tensor, t: float, condition: Condition) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return wan.denoiser(x, t, condition)

    schedule = FlowSchedule(steps, shift, wan.config.scheduler)
    shape = wan.config.latent_shape(frames, size, size)
    device = wan.vae.device
    rows: list[Tensor] = []
    figures: list[list[float]] = []
    gains: dict[str, list[float]] = {}
    others: dict[str, list[float]] = {}
    for index, name in enumerate(sequences.names):
        clip = sequences.draw(index, size, frames, generator(seed, "held out", name, size))
        truth = clip[-1]
        latents = wan.vae.encode(clip.transpose(0, 1)[None]).to(device)
        condition = WanCondition(latents[:, :, :1], text)
        noise = torch.randn(1, *shape, generator=generator(seed, "validate", name)).to(device)
        made = condition.pinned(sample_flow(denoiser, noise, condition, schedule))
        shown = _decoded(wan, made)
        ceiling = _decoded(wan, latents)[-1]
        each = [psnr(frame, truth) for frame in shown]
        figures.append([psnr(clip[0], truth), psnr(ceiling, truth), *each])
        gains.setdefault(name.rpartition("/")[0], []).append(each[-1] - figures[-1][0])
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
        "gains": {category: _mean(gain) for category, gain in sorted(gains.items())},
        **{name: _mean(values, 4) for name, values in others.items()},
    }
    return report, Clip(torch.cat(rows, dim=1)[None].clamp(0, 1))


def _decoded(wan: Wan, latents: Tensor) -> Tensor:
    """Frames `[T, 3, H, W]` on the CPU, rounded to 8 bits as they would be saved."""
    chunks = [chunk[0].transpose(0, 1).cpu() for chunk in wan.vae.decode(latents)]
    return torch.cat(chunks).clamp(0, 1).mul(255).round().div(255)


def _mean(values: Sequence[float], digits: int = 3) -> float | None:
    """Rounded; None where the mean is not finite (the PSNR of a truth that is its own input)."""
    mean = sum(values) / len(values)
    return round(mean, digits) if math.isfinite(mean) else None
