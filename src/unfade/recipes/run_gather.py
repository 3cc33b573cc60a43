"""Teaches a trained `tiny` footage: what neighbouring frames know of a frame."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.core import UnfadeError, UsageError
from unfade.recipes.run_tiny import commit
from unfade.training.gather import GatherRun, GatherTrainer
from unfade.training.photos import Photos, load_photos
from unfade.training.team import Team, work_together


def run_gather(
    photos: Sequence[Path],
    weights: Path,
    folder: Path,
    *,
    run: GatherRun | None = None,
    steps: int | None = None,
    until: int | None = None,
    start: Path | None = None,
    workers: int = 1,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Trains `Gather`, or goes on training it; returns the path of the weights with it in them.

    Command: `unfade train footage --photos DIR --weights FILE --workers 2`. Hardware: 2 cores with avx512_bf16; about
    65 minutes. The network itself, and so every photo, stays as it is.

    Args:
        photos: the folders, or the packed file, the network was trained on.
        weights: of the network, with its judgement.
        folder: of the run.
        run: how; the usual run if left out.
        steps: instead of the run's own number.
        until: stop after this step.
        start: weights with a `Gather` to begin from, where the folder has no checkpoint yet.
        workers: processes that share each batch, best one a CPU core.
        report: told every line of the log; must be importable where there are several workers.

    Raises:
        InputError: the photos can't be read, or the folder holds another network's checkpoint.
        ModelError: the weights can't be used.
        OutputError: the result can't be written.
        UsageError: the workers can't share a batch evenly, or there is nothing to begin from in `start`.
        UnfadeError: the loss is not a number any more, or a worker failed.
    """
    run = run or GatherRun()
    if steps is not None:
        run = replace(run, steps=steps)
    if run.windows.clips % workers:
        raise UsageError(
            f"{workers} workers can't share {run.windows.clips} clips; choose a number that divides them"
        )
    load_tiny(weights)
    if start is not None and load_tiny(start).gather is None:
        raise UsageError(f"{start} has learnt nothing of footage to begin from; leave --start out")
    loaded = load_photos(photos)
    loaded.split(run.held_out)
    try:
        work_together(workers, _train, run, loaded, weights, folder, until, start, report)
    except FloatingPointError as error:
        raise UnfadeError(f"{error}; the last checkpoint in {folder} is good") from error
    return folder / "tiny.safetensors"


def _train(
    team: Team,
    run: GatherRun,
    photos: Photos,
    weights: Path,
    folder: Path,
    until: int | None,
    start: Path | None,
    report: Callable[[dict[str, Any]], None] | None,
) -> None:
    loaded = load_tiny(weights)
    trainer = GatherTrainer(run, loaded.model, photos, folder, team=team)
    begin = load_tiny(start).gather if start is not None else None
    if not trainer.resume() and begin is not None:
        trainer.start_from(begin)
    trainer.run(until, report)
    if team.leads:
        notes = {
            **loaded.notes,
            "footage": json.dumps({"commit": commit(), "steps": trainer.step, **asdict(run)}),
        }
        state = loaded.model.state_dict()
        target = folder / "tiny.safetensors"
        save_tiny(loaded.model, state, target, notes, loaded.trust, loaded.doubt, trainer.averaged())
