"""What restoring footage with Vivid-VR will take: windows, tiles, arithmetic, seconds, memory and disk."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.free_memory import free_bytes
from unfade.backbones.wan_speed import measure_rates
from unfade.conditioning.control import ControlSettings
from unfade.diffusion.windows import Window
from unfade.restore.placement import Room
from unfade.restore.vivid_film import FilmPlan
from unfade.restore.vivid_memory import VividLoad
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
    room: Room = Room(),
    film: Sequence[int] | None = None,
) -> dict[str, Any]:
    """For a dry run, of footage taken as one shot; seconds are right within a factor of two or so.

    Args:
        config: of the base.
        control: what its control is made of.
        settings: how it is sampled.
        size: (height, width) of the result.
        frames: of the footage.
        device, dtype: where and in what precision.
        room: how weights are to be kept.
        film: as for `work_of`.

    Raises:
        UsageError: the settings can't be carried out.
    """
    told = work_of(config, control, settings, size, frames, film)
    plan = load_of(config, control, settings, size, frames, dtype).plan(room, device, free_bytes(device))
    rates, cost, windows = measure_rates(device, dtype), plan.footprint, told["windows"]
    once = told["petaflops"] * 1e15 / rates.matmul / told["evaluations"]
    moved = 0.0
    if plan.weights == "group":
        # The next block comes while this one works.
        once, moved = max(once, cost.transformer / rates.copy), 2.0 * cost.vae
    elif plan.weights != "resident":
        moved = (cost.transformer if plan.weights == "offload" else cost.fp8) + 2.0 * cost.vae
    seconds = told["evaluations"] * once + moved / rates.copy
    seconds += windows * (cost.encode_flops + cost.decode_flops) / rates.convolution
    return {
        **told,
        "memory": plan.name,
        "predicted_peak_gb": float(f"{plan.peak / 1e9:.3g}"),
        "fits": plan.fits,
        "predicted_seconds": float(f"{seconds:.3g}"),
    }


def load_of(
    config: CogVideoXConfig,
    control: ControlSettings,
    settings: VividSettings,
    size: tuple[int, int],
    frames: int,
    dtype: torch.dtype,
) -> VividLoad:
    """What has to fit for a shot of so many frames: its longest window and its largest tile.

    Raises:
        UsageError: the settings can't be carried out.
    """
    fit = settings.fit(config, *size)
    windows = settings.timeline(config, frames).windows
    height, width = (
        max(tile.outer_stop - tile.outer_start for tile in tiles) * config.stride
        for tiles in settings.tiles(config, fit)
    )
    return VividLoad(
        config,  # type: ignore[arg-type]
        (fit.canvas_height, fit.canvas_width),
        (height, width),
        max(window.frames for window in windows),
        2 if settings.guidance > 1 else 1,
        dtype,
        control=control,
    )


def work_of(
    config: CogVideoXConfig,
    control: ControlSettings,
    settings: VividSettings,
    size: tuple[int, int],
    frames: int,
    film: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Canvas, tiles, windows, evaluations and their PFLOP, and the most that is kept on disk for a shot.

    Args:
        config: of the base.
        control: what its control is made of.
        settings: how it is sampled.
        size: (height, width) of the result.
        frames: of the footage.
        film: after which steps the clips are kept that its film shows, increasing; None for no film.

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
    kept = tuple(film or ())
    made = sum(len(window.decoded) for window in timeline.windows)
    if film is not None:
        # Each window is decoded once more for each state of the film that its frames show, but for input and result.
        seen = FilmPlan((0, *(step for step in kept if step < settings.steps), settings.steps), frames)
        for window in timeline.windows:
            shown = set(seen.shown(window.decoded.start, window.decoded.stop)) - {0, settings.steps}
            made += len(shown) * len(window.decoded)
    # State, history, an answer, the degraded latents twice and what the film kept, in 32 bits; frames in 16.
    latents = timeline.slots * config.latent_channels * sides[0] * sides[1]
    work = 4 * (5 + len(kept)) * latents + 6 * made * size[0] * size[1]
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
