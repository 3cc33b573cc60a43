"""One job from file to file: read, restore, write everything that was planned, report.

Knows nothing about command lines or terminals, so that the command, a studio and a batch share it.
"""

import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from unfade.core import Clip, Metadata, OutputError, Plan, Restoration, Restorer, UsageError
from unfade.core.contracts import Progress
from unfade.media.film import write_film
from unfade.media.image_formats import FORMATS, SUFFIXES, ImageFormat
from unfade.media.images import ImageInfo, probe_image, read_image, write_image
from unfade.media.sheet import contact_sheet
from unfade.restore.filing import (
    Filing,
    check_folder,
    check_targets,
    is_done,
    noted,
    taken_back_on_failure,
)
from unfade.restore.footage import run_footage
from unfade.restore.frames import write_frames
from unfade.restore.outputs import Job
from unfade.restore.report import JobReport, explained, peak_memory_mb

__all__ = [
    "Filing",
    "JobReport",
    "check_folder",
    "check_job",
    "check_transparency",
    "is_done",
    "peak_memory_mb",
    "run_job",
    "taken_back_on_failure",
]


def check_job(job: Job, scale: int = 1, filing: Filing | None = None) -> ImageInfo:
    """Everything that can be known to go wrong with a photo before a pixel is decoded; gives what its header says.

    Raises:
        InputError: the input can't be read or is no image.
        OutputError: a result exists and may not be replaced, what exists is no file (of the frames, no folder),
            its folder can't be written, or its format ends at a smaller size.
        UsageError: the output's format can't store the depth asked for.
    """
    filing = filing or Filing()
    info = probe_image(job.input, max_megapixels=filing.max_megapixels)
    check_targets(job, filing)
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

    The film, the sheet, the frames and the map are written before the image, and taken back if it can't be: where
    the image exists, everything does. No file is ever half-written. Of footage, the same holds (`run_footage`).
    """
    filing = filing or Filing()
    if job.footage:
        return run_footage(job, restorer, plan, prompt=prompt, filing=filing, progress=progress)
    if is_done(job, filing):
        return JobReport(job, "skipped")
    begun = time.perf_counter()
    megapixels = None
    try:
        info = check_job(job, plan.scale, filing)
        megapixels = info.width * info.height / 1e6
        clip = read_image(job.input, max_megapixels=filing.max_megapixels)
        _check_alpha(clip, job.output)
        wants_map = job.confidence is not None
        restoration = restorer.restore(
            clip, prompt, replace(plan, keep=job.shows_the_way, confidence=wants_map), progress
        )
        if wants_map and restoration.confidence is None:
            raise UsageError("this model can't tell how sure it is; leave --confidence out")
        _write(job, restoration, plan, filing)
    except Exception as error:
        told = explained(error, job)
        return JobReport(job, "failed", time.perf_counter() - begun, megapixels, peak_memory_mb(), told)
    seconds = time.perf_counter() - begun
    return JobReport(job, "done", seconds, megapixels, peak_memory_mb(), provenance=restoration.provenance)


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
            write_image(noted(sheet, notes), job.sheet, overwrite=overwrite)
        if job.frames_folder is not None:
            written(job.frames_folder)
            write_frames(
                (noted(clip, notes) for clip in trajectory.film(plan.frames)),
                job.frames_folder,
                bit_depth=filing.png_depth,
                strip_metadata=filing.strip_metadata,
                overwrite=overwrite,
            )
        if job.confidence is not None and restoration.confidence is not None:
            written(job.confidence)
            write_image(
                noted(_as_picture(restoration.confidence), notes), job.confidence, overwrite=overwrite
            )
        write_image(
            noted(restoration.result, notes),
            job.output,
            bit_depth=filing.bit_depth,
            quality=filing.quality,
            strip_metadata=filing.strip_metadata,
            overwrite=overwrite,
        )


def _as_picture(confidence: Tensor) -> Clip:
    """A map `[T, 1, H, W]`'s last frame as a grey picture of 16 bits."""
    grey = confidence[-1:].expand(-1, 3, -1, -1)
    return Clip(grey, metadata=Metadata(colour="grey", bit_depth=16))


def _format_of(output: Path) -> tuple[ImageFormat, str]:
    name = SUFFIXES[output.suffix.lower()]
    return FORMATS[name], "AVIF" if name == "heif" else name.upper()


def _check_alpha(clip: Clip, output: Path) -> None:
    """Now rather than after minutes of work."""
    format, name = _format_of(output)
    if clip.alpha is not None and not format.alpha and float(clip.alpha.min()) < 1:
        raise OutputError(f"{output} can't hold transparency as {name}; choose PNG, WebP, TIFF or AVIF")
