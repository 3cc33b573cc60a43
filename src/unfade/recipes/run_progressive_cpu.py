"""Carries the CPU-sized proof of Progressive out, stage by stage; whatever is done already is not done again.

python -m unfade.recipes.run_progressive_cpu --photos DIR... --runs DIR [--stage vae|base|adapter|report|all]
"""

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unfade.recipes.command import carried_out, check_proof, proof_parser, tell
from unfade.recipes.progressive_cpu import RECIPES
from unfade.recipes.progressive_cpu_report import report_proof
from unfade.recipes.progressive_proof import ProgressiveProof, Report
from unfade.recipes.stages import timed

STAGES = ("vae", "base", "adapter", "report")


def run_progressive_cpu(
    photos: Sequence[Path],
    folder: Path,
    *,
    recipe: str = "cpu",
    stage: str = "all",
    workers: int = 2,
    report: Report | None = None,
) -> None:
    """Does one stage, or all of them in turn.

    Args:
        photos: folders.
        folder: of the run.
        recipe: a name in `progressive_cpu.RECIPES`.
        stage: one of "vae", "base", "adapter", "report", or "all".
        workers: processes that train the VAE.
        report: told every line of the logs; must be importable where there are several workers.

    Raises:
        UsageError: recipe or stage is unknown, there are no workers, or a stage's turn has not come.
        InputError: the photos can't be read or are too few.
        UnfadeError: a stage failed.
    """
    check_proof(recipe, RECIPES, stage, STAGES, workers)
    proof = ProgressiveProof(RECIPES[recipe](), photos, folder, report)
    stages: dict[str, Callable[[], object]] = {
        "vae": lambda: proof.train_vae(workers),
        "base": proof.train_base,
        "adapter": proof.train_adapter,
        "report": lambda: report_proof(proof, proof.folder / "report"),
    }
    for name in STAGES if stage == "all" else (stage,):
        timed(proof.folder, name, stages[name])


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = proof_parser("unfade.recipes.run_progressive_cpu", __doc__, STAGES, RECIPES)
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return carried_out(
        lambda: run_progressive_cpu(
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
