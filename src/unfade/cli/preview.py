"""A few seconds of each clip first: results of their own, from excerpts that are gone afterwards."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unfade.media.excerpt import Span
    from unfade.restore.outputs import Job


def as_previews(jobs: "Sequence[Job]") -> "tuple[Job, ...]":
    """The same jobs with `_preview` in the names of all results.

    Raises:
        UsageError: one is of a photo.
    """
    from unfade.core import UsageError

    for job in jobs:
        if not job.footage:
            raise UsageError(f"{job.input} is a photo, and --preview is of footage; leave it out")

    def named(path: Path | None) -> Path | None:
        return None if path is None else path.with_name(f"{path.stem}_preview{path.suffix}")

    return tuple(
        replace(
            job,
            output=named(job.output),
            film=named(job.film),
            sheet=named(job.sheet),
            frames_folder=job.frames_folder
            and job.frames_folder.with_name(f"{job.frames_folder.name}_preview"),
        )
        for job in jobs
    )


@contextmanager
def excerpted(job: "Job", span: "Span | None") -> "Iterator[Job]":
    """The job on an excerpt of its input, in a temporary folder; without a span, the job itself."""
    from unfade.media.excerpt import write_excerpt
    from unfade.media.video_writer import CONTAINERS

    if span is None:
        yield job
        return
    with tempfile.TemporaryDirectory(prefix="unfade-") as folder:
        suffix = job.input.suffix.lower()
        excerpt = Path(folder) / f"{job.input.stem}{suffix if suffix in CONTAINERS else '.mkv'}"
        write_excerpt(job.input, span, excerpt)
        yield replace(job, input=excerpt)
