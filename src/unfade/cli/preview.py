"""A few seconds or a part of each clip first: results of their own, from excerpts that are gone afterwards."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unfade.media.excerpt import Span
    from unfade.media.images import ImageInfo
    from unfade.media.video import VideoInfo
    from unfade.restore.load import Loaded
    from unfade.restore.outputs import Job

    Info = ImageInfo | VideoInfo


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
def excerpted(job: "Job", info: "Info", span: "Span | None") -> "Iterator[tuple[Job, Info]]":
    """The job on an excerpt of its input, in a temporary folder, and what that says of itself.

    Without a span, the job itself.

    Raises:
        InputError: there is no such part of the input, or it is damaged there.
        OutputError: the excerpt can't be written.
    """
    from unfade.media.excerpt import write_excerpt
    from unfade.media.video import probe_video
    from unfade.media.video_writer import CONTAINERS

    if span is None:
        yield job, info
        return
    with tempfile.TemporaryDirectory(prefix="unfade-") as folder:
        suffix = job.input.suffix.lower()
        excerpt = Path(folder) / f"{job.input.stem}{suffix if suffix in CONTAINERS else '.mkv'}"
        write_excerpt(job.input, span, excerpt)
        yield replace(job, input=excerpt), probe_video(excerpt)


def as_in_the_whole(restorer: "Loaded", part: "Info", whole: "Info") -> "Loaded":
    """The restorer, or one under which a part of the picture comes out as large as it does in the whole.

    Raises:
        UsageError: it has masks from files, which are of the whole picture.
    """
    from unfade.core import UsageError
    from unfade.restore.vivid_restorer import VividRestorer

    sizes = (part.height, part.width), (whole.height, whole.width)
    if not isinstance(restorer, VividRestorer) or sizes[0] == sizes[1]:
        return restorer
    if isinstance(restorer.masks, Path):
        raise UsageError(
            f"the masks of {restorer.masks} are of the whole picture; preview all of it, or leave --protect out"
        )
    changed = copy(restorer)
    changed.settings = restorer.settings.of_part(*sizes)
    return changed
