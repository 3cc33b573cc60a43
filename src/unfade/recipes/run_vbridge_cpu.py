"""Carries the CPU-sized proof of V-Bridge out, stage by stage; whatever is done already is not done again.

python -m unfade.recipes.run_vbridge_cpu --photos DIR... --runs DIR [--stage vae|base|drift|ablations|report|all]
"""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from unfade.core import UnfadeError, UsageError
from unfade.recipes.command import carried_out, proof_parser, tell
from unfade.recipes.stages import timed
from unfade.recipes.vbridge_cpu import RECIPES
from unfade.recipes.vbridge_cpu_report import report_proof
from unfade.recipes.vbridge_proof import Report, VBridgeProof

STAGES = ("vae", "base", "drift", "ablations", "report")


def run_vbridge_cpu(
    photos: Sequence[Path],
    folder: Path,
    *,
    recipe: str = "cpu",
    stage: str = "all",
    workers: int = 2,
    report: Report | None = None,
) -> None:
    """Does one stage, or all of them in the order and side by side as two cores do them fastest.

    Args:
        photos: folders.
        folder: of the run.
        recipe: a name in `vbridge_cpu.RECIPES`.
        stage: one of "vae", "base", "drift", "ablations", "report", or "all".
        workers: processes that train the VAE; with more than one, "all" trains ablations beside the rest.
        report: told every line of the logs; must be importable where there are several workers.

    Raises:
        UsageError: recipe or stage is unknown.
        InputError: the photos can't be read or are too few.
        UnfadeError: a stage failed.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe {recipe!r}; there is {', '.join(RECIPES)}")
    if stage not in (*STAGES, "all"):
        raise UsageError(f"unknown stage {stage!r}; there is {', '.join(STAGES)} and all")
    proof = VBridgeProof(RECIPES[recipe](), photos, folder, report)
    stages: dict[str, Callable[[], object]] = {
        "vae": lambda: proof.train_vae(workers),
        "base": proof.train_base,
        "drift": proof.train_drift,
        "ablations": proof.train_ablations,
        "report": lambda: report_proof(proof, proof.folder / "report"),
    }
    if stage != "all":
        timed(proof.folder, stage, stages[stage])
        return
    timed(proof.folder, "vae", stages["vae"])
    beside = _beside(photos, folder, recipe) if workers > 1 else None
    try:
        for name in ("base", "drift"):
            timed(proof.folder, name, stages[name])
        if beside is not None and beside.wait():
            raise UnfadeError("the ablations failed; run them alone with --stage ablations to see why")
    finally:
        if beside is not None and beside.poll() is None:
            beside.terminate()
            beside.wait()
    if beside is None:
        timed(proof.folder, "ablations", stages["ablations"])
    timed(proof.folder, "report", stages["report"])


def _beside(photos: Sequence[Path], folder: Path, recipe: str) -> subprocess.Popen[bytes]:
    """The ablations in a process of their own; what is left of this one takes the other core."""
    torch.set_num_threads(1)
    words = [sys.executable, "-m", __name__ if __name__ != "__main__" else "unfade.recipes.run_vbridge_cpu"]
    words += ["--photos", *map(str, photos), "--runs", str(folder), "--recipe", recipe]
    return subprocess.Popen([*words, "--stage", "ablations", "--threads", "1"])


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = proof_parser("unfade.recipes.run_vbridge_cpu", __doc__, STAGES, RECIPES)
    parser.add_argument("--threads", type=int, help="threads of this process")
    given = parser.parse_args(words)
    # So that the process beside this one is ended as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if given.threads:
        torch.set_num_threads(given.threads)
    return carried_out(
        lambda: run_vbridge_cpu(
            given.photos,
            given.runs,
            recipe=given.recipe,
            stage=given.stage,
            workers=given.workers,
            report=tell,
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
