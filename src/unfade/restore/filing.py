"""How files are read and written, what may stand in the way, and how a failure is undone."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from unfade.core import Clip, OutputError
from unfade.restore.outputs import Job

Existing = Literal["fail", "skip", "overwrite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """How files are read and written.

    Attributes:
        existing: what to do where a result exists already; "skip" passes over inputs all of whose results
            exist and makes the others anew.
        bit_depth: of the result; None for that of the input.
        quality: of lossy formats, 1 to 100; None for the format's own.
        strip_metadata: leave EXIF, XMP, IPTC and provenance out of every file.
        max_megapixels: the largest photo, or frame of footage, that is read.
    """

    existing: Existing = "fail"
    bit_depth: int | None = None
    quality: int | None = None
    strip_metadata: bool = False
    max_megapixels: float = 200.0

    @property
    def png_depth(self) -> int | None:
        """The depth asked for where PNG has it."""
        return self.bit_depth if self.bit_depth in (8, 16) else None


def is_done(job: Job, filing: Filing) -> bool:
    """Whether the job is to be skipped because all its results exist."""
    return filing.existing == "skip" and all(target.exists() for target in job.targets())


def check_targets(job: Job, filing: Filing) -> None:
    """Whether everything a job writes can be written where it is to go.

    Raises:
        OutputError: a result exists and may not be replaced, what exists is no file (of the frames, no folder),
            or its folder can't be written.
    """
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


def noted(clip: Clip, notes: Mapping[str, str]) -> Clip:
    """The same clip with more notes to be stored with it."""
    return replace(clip, metadata=replace(clip.metadata, notes={**clip.metadata.notes, **notes}))
