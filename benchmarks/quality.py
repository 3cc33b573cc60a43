"""How well a model restores, beside peers: classic tests, everyday damage, FoundIR's groups made anew, clean photos.

    python benchmarks/quality.py --data ../shared/data/bench --model tiny -o benchmarks/results/quality.json

`--data` holds `set5`, `set14` and `cbsd68`. Everything goes through `unfade evaluate`'s own code. Exit code 0 with the
results written (whatever they are; `--strict` makes a missed bar exit 1), 3 if the data is not there.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measurement import REPOSITORY, Bar, print_bars, print_table, write_results
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group
from unfade.evaluation.benchmarks.table import benchmark, only, synthesized
from unfade.evaluation.journal import Row
from unfade.evaluation.measure import Settings
from unfade.evaluation.report.figures import difference, number
from unfade.recipes.evaluate import Evaluation, contender, evaluate

RISING = 0.95
NOISE = ("peer:nlm", "peer:bilateral", "peer:bm3d")
BLIND = ("peer:identity", "peer:nlm-default", "peer:bilateral", "peer:clahe", "peer:gamma")
TOLD = (
    "peer:wiener",
    "peer:wiener-wrong",
    "peer:richardson-lucy",
    "peer:clahe",
    "peer:gamma",
    "peer:mean-gain",
)


@dataclass(frozen=True, slots=True)
class Part:
    """One evaluation.

    Attributes:
        protocol: what is measured.
        photos: folder below `--data`, or "examples".
        peers: who is measured beside the model on request.
        drawn: whether damage is drawn at random, so that some photos a group are enough.
    """

    protocol: Benchmark
    photos: str
    peers: tuple[str, ...] = ()
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class Demand:
    """What the issue asks of a group.

    Attributes:
        psnr, gain: least mean PSNR of the result, and least mean gain over the input, in dB.
        known_input: PSNR of the input in the literature, within 0.15 dB: checks the protocol itself.
        rises: whether films have to rise.
    """

    psnr: float | None = None
    gain: float | None = 0.0
    known_input: float | None = None
    rises: bool = True


DEMANDS = {
    ("CBSD68", "noise-25"): Demand(psnr=29.8),
    ("Set5", "x2"): Demand(psnr=34.5, known_input=33.66),
    ("Set5", "x4"): Demand(psnr=29.0, known_input=28.42),
    ("CBSD68, JPEG", "jpeg-20"): Demand(gain=0.4),
    ("Everyday damage on CBSD68", "motion-15"): Demand(gain=0.4),
    ("Everyday damage on CBSD68", "dark-0.2"): Demand(gain=11.0),
    ("Everyday damage on CBSD68", "dark-0.1"): Demand(gain=11.0),
}
UNHARMED = Demand(psnr=36.0, gain=None, rises=False)


def parts() -> list[Part]:
    """Every evaluation, in the order of the tables."""
    everyday = benchmark("everyday")
    strong = Group(name="lowlight-strong", make="lowlight", strength="strong", count=68)
    everyday = replace(everyday, groups=(*everyday.groups, strong))
    foundir = synthesized(benchmark("foundir"))
    snow = replace(foundir, name="unseen", title="Unseen: snow", groups=(Group(name="snow", make="snow"),))
    set14, examples = (
        replace(
            everyday,
            name=name,
            title=title,
            groups=(Group(name="clean", make="clean"),),
            citation="",
            notes=(),
        )
        for name, title in (("set14-clean", "Set14"), ("examples-clean", "Example photos"))
    )
    return [
        Part(benchmark("cbsd68"), "cbsd68", NOISE),
        Part(only(benchmark("set5"), ["x2", "x4"]), "set5", ("peer:bicubic", "peer:lanczos")),
        Part(only(benchmark("set14"), ["x2", "x4"]), "set14", ("peer:bicubic", "peer:lanczos")),
        Part(benchmark("cbsd68-jpeg"), "cbsd68", ("peer:bilateral", "peer:nlm-default")),
        Part(everyday, "cbsd68", TOLD),
        Part(foundir, "cbsd68", BLIND, drawn=True),
        Part(snow, "cbsd68", BLIND, drawn=True),
        Part(set14, "set14"),
        Part(examples, "examples"),
    ]


def demand(title: str, group: str) -> Demand:
    """What is asked of a group: its own demand, or that nothing gets worse."""
    return UNHARMED if group == "clean" else DEMANDS.get((title, group), Demand())


def bars(title: str, table: Sequence[dict[str, Any]], whole: bool) -> Iterator[Bar]:
    """A part's bars with the values found; a known input is that of a complete set."""
    for row in table:
        name, asked = f"{title} {row['group']}", demand(title, row["group"])
        if asked.psnr is not None:
            yield Bar(f"{name}: PSNR, dB", row["output"], asked.psnr)
        if asked.gain is not None:
            yield Bar(f"{name}: gain, dB", row["gain"], asked.gain)
        if asked.known_input is not None:
            off = abs(row["input"] - asked.known_input)
            yield Bar(f"{name}: input off {asked.known_input} dB", off, 0.15, at_most=True, applies=whole)
        if asked.rises:
            yield Bar(f"{name}: films that rise, share", row["rising"], RISING)


def lines(found: Evaluation, metric: str) -> list[dict[str, Any]]:
    """One entry a group and contender, of the benchmark's first metric."""
    speeds = {one["name"]: one["seconds_per_megapixel"] for one in found.timing["models"]}
    title, synthetic = found.report["benchmark"]["title"], found.report["benchmark"]["synthetic"]
    table: list[dict[str, Any]] = []
    for group in found.report["groups"]:
        rows = [row for row in found.rows if (row.group, row.model) == (group["group"], group["model"])]
        films = [row.film[metric] for row in rows if metric in row.film]
        table.append(
            {
                "benchmark": title,
                "synthetic": synthetic,
                "group": group["group"],
                "restorer": group["model"],
                "metric": metric,
                "images": len(rows),
                "input": number(group["input"][metric]),
                "output": number(group["output"][metric]),
                "gain": number(group["gain"][metric]),
                "worst_gain": min(_gain(row, metric) for row in rows),
                "rising": group["rising"],
                "largest_drop": max((_drop(film) for film in films), default=None),
                "seconds_per_megapixel": speeds[group["model"]],
            }
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/bench")
    parser.add_argument("--model", default="tiny", help="a catalog name or a .safetensors file")
    parser.add_argument("--limit", type=int, default=0, help="photos a group, 0 for all")
    parser.add_argument("--groups", type=int, default=20, help="photos a group whose damage is drawn")
    parser.add_argument("--only", default="", help="only parts whose title contains this")
    parser.add_argument("--peers", type=int, default=0, help="photos a group on which peers are measured too")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--dtype", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "benchmarks/results/quality.json")
    asked = parser.parse_args()
    folders = {name: asked.data / name for name in ("set5", "set14", "cbsd68")}
    missing = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if missing:
        print(f"Nothing was measured: there is no {' or '.join(missing)}; name their parent with --data.")
        return 3
    folders["examples"] = REPOSITORY / "examples"
    settings = Settings(
        seed=asked.seed, steps=asked.steps, dtype=asked.dtype, device=asked.device, along="first"
    )
    begun = time.perf_counter()
    judged: list[Bar] = []
    measured: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    for part in parts():
        if asked.only not in part.protocol.title:
            continue
        limit = min((one for one in (asked.groups if part.drawn else 0, asked.limit) if one), default=None)
        metric = f"psnr-{part.protocol.conventions[0].name}"
        common: dict[str, Any] = {"settings": settings, "workers": asked.workers}
        place = folders[part.photos]
        found = evaluate(part.protocol, place, [asked.model], limit=limit, frames=True, **common)
        table = lines(found, metric)
        measured += table
        judged += bars(part.protocol.title, table, whole=limit is None)
        _show(table)
        if asked.peers and part.peers:
            few = min(asked.peers, limit or asked.peers)
            found = evaluate(part.protocol, place, [asked.model, *part.peers], limit=few, **common)
            table = lines(found, metric)
            compared += table
            _show(table)
    if not measured:
        print(f"Nothing was measured: no part's title contains {asked.only!r}.")
        return 3
    print_bars(judged)
    model = contender(asked.model)
    results = {
        "model": model.name,
        "weights": model.weights,
        "limit": asked.limit,
        "plan": {"steps": asked.steps, "dtype": asked.dtype, "device": asked.device, "seed": asked.seed},
        "seconds": time.perf_counter() - begun,
        "groups": measured,
        "peers": compared,
    }
    write_results(asked.output, results, judged)
    print(f"written: {asked.output}")
    return 1 if asked.strict and any(bar.passed is False for bar in judged) else 0


def _gain(row: Row, metric: str) -> float:
    gain = difference(row.output[metric], row.input[metric])
    return math.nan if gain is None else gain


def _drop(film: Sequence[float]) -> float:
    return max(0.0, *(a - b if a != b else 0.0 for a, b in zip(film, film[1:], strict=False)))


def _show(table: Sequence[dict[str, Any]]) -> None:
    keys = (
        "restorer",
        "images",
        "input",
        "output",
        "gain",
        "rising",
        "largest_drop",
        "seconds_per_megapixel",
    )
    rows = [(f"{row['benchmark']} {row['group']}", *(row[key] for key in keys)) for row in table]
    print_table(("group", "restorer", "photos", "input", "output", "gain", "rising", "drop", "s/MP"), rows)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
