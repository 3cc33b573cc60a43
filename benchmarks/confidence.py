"""Whether `tiny` knows how wrong it is: the map of expected errors against the true ones.

    python benchmarks/confidence.py --data ../shared/data/bench --model FILE -o benchmarks/results/confidence.json

For each task, over photos of CBSD68 (8-bit inputs, RGB, the mean absolute error over the colours): Spearman's rank
correlation of expected and true error, photo by photo, pixel by pixel and over blocks of 8 by 8 pixels, and beside it
that of the true mean error of the block around each pixel; by which factor the expected error of a photo is off, up or
down; and expected over true error where most and where least is expected (a tenth of the pixels of each photo), over
all photos. Exit code 3 if the data is not there.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional

from measurement import REPOSITORY, Bar, print_bars, print_table, write_results
from unfade.core import Clip, Plan, generator
from unfade.degrade.classic import CLASSIC
from unfade.media.images import read_image
from unfade.restore.engine import PixelRestorer
from unfade.restore.load import load

TASKS = ("noise-25", "noise-50", "x2", "x4", "jpeg-20", "motion-15", "defocus-3", "dark-0.2")
BLOCK = 8


def blocks(error: Tensor) -> Tensor:
    """Means over blocks of 8 by 8 pixels of `[1, 1, H, W]`; what is left at the border is not counted."""
    return functional.avg_pool2d(error, BLOCK)


def rank_correlation(one: Tensor, other: Tensor) -> float:
    return float(spearmanr(one.flatten().numpy(), other.flatten().numpy()).statistic)


def compared(expected: Tensor, true: Tensor) -> dict[str, float]:
    """How two maps of errors `[1, 1, H, W]` of one photo go together; sides are multiples of 8."""
    around = functional.interpolate(blocks(true), scale_factor=BLOCK, mode="bilinear")
    order = expected.flatten().argsort()
    tenth = len(order) // 10
    found = {
        "pixels": rank_correlation(expected, true),
        "true_blocks": rank_correlation(around, true),
        "blocks": rank_correlation(blocks(expected), blocks(true)),
        "off_by": abs(math.log(float(expected.mean() / true.mean()))),
    }
    for name, chosen in (("least", order[:tenth]), ("most", order[-tenth:])):
        found[f"{name}_expected"] = float(expected.flatten()[chosen].mean())
        found[f"{name}_true"] = float(true.flatten()[chosen].mean())
    return found


def judge(restorer: PixelRestorer, task: str, photos: list[Path], seed: int) -> dict[str, Any]:
    """Figures over the photos for one task."""
    rows: list[dict[str, float]] = []
    for index, path in enumerate(photos):
        truth = read_image(path).frames
        truth = truth[..., : truth.shape[2] // BLOCK * BLOCK, : truth.shape[3] // BLOCK * BLOCK]
        degraded = CLASSIC[task](truth, generator(seed, task, index))
        restored = restorer.restore(Clip(degraded), plan=Plan(confidence=True))
        true = (restored.result.frames - truth).abs().mean(1, keepdim=True)
        assert restored.confidence is not None, "it was asked for"
        rows.append(compared((1 - restored.confidence) / 2, true))
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return {
        "task": task,
        **{name: means[name] for name in ("pixels", "true_blocks", "blocks")},
        "off_by": math.exp(means["off_by"]),
        "least": means["least_expected"] / means["least_true"],
        "most": means["most_expected"] / means["most_true"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/bench")
    parser.add_argument("--model", default="tiny", help="a catalog name or a .safetensors file")
    parser.add_argument("--limit", type=int, default=34, help="photos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "-o", "--output", type=Path, default=REPOSITORY / "benchmarks/results/confidence.json"
    )
    asked = parser.parse_args()
    if asked.limit < 1:
        parser.error(f"--limit must be at least 1, not {asked.limit}")
    photos = sorted((asked.data / "cbsd68").glob("*.*"))
    if not photos:
        print(
            f"Nothing was measured: there is no photo in {asked.data / 'cbsd68'}; name its parent with --data."
        )
        return 3
    photos = photos[:: max(1, len(photos) // asked.limit)][: asked.limit]
    restorer = load(asked.model)
    if not isinstance(restorer, PixelRestorer):
        parser.error(f"--model must be tiny or a file of its kind, not {asked.model}")
    with torch.inference_mode():
        rows = [judge(restorer, task, photos, asked.seed) for task in TASKS]
    judged = [Bar(f"{row['task']}: rank correlation, pixel by pixel", row["pixels"], 0.6) for row in rows]
    judged += [
        Bar(f"{row['task']}: factor the expected error is off by", row["off_by"], 1.5, True) for row in rows
    ]
    print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    print_bars(judged)
    told = {"model": Path(asked.model).name, "weights": restorer.weights.sha256, "photos": len(photos)}
    write_results(asked.output, {**told, "tasks": rows}, judged)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
