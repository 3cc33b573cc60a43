"""The memory plan for a Wan model."""

from typing import Literal, get_args

import torch

from unfade.backbones.memory_plan import (
    MemoryPlan,
    VaeTiles,
    Weights,
    first_that_fits,
    plans_of,
    plans_with,
)
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_footprint import footprint_of


def choose_memory_plan(
    config: WanConfig,
    canvas: tuple[int, int],
    frames: int,
    free_bytes: int,
    wanted: Literal["auto"] | Weights = "auto",
    *,
    tiles: VaeTiles = "auto",
    device: str = "cuda",
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    prompts: int = 2,
    denoised: tuple[int, int] | None = None,
    extra: int = 0,
    last: bool = False,
) -> MemoryPlan:
    """The quickest plan that is predicted to fit; if none does, the one that needs least (see `fits`).

    Args:
        config: of the model.
        canvas: (height, width) of what is encoded and decoded.
        frames: of the generated clip.
        free_bytes: on the device, before the model is there.
        wanted: how weights are kept; "auto" never takes "fp8", since it changes results.
        tiles: whether the VAE decodes in tiles; "auto" only where the whole does not fit.
        device: type of the device; on the CPU there is nowhere to move weights to.
        dtype, vae_dtype: of transformer and VAE.
        prompts: in use; 2 with guidance.
        denoised: (height, width) of what is denoised at once, where that is less than the canvas.
        extra: bytes of adapters beside the transformer.
        last: whether the last frame is all that is wanted.

    Raises:
        ValueError: `wanted` or `tiles` is unknown, or the model can't have this size.
    """
    for name, value, legal in (
        ("memory", wanted, ("auto", *get_args(Weights))),
        ("tiles", tiles, get_args(VaeTiles)),
    ):
        if value not in legal:
            raise ValueError(f"{name} must be one of {', '.join(legal)}, not {value!r}")
    footprint = footprint_of(config, canvas, frames, dtype, vae_dtype, prompts, denoised=denoised, last=last)
    plans = plans_of(footprint, free_bytes, tiles, host=device == "cpu", extra=extra)
    if wanted == "fp8":
        plans = plans_with(footprint, "fp8", free_bytes, tiles, extra)
    elif wanted != "auto":
        plans = [plan for plan in plans if plan.weights == wanted] or plans
    return first_that_fits(plans)
