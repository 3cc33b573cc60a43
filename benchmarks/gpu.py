"""`make gpu-bench`: seconds, peak memory and share of the arithmetic limit on a GPU; at CPU size without one.

Measures what exists: `tiny` restoring and training. The full-size video backbones join with their adapters.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.tiny import Tiny, thumbnail_of

# Dense bf16 matrix products measured on the machine that is lent, in FLOP/s.
GPU_LIMIT = 790e12


def flops_per_pixel(model: Tiny) -> float:
    """Multiply-adds counted twice, for one forward pass, by PyTorch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    side = 256
    x = torch.rand(1, 3, side, side, device=next(model.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        context = model.context(thumbnail_of(x), [None])
        model(x, torch.zeros(1, device=x.device), x, context)
    return counter.get_total_flops() / side**2


def timed(work: Callable[[], Any], device: torch.device, runs: int) -> float:
    """The median seconds of a call, after one to warm up."""
    seconds: list[float] = []
    for _ in range(runs + 1):
        begun = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds[1:])[runs // 2]


def measure(device: torch.device) -> list[dict[str, Any]]:
    """One row for each phase and size."""
    gpu = device.type == "cuda"
    model = Tiny().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    flops = flops_per_pixel(model)
    rows: list[dict[str, Any]] = []

    def restoring(batch: int, side: int) -> Callable[[], None]:
        x = torch.rand(batch, 3, side, side, device=device)

        def work() -> None:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
                context = model.context(thumbnail_of(x), [None] * batch)
                model(x, torch.zeros(batch, device=device), x, context)

        return work

    def training(batch: int, side: int) -> Callable[[], None]:
        x = torch.rand(batch, 3, side, side, device=device)

        def work() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                context = model.context(thumbnail_of(x), [None] * batch)
                model(x, torch.zeros(batch, device=device), x, context).square().mean().backward()
            model.zero_grad(set_to_none=True)

        return work

    sizes = [(1, 1024), (1, 4096), (32, 512)] if gpu else [(1, 256)]
    for name, make, cost, shapes in (
        ("restore", restoring, 1, sizes),
        ("train", training, 3, [(64, 128), (32, 192)] if gpu else [(4, 64)]),
    ):
        for batch, side in shapes:
            if gpu:
                torch.cuda.reset_peak_memory_stats()
            seconds = timed(make(batch, side), device, 5 if gpu else 1)
            pixels = batch * side**2
            row: dict[str, Any] = {
                "phase": name,
                "batch": batch,
                "side": side,
                "seconds": round(seconds, 5),
                "seconds_per_megapixel": round(seconds / pixels * 1e6, 5),
                "tflops": round(cost * flops * pixels / seconds / 1e12, 3),
            }
            if gpu:
                row["share_of_limit"] = round(cost * flops * pixels / seconds / GPU_LIMIT, 4)
                row["peak_memory_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    result = {
        "device": torch.cuda.get_device_name()
        if gpu
        else f"{platform.processor() or 'cpu'}: no GPU here, small sizes",
        "torch": torch.__version__,
        "rows": measure(device),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / ("gpu.json" if gpu else "gpu-at-cpu-size.json")
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
