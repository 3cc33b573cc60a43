"""A long recipe's stages, timed: a stage that was stopped and went on has several notes."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

_NOTES = "seconds.jsonl"


def timed(folder: Path, stage: str, work: Callable[[], object]) -> None:
    """Does a stage and notes in the run's folder how long this piece of it took, and how long on one core."""
    begun, before = time.time(), sum(os.times()[:4])
    try:
        work()
    finally:
        seconds = round(time.time() - begun, 1)
        if seconds > 0.5 or not (folder / _NOTES).exists():
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / _NOTES).open("a") as file:
                core = round(sum(os.times()[:4]) - before, 1)
                row = {"stage": stage, "begun": round(begun, 1), "seconds": seconds, "core_seconds": core}
                file.write(json.dumps(row) + "\n")


def seconds_of(folder: Path, what: str = "seconds") -> dict[str, float]:
    """Seconds by stage, or "core_seconds": those of all cores together, which other work beside it doesn't lengthen."""
    sums: dict[str, float] = {}
    path = folder / _NOTES
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        sums[row["stage"]] = round(sums.get(row["stage"], 0.0) + row.get(what, 0.0), 1)
    return sums
