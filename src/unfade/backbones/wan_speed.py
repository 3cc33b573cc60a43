"""How long a Wan model will take: its arithmetic over what the device was just measured to do. An estimate."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from unfade.backbones.memory_plan import MemoryPlan
from unfade.backbones.precision import true_fp32


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device does in a second.

    Attributes:
        matmul: floating point operations in matrix products.
        convolution: the same in 3x3x3 convolutions, in the VAE's precision.
        copy: bytes from the host to the device.
    """

    matmul: float
    convolution: float
    copy: float


def measure_rates(
    device: torch.device, dtype: torch.dtype = torch.bfloat16, vae_dtype: torch.dtype = torch.float32
) -> Rates:
    """Takes well under a second: one product, one convolution, one copy, each the best of three."""
    small = device.type == "cpu"
    rows, inner, columns = (512, 512, 1024) if small else (4096, 3072, 14336)
    left = torch.randn(rows, inner, device=device, dtype=dtype)
    right = torch.randn(inner, columns, device=device, dtype=dtype)
    channels, frames, side = (32, 3, 48) if small else (256, 4, 192)
    clip = torch.randn(1, channels, frames, side, side, device=device, dtype=vae_dtype)
    kernel = torch.randn(channels, channels, 3, 3, 3, device=device, dtype=vae_dtype)
    block = torch.zeros((4 if small else 128) << 20, dtype=torch.uint8)
    volume = frames * side * side
    with torch.inference_mode(), true_fp32():
        return Rates(
            matmul=2.0 * rows * inner * columns / _best(lambda: left @ right, device),
            convolution=2.0
            * 27
            * channels**2
            * volume
            / _best(lambda: torch.nn.functional.conv3d(clip, kernel, padding=1), device),
            copy=float(block.numel()) / _best(lambda: block.to(device, copy=True), device),
        )


def predict_seconds(plan: MemoryPlan, evaluations: int, rates: Rates) -> float:
    """Seconds for one photo, without loading weights and embedding prompts.

    Real models stay below what single products reach, and how far depends on the machine; expect this to be right
    within a factor of two.

    Args:
        plan: with the size it was made for.
        evaluations: of the transformer; tiles count.
        rates: of the device.
    """
    cost = plan.footprint
    decode = cost.tile_flops[plan.tile] if plan.tile else cost.decode_flops
    once = cost.forward_flops / rates.matmul
    moved = 0.0
    if plan.weights in ("offload", "fp8"):
        moved = (cost.transformer if plan.weights == "offload" else cost.fp8) + 2 * cost.vae
    elif plan.weights == "group":
        # The next block comes while this one works.
        once = max(once, cost.transformer / rates.copy)
        moved = 2 * cost.vae
    return (cost.encode_flops + decode) / rates.convolution + evaluations * once + moved / rates.copy


def _best(work: Callable[[], Any], device: torch.device) -> float:
    seconds: list[float] = []
    for _ in range(4):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        seconds.append(time.perf_counter() - begun)
    return max(min(seconds[1:]), 1e-9)
