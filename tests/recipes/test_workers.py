"""Worker processes of a recipe: no more at a time than wanted, and none begins after a failure."""

import time
from pathlib import Path

import pytest

from unfade.core import UnfadeError
from unfade.recipes.workers import in_workers


def note(folder: Path, name: str, seconds: float) -> None:
    """Says when it began and ended; "bad" fails."""
    begun = time.time()
    time.sleep(seconds)
    (folder / name).write_text(f"{begun} {time.time()}")
    if name == "bad":
        raise UnfadeError("it failed")


def test_so_many_at_a_time(tmp_path: Path) -> None:
    in_workers(note, [(tmp_path, str(index), 0.2) for index in range(4)], 2)
    times = sorted(tuple(map(float, path.read_text().split())) for path in tmp_path.iterdir())
    assert len(times) == 4
    assert all(sum(begin <= at < end for begin, end in times) <= 2 for at, _ in times)


def test_none_begins_after_a_failure(tmp_path: Path) -> None:
    jobs = [
        (tmp_path, "bad", 0.0),
        (tmp_path, "long", 0.5),
        *((tmp_path, f"late {k}", 0.0) for k in range(4)),
    ]
    with pytest.raises(UnfadeError, match="it failed"):
        in_workers(note, jobs, 2)
    assert not any(path.name.startswith("late") for path in tmp_path.iterdir())
