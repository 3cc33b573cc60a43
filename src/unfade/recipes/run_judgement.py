"""Gives a trained `tiny` its judgement of its own answers: how far to follow them, and how wrong they may be."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.core import UsageError
from unfade.training.doubt import DoubtRun, fit_doubt
from unfade.training.photos import Photos, load_photos
from unfade.training.team import Team, work_together
from unfade.training.trust import Answers, TrustRun, fit_trust, followed, look


def run_judgement(
    photos: Sequence[Path],
    weights: Path,
    target: Path,
    *,
    trust: TrustRun | None = None,
    doubt: DoubtRun | None = None,
    keep_trust: bool = False,
    held_out: int = 24,
    judged: int = 600,
    workers: int = 1,
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Fits `Trust` and `Doubt` for the weights of a finished training; the network itself stays as it is.

    Command: `unfade train judgement --photos DIR --weights FILE -o FILE --workers 2`. Hardware: 2 cores; about 15
    minutes without doubt.

    Args:
        photos: the folders, or the packed file, the network was trained on.
        weights: of the network.
        target: the file to write, with network and judgement in it.
        trust: how far answers are followed; the usual run if left out.
        doubt: how wrong they may be; what the weights have is kept if left out.
        keep_trust: leaves the trust that the weights have as it is.
        held_out: photos that were kept apart in training, and are here.
        judged: how many degraded photos, drawn from those, `Trust` is judged by.
        workers: processes, best one a CPU core.
        report: told how it goes, and at the end what `Trust` does to the photos held out; must be importable where
            there are several workers.

    Raises:
        InputError: the photos can't be read.
        ModelError: the weights can't be used.
        OutputError: the target can't be written.
        UsageError: there is no trust to keep, or nothing to do.
    """
    runs = trust or TrustRun(), doubt, keep_trust
    if load_tiny(weights).trust is None and keep_trust:
        raise UsageError(f"{weights} has no trust to keep; leave --keep-trust out")
    if keep_trust and (trust is not None or doubt is None):
        raise UsageError("with --keep-trust there is --doubt to fit, or nothing is left to do")
    loaded = load_photos(photos)
    loaded.split(held_out)
    work_together(workers, _fit, runs, loaded, held_out, judged, weights, target, report)
    return target


def _fit(
    team: Team,
    runs: tuple[TrustRun, DoubtRun | None, bool],
    photos: Photos,
    held_out: int,
    judged: int,
    weights: Path,
    target: Path,
    report: Callable[[dict[str, Any]], None] | None,
) -> None:
    run, doubted, keep_trust = runs
    loaded = load_tiny(weights)
    training, apart = photos.split(held_out)
    model = loaded.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def tell(row: dict[str, Any]) -> None:
        if report and team.leads:
            report(row)

    def count(number: int) -> None:
        if number % 200 < team.size:
            tell({"photo": number, "of": run.photos})

    doubt = loaded.doubt
    if doubted is not None:
        steps = doubted.steps
        doubt = fit_doubt(
            model, training, doubted, team, lambda step, loss: tell({"step": step, "of": steps, "loss": loss})
        )
    if keep_trust:
        if team.leads:
            save_tiny(model, model.state_dict(), target, loaded.notes, loaded.trust, doubt, loaded.gather)
        return
    seen = team.gather(look(model, training, run, range(team.rank, run.photos, team.size), count))
    others = team.gather(
        look(model, apart, run, range(run.photos + team.rank, run.photos + judged, team.size))
    )
    if not team.leads:
        return
    trust = fit_trust(Answers.joined(seen), run)
    save_tiny(model, model.state_dict(), target, loaded.notes, trust, doubt, loaded.gather)
    tell({"held out": followed(trust, Answers.joined(others), run)})
