"""Gives a trained `tiny` its judgement of how far its own answers may be followed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.training.photos import Photos, load_photos
from unfade.training.team import Team, work_together
from unfade.training.trust import Answers, TrustRun, fit_trust, followed, look


def run_trust(
    photos: Sequence[Path],
    weights: Path,
    target: Path,
    *,
    run: TrustRun | None = None,
    held_out: int = 24,
    judged: int = 600,
    workers: int = 1,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Fits `Trust` for the weights of a finished training and writes both together; the network stays as it is.

    Args:
        photos: the folders, or the packed file, the network was trained on.
        weights: of the network.
        target: the file to write.
        run: how; `TrustRun()` if left out.
        held_out: photos that were kept apart in training, and are here.
        judged: how many drawn from those the result is judged by.
        workers: processes, best one a CPU core.
        report: told how many photos are done, and at the end what it does to those held out; must be importable where
            there are several workers.

    Raises:
        InputError: the photos can't be read.
        ModelError: the weights can't be used.
        OutputError: the target can't be written.
    """
    run = run or TrustRun()
    load_tiny(weights)
    loaded = load_photos(photos)
    loaded.split(held_out)
    work_together(workers, _fit, run, loaded, held_out, judged, weights, target, report)
    return target


def _fit(
    team: Team,
    run: TrustRun,
    photos: Photos,
    held_out: int,
    judged: int,
    weights: Path,
    target: Path,
    report: Callable[[dict[str, Any]], None] | None,
) -> None:
    loaded = load_tiny(weights)
    training, apart = photos.split(held_out)
    model = loaded.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def tell(number: int) -> None:
        if report and team.leads and number % 200 < team.size:
            report({"photo": number, "of": run.photos})

    seen = team.gather(look(model, training, run, range(team.rank, run.photos, team.size), tell))
    others = team.gather(
        look(model, apart, run, range(run.photos + team.rank, run.photos + judged, team.size))
    )
    if not team.leads:
        return
    trust = fit_trust(Answers.joined(seen), run, model.config.context)
    save_tiny(model, model.state_dict(), target, loaded.notes, trust)
    if report:
        report({"held out": followed(trust, Answers.joined(others))})
