"""Gives a trained `tiny` skills: a specialist for each family of damage, their kernels in one network."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.core import InputError, UnfadeError, UsageError
from unfade.recipes.run_tiny import commit
from unfade.recipes.tiny import tiny_specialist
from unfade.training.families import NAMES
from unfade.training.photos import Photos, load_photos
from unfade.training.skills import ChoiceRun, fit_choice, merged
from unfade.training.team import Team, work_together
from unfade.training.tiny import TinyRun, TinyTrainer, shortened
from unfade.version import __version__


def run_skills(
    photos: Sequence[Path],
    weights: Path,
    folder: Path,
    *,
    specialist: TinyRun | None = None,
    steps: int | None = None,
    choice: ChoiceRun | None = None,
    workers: int = 1,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Trains the specialists, or goes on with them, merges them, and writes a network that has yet to be trained whole.

    Command: `unfade train skills --photos DIR --weights FILE --runs DIR --workers 2`. Hardware: 2 cores with
    avx512_bf16; about 45 minutes.

    Args:
        photos: the folders, or the packed file, the network was trained on.
        weights: of a network of one skill.
        folder: of the run; each specialist has one of its own in it.
        specialist: how each is trained; the usual run if left out.
        steps: of each, instead of the run's own number.
        choice: how the network learns which skill a photo needs; the usual run if left out.
        workers: processes that share each batch, best one a CPU core.
        report: told every line of the logs; must be importable where there are several workers.

    Returns:
        The path of the merged weights, which `unfade train tiny --start` goes on with.

    Raises:
        InputError: the photos can't be read, or the weights have skills already.
        ModelError: the weights can't be used.
        OutputError: the result can't be written.
        UsageError: the workers can't share a batch evenly.
        UnfadeError: the loss is not a number any more, or a worker failed.
    """
    run = specialist or tiny_specialist()
    if steps is not None:
        run = shortened(run, steps)
    base = load_tiny(weights).model
    if max(base.config.skills) > 1:
        raise InputError(f"{weights} has skills already; train it on with unfade train tiny --start")
    run = replace(run, network=base.config)
    for _, _, batch in run.stages:
        if batch % (workers * run.together):
            raise UsageError(
                f"{workers} workers can't share a batch of {batch} in groups of {run.together}; "
                f"choose a number that divides {batch // run.together}"
            )
    loaded = load_photos(photos)
    loaded.split(run.held_out)
    try:
        work_together(workers, _train, run, choice or ChoiceRun(), loaded, weights, folder, report)
    except FloatingPointError as error:
        raise UnfadeError(f"{error}; the last checkpoint in {folder} is good") from error
    return folder / "tiny.safetensors"


def _train(
    team: Team,
    run: TinyRun,
    choice: ChoiceRun,
    photos: Photos,
    weights: Path,
    folder: Path,
    report: Callable[[dict[str, Any]], None] | None,
) -> None:
    base = load_tiny(weights).model
    specialists: dict[str, Any] = {}
    for family in NAMES:
        trainer = TinyTrainer(replace(run, family=family), photos, folder / family, team=team)
        if not trainer.resume():
            trainer.start_from(base)
        trainer.run(report=report)
        specialists[family] = trainer.average
    if not team.leads:
        return
    model = merged(base, specialists)
    training, _ = photos.split(run.held_out)

    def tell(step: int, right: float) -> None:
        if report:
            report({"step": step, "of": choice.steps, "right": round(right, 3)})

    fit_choice(model, training, choice, tell)
    notes = {
        "software": f"unfade {__version__}",
        "commit": commit(),
        "specialists": json.dumps(asdict(run)),
        "choice": json.dumps(asdict(choice)),
    }
    save_tiny(model, model.state_dict(), folder / "tiny.safetensors", notes)
