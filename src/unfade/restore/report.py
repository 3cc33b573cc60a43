"""How a job went, for people and for programs."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from unfade.backbones.free_memory import out_of_memory
from unfade.core import UnfadeError
from unfade.media.image_formats import SUFFIXES
from unfade.restore.outputs import Job

Status = Literal["done", "failed", "skipped", "planned"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How many frames a clip has (as its file says, until they have been read), and how many a second."""

    frames: int
    fps: Fraction


@dataclass(frozen=True, slots=True)
class JobReport:
    """How a job went.

    Attributes:
        job: what was to be done.
        status: "planned" is the answer of a dry run.
        seconds: wall time from reading to writing; of a planned job, an estimate or None.
        megapixels: of the input or each of its frames, None where it couldn't be told.
        peak_memory_mb: the largest memory this process has ever held, None where the system doesn't say.
        error: why it failed.
        provenance: of what was done, as the restorer tells it.
        footage: of a clip, how long and how fast it is; None for photos.
    """

    job: Job
    status: Status
    seconds: float | None = None
    megapixels: float | None = None
    peak_memory_mb: float | None = None
    error: Exception | None = None
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    footage: Pace | None = None

    @property
    def error_code(self) -> int:
        """The exit code that belongs to the error; 0 without one."""
        if self.error is None:
            return 0
        return self.error.exit_code if isinstance(self.error, UnfadeError) else UnfadeError.exit_code

    @property
    def error_message(self) -> str:
        if self.error is None or isinstance(self.error, UnfadeError):
            return str(self.error or "")
        return f"{self.job.input} failed unexpectedly: {type(self.error).__name__}: {self.error}"

    def as_dict(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The report as JSON; `settings` are those of the run, with what "auto" came to where that is known.

        That of a clip has one more entry, "footage".
        """

        def text(path: Path | None) -> str | None:
            return None if path is None else str(path)

        job = self.job
        told: dict[str, Any] = {
            "input": str(job.input),
            "output": str(job.output),
            "status": self.status,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "megapixels": None if self.megapixels is None else round(self.megapixels, 3),
            "peak_memory_mb": None if self.peak_memory_mb is None else round(self.peak_memory_mb, 1),
            "settings": {**settings, "output_format": _format_name(job.output), **self._chosen()},
            "outputs": {
                "film": text(job.film),
                "sheet": text(job.sheet),
                "frames": text(job.frames_folder),
                "confidence": text(job.confidence),
            },
            "error": {"code": self.error_code, "message": self.error_message} if self.error else None,
        }
        if self.footage is not None:
            told["footage"] = {"frames": self.footage.frames, "fps": round(float(self.footage.fps), 3)}
        return told

    def _chosen(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {
            name: self.provenance[name]
            for name in ("device", "dtype", "memory", "memory_note", "drift_correction", "captioner")
            if name in self.provenance
        }
        if tile := self.provenance.get("tile"):
            chosen["tile"] = int(tile) if tile.isdecimal() else 0
        if steps := self.provenance.get("steps"):
            chosen["steps"] = int(steps)
        return chosen


def peak_memory_mb() -> float | None:
    """The largest memory this process has held so far; None where the system doesn't say (Windows).

    Linux counts a process's `ru_maxrss` from its parent's size at the fork, so there its own high-water mark is read.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def explained(error: Exception, job: Job) -> Exception:
    """The error itself, or for one that is no fault of ours what to do about it."""
    if not out_of_memory(error):
        return error
    told = UnfadeError(
        f"{job.input} needs more memory than there is; choose smaller tiles or a smaller scale"
    )
    told.__cause__ = error
    return told


def _format_name(output: Path) -> str:
    suffix = output.suffix.lower()
    name = SUFFIXES.get(suffix, suffix.removeprefix("."))
    return "avif" if name == "heif" else name
