"""`unfade restore`: photos, clips and folders of them, one after another."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unfade.cli.board import Bar, Format, close, report_line

if TYPE_CHECKING:
    from unfade.core import Plan
    from unfade.media.images import ImageInfo
    from unfade.media.video import VideoInfo
    from unfade.restore.engine import PixelRestorer
    from unfade.restore.job import Filing, JobReport
    from unfade.restore.outputs import Job
    from unfade.restore.report import Pace

# Large enough that what a call costs besides its pixels hardly counts, small enough to answer at once.
_TRIAL_SIDE = 384


def restore(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Photos, clips, and folders of them.")],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder. Default: {stem}_unfaded beside the input, {folder}_unfaded/.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-n", help="A model's name, or a .safetensors file.")
    ] = "tiny",
    prompt: Annotated[
        str | None,
        typer.Option("--prompt", help='What to achieve, e.g. "remove the noise". Default: everything.'),
    ] = None,
    scale: Annotated[int, typer.Option("--scale", "-s", help="Enlarge as well.", min=1, max=4)] = 1,
    frames: Annotated[
        int,
        typer.Option(
            "--frames",
            help="Length of the film, the sheet, the frames; of a clip, the sheet.",
            min=2,
            max=1000,
        ),
    ] = 9,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", help="Evaluations of the model; 1 is closest to the original.", min=1, max=1000
        ),
    ] = 1,
    film: Annotated[
        bool,
        typer.Option(
            "--film",
            help="Also write {output stem}.mp4; of a clip {output stem}_film.mp4, the restoration sweeping through.",
        ),
    ] = False,
    sheet: Annotated[
        bool,
        typer.Option("--sheet", help="Also write {output stem}_sheet.png; of a clip, input above result."),
    ] = False,
    save_frames: Annotated[
        bool,
        typer.Option(
            "--save-frames",
            help="Also write {output stem}_frames/0000.png and so on; of a clip, all its restored frames.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of every random draw.")] = 0,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="Where to compute.")
    ] = "auto",
    dtype: Annotated[Literal["auto", "bf16", "fp32"], typer.Option("--dtype", help="Precision.")] = "auto",
    tile: Annotated[
        str, typer.Option("--tile", "-t", metavar="auto|0|PX", help="Side of a tile in pixels; 0 for none.")
    ] = "auto",
    format: Annotated[
        Literal["text", "json"], typer.Option("--format", help="json: one object per file on stdout.")
    ] = "text",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the inputs, say what would be done, write nothing.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Pass over inputs all of whose results exist.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Enter the folders of folders, and keep the tree.")
    ] = False,
    strip_metadata: Annotated[
        bool, typer.Option("--strip-metadata", help="Leave EXIF, XMP, IPTC and provenance out.")
    ] = False,
    max_megapixels: Annotated[
        float,
        typer.Option(
            "--max-megapixels", help="Refuse photos, and clips of frames, larger than this.", min=0.001
        ),
    ] = 200.0,
    output_format: Annotated[
        str | None,
        typer.Option(
            "--output-format",
            help="jpeg, png, tiff, webp, avif, gif or ppm. Default: as the input, and avif for HEIC (reading "
            "which takes the extra: pip install 'unfade\\[heic]'). For clips mp4, m4v, mov or mkv.",
        ),
    ] = None,
    bit_depth: Annotated[
        int | None, typer.Option("--bit-depth", help="8 or 16 (AVIF: 8, 10, 12). Default: as the input.")
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option("--quality", help="Of JPEG, WebP, AVIF. Default: 95, AVIF 90.", min=1, max=100),
    ] = None,
) -> None:
    """Restore photos and clips.

    The result has the photo's own format, depth, colours and metadata. HEIC can't be written and becomes
    AVIF. A clip keeps its sound, times and frame count; of containers, MP4, MOV and Matroska stay what they are
    and others become MP4. An input that fails doesn't stop the others.
    """
    from unfade.core import Plan, UsageError
    from unfade.restore.job import Filing
    from unfade.restore.outputs import plan_jobs

    if overwrite and skip_existing:
        raise UsageError("--overwrite and --skip-existing contradict each other; choose one")
    try:
        plan = Plan(steps, frames, scale, seed, device, dtype, _tile(tile))
    except ValueError as error:
        raise UsageError(str(error)) from error
    filing = Filing(
        existing="overwrite" if overwrite else "skip" if skip_existing else "fail",
        bit_depth=bit_depth,
        quality=quality,
        strip_metadata=strip_metadata,
        max_megapixels=max_megapixels,
    )
    planned = plan_jobs(
        inputs, output, format=output_format, film=film, sheet=sheet, frames=save_frames, recursive=recursive
    )
    _check_images_only(planned.jobs, bit_depth, quality)
    settings = {"model": model, "prompt": prompt, **asdict(plan)}
    # Not the user's: run_job decides what is kept.
    del settings["keep"]
    settings |= {"bit_depth": bit_depth, "quality": quality, "strip_metadata": strip_metadata}
    reports = _run(planned.jobs, model, prompt, plan, filing, dry_run, format, settings)
    _finish(reports, planned.ignored)


def _run(
    jobs: Sequence["Job"],
    model: str,
    prompt: str | None,
    plan: "Plan",
    filing: "Filing",
    dry_run: bool,
    format: Format,
    settings: dict[str, Any],
) -> list["JobReport"]:
    """Tells and collects a report for every job, those first that fail before any work."""
    from unfade.restore.job import run_job

    ready, reports = _screened(jobs, plan, filing)
    for report in reports:
        _tell(report, format, settings, None)
    if not ready:
        return reports
    from unfade.core.memory import reuse_large_blocks
    from unfade.restore.load import load

    reuse_large_blocks()
    restorer = load(model)
    if dry_run:
        return reports + _rehearse(ready, restorer, prompt, plan, filing, format, settings)
    sizes = {job: _in_all(info) for job, info in ready}
    with Bar(sum(sizes.values()), len(ready)) as bar:
        for job, _ in ready:
            bar.begin(job.input.name, sizes[job])
            report = run_job(job, restorer, plan, prompt=prompt, filing=filing, progress=bar.share)
            reports.append(report)
            _tell(report, format, settings, bar)
    return reports


def _check_images_only(jobs: Sequence["Job"], bit_depth: int | None, quality: int | None) -> None:
    """Raises for what could only change photos, where there are none."""
    from unfade.core import UsageError

    if not all(job.footage for job in jobs):
        return
    if quality is not None:
        raise UsageError("--quality is of photos; there are only clips here, leave it out")
    if bit_depth is not None and not any(job.frames_folder for job in jobs):
        raise UsageError("--bit-depth is of images, a clip keeps its own; leave it out or add --save-frames")


def _in_all(info: "ImageInfo | VideoInfo") -> float:
    """Megapixels of a photo, or of all frames of a clip."""
    pace = _pace(info)
    return info.width * info.height / 1e6 * (pace.frames if pace else 1)


def _pace(info: "ImageInfo | VideoInfo") -> "Pace | None":
    from unfade.media.video import VideoInfo
    from unfade.restore.footage import pace_of

    return pace_of(info) if isinstance(info, VideoInfo) else None


def _screened(
    jobs: Sequence["Job"], plan: "Plan", filing: "Filing"
) -> tuple[list[tuple["Job", "ImageInfo | VideoInfo"]], list["JobReport"]]:
    """The jobs that can be tried, and reports on those that are done already or can't work."""
    from unfade.restore.footage import check_footage
    from unfade.restore.job import JobReport, check_job, is_done

    ready: list[tuple[Job, ImageInfo | VideoInfo]] = []
    reports: list[JobReport] = []
    for job in jobs:
        if is_done(job, filing):
            reports.append(JobReport(job, "skipped"))
            continue
        try:
            check = check_footage if job.footage else check_job
            ready.append((job, check(job, plan.scale, filing)))
        except Exception as error:
            reports.append(JobReport(job, "failed", error=error))
    return ready, reports


def _rehearse(
    ready: Sequence[tuple["Job", "ImageInfo | VideoInfo"]],
    restorer: "PixelRestorer",
    prompt: str | None,
    plan: "Plan",
    filing: "Filing",
    format: Format,
    settings: dict[str, Any],
) -> list["JobReport"]:
    """What would be done, with the time estimated from restoring one small patch here and now."""
    from unfade.media.images import ImageInfo
    from unfade.restore.job import JobReport, check_transparency

    per_megapixel = _seconds_per_megapixel(restorer, prompt, plan)
    reports: list[JobReport] = []
    for job, info in ready:
        megapixels = info.width * info.height / 1e6
        try:
            if isinstance(info, ImageInfo):
                check_transparency(job, info, filing)
        except Exception as error:
            reports.append(JobReport(job, "failed", megapixels=megapixels, error=error))
            _tell(reports[-1], format, settings, None)
            continue
        seconds = per_megapixel * _in_all(info) * plan.scale**2
        report = JobReport(job, "planned", seconds, megapixels, footage=_pace(info))
        reports.append(report)
        height, width = info.height * plan.scale, info.width * plan.scale
        tiles = restorer.num_tiles(height, width, plan)
        _tell(report, format, {**settings, "width": width, "height": height, "tiles": tiles}, None)
    return reports


def _seconds_per_megapixel(restorer: "PixelRestorer", prompt: str | None, plan: "Plan") -> float:
    """Of the enlarged photo; one step's time times their number, because each costs the same.

    Takes the better of two trials, because the first also warms up.
    """
    import torch

    from unfade.core import Clip

    patch = Clip(torch.full((1, 3, _TRIAL_SIDE, _TRIAL_SIDE), 0.5))
    trial = replace(plan, steps=1, scale=1, tile=0, keep=False)
    seconds = [restorer.restore(patch, prompt, trial).seconds for _ in range(2)]
    return plan.steps * min(seconds) / patch.megapixels


def _tell(report: "JobReport", format: Format, settings: dict[str, Any], bar: Bar | None) -> None:
    line = report_line(report, format, settings)
    if line is None:
        return
    if report.status == "planned" and format == "text":
        line += f"  {settings['width']} x {settings['height']}, {settings['tiles']} tile(s)"
    if bar is None:
        typer.echo(line)
    else:
        bar.line(line)


def _finish(reports: Sequence["JobReport"], ignored: int) -> None:
    failures = [(report.error_message, report.error) for report in reports if report.error is not None]
    if len(reports) == 1:
        for _, failure in failures:
            raise failure
        if not ignored:
            return
    done = sum(report.status in ("done", "planned") for report in reports)
    close(failures, done, sum(report.status == "skipped" for report in reports), ignored)


def _tile(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"{text!r} is neither auto nor a number of pixels", param_hint="--tile")
    return int(text)
