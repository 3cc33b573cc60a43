"""What restoring footage with Vivid-VR will take: windows, tiles, arithmetic, seconds, memory and disk."""

from dataclasses import replace
from typing import Any

import torch

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_memory import cogvideox_footprint
from unfade.backbones.free_memory import free_bytes
from unfade.backbones.wan_speed import measure_rates
from unfade.conditioning.control import ControlSettings
from unfade.diffusion.windows import Window
from unfade.restore.vividvr import VividSettings


def controlled_flops(config: CogVideoXConfig, control: ControlSettings, tokens: int) -> float:
    """Floating point operations of one evaluation of transformer and control for one sample.

    Counts matrix products of blocks and connectors; the feature projectors are below a hundredth.

    Args:
        config: of the base.
        control: what its control is made of.
        tokens: of the clip.
    """
    layers, whole = config.transformer["num_layers"], config.forward_flops(tokens)
    bare = replace(config, transformer={**config.transformer, "num_layers": 0}).forward_flops(tokens)
    dim = config.transformer["num_attention_heads"] * config.transformer["attention_head_dim"]
    narrow = 4.0 * dim * control.bottleneck * tokens
    mappings = {"dual": 4, "attention": 3, "mlp": 1, "sft": 2}[control.connectors]
    attention = 4.0 * tokens * tokens * dim if control.connectors in ("dual", "attention") else 0.0
    blocks = (whole - bare) / layers * control.blocks
    return whole + bare + blocks + layers * (mappings * narrow + attention)


def forecast(
    config: CogVideoXConfig,
    control: ControlSettings,
    settings: VividSettings,
    size: tuple[int, int],
    frames: int,
    device: torch.device,
    dtype: torch.dtype,
    control_bytes: int = 0,
) -> dict[str, Any]:
    """For a dry run, of footage taken as one shot; seconds are right within a factor of two or so.

    Args:
        config: of the base.
        control: what its control is made of.
        settings: how it is sampled.
        size: (height, width) of the result.
        frames: of the footage.
        device, dtype: where and in what precision.
        control_bytes: of the control's weights.

    Raises:
        UsageError: the settings can't be carried out.
    """
    told = work_of(config, control, settings, size, frames)
    fit = settings.fit(config, *size)
    seen = min(settings.window, max(window.frames for window in settings.timeline(config, frames).windows))
    rows, columns = (
        max(tile.outer_stop - tile.outer_start for tile in tiles) for tiles in settings.tiles(config, fit)
    )
    tile = rows * config.stride, columns * config.stride
    canvas = fit.canvas_height, fit.canvas_width
    needs = cogvideox_footprint(_seeing(config), canvas, seen, dtype, prompts=1, denoised=tile)
    weights = needs.transformer + control_bytes
    peak = max(needs.vae + max(needs.encode, needs.decode), weights + needs.denoise)
    if device.type == "cpu":
        peak += weights if peak < weights + needs.denoise else needs.vae
    rates = measure_rates(device, dtype)
    windows = told["windows"]
    seconds = told["petaflops"] * 1e15 / rates.matmul
    # A photo's encoding stands for each frame's.
    seconds += windows * (needs.encode_flops * seen + needs.decode_flops) / rates.convolution
    return {
        **told,
        "memory": "resident" if device.type == "cpu" else "in turns",
        "predicted_peak_gb": float(f"{peak / 1e9:.3g}"),
        "fits": peak <= free_bytes(device),
        "predicted_seconds": float(f"{seconds:.3g}"),
    }


def work_of(
    config: CogVideoXConfig,
    control: ControlSettings,
    settings: VividSettings,
    size: tuple[int, int],
    frames: int,
) -> dict[str, Any]:
    """Canvas, tiles, windows, evaluations and their PFLOP, and the most that is kept on disk for a shot.

    Raises:
        UsageError: the settings can't be carried out.
    """
    fit = settings.fit(config, *size)
    timeline = settings.timeline(config, frames)
    sides = fit.canvas_height // config.stride, fit.canvas_width // config.stride
    rows, columns = settings.tiles(config, fit)
    each = (2 if settings.guidance > 1 else 1) * settings.steps
    areas = [
        (row.outer_stop - row.outer_start) * (column.outer_stop - column.outer_start)
        for row in rows
        for column in columns
    ]
    flops = sum(
        each * controlled_flops(config, control, _tokens(config, window, area))
        for window in timeline.windows
        for area in areas
    )
    # State, history, an answer and the degraded latents twice, in 32 bits; frames in 16.
    work = 20 * timeline.slots * config.latent_channels * sides[0] * sides[1] + 6 * frames * size[0] * size[1]
    return {
        "canvas": f"{fit.canvas_width}x{fit.canvas_height}",
        "tiles": len(areas),
        "windows": len(timeline.windows),
        "evaluations": each * len(areas) * len(timeline.windows),
        "petaflops": float(f"{flops / 1e15:.3g}"),
        "work_gb": float(f"{work / 1e9:.3g}"),
    }


def _tokens(config: CogVideoXConfig, window: Window, area: int) -> int:
    pairs = len(window.slots) // (config.transformer["patch_size_t"] or 1)
    return pairs * area // config.transformer["patch_size"] ** 2


def _seeing(config: CogVideoXConfig) -> CogVideoXConfig:
    """The same model as if it saw a photo, which is what footprints are made for; the difference is one layer's."""
    transformer = {**config.transformer, "in_channels": 2 * config.latent_channels}
    return replace(config, transformer=transformer)
