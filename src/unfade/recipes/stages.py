"""A long recipe's stages, timed: a stage that was stopped and went on has several notes."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unfade.recipes.run_tiny import commit

_NOTES = "seconds.jsonl"


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


def timed(folder: Path, stage: str, work: Callable[[], object]) -> None:
    """Does a stage and notes in the run's folder how long this piece of it took, and which code did it.

    A stage that was done before and takes no time is not noted again.
    """
    begun, before = time.time(), sum(os.times()[:4])
    try:
        work()
    finally:
        seconds = round(time.time() - begun, 1)
        if seconds > 0.5 or stage not in spent(folder):
            core = round(sum(os.times()[:4]) - before, 1)
            row = {"stage": stage, "begun": round(begun, 1), "seconds": seconds, "core_seconds": core}
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / _NOTES).open("a") as file:
                file.write(json.dumps({**row, "commit": commit()}) + "\n")


def spent(folder: Path) -> dict[str, Spent]:
    """By stage, of the notes there are; a stage that is under way is not among them."""
    rows: dict[str, list[dict[str, object]]] = {}
    path = folder / _NOTES
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        rows.setdefault(row["stage"], []).append(row)
    return {stage: _together(pieces) for stage, pieces in rows.items()}


def _together(pieces: list[dict[str, object]]) -> Spent:
    cores = [piece.get("core_seconds") for piece in pieces]
    known = [float(core) for core in cores if isinstance(core, (int, float))]
    return Spent(
        round(sum(float(str(piece["seconds"])) for piece in pieces), 1),
        round(sum(known), 1) if len(known) == len(cores) else None,
        tuple(dict.fromkeys(str(piece["commit"]) for piece in pieces if "commit" in piece)),
    )
