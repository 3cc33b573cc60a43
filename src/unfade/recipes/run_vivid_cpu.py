"""Carries the CPU-sized proof of Vivid-VR out, stage by stage; whatever is done already is not done again.

python -m unfade.recipes.run_vivid_cpu --photos DIR... --clips DIR --runs DIR [--stage NAME|all]
"""

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unfade.recipes.command import carried_out, check_proof, proof_parser, tell
from unfade.recipes.stages import timed
from unfade.recipes.vivid_cpu import RECIPES
from unfade.recipes.vivid_cpu_report import judge_proof, report_proof
from unfade.recipes.vivid_proof import Report, VividProof

STAGES = ("vae", "footage", "base", "concepts", "control", "judge", "report")


def run_vivid_cpu(
    photos: Sequence[Path],
    clips: Path,
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
        clips: folder of real footage.
        folder: of the run.
        recipe: a name in `vivid_cpu.RECIPES`.
        stage: one of `STAGES`, or "all".
        workers: processes that train the VAE and judge, and variants of control at a time.
        report: told every line of the logs; must be importable where there are several workers.

    Raises:
        UsageError: recipe or stage is unknown, there are no workers, or a stage's turn has not come.
        InputError: photos or footage can't be read or are too few.
        UnfadeError: a stage failed.
    """
    check_proof(recipe, RECIPES, stage, STAGES, workers)
    proof = VividProof(recipe, photos, clips, folder, report)
    stages: dict[str, Callable[[], object]] = {
        "vae": lambda: proof.train_vae(workers),
        "footage": proof.make_footage,
        "base": proof.train_base,
        "concepts": proof.distil,
        "control": lambda: proof.train_controls(workers),
        "judge": lambda: judge_proof(proof, workers),
        "report": lambda: report_proof(proof, proof.folder / "report"),
    }
    for name in STAGES if stage == "all" else (stage,):
        timed(proof.folder, name, stages[name])


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = proof_parser("unfade.recipes.run_vivid_cpu", __doc__, STAGES, RECIPES)
    parser.add_argument("--clips", type=Path, required=True, help="folder of real footage, the last held out")
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return carried_out(
        lambda: run_vivid_cpu(
            given.photos,
            given.clips,
            given.runs,
            recipe=given.recipe,
            stage=given.stage,
            workers=given.workers,
            report=tell,
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
