"""Where to compute and in what precision, from what the machine really has."""

import torch

from unfade.core import UsageError
from unfade.core.contracts import Device, Dtype


def choose_device(wanted: Device) -> torch.device:
    """The device asked for, or the fastest there is.

    Raises:
        UsageError: the device is not there.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if available[name]))
    if not available[wanted]:
        there = ", ".join(name for name, here in available.items() if here)
        raise UsageError(f"this machine has no {wanted} device that PyTorch can use; there is {there}")
    return torch.device(wanted)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is done by hardware there; emulated, it is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


def choose_dtype(wanted: Dtype, device: torch.device) -> torch.dtype:
    """bf16 where it is fast (or asked for), fp32 elsewhere."""
    if wanted == "bf16" or (wanted == "auto" and has_fast_bf16(device)):
        return torch.bfloat16
    return torch.float32
