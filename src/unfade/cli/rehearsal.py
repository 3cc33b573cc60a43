"""A dry run: what would be done, and how long it would take."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from unfade.cli.board import Bar, Format, report_line
from unfade.cli.preview import as_in_the_whole, excerpted

if TYPE_CHECKING:
    from unfade.core import Plan
    from unfade.media.excerpt import Span
    from unfade.media.images import ImageInfo
    from unfade.media.video import VideoInfo
    from unfade.restore.engine import PixelRestorer
    from unfade.restore.job import Filing, JobReport
    from unfade.restore.load import Loaded
    from unfade.restore.outputs import Job
    from unfade.restore.report import Pace

# Large enough that what a call costs besides its pixels hardly counts, small enough to answer at once.
_TRIAL_SIDE = 384


def rehearse(
    ready: Sequence[tuple["Job", "ImageInfo | VideoInfo"]],
    restorer: "Loaded",
    prompt: str | None,
    plan: "Plan",
    filing: "Filing",
    format: Format,
    settings: dict[str, Any],
    span: "Span | None" = None,
) -> list["JobReport"]:
    """What would be done, of the parts of clips that a span names, or of all.

    Of a pixel model, with the time estimated from restoring one small patch here and now; of a video model, with
    the work it would be, and the time and the memory predicted from that.
    """
    from unfade.restore.engine import PixelRestorer
    from unfade.restore.job import JobReport

    per_megapixel = None
    if isinstance(restorer, PixelRestorer):
        per_megapixel = _seconds_per_megapixel(restorer, prompt, plan)
    reports: list[JobReport] = []
    for job, info in ready:
        megapixels, found = info.width * info.height / 1e6, dict[str, Any]()
        try:
            with excerpted(job, info, span) as (taken, part):
                megapixels = part.width * part.height / 1e6
                found = _work(taken, part, as_in_the_whole(restorer, part, info), prompt, plan, filing)
                pace = _pace(part)
                if per_megapixel is None:
                    seconds = found.pop("seconds")
                else:
                    seconds = per_megapixel * in_all(part) * plan.scale**2
            report = JobReport(job, "planned", seconds, megapixels, footage=pace)
        except Exception as error:
            report = JobReport(job, "failed", megapixels=megapixels, error=error)
        reports.append(report)
        tell(report, format, {**settings, **found}, None)
    return reports


def _work(
    job: "Job",
    info: "ImageInfo | VideoInfo",
    restorer: "Loaded",
    prompt: str | None,
    plan: "Plan",
    filing: "Filing",
) -> dict[str, Any]:
    """What a job takes, by name; of a video model, with the seconds.

    Raises:
        UnfadeError: the job would fail.
    """
    from unfade.media.images import ImageInfo
    from unfade.media.video import VideoInfo
    from unfade.restore.engine import PixelRestorer
    from unfade.restore.footage import check_work
    from unfade.restore.job import check_transparency
    from unfade.restore.vivid_restorer import VividRestorer

    if isinstance(info, ImageInfo):
        check_transparency(job, info, filing)
    height, width, pace = info.height * plan.scale, info.width * plan.scale, _pace(info)
    found: dict[str, Any] = {"width": width, "height": height}
    if isinstance(restorer, PixelRestorer):
        if job.confidence is not None:
            restorer.check_confidence()
        return {**found, "tiles": restorer.num_tiles(height, width, plan)}
    if isinstance(restorer, VividRestorer):
        if isinstance(info, VideoInfo):
            check_work(job, info, restorer, plan)
        film = job.film is not None and isinstance(info, VideoInfo)
        found |= restorer.work(info.height, info.width, plan, pace.frames if pace else 1, film)
        captioner = {} if prompt else {"captioner": restorer.captioner.name}
        return {**found, **captioner, "seconds": found["predicted_seconds"]}
    # Frames of footage are restored one by one, and of each the result is all that is wanted.
    keep = job.shows_the_way and not job.footage
    found |= restorer.work(height, width, replace(plan, keep=keep, confidence=job.confidence is not None))
    return {**found, "seconds": found["predicted_seconds"] * (pace.frames if pace else 1)}


def _seconds_per_megapixel(restorer: "PixelRestorer", prompt: str | None, plan: "Plan") -> float:
    """Of the enlarged photo; one step's time times their number, because each costs the same.

    Takes the better of two trials, because the first also warms up.
    """
    import torch

    from unfade.core import Clip

    patch = Clip(torch.full((1, 3, _TRIAL_SIDE, _TRIAL_SIDE), 0.5))
    trial = replace(plan, steps=1, scale=1, tile=0, keep=False)
    seconds = [restorer.restore(patch, prompt, trial).seconds for _ in range(2)]
    return (plan.steps or 1) * min(seconds) / patch.megapixels


def tell(report: "JobReport", format: Format, settings: dict[str, Any], bar: Bar | None) -> None:
    """A line on stdout for a report that has one."""
    line = report_line(report, format, settings)
    if line is None:
        return
    if report.status == "planned" and format == "text":
        line += f"  {settings['width']} x {settings['height']}, {settings['tiles']} tile(s)"
        if "petaflops" in settings:
            line += f", {settings['windows']} window(s)" if "windows" in settings else ""
            captioned = "windows" in settings and not settings["prompt"]
            line += f", captions by {settings['captioner']}" if captioned else ""
            line += f", {settings['evaluations']} evaluations, {settings['petaflops']:g} PFLOP"
            line += f", at most {settings['predicted_peak_gb']:g} GB ({settings['memory']})"
            line += "" if settings["fits"] else ", more than is free"
    if bar is None:
        typer.echo(line)
    else:
        bar.line(line)


def in_all(info: "ImageInfo | VideoInfo") -> float:
    """Megapixels of a photo, or of all frames of a clip."""
    pace = _pace(info)
    return info.width * info.height / 1e6 * (pace.frames if pace else 1)


def _pace(info: "ImageInfo | VideoInfo") -> "Pace | None":
    from unfade.media.video import VideoInfo
    from unfade.restore.footage import pace_of

    return pace_of(info) if isinstance(info, VideoInfo) else None
