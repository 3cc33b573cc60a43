"""Whether words steer `tiny`, and what more steps give.

    python benchmarks/steering.py --data ../shared/data/bench --model tiny -o benchmarks/results/steering.json

Words: each mixture of damage is restored with a sentence that asks for one part of it to go. The result is compared
with the target that keeps the rest ("asked"), beside what the same sentence reaches where the rest never was
("alone"); of the rest, it is said how much of its energy is still there ("kept") and by how much that differs from all
of it, photo by photo ("changed"). Brightness: dark photos with and without the truth's mean level in the prompt, in
whole percent. Steps: mean PSNR and sharpness (the mean gradient's length over the truth's) by number of steps. RGB,
whole photos of CBSD68, 8-bit inputs. Exit code 3 if the data is not there.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from measurement import REPOSITORY, Bar, print_bars, print_table, write_results
from unfade.core import Clip, Plan, generator
from unfade.degrade import draw_composition, named
from unfade.degrade.classic import CLASSIC
from unfade.evaluation.metrics.fidelity import psnr
from unfade.media.images import read_image
from unfade.prompts.goals import KEPT, PHRASES
from unfade.restore.load import load

# What is there, what is asked to go; the rest is to stay.
MIXTURES = (
    (("lowlight", "gaussian-noise"), "lowlight"),
    (("haze", "gaussian-noise"), "haze"),
    (("haze", "gaussian-noise"), "gaussian-noise"),
    (("motion-blur", "gaussian-noise"), "gaussian-noise"),
    (("motion-blur", "jpeg"), "jpeg"),
    (("haze", "rain"), "rain"),
)
DARK = ("dark-0.2", "dark-0.1")
TASKS = ("noise-25", "x2", "jpeg-20", "motion-15", "dark-0.2")
STEPS = (1, 2, 4, 8)


def rounded(x: Tensor) -> Tensor:
    """As a file of 8 bits holds it."""
    return x.clamp(0, 1).mul(255).round().div(255)


def sharpness(x: Tensor, truth: Tensor) -> float:
    """The mean length of the luma's gradient over that of the truth's; `[1, 3, H, W]`."""

    def length(picture: Tensor) -> float:
        luma = picture.mean(1)
        across, down = luma[:, 1:, 1:] - luma[:, 1:, :-1], luma[:, 1:, 1:] - luma[:, :-1, 1:]
        return float((across**2 + down**2).sqrt().mean())

    return length(x) / length(truth)


def kept_energy(result: Tensor, without: Tensor, with_it: Tensor) -> float:
    """The share of what was to stay that is still there, in energy: of its projection on the result, below 0 where it
    came out inverted.

    Args:
        result: of the restoration.
        without, with_it: the photo without and with what was to stay.
    """
    kept = with_it - without
    share = float(((result - without) * kept).sum() / (kept * kept).sum())
    return share * abs(share)


class Steering:
    """One model on some photos."""

    def __init__(self, model: str, photos: Sequence[Path], dtype: Any, seed: int) -> None:
        self.restorer = load(model)
        pictures = [read_image(path).frames for path in photos]
        # To sides that can be enlarged twofold.
        self.truths = [
            rounded(one[..., : one.shape[2] // 2 * 2, : one.shape[3] // 2 * 2]) for one in pictures
        ]
        self.dtype = dtype
        self.seed = seed

    def restored(self, degraded: Tensor, prompt: str | None = None, steps: int = 1) -> Tensor:
        """`[1, 3, H, W]`, rounded."""
        plan = Plan(steps=steps, dtype=self.dtype)
        return rounded(self.restorer.restore(Clip(degraded), prompt=prompt, plan=plan).result.frames)

    def words(self, names: tuple[str, ...], asked: str) -> dict[str, Any]:
        """Means over the photos for one mixture and wish."""
        kinds, gone = named("+".join(names)), named(asked)
        stays = [name for name in names if name != asked]
        prompt = f"{PHRASES[asked][0]}, {', '.join(KEPT[name][0] for name in stays)}"
        rows: list[tuple[float, ...]] = []
        for index, truth in enumerate(self.truths):
            dice = generator(self.seed, "steering", *names, index)
            composition = draw_composition(kinds, dice, (1, *truth.shape[2:]))
            degraded, target = (
                rounded(composition(truth, 1.0)),
                rounded(composition.without(gone)(truth, 1.0)),
            )
            alone = rounded(composition.without(named("+".join(stays)))(truth, 1.0))
            result = self.restored(degraded, prompt)
            rows.append(
                (
                    psnr(degraded[0], target[0]),
                    psnr(result[0], target[0]),
                    psnr(self.restored(degraded)[0], target[0]),
                    psnr(self.restored(alone, prompt)[0], truth[0]),
                    energy := kept_energy(result, truth, target),
                    abs(1 - energy),
                )
            )
        means = [sum(column) / len(column) for column in zip(*rows, strict=True)]
        told = dict(zip(("input", "asked", "blind", "alone", "kept", "changed"), means, strict=True))
        return {"damage": " + ".join(names), "asked_to_go": asked, "prompt": prompt, **told}

    def brightness(self, task: str) -> dict[str, Any]:
        """Means over the photos for one kind of darkness, with nothing said and with the brightness that is wanted."""
        rows: list[tuple[float, ...]] = []
        for index, truth in enumerate(self.truths):
            degraded = rounded(CLASSIC[task](truth, generator(self.seed, task, index)))
            prompt = f"brighten it to {100 * float(truth.mean()):.0f} %"
            results = (degraded, self.restored(degraded), self.restored(degraded, prompt))
            rows.append(tuple(psnr(result[0], truth[0]) for result in results))
        means = [sum(column) / len(column) for column in zip(*rows, strict=True)]
        return {"task": task, **dict(zip(("input", "blind", "named"), means, strict=True))}

    def steps(self, task: str) -> list[dict[str, Any]]:
        """Means over the photos for one task, by number of steps."""
        table: list[dict[str, Any]] = []
        for steps in STEPS:
            rows: list[tuple[float, float]] = []
            for index, truth in enumerate(self.truths):
                degraded = rounded(CLASSIC[task](truth, generator(self.seed, task, index)))
                result = self.restored(degraded, None, steps)
                rows.append((psnr(result[0], truth[0]), sharpness(result, truth)))
            figures = [sum(column) / len(column) for column in zip(*rows, strict=True)]
            table.append({"task": task, "steps": steps, "psnr": figures[0], "sharpness": figures[1]})
        return table


def bars(
    words: Sequence[dict[str, Any]], bright: Sequence[dict[str, Any]], steps: Sequence[dict[str, Any]]
) -> list[Bar]:
    """What the issue on the embedded model asks for."""
    found: list[Bar] = []
    for row in words:
        name = f"{row['damage']}, {row['asked_to_go']} to go"
        found.append(Bar(f"{name}: dB below the wish granted alone", row["alone"] - row["asked"], 1.0, True))
        found.append(Bar(f"{name}: energy of the rest changed", row["changed"], 0.1, True))
    for row in bright:
        if row["task"] == "dark-0.2":
            found.append(Bar("dark-0.2, nothing said, dB", row["blind"], 21.0))
            found.append(Bar("dark-0.2, the brightness named, dB", row["named"], 24.0))
    once = {row["task"]: row for row in steps if row["steps"] == 1}
    for row in steps:
        if row["steps"] > 1:
            name = f"{row['task']}, {row['steps']} steps"
            found.append(
                Bar(f"{name}: dB below one step", once[row["task"]]["psnr"] - row["psnr"], 0.3, True)
            )
            found.append(
                Bar(
                    f"{name}: sharpness over one step's",
                    row["sharpness"] / once[row["task"]]["sharpness"],
                    1.0,
                )
            )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/bench")
    parser.add_argument("--model", default="tiny", help="a catalog name or a .safetensors file")
    parser.add_argument("--limit", type=int, default=16, help="photos")
    parser.add_argument("--dtype", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "benchmarks/results/steering.json")
    asked = parser.parse_args()
    if asked.limit < 1:
        parser.error(f"--limit must be at least 1, not {asked.limit}")
    photos = sorted((asked.data / "cbsd68").glob("*.*"))
    if not photos:
        print(
            f"Nothing was measured: there is no photo in {asked.data / 'cbsd68'}; name its parent with --data."
        )
        return 3
    steering = Steering(
        asked.model, photos[:: max(1, len(photos) // asked.limit)][: asked.limit], asked.dtype, asked.seed
    )
    with torch.inference_mode():
        words = [steering.words(*mixture) for mixture in MIXTURES]
        bright = [steering.brightness(task) for task in DARK]
        steps = [row for task in TASKS for row in steering.steps(task)]
    judged = bars(words, bright, steps)
    for rows in (words, bright, steps):
        print_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
    print_bars(judged)
    write_results(
        asked.output,
        {
            "model": asked.model,
            "photos": len(steering.truths),
            "words": words,
            "brightness": bright,
            "steps": steps,
        },
        judged,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
