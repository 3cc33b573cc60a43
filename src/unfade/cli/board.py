"""What a run over several files shows: a bar for people, lines for programs, a summary at the end."""

import json
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from unfade.restore.report import JobReport

Format = Literal["text", "json"]


class Bar:
    """A progress bar with the time left on stderr; shows nothing unless stderr is a terminal.

    Args:
        total: of whatever the work is measured in, e.g. megapixels.
        files: how many there are.
    """

    def __init__(self, total: float, files: int) -> None:
        self._total = total
        self._files = files
        self._before = 0.0
        self._current = 0.0
        self._number = 0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and self._files:
            self._progress = _progress()
            self._progress.start()
            self._task = self._progress.add_task("", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def begin(self, name: str, size: float) -> None:
        """The next file, `size` of the total."""
        self._before += self._current
        self._current = size
        self._number += 1
        count = f"{self._number}/{self._files}  " if self._files > 1 else ""
        self._update(0.0, f"{count}{name}")

    def share(self, done: float) -> None:
        """How much of the current file is done, 0 to 1."""
        self._update(done)

    def line(self, text: str) -> None:
        """A line on stdout, above the bar."""
        if self._progress is not None and sys.stdout.isatty():
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            typer.echo(text)

    def _update(self, done: float, description: str | None = None) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=self._before + done * self._current, description=description
            )


class Stages:
    """A bar on stderr for work that goes through several stages; shows nothing unless stderr is a terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._progress = _progress()
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def tell(self, stage: str, done: int, total: int) -> None:
        """How far a stage is; a new stage takes the place of the one before."""
        if self._progress is None:
            return
        if stage != self._stage or self._task is None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(stage, total=total)
            self._stage = stage
        self._progress.update(self._task, completed=done, description=f"{stage} {done}/{total}")


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def report_line(report: "JobReport", format: Format, settings: Mapping[str, Any]) -> str | None:
    """A report as a line for stdout; None for failures in text, which are told at the end."""
    if format == "json":
        return json.dumps(report.as_dict(settings))
    if report.status == "failed":
        return None
    text = f"{report.job.input} -> {', '.join(map(str, report.job.targets()))}"
    if report.status == "skipped":
        return f"{text}  (skipped: exists already)"
    if report.footage is not None:
        text += f"  {report.footage.frames} frames of"
    if report.megapixels is not None:
        text += f"{' ' if report.footage else '  '}{report.megapixels:.2f} MP"
    if report.seconds is not None:
        text += f"  {'about ' if report.status == 'planned' else ''}{report.seconds:.1f} s"
    return text


def close(failures: Sequence[tuple[str, Exception]], done: int, skipped: int = 0, ignored: int = 0) -> None:
    """The summary of several files on stderr.

    Args:
        failures: sentence and exception of each.
        done, skipped: how many files.
        ignored: files of folders that are neither images nor clips.

    Raises:
        PartialError: some files failed.
    """
    from unfade.core import PartialError

    for sentence, _ in failures:
        typer.echo(f"failed: {sentence}", err=True)
    counts = {"done": done, "failed": len(failures), "skipped": skipped, "other files ignored": ignored}
    typer.echo(
        ", ".join(f"{count} {word}" for word, count in counts.items() if count or word == "done"), err=True
    )
    if failures:
        error = PartialError(f"{len(failures)} of {done + skipped + len(failures)} files failed")
        raise error from ExceptionGroup("failures", [failure for _, failure in failures])
