"""Carries a `tiny` recipe out: photos in, checkpoint, log and weights out."""

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.tiny import Tiny
from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.core import UnfadeError, UsageError
from unfade.recipes.tiny import RECIPES
from unfade.training.photos import Photos, load_photos
from unfade.training.team import Team, work_together
from unfade.training.tiny import TinyRun, TinyTrainer, shortened
from unfade.version import __version__


def run_tiny(
    photos: Sequence[Path],
    folder: Path,
    *,
    recipe: str = "cpu",
    steps: int | None = None,
    until: int | None = None,
    start: Path | None = None,
    device: str = "cpu",
    workers: int = 1,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Trains, or goes on training, and writes the averaged weights; returns their path.

    Args:
        photos: folders, or one packed file.
        folder: of the run.
        recipe: a name in `RECIPES`.
        steps: instead of the recipe's own number.
        until: stop after this step.
        start: weights to begin from, where the folder has no checkpoint yet; their sizes are taken over.
        device: "cpu" or "cuda".
        workers: processes that share each batch, best one a CPU core; a single one takes all cores.
        report: told every line of the log; must be importable where there are several workers.

    Raises:
        UsageError: the recipe or device is unknown, or the workers can't share a batch evenly.
        UnfadeError: the loss is not a number any more, or a worker failed.
        InputError: the photos can't be read, or the folder holds another network's checkpoint.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown recipe {recipe!r}; there is {', '.join(RECIPES)}")
    if device not in ("cpu", "cuda"):
        raise UsageError(f"training runs on cpu or cuda, not {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no cuda device that PyTorch can use; train with --device cpu")
    run = RECIPES[recipe]()
    if steps is not None:
        run = shortened(run, steps)
    if start is not None:
        run = replace(run, network=_whole(load_tiny(start).model).config)
    for _, _, batch in run.stages:
        if batch % (workers * run.together):
            raise UsageError(
                f"{workers} workers can't share a batch of {batch} in groups of {run.together}; "
                f"choose a number that divides {batch // run.together}"
            )
    loaded = load_photos(photos)
    loaded.split(run.held_out)
    try:
        work_together(workers, _train, run, loaded, folder, device, until, start, report)
    except FloatingPointError as error:
        raise UnfadeError(f"{error}; the last checkpoint in {folder} is good") from error
    return folder / "tiny.safetensors"


def _train(
    team: Team,
    run: TinyRun,
    photos: Photos,
    folder: Path,
    device: str,
    until: int | None,
    start: Path | None,
    report: Callable[[dict[str, Any]], None] | None,
) -> None:
    trainer = TinyTrainer(run, photos, folder, device, team)
    if not trainer.resume() and start is not None:
        trainer.start_from(_whole(load_tiny(start).model))
    trainer.run(until, report)
    if team.leads:
        notes = {
            "software": f"unfade {__version__}",
            "commit": commit(),
            "steps": str(trainer.step),
            "run": json.dumps(asdict(run)),
        }
        trainer.model.config = replace(trainer.model.config, later=run.later)
        save_tiny(trainer.model, trainer.average, folder / "tiny.safetensors", notes)


def _whole(model: Tiny) -> Tiny:
    """The network with later corrections followed whole, as it is taught: a share is for walks, not for learning."""
    model.config = replace(model.config, later=1.0)
    return model


def commit() -> str:
    """The commit that trains, "unknown" outside a checkout, with "+" where files differ from it."""
    try:
        words = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty=+")
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
