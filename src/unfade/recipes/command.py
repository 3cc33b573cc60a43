"""What the commands of recipes have in common: their options, what they tell, and how they end."""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from unfade.core import UnfadeError, UsageError
from unfade.training.video_run import parse_stages


def tell(row: dict[str, Any]) -> None:
    """Prints a line of a log."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def carried_out(work: Callable[[], object]) -> int:
    """Does the work; returns the exit code that its end deserves, after a sentence where it failed or was stopped."""
    try:
        work()
    except UnfadeError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from where it stopped\n")
        return 130
    return 0


def proof_parser(
    module: str, about: str | None, stages: Sequence[str], recipes: Iterable[str]
) -> argparse.ArgumentParser:
    """Options of a proof that is carried out stage by stage.

    Args:
        module: that is run.
        about: its docstring.
        stages, recipes: names.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of clean photos")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the run")
    parser.add_argument("--stage", default="all", help=f"{', '.join(stages)} or all")
    parser.add_argument("--recipe", default="cpu", help=f"one of {', '.join(recipes)}")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes for the VAE; 1 does everything in turn"
    )
    return parser


def check_proof(
    recipe: str, recipes: Collection[str], stage: str, stages: Sequence[str], workers: int
) -> None:
    """Whether a proof can be carried out as asked for.

    Args:
        recipe, recipes: its name, and those there are.
        stage, stages: likewise; "all" is always one.
        workers: processes.

    Raises:
        UsageError: recipe or stage is unknown, or there are no workers.
    """
    if recipe not in recipes:
        raise UsageError(f"unknown recipe {recipe!r}; there is {', '.join(recipes)}")
    if stage not in (*stages, "all"):
        raise UsageError(f"unknown stage {stage!r}; there is {', '.join(stages)} and all")
    if workers < 1:
        raise UsageError(f"--workers must be at least 1, not {workers}")


def add_arguments(parser: argparse.ArgumentParser, each: int | None) -> None:
    """Options of a recipe that trains on pairs and judges on others.

    Args:
        parser: to add them to.
        each: pairs of each category to learn from, unless told otherwise; None leaves that to the recipe.
    """
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="folders of pairs")
    parser.add_argument("--layout", default="auto", help="of the pairs: auto, foundir, realce or plain")
    parser.add_argument("--model", required=True, help="the base model's folder or name")
    parser.add_argument("--runs", type=Path, required=True, help="folder of everything that comes out")
    parser.add_argument("--each", type=int, default=each, help="pairs of each category to learn from")
    parser.add_argument("--held-out", type=int, default=5, help="pairs of each category to judge on")
    parser.add_argument("--stages", help="epochs x pixels, such as 100x512,100x704,100x960")
    parser.add_argument("--batch", type=int, help="samples of a training step")
    parser.add_argument("--precision", choices=("bf16", "fp32"), help="of the training's arithmetic")
    parser.add_argument("--steps", type=int, help="of the sampler, instead of 50")
    parser.add_argument("--guidance", type=float, help="scale of guidance, instead of 5; 1 is none")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))


def add_start(parser: argparse.ArgumentParser) -> None:
    """The option of a recipe that trains a drift correction."""
    parser.add_argument(
        "--start",
        help="adapter that the drift correction's begins as, or base for the base's own; else a new one",
    )


def sampling_of(given: argparse.Namespace) -> dict[str, Any]:
    """What was asked of the sampler, as fields of `VBridgeSettings`."""
    asked = {"steps": given.steps, "guidance": given.guidance}
    return {name: value for name, value in asked.items() if value is not None}


def changes_of(given: argparse.Namespace) -> dict[str, Any]:
    """What was asked of the training, as fields of `VBridgeRun`.

    Raises:
        UsageError: stages are written otherwise than 100x512,100x704.
    """
    stages = parse_stages(given.stages) if given.stages else None
    asked = {"stages": stages, "batch": given.batch, "precision": given.precision}
    return {name: value for name, value in asked.items() if value is not None}
