"""A run's figures: a line of JSON each in its folder, and the tracker beside it."""

import json
from pathlib import Path
from typing import Any

from unfade.core import Clip
from unfade.media.images import write_image
from unfade.training.tracker import Tracker


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
        """Takes out what was logged after `step`, which will be done again."""
        log = self.folder / "log.jsonl"
        if self.leads and log.exists():
            rows = log.read_text().splitlines(keepends=True)
            log.write_text("".join(row for row in rows if json.loads(row)["step"] <= step))

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
            write_image(picture, self.folder / "pictures" / f"step-{step:06d}.png")
        if self.tracker:
            self.tracker.picture("held_out", picture, step)

    def close(self) -> None:
        """Lets the tracker finish."""
        if self.tracker:
            self.tracker.close()
