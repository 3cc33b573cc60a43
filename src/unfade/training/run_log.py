"""A run's figures: a line of JSON each in its folder, and the tracker beside it."""

import json
from pathlib import Path
from typing import Any

from unfade.core import Clip
from unfade.media.atomic import atomic_output
from unfade.training.tracker import Tracker


def read_rows(log: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines; none where there is no file.

    A line that was cut off, as a kill or a full disk leaves it, is passed over.
    """
    rows: list[dict[str, Any]] = []
    for line in log.read_bytes().split(b"\n") if log.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def forget_after(log: Path, step: int) -> None:
    """Takes out of a log what came after `step`, which will be done again, and what can't be read; whole or not at all.

    Raises:
        OutputError: the file can't be written.
    """
    if not log.exists():
        return
    kept = [row for row in read_rows(log) if isinstance(row.get("step"), int) and row["step"] <= step]
    text = "".join(json.dumps(row) + "\n" for row in kept)
    if text != log.read_text(encoding="utf-8", errors="replace"):
        with atomic_output(log) as temporary:
            temporary.write_text(text, encoding="utf-8")


class RunLog:
    """Writes `log.jsonl` and `pictures/` in a run's folder, in the process that leads; in others it does nothing.

    Attributes:
        folder: of the run.
        leads: whether this process writes.
        tracker: told the same.
    """

    def __init__(self, folder: Path, leads: bool, tracker: Tracker | None = None) -> None:
        self.folder = folder
        self.leads = leads
        self.tracker = tracker if leads else None

    def forget_after(self, step: int) -> None:
        """Takes out what was logged after `step`, which will be done again; after 0, everything.

        Raises:
            OutputError: the log can't be written.
        """
        if self.leads:
            forget_after(self.folder / "log.jsonl", step)

    def write(self, row: dict[str, Any]) -> None:
        """One line; its numbers go to the tracker as well, those on held-out sequences as `held_out/...`."""
        if not self.leads:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        if self.tracker:
            held_out = {f"held_out/{name}": value for name, value in row.get("held_out", {}).items()}
            numbers = {
                name: float(value)
                for name, value in {**row, **held_out}.items()
                if isinstance(value, (int, float))
            }
            self.tracker.log(numbers, row["step"])

    def picture(self, picture: Clip, step: int) -> None:
        """One picture of the held-out sequences.

        Raises:
            OutputError: it can't be written.
        """
        if self.leads:
            # Here, so that a training without pictures needs bare PyTorch alone.
            from unfade.media.image_writer import write_image

            write_image(picture, self.folder / "pictures" / f"step-{step:06d}.png")
        if self.tracker:
            self.tracker.picture("held_out", picture, step)

    def close(self) -> None:
        """Lets the tracker finish."""
        if self.tracker:
            self.tracker.close()
