"""One photo from file to file: read, restore, write everything that was planned, report.

Knows nothing about command lines or terminals, so that the command, a studio and a batch share it.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from unfade.core import Clip, InputError, OutputError, Plan, Restoration, Restorer, UnfadeError, UsageError
from unfade.core.contracts import Progress
from unfade.media.film import write_film
from unfade.media.image_formats import FORMATS, SUFFIXES, ImageFormat
from unfade.media.images import ImageInfo, probe_image, read_image, write_image
from unfade.media.sheet import contact_sheet
from unfade.media.source import FOOTAGE, read_head, sniff_image
from unfade.restore.frames import write_frames
from unfade.restore.outputs import Job

Existing = Literal["fail", "skip", "overwrite"]
Status = Literal["done", "failed", "skipped", "planned"]
_PNG_DEPTHS = (8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """How files are read and written.

    Attributes:
        existing: what to do where a result exists already; "skip" passes over photos all of whose results
            exist and makes the others anew.
        bit_depth: of the result; None for that of the input.
        quality: of lossy formats, 1 to 100; None for the format's own.
        strip_metadata: leave EXIF, XMP, IPTC and provenance out of every file.
        max_megapixels: the largest photo that is read.
    """

    existing: Existing = "fail"
    bit_depth: int | None = None
    quality: int | None = None
    strip_metadata: bool = False
    max_megapixels: float = 200.0


@dataclass(frozen=True, slots=True)
class JobReport:
    """How a job went.

    Attributes:
        job: what was to be done.
        status: "planned" is the answer of a dry run.
        seconds: wall time from reading to writing; of a planned job, an estimate or None.
        megapixels: of the input, None where it couldn't be told.
        peak_memory_mb: the largest memory this process has ever held, None where the system doesn't say.
        error: why it failed.
        provenance: of what was done, as the restorer tells it.
    """

    job: Job
    status: Status
    seconds: float | None = None
    megapixels: float | None = None
    peak_memory_mb: float | None = None
    error: Exception | None = None
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])

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
        """The report as JSON; `settings` are those of the run, with what "auto" came to where that is known."""

        def text(path: Path | None) -> str | None:
            return None if path is None else str(path)

        job = self.job
        return {
            "input": str(job.input),
            "output": str(job.output),
            "status": self.status,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "megapixels": None if self.megapixels is None else round(self.megapixels, 3),
            "peak_memory_mb": None if self.peak_memory_mb is None else round(self.peak_memory_mb, 1),
            "settings": {**settings, "output_format": _format_of(job.output)[1].lower(), **self._chosen()},
            "outputs": {"film": text(job.film), "sheet": text(job.sheet), "frames": text(job.frames_folder)},
            "error": {"code": self.error_code, "message": self.error_message} if self.error else None,
        }

    def _chosen(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {
            name: self.provenance[name] for name in ("device", "dtype") if name in self.provenance
        }
        if tile := self.provenance.get("tile"):
            chosen["tile"] = int(tile) if tile.isdecimal() else 0
        return chosen


def check_job(job: Job, scale: int = 1, filing: Filing | None = None) -> ImageInfo:
    """Everything that can be known to go wrong before a pixel is decoded; gives what the input's header says.

    Raises:
        InputError: the input can't be read or is footage.
        OutputError: a result exists and may not be replaced, what exists is no file (of the frames, no folder),
            its folder can't be written, or its format ends at a smaller size.
        UsageError: the output's format can't store the depth asked for.
    """
    filing = filing or Filing()
    _refuse_footage(job.input)
    info = probe_image(job.input, max_megapixels=filing.max_megapixels)
    for target in job.targets():
        if filing.existing == "fail" and os.path.lexists(target):
            raise OutputError(
                f"{target} exists already; add --overwrite or --skip-existing, or choose another output"
            )
        check_folder(target)
        fitting = target.is_dir() if target == job.frames_folder else target.is_file()
        if target.exists() and not fitting:
            wanted = "folder" if target == job.frames_folder else "file"
            raise OutputError(f"{target} exists and is not a {wanted}; choose another output")
    format, name = _format_of(job.output)
    if filing.bit_depth is not None and filing.bit_depth not in format.depths:
        depths = ", ".join(map(str, format.depths))
        raise UsageError(f"{name} can't store {filing.bit_depth} bits a sample; choose from {depths}")
    if max(info.width, info.height) * scale > format.longest:
        raise OutputError(
            f"{job.output} can't be written: {name} ends at {format.longest} pixels a side; "
            "choose PNG or TIFF"
        )
    return info


def is_done(job: Job, filing: Filing) -> bool:
    """Whether the job is to be skipped because all its results exist."""
    return filing.existing == "skip" and all(target.exists() for target in job.targets())


def check_transparency(job: Job, info: ImageInfo, filing: Filing) -> None:
    """What `run_job` finds out about alpha after reading, for those who don't run the job.

    Pixels are decoded only if the header speaks of alpha and the output's format has none: opaque alpha is
    dropped without complaint.

    Raises:
        InputError: the photo can't be read.
        OutputError: the output's format can't hold the photo's transparency.
    """
    if info.has_alpha and not _format_of(job.output)[0].alpha:
        _check_alpha(read_image(job.input, max_megapixels=filing.max_megapixels), job.output)


def run_job(
    job: Job,
    restorer: Restorer,
    plan: Plan,
    *,
    prompt: str | None = None,
    filing: Filing | None = None,
    progress: Progress | None = None,
) -> JobReport:
    """Carry one job out. Whatever fails is in the report; only an interruption is raised.

    The film, the sheet and the frames are written before the image, and taken back if it can't be: where the
    image exists, everything does. No file is ever half-written.
    """
    filing = filing or Filing()
    if is_done(job, filing):
        return JobReport(job, "skipped")
    begun = time.perf_counter()
    megapixels = None
    try:
        info = check_job(job, plan.scale, filing)
        megapixels = info.width * info.height / 1e6
        clip = read_image(job.input, max_megapixels=filing.max_megapixels)
        _check_alpha(clip, job.output)
        wants_film = bool(job.film or job.sheet or job.frames_folder)
        restoration = restorer.restore(clip, prompt, replace(plan, keep=wants_film), progress)
        _write(job, restoration, plan, filing)
    except Exception as error:
        told = _explained(error, job)
        return JobReport(job, "failed", time.perf_counter() - begun, megapixels, peak_memory_mb(), told)
    seconds = time.perf_counter() - begun
    return JobReport(job, "done", seconds, megapixels, peak_memory_mb(), provenance=restoration.provenance)


def peak_memory_mb() -> float | None:
    """The largest memory this process has held so far; None where the system doesn't say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _write(job: Job, restoration: Restoration, plan: Plan, filing: Filing) -> None:
    notes = {} if filing.strip_metadata else dict(restoration.provenance)
    trajectory = restoration.trajectory
    overwrite = filing.existing != "fail"
    with taken_back_on_failure(job.targets()) as written:
        if job.film is not None:
            written(job.film)
            write_film(trajectory.film(plan.frames), job.film, notes=notes, overwrite=overwrite)
        if job.sheet is not None:
            written(job.sheet)
            pictures = (clip.frames[-1] for clip in trajectory.film(plan.frames))
            labels = [f"{index / (plan.frames - 1):.2f}" for index in range(plan.frames)]
            sheet = Clip.of(contact_sheet(pictures, labels=labels))
            write_image(_noted(sheet, notes), job.sheet, overwrite=overwrite)
        if job.frames_folder is not None:
            written(job.frames_folder)
            write_frames(
                (_noted(clip, notes) for clip in trajectory.film(plan.frames)),
                job.frames_folder,
                bit_depth=filing.bit_depth if filing.bit_depth in _PNG_DEPTHS else None,
                strip_metadata=filing.strip_metadata,
                overwrite=overwrite,
            )
        write_image(
            _noted(restoration.result, notes),
            job.output,
            bit_depth=filing.bit_depth,
            quality=filing.quality,
            strip_metadata=filing.strip_metadata,
            overwrite=overwrite,
        )


@dataclass(slots=True)
class Written:
    """Paths that weren't there before; told of each before it is written."""

    new: list[Path] = field(default_factory=list[Path])

    def __call__(self, path: Path) -> None:
        if not os.path.lexists(path):
            self.new.append(path)


@contextmanager
def taken_back_on_failure(targets: Iterable[Path]) -> Iterator[Written]:
    """Removes the new ones of the targets again after any exception, and folders made for them if empty."""
    written = Written()
    made = {parent for target in targets for parent in target.parents if not parent.exists()}
    try:
        yield written
    except BaseException:
        for path in written.new:
            with suppress(OSError):
                if path.is_dir():
                    for frame in path.iterdir():
                        frame.unlink()
                    path.rmdir()
                else:
                    path.unlink()
        for folder in sorted(made, key=lambda folder: len(folder.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()
        raise


def _explained(error: Exception, job: Job) -> Exception:
    """The error itself, or for one that is no fault of ours what to do about it."""
    short = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
    if not short:
        return error
    told = UnfadeError(
        f"{job.input} needs more memory than there is; choose smaller tiles or a smaller scale"
    )
    told.__cause__ = error
    return told


def _noted(clip: Clip, notes: Mapping[str, str]) -> Clip:
    return replace(clip, metadata=replace(clip.metadata, notes={**clip.metadata.notes, **notes}))


def _format_of(output: Path) -> tuple[ImageFormat, str]:
    name = SUFFIXES[output.suffix.lower()]
    return FORMATS[name], "AVIF" if name == "heif" else name.upper()


def _check_alpha(clip: Clip, output: Path) -> None:
    """Now rather than after minutes of work."""
    format, name = _format_of(output)
    if clip.alpha is not None and not format.alpha and float(clip.alpha.min()) < 1:
        raise OutputError(f"{output} can't hold transparency as {name}; choose PNG, WebP, TIFF or AVIF")


def _refuse_footage(path: Path) -> None:
    if path.suffix.lower() in FOOTAGE and sniff_image(read_head(path)) is None:
        raise InputError(
            f"{path} is footage, which is not supported yet; extract its frames as images and restore their "
            "folder"
        )


def check_folder(target: Path) -> None:
    """Whether the target's folder exists or could be created, and may be written.

    Raises:
        OutputError: neither, or it may not.
    """
    folder = target.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(
            f"{target} can't be written: {folder} is a file, not a folder; choose another folder"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{target} can't be written: {folder} is read-only for you; choose another folder")
