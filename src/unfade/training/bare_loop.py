"""The loop of a training in bare PyTorch: steps, and now and then a line of the log and a checkpoint."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from unfade.training.team import Team

Report = Callable[[dict[str, Any]], None]
_EVERY = 100


class Schedule(Protocol):
    """How long a run is, how fast, and what happens how often."""

    @property
    def steps(self) -> int: ...

    @property
    def validate_every(self) -> int: ...

    @property
    def checkpoint_every(self) -> int: ...

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        ...


class BareTrainer(Protocol):
    """What owns the state of a run."""

    step: int
    team: Team
    folder: Path

    def train_step(self) -> float:
        """One update; returns the loss."""
        ...

    def save(self) -> None:
        """Writes the checkpoint; called by the whole team."""
        ...


def run_steps(
    trainer: BareTrainer,
    schedule: Schedule,
    judge: Callable[[], Any],
    until: int | None = None,
    report: Report | None = None,
) -> None:
    """Trains to the end of the schedule, or to step `until`; checkpoints and logs on the way.

    Args:
        trainer: at whatever step it stands.
        schedule: of its run.
        judge: gives what the log says of held-out photos, as "psnr".
        until: stop after this step.
        report: told every row of the log, in the process that leads.
    """
    end = min(until or schedule.steps, schedule.steps)
    recent: list[float] = []
    begun = time.perf_counter()
    while trainer.step < end:
        recent.append(trainer.train_step())
        step, last = trainer.step, trainer.step == end
        if (step % _EVERY == 0 or last) and trainer.team.leads:
            row: dict[str, Any] = {
                "step": step,
                "loss": round(sum(recent) / len(recent), 5),
                "rate": round(schedule.rate(step - 1), 7),
                "seconds": round(time.perf_counter() - begun, 1),
            }
            if step % schedule.validate_every == 0 or last:
                row["psnr"] = judge()
            write_row(trainer.folder, row, report)
            recent, begun = [], time.perf_counter()
        if step % schedule.checkpoint_every == 0 or last:
            trainer.save()


def write_row(folder: Path, row: dict[str, Any], report: Report | None = None) -> None:
    """Adds a line to the log of a run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    if report:
        report(row)
