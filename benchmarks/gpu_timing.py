"""Seconds and peak memory of one piece of work on a device."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

# Dense bf16 matrix products measured on the machine that is lent, in FLOP/s.
GPU_LIMIT = 790e12


@dataclass(frozen=True, slots=True)
class Spent:
    """What a piece of work took.

    Attributes:
        seconds: wall time until the device was done.
        peak: bytes PyTorch had allocated at most, weights included; None without a GPU.
        answer: of the work.
    """

    seconds: float
    peak: int | None
    answer: Any

    def row(self, flops: float | None = None) -> dict[str, Any]:
        """For a report: seconds, memory, and with `flops` what of the limit was reached."""
        row: dict[str, Any] = {"seconds": round(self.seconds, 4)}
        if self.peak is not None:
            row["peak_memory_gb"] = round(self.peak / 1e9, 2)
        if flops is not None:
            row["tflops"] = round(flops / self.seconds / 1e12, 3)
            if self.peak is not None:
                row["share_of_limit"] = round(flops / self.seconds / GPU_LIMIT, 4)
        return row


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spent(work: Callable[[], Any], device: torch.device) -> Spent:
    """Does the work once."""
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    begun = time.perf_counter()
    answer = work()
    synchronize(device)
    seconds = time.perf_counter() - begun
    return Spent(seconds, torch.cuda.max_memory_allocated(device) if gpu else None, answer)
