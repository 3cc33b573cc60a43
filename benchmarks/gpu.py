"""`make gpu-bench`: seconds, peak memory and share of the arithmetic limit on a GPU; at CPU size without one.

Measures `tiny` restoring and training; Wan2.2-TI2V-5B with random weights, ours against diffusers' pipeline in the same
run, and a LoRA step of it; CogVideoX1.5-5B likewise, with a LoRA step of Progressive; Vivid-VR at 33 and 121 frames of
1024x1024. On a bare machine with PyTorch the packages that the video models need are carried as wheels: `--wheels DIR`.
"""

import argparse
import gc
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from gpu_timing import GPU_LIMIT, Report
from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny, thumbnail_of
from wheels import use_wheels

PARTS = ("tiny", "wan", "train", "cogvideox", "train-cogvideox", "vivid")


def commit() -> dict[str, Any]:
    """The commit that is measured, None on a machine without git's data."""
    try:
        words = ["git", "rev-parse", "--verify", "HEAD"]
        done = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return {"commit": None}
    return {"commit": done.stdout.strip() if done.returncode == 0 else None}


def flops_per_pixel(model: Tiny) -> float:
    """Multiply-adds counted twice, for one forward pass, by PyTorch's own counter."""
    from torch.utils.flop_counter import FlopCounterMode

    side = 256
    x = torch.rand(1, 3, side, side, device=next(model.parameters()).device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        context = model.context(thumbnail_of(x), [None])
        model(x, torch.zeros(1, device=x.device), x, context, spectrum_of(x))
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
                model(x, torch.zeros(batch, device=device), x, context, spectrum_of(x))

        return work

    def training(batch: int, side: int) -> Callable[[], None]:
        x = torch.rand(batch, 3, side, side, device=device)

        def work() -> None:
            with torch.autocast(device.type, torch.bfloat16):
                context = model.context(thumbnail_of(x), [None] * batch)
                told = context, spectrum_of(x)
                model(x, torch.zeros(batch, device=device), x, *told).square().mean().backward()
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


def measure_models(device: torch.device, parts: Sequence[str], report: Report) -> None:
    """The video models, one after the other, each alone in memory."""
    from gpu_cogvideox import FULL as FULL_COGVIDEOX
    from gpu_cogvideox import FULL_TRAINING, measure_cogvideox
    from gpu_cogvideox import TINY as TINY_COGVIDEOX
    from gpu_training import measure_cogvideox_training, measure_training
    from gpu_vivid import FULL as FULL_VIVID
    from gpu_vivid import TINY as TINY_VIVID
    from gpu_vivid import measure_vivid
    from gpu_wan import FULL, TINY, measure_wan

    full = device.type == "cuda"
    scale = FULL if full else TINY
    works: dict[str, Callable[[], None]] = {
        "wan": lambda: measure_wan(device, scale, report),
        "train": lambda: measure_training(device, scale, report),
        "cogvideox": lambda: measure_cogvideox(device, FULL_COGVIDEOX if full else TINY_COGVIDEOX, report),
        "train-cogvideox": lambda: measure_cogvideox_training(
            device, FULL_TRAINING if full else TINY_COGVIDEOX, report
        ),
        "vivid": lambda: measure_vivid(device, FULL_VIVID if full else TINY_VIVID, report),
    }
    for name, work in works.items():
        if name not in parts:
            continue
        try:
            work()
        except torch.OutOfMemoryError as error:
            report({"phase": name, "skipped": f"out of memory: {str(error).splitlines()[0]}"})
        except ImportError as error:
            report({"phase": name, "skipped": f"{error}; carry its wheel and name the folder by --wheels"})
        gc.collect()
        if full:
            torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument(
        "--wheels", type=Path, help="a folder of wheels that this machine lacks (diffusers, ...)"
    )
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="what to measure")
    options = parser.parse_args()
    carried = use_wheels(options.wheels) if options.wheels else []
    gpu = torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / ("gpu.json" if gpu else "gpu-at-cpu-size.json")
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name()
        if gpu
        else f"{platform.processor() or 'cpu'}: no GPU here, small sizes",
        "torch": torch.__version__,
        "command": shlex.join(["python", *sys.argv]),
        **commit(),
        "wheels": carried,
        "rows": [],
    }

    def report(row: dict[str, Any]) -> None:
        # Written after every row, so that a run that is cut off leaves what it found.
        print(json.dumps(row), flush=True)
        result["rows"].append(row)
        target.write_text(json.dumps(result, indent=2) + "\n")

    if not gpu:
        print("no GPU here: small models, whose figures say nothing about the full-size ones", flush=True)
    if "tiny" in options.parts:
        for row in measure(device):
            report({"model": "tiny", **row})
    measure_models(device, options.parts, lambda row: report({"model": "video", **row}))
    print(f"written: {target}")


if __name__ == "__main__":
    main()
