"""Seconds and peak memory of one piece of work on a device."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.memory_plan import MemoryPlan

Report = Callable[[dict[str, Any]], None]
# Of the sampler, in all three papers; seconds for them are those of a step times 50.
PUBLISHED_STEPS = 50

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


def tell_phases(
    who: str,
    common: Mapping[str, Any],
    phases: Mapping[str, Spent],
    flops: Mapping[str, float],
    plan: MemoryPlan,
    steps: int,
    report: Report,
) -> None:
    """A row for each phase of a restoration, and one for the whole at the published number of steps.

    Args:
        who: whose phases.
        common: what all rows say.
        phases: "encode", "denoise" and "decode".
        flops: of each.
        plan: under which they ran.
        steps: of "denoise".
        report: told the rows.
    """
    step = phases["denoise"].seconds / steps
    for name, phase in phases.items():
        row: dict[str, Any] = {"phase": name, "who": who, **common, **phase.row(flops[name])}
        row["predicted_memory_gb"] = round(getattr(plan, name) / 1e9, 2)
        if name == "denoise":
            row |= {"steps": steps, "seconds_per_step": round(step, 4)}
        if name == "decode":
            row["tile"] = plan.tile
        report(row)
    whole = phases["encode"].seconds + PUBLISHED_STEPS * step + phases["decode"].seconds
    row = {"phase": "restore", "who": who, **common, "seconds_at_50_steps": round(whole, 3)}
    peaks = [phase.peak for phase in phases.values() if phase.peak is not None]
    if peaks:
        row["peak_memory_gb"] = round(max(peaks) / 1e9, 2)
    report(row)


class StepClock:
    """When the steps of a stock pipeline ended: its `callback_on_step_end`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.ends: list[float] = []

    def begin(self) -> None:
        """Called right before the pipeline is."""
        self.ends = [time.perf_counter()]

    def __call__(self, pipeline: Any, step: int, when: Any, given: dict[str, Any]) -> dict[str, Any]:
        synchronize(self.device)
        self.ends.append(time.perf_counter())
        return given

    def row(self, seconds: float, published: int) -> dict[str, Any]:
        """Seconds of each phase, for a report, of a call of at least two steps that took so many seconds in all.

        The first step's start isn't told: it ends a step's time after encoding, as the later ones take it.
        """
        step = (self.ends[-1] - self.ends[1]) / (len(self.ends) - 2)
        encode = max(0.0, self.ends[1] - self.ends[0] - step)
        decode = seconds - (self.ends[-1] - self.ends[0])
        return {
            "encode_seconds": round(encode, 4),
            "seconds_per_step": round(step, 4),
            "decode_seconds": round(decode, 4),
            f"seconds_at_{published}_steps": round(encode + published * step + decode, 3),
        }


def last_of(chunks: Iterable[Tensor]) -> Tensor:
    """The last of them, none of the others held."""
    iterator = iter(chunks)
    last = next(iterator)
    for chunk in iterator:
        last = chunk
    return last
