"""How well a model restores: the classic tests of small networks, FoundIR's twenty groups, and clean photos.

    python benchmarks/quality.py --data ../shared/data/bench --model tiny -o benchmarks/results/quality.json

`--data` holds `set5`, `set14` and `cbsd68`. Exit code 0 with the results written (whatever they are;
`--strict` makes a missed bar exit 1), 3 if the data is not there.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from measurement import REPOSITORY, Bar, print_bars, print_table, write_results
from unfade.core import Plan, Restorer
from unfade.degrade import FOUNDIR, SINGLE
from unfade.evaluation.peers import Bilateral, Bm3d, Clahe, Identity, NonLocalMeans
from unfade.evaluation.protocol import Report, Task, classic, composed, run_task
from unfade.media.images import read_image
from unfade.restore.load import load

RISING = 0.95


@dataclass(frozen=True, slots=True)
class Case:
    """A task on a set of photos, and what the issue asks of it.

    Attributes:
        task: what is done.
        photos: the set's folder.
        limit: at most so many photos, 0 for all.
        psnr, gain: least mean PSNR of the result and least mean gain over the input, in dB; nothing may get worse.
        known_input: (PSNR, tolerance) of the degraded input in the literature: checks the protocol itself.
        rises: whether the film is expected to rise.
    """

    task: Task
    photos: str
    limit: int = 0
    psnr: float | None = None
    gain: float | None = 0.0
    known_input: tuple[float, float] | None = None
    rises: bool = True

    @property
    def name(self) -> str:
        return f"{self.photos} {self.task.name}"

    def bars(self, report: Report, complete: bool) -> Iterator[Bar]:
        """The case's bars with the report's values; the known input is that of a complete set."""
        output, given = report.mean(lambda row: row.output_psnr), report.mean(lambda row: row.input_psnr)
        if self.psnr is not None:
            yield Bar(f"{self.name}: PSNR, dB", output, self.psnr)
        if self.gain is not None:
            yield Bar(f"{self.name}: gain, dB", output - given, self.gain)
        if self.known_input is not None:
            expected, tolerance = self.known_input
            name = f"{self.name}: input off {expected} dB"
            yield Bar(name, abs(given - expected), tolerance, at_most=True, applies=complete)
        if self.rises:
            yield Bar(f"{self.name}: films that rise, share", report.rising, RISING)


def cases(groups: int) -> list[Case]:
    """Every case; FoundIR's groups and snow on `groups` photos each."""
    strong = composed("lowlight-strong", SINGLE["lowlight"], "strong")
    listed = [
        Case(classic("noise-15"), "cbsd68"),
        Case(classic("noise-25"), "cbsd68", psnr=29.8),
        Case(classic("noise-50"), "cbsd68"),
        Case(classic("x2"), "set5", psnr=34.5, known_input=(33.66, 0.15)),
        Case(classic("x4"), "set5", psnr=29.0, known_input=(28.42, 0.15)),
        Case(classic("x2"), "set14"),
        Case(classic("x4"), "set14"),
        Case(classic("jpeg-10"), "cbsd68"),
        Case(classic("jpeg-20"), "cbsd68", gain=0.4),
        Case(classic("jpeg-40"), "cbsd68"),
        Case(classic("motion-15"), "cbsd68", gain=0.4),
        Case(classic("defocus-3"), "cbsd68"),
        Case(classic("dark-0.2"), "cbsd68", gain=11.0),
        Case(classic("dark-0.1"), "cbsd68", gain=11.0),
        Case(strong, "cbsd68"),
    ]
    listed += [Case(composed(name, kinds), "cbsd68", groups) for name, kinds in FOUNDIR.items()]
    listed.append(Case(composed("snow (unseen)", SINGLE["snow"]), "cbsd68", groups))
    clean = (
        Case(classic("clean"), folder, psnr=36.0, gain=None, rises=False)
        for folder in ("set14", "cbsd68", "examples")
    )
    return [*listed, *clean]


def peers(task: str) -> dict[str, Restorer]:
    """What a task is compared with on request: filters that know the noise level, or that brighten."""
    kind, _, level = task.partition("-")
    if kind == "noise":
        sigma = float(level)
        return {
            "nlm h=10": NonLocalMeans(),
            "nlm": NonLocalMeans.for_sigma(sigma),
            "bilateral": Bilateral.for_sigma(sigma),
            "bm3d": Bm3d(sigma),
        }
    if kind in ("dark", "lowlight"):
        return {"clahe": Clahe()}
    return {"identity": Identity()} if kind == "clean" else {}


def photos(folder: Path, limit: int) -> list[tuple[str, Tensor]]:
    """Name and pixels `[3, H, W]` of a folder's first photos, in the order of their names."""
    paths = sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    return [(path.name, read_image(path).frames[0]) for path in paths[: limit or None]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data/bench")
    parser.add_argument("--model", default="tiny", help="a catalog name or a .safetensors file")
    parser.add_argument("--limit", type=int, default=0, help="photos per case, 0 for all")
    parser.add_argument("--groups", type=int, default=20, help="photos per FoundIR group")
    parser.add_argument("--only", default="", help="only cases whose name contains this")
    parser.add_argument("--peers", type=int, default=0, help="photos on which peers are measured as well")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--dtype", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for PyTorch's choice")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    parser.add_argument("-o", "--output", type=Path, default=REPOSITORY / "benchmarks/results/quality.json")
    asked = parser.parse_args()
    folders = {name: asked.data / name for name in ("set5", "set14", "cbsd68")}
    missing = [str(folder) for folder in folders.values() if not folder.is_dir()]
    if missing:
        print(f"Nothing was measured: there is no {' or '.join(missing)}; name their parent with --data.")
        return 3
    folders["examples"] = REPOSITORY / "examples"
    if asked.threads:
        torch.set_num_threads(asked.threads)
    plan = Plan(steps=asked.steps, dtype=asked.dtype, device=asked.device)
    restorer = load(asked.model)
    model = Path(asked.model).name
    weights = getattr(getattr(restorer, "weights", None), "sha256", None)

    bars: list[Bar] = []
    tables: list[dict[str, object]] = []
    lines: list[tuple[object, ...]] = []
    begun = time.perf_counter()
    for case in cases(asked.groups):
        if asked.only not in case.name:
            continue
        limits = [limit for limit in (case.limit, asked.limit) if limit]
        shown = photos(folders[case.photos], min(limits, default=0))
        contenders: list[tuple[str, Restorer, list[tuple[str, Tensor]]]] = [(model, restorer, shown)]
        if asked.peers:
            contenders += [(name, peer, shown[: asked.peers]) for name, peer in peers(case.task.name).items()]
        for name, contender, subset in contenders:
            report = run_task(case.task, subset, contender, restorer_name=name, plan=plan, seed=asked.seed)
            tables.append({"photos": case.photos, "colour": case.task.colour, **report.as_dict()})
            if contender is restorer:
                bars += case.bars(report, complete=not limits)
            lines.append(_line(case.name, report))
            print(*(f"{cell:.2f}" if isinstance(cell, float) else cell for cell in lines[-1]), flush=True)
    if not lines:
        print(f"Nothing was measured: no case's name contains {asked.only!r}.")
        return 3
    print()
    header = (
        "case",
        "restorer",
        "photos",
        "input dB",
        "output dB",
        "gain dB",
        "SSIM",
        "rising",
        "drop dB",
        "s",
    )
    print_table(header, lines)
    print_bars(bars)
    measured = {
        "model": model,
        "weights": weights,
        "limit": asked.limit,
        "plan": {"steps": plan.steps, "dtype": plan.dtype, "device": plan.device, "seed": asked.seed},
        "seconds": time.perf_counter() - begun,
        "tasks": tables,
    }
    write_results(asked.output, measured, bars)
    print(f"written: {asked.output}")
    return 1 if asked.strict and any(bar.passed is False for bar in bars) else 0


def _line(name: str, report: Report) -> tuple[object, ...]:
    figures = report.summary()
    keys = ("images", "input_psnr", "output_psnr", "gain", "output_ssim", "rising", "largest_drop", "seconds")
    return (name, report.restorer, *(figures[key] for key in keys))


if __name__ == "__main__":
    sys.exit(main())
