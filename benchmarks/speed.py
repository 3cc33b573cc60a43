"""How fast a model restores, against classical filters in the same run, and how much memory it takes.

    python benchmarks/speed.py -o benchmarks/results/speed.json

Contenders take turns, so that whatever else the machine does meets all of them; figures are medians. Models
are loaded and warm. Photos are tiled up from `examples/`. Meant for a quiet machine: `load` in the results
tells whether it was.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import torch

from measurement import (
    REPOSITORY,
    Bar,
    has_amx,
    median,
    print_bars,
    print_table,
    watch,
    write_results,
)
from unfade.core import Clip, Plan, Restorer, generator
from unfade.core.memory import reuse_large_blocks
from unfade.degrade.classic import CLASSIC
from unfade.evaluation.peers import Bm3d, NonLocalMeans
from unfade.media.image_writer import write_image
from unfade.media.images import read_image
from unfade.restore.load import load

SIZES = (0.25, 1.0, 4.0, 12.0, 24.0)
_API = """
import sys, unfade
unfade.load(sys.argv[1]).restore(sys.argv[2]).result
"""


def photo(megapixels: float) -> Clip:
    """A photo of about so many megapixels, three to two, tiled from the examples."""
    height = round((megapixels * 1e6 / 1.5) ** 0.5)
    width = round(1.5 * height)
    sources = [read_image(path).frames[0] for path in sorted((REPOSITORY / "examples").iterdir())]
    side = min(min(source.shape[1:]) for source in sources)
    row = torch.cat([source[:, :side, :side] for source in sources], 2)
    tiled = row.repeat(1, -(-height // side), -(-width // row.shape[2]))
    return Clip.of(tiled[:, :height, :width].contiguous())


def noisy(clip: Clip) -> Clip:
    """With noise of sigma 25, so that denoisers have something to do."""
    return Clip(CLASSIC["noise-25"](clip.frames, generator(0, "speed")))


def crop(clip: Clip, side: int) -> Clip:
    return Clip(clip.frames[:, :, :side, :side].contiguous())


def seconds_per_megapixel(restorer: Restorer, clip: Clip, plan: Plan) -> float:
    """One restoration; a quick one is repeated for half a second, so that waking threads don't count for all of it."""
    begun = time.perf_counter()
    runs = 0
    while runs == 0 or time.perf_counter() - begun < 0.5:
        restorer.restore(clip, None, plan).result.frames.sum().item()
        runs += 1
    return (time.perf_counter() - begun) / runs / clip.megapixels


def in_turns(jobs: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every job `rounds` times, taking turns; the round before that only warms up."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, job in jobs.items():
            value = job()
            if turn:
                times[name].append(value)
    return times


def against_peers(model: Restorer, rounds: int, bm3d_side: int) -> tuple[dict[str, Any], list[Bar]]:
    """Seconds a megapixel of the model in both precisions, of NLM on a megapixel, of BM3D on a crop of it."""
    full = noisy(photo(1.0))
    small = crop(full, bm3d_side)
    bf16, fp32 = Plan(dtype="bf16"), Plan(dtype="fp32")
    times = in_turns(
        {
            "model bf16": lambda: seconds_per_megapixel(model, full, bf16),
            "model fp32": lambda: seconds_per_megapixel(model, full, fp32),
            "model auto": lambda: seconds_per_megapixel(model, full, Plan()),
            "nlm h=10": lambda: seconds_per_megapixel(NonLocalMeans(), full, Plan()),
        },
        rounds,
    )
    side = f"{bm3d_side}x{bm3d_side}"
    times |= in_turns(
        {
            f"model auto {side}": lambda: seconds_per_megapixel(model, small, Plan()),
            f"bm3d {side}": lambda: seconds_per_megapixel(Bm3d(25), small, Plan()),
        },
        max(1, min(rounds, 3)),
    )
    best = median(times["model auto"])
    nlm = median(times["nlm h=10"]) / best
    bm3d = median(times[f"bm3d {side}"]) / median(times[f"model auto {side}"])
    bars = [
        Bar("bf16, s/MP", median(times["model bf16"]), 0.5, at_most=True, applies=has_amx()),
        Bar("times as fast as OpenCV NLM", nlm, 2.0),
        Bar(f"times as fast as bm3d ({side})", bm3d, 100.0),
    ]
    figures = {name: {"median": median(values), "all": values} for name, values in times.items()}
    return {"seconds_per_megapixel": figures, "ratios": {"nlm": nlm, "bm3d": bm3d}}, bars


def against_size(model: Restorer, sizes: tuple[float, ...], rounds: int) -> tuple[dict[str, Any], list[Bar]]:
    """Seconds a megapixel over the size of the photo."""
    clips = {f"{size:g} MP": photo(size) for size in sizes}
    times = in_turns(
        {name: lambda clip=clip: seconds_per_megapixel(model, clip, Plan()) for name, clip in clips.items()},
        rounds,
    )
    costs = [median(values) for values in times.values()]
    figures = {name: {"median": median(values), "all": values} for name, values in times.items()}
    name = f"dearest over cheapest pixel, {sizes[0]:g} to {sizes[-1]:g} MP"
    bar = Bar(name, max(costs) / min(costs), 1.2, at_most=True)
    return {"seconds_per_megapixel_by_size": figures}, [bar]


def memory(model: str, megapixels: float) -> tuple[dict[str, Any], list[Bar]]:
    """Peak resident memory of the command and of a script on one JPEG, in fresh processes."""
    figures: dict[str, Any] = {}
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "photo.jpg", Path(folder) / "restored.jpg"
        write_image(photo(megapixels), source)
        unfade = str(Path(sys.executable).with_name("unfade"))
        commands = {
            "unfade restore": [unfade, "restore", str(source), "-o", str(target), "--model", model],
            "API": [sys.executable, "-c", _API, model, str(source)],
        }
        for name, command in commands.items():
            done = watch(command)
            if done.code:
                print(f"{name} ended with {done.code}:\n{done.output[-2000:]}")
            gigabytes = done.peak / 1e9 if done.code == 0 else float("nan")
            figures[name] = {"code": done.code, "seconds": done.seconds, "peak_gigabytes": gigabytes}
            if name != "API":
                bars.append(Bar(f"{name}, {megapixels:g} MP JPEG: peak GB", gigabytes, 1.5, at_most=True))
    return {"memory": {"megapixels": megapixels, **figures}}, bars


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny", help="a catalog name or a .safetensors file")
    parser.add_argument("--rounds", type=int, default=5, help="measurements per contender")
    parser.add_argument("--size-rounds", type=int, default=3, help="measurements per size")
    parser.add_argument("--largest", type=float, default=24.0, help="megapixels of the largest photo")
    parser.add_argument("--bm3d-side", type=int, default=384)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of all, 0 for their own choice")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "benchmarks/results/speed.json")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
        cv2.setNumThreads(asked.threads)
    # As the command does at its start.
    reuse_large_blocks()
    # Memory first: it is measured in processes of their own, but the machine should have some left for them.
    figures, bars = memory(asked.model, asked.largest)
    model = load(asked.model)
    sizes = tuple(size for size in SIZES if size <= asked.largest)
    for more, checked in (
        against_peers(model, asked.rounds, asked.bm3d_side),
        against_size(model, sizes, asked.size_rounds),
    ):
        figures |= more
        bars += checked
    for key in ("seconds_per_megapixel", "seconds_per_megapixel_by_size"):
        rows = [(name, value["median"], len(value["all"])) for name, value in figures[key].items()]
        print_table(("contender", "s/MP", "runs"), rows)
    print_table(
        ("process", "peak GB", "s"),
        [
            (name, value["peak_gigabytes"], value["seconds"])
            for name, value in figures["memory"].items()
            if name != "megapixels"
        ],
    )
    print_bars(bars)
    weights = getattr(getattr(model, "weights", None), "sha256", None)
    threads = {"torch": torch.get_num_threads(), "opencv": cv2.getNumThreads()}
    write_results(
        asked.output,
        {"model": Path(asked.model).name, "weights": weights, "threads": threads, **figures},
        bars,
    )
    print(f"written: {asked.output}")
    return 1 if asked.strict and any(bar.passed is False for bar in bars) else 0


if __name__ == "__main__":
    sys.exit(main())
