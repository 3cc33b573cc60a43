"""A long recipe's stages, timed: a stage that was stopped or killed and went on has several pieces."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unfade.recipes.run_tiny import commit
from unfade.recipes.vbridge_judging import append_line, read_journal

_NOTES = "seconds.jsonl"
# Seconds between two notes of a piece that is under way.
_EVERY = 30.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a stage took, all its pieces together.

    Attributes:
        seconds: of wall time.
        core_seconds: of all cores together, which other work beside it hardly lengthens; None where not known.
        commits: of the code that did it.
    """

    seconds: float
    core_seconds: float | None
    commits: tuple[str, ...]

    def told(self) -> str:
        """In a line."""
        core = "" if self.core_seconds is None else f", {self.core_seconds:.0f} s of one core"
        return f"{self.seconds:.0f} s{core} (commit {', '.join(self.commits) or 'unknown'})"


def timed(folder: Path, stage: str, work: Callable[[], object], every: float = _EVERY) -> None:
    """Does a stage and notes in the run's folder how long this piece of it took, and which code did it.

    The note is written again and again while the stage is under way, so that a piece that was killed counts too. A
    stage that was done before and takes no time is not noted again.

    Args:
        folder: of the run.
        stage: its name.
        work: does it, or goes on with it.
        every: seconds between two notes.
    """
    code, begun, before, over = commit(), time.time(), _core_seconds(), threading.Event()

    def note() -> None:
        spent = {"seconds": round(time.time() - begun, 1), "core_seconds": round(_core_seconds() - before, 1)}
        append_line(folder / _NOTES, {"stage": stage, "begun": round(begun, 3), **spent, "commit": code})

    def watch() -> None:
        while not over.wait(every):
            note()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        work()
    finally:
        over.set()
        watching.join()
        if time.time() - begun > 0.5 or stage not in spent(folder):
            note()


def spent(folder: Path) -> dict[str, Spent]:
    """By stage, of the notes there are; of a piece that was noted several times, the last."""
    rows: dict[str, dict[object, dict[str, object]]] = {}
    for number, row in enumerate(read_journal(folder / _NOTES)):
        rows.setdefault(row["stage"], {})[row.get("begun", number)] = row
    return {stage: _together(list(pieces.values())) for stage, pieces in rows.items()}


def _core_seconds() -> float:
    """Of this process, those it has waited for, and those that it started and that are at work (told by Linux only)."""
    done, own = sum(os.times()[:4]), str(os.getpid())
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if len(fields) > 14 and fields[1] == own:
            done += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return done


def _together(pieces: list[dict[str, object]]) -> Spent:
    cores = [piece.get("core_seconds") for piece in pieces]
    known = [float(core) for core in cores if isinstance(core, (int, float))]
    return Spent(
        round(sum(float(str(piece["seconds"])) for piece in pieces), 1),
        round(sum(known), 1) if len(known) == len(cores) else None,
        tuple(dict.fromkeys(str(piece["commit"]) for piece in pieces if "commit" in piece)),
    )
