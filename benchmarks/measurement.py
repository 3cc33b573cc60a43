"""What every benchmark writes with its figures: bars, commit, hardware, date and command."""

import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unfade.evaluation.hardware import hardware
from unfade.evaluation.report.figures import json_safe

REPOSITORY = Path(__file__).resolve().parents[1]

# Runs argv[2:], then writes to the file argv[1] the exit status, seconds and peak resident memory of that one
# process. A child's peak counts from its parent's size at the fork, so the parent has to be this small.
_WATCH = """
import os, sys, time
begun = time.perf_counter()
child = os.fork()
if child == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    print(os.waitstatus_to_exitcode(status), time.perf_counter() - begun, usage.ru_maxrss, file=file)
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and what it has to be.

    Attributes:
        name: of the figure, with its unit.
        value: as measured.
        bar: the threshold.
        at_most: whether the value must not be above the bar instead of not below it.
        applies: False where the machine lacks what the bar presumes; such a bar is reported, not judged.
    """

    name: str
    value: float
    bar: float
    at_most: bool = False
    applies: bool = True

    @property
    def passed(self) -> bool | None:
        """None where the bar does not apply; a NaN never passes."""
        if not self.applies:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Process:
    """One finished process.

    Attributes:
        code: exit status.
        seconds: wall time from start to end.
        peak: largest resident memory in bytes.
        output: stdout and stderr together.
    """

    code: int
    seconds: float
    peak: int
    output: str


def watch(command: Sequence[str], environment: dict[str, str] | None = None) -> Process:
    """Runs a command to its end and measures that process alone (Linux, macOS)."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        done = subprocess.run(
            [sys.executable, "-S", "-c", _WATCH, str(note), *command],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        code, seconds, peak = note.read_text().split()
    unit = 1 if sys.platform == "darwin" else 1024
    return Process(int(code), float(seconds), int(peak) * unit, done.stdout)


def has_amx() -> bool:
    """Whether this machine multiplies bf16 matrices in hardware tiles."""
    return bool(hardware()["amx_bf16"])


def source() -> dict[str, Any]:
    """The commit that was measured; dirty if anything but the results differs from it, None without one."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--", ".", ":(exclude)benchmarks/results")
    return {"commit": git("rev-parse", "--verify", "HEAD"), "dirty": changes != ""}


def write_results(path: Path, figures: dict[str, Any], bars: Sequence[Bar]) -> None:
    """One JSON file with the figures and all that says what they hold for.

    JSON has no infinity: infinite PSNRs are written as the text "inf", undefined figures as null.
    """
    missed = [bar.name for bar in bars if bar.passed is False]
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        **source(),
        "hardware": hardware(),
        "bars": [bar.as_dict() for bar in bars],
        "missed": missed,
        **figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json_safe(document), indent=1, allow_nan=False)
    # A group's figures on one line: lists of numbers first, then the rows that hold them.
    text = re.sub(r"\[[^][{}]*\]", _on_one_line, text)
    text = re.sub(r'\{\s+"(benchmark|name)"[^{}]*\}', _on_one_line, text)
    path.write_text(text + "\n")


def _on_one_line(match: re.Match[str]) -> str:
    return re.sub(r"\s*\n\s*", " ", match[0])


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Left-aligned first column, right-aligned figures."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        first, *others = zip(row, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]))
    print()


def print_bars(bars: Sequence[Bar]) -> None:
    """Each bar with its verdict."""
    words = {True: "pass", False: "MISS", None: "n/a"}
    rows = [
        (bar.name, bar.value, ("<= " if bar.at_most else ">= ") + f"{bar.bar:g}", words[bar.passed])
        for bar in bars
    ]
    print_table(("bar", "value", "wanted", ""), rows)


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
