"""`unfade restore`: photos, clips and folders of them, one after another."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from unfade.cli.board import Bar, Format, close
from unfade.cli.rehearsal import in_all, rehearse, tell

if TYPE_CHECKING:
    from unfade.core import Plan
    from unfade.media.excerpt import Span
    from unfade.media.images import ImageInfo
    from unfade.media.video import VideoInfo
    from unfade.restore.job import Filing, JobReport
    from unfade.restore.outputs import Job

_VIDEO = "Video models (V-Bridge)"
_FOOTAGE = "Footage (Vivid-VR)"


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
        str,
        typer.Option("--model", "-n", help="A model's name, a .safetensors file, or a video model's folder."),
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
            help="Length of the film, the sheet, the frames; of a clip, the sheet, and the states in Vivid-VR's film.",
            min=2,
            max=1000,
        ),
    ] = 9,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            help="Evaluations of the model; of tiny, 1 is closest to the original. Default: the model's own "
            "number (tiny 1, V-Bridge 50).",
            min=1,
            max=1000,
        ),
    ] = None,
    film: Annotated[
        bool,
        typer.Option(
            "--film",
            help="Also write {output stem}.mp4; of a clip {output stem}_film.mp4, the restoration sweeping through, "
            "by Vivid-VR its steps one after another.",
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
    confidence: Annotated[
        bool,
        typer.Option(
            "--confidence",
            help="Also write {output stem}_confidence.png, how sure each pixel is (white: sure; 16 bits): of tiny "
            "1 - 2 x the error expected there; of video models, with --samples, 1 - 2 x their spread.",
        ),
    ] = False,
    neighbours: Annotated[
        int,
        typer.Option(
            help="Frames of a clip before and after each that help to restore it; 0: frame by frame. Of tiny.",
            min=0,
            max=2,
        ),
    ] = 2,
    preset: Annotated[
        Literal["paper", "release"] | None,
        typer.Option(
            "--preset", help="Published settings to start from. Default: paper.", rich_help_panel=_VIDEO
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance", help="Towards the prompt; 1 is none, at half the cost.", rich_help_panel=_VIDEO
        ),
    ] = None,
    guidance_begin: Annotated[
        float | None,
        typer.Option(
            "--guidance-begin", help="Share of the steps without guidance first.", rich_help_panel=_VIDEO
        ),
    ] = None,
    guidance_end: Annotated[
        float | None,
        typer.Option(
            "--guidance-end", help="Share of the steps where guidance ends.", rich_help_panel=_VIDEO
        ),
    ] = None,
    clip_frames: Annotated[
        int | None,
        typer.Option("--clip-frames", help="Frames generated: 5, 9, 13, ...", rich_help_panel=_VIDEO),
    ] = None,
    large: Annotated[
        Literal["resize", "tile"] | None,
        typer.Option(
            "--large",
            help="Above 2560 x 1440: resize there and back as published, or tile.",
            rich_help_panel=_VIDEO,
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", help="Draw so many, give their mean: nearer, softer.", rich_help_panel=_VIDEO
        ),
    ] = None,
    words: Annotated[
        Literal["scene", "uniform"] | None,
        typer.Option(
            "--words",
            help="Of Progressive, without --prompt: a sentence for the photo, or the task's own. Default: scene.",
            rich_help_panel=_VIDEO,
        ),
    ] = None,
    sampler: Annotated[
        Literal["dpm", "ddim"] | None,
        typer.Option("--sampler", help="Of CogVideoX. Default: dpm.", rich_help_panel=_VIDEO),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="What training wrote.", rich_help_panel=_VIDEO)
    ] = None,
    drift_adapter: Annotated[
        str | None,
        typer.Option("--drift-adapter", help="That of the second pass.", rich_help_panel=_VIDEO),
    ] = None,
    drift: Annotated[
        Literal["always", "gated", "never"] | None,
        typer.Option(
            "--drift",
            help="When the second pass is taken; gated: where it moves light or sharpens. Default: always.",
            rich_help_panel=_VIDEO,
        ),
    ] = None,
    memory: Annotated[
        Literal["auto", "resident", "offload", "group", "fp8"] | None,
        typer.Option(
            "--memory",
            help="How weights are kept: on the device, in turns, block by block, in turns and in 8 bits. Default: "
            "auto, from what is free.",
            rich_help_panel=_VIDEO,
        ),
    ] = None,
    vae_tiles: Annotated[
        Literal["auto", "on", "off"] | None,
        typer.Option(
            "--vae-tiles", help="Decode in tiles. Default: auto, if need be.", rich_help_panel=_VIDEO
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option(
            "--control",
            help="Folder of Vivid-VR's control (unfade models convert): restores footage with --model vivid-vr.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            "--captioner",
            help="Says what is in the footage, without --prompt: rules, a model's name or folder, or auto, the best "
            "that is on this machine: CogVLM2-caption (with --trust-remote-code), Qwen3-VL, rules. Default: auto.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    trust_remote_code: Annotated[
        bool,
        typer.Option(
            "--trust-remote-code",
            help="Let CogVLM2-caption run the code in its folder. Of the captioner only.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = False,
    short_side: Annotated[
        int | None,
        typer.Option(
            "--short-side",
            help="Of the result in pixels, without --scale; 0 keeps the input's. Default: 1024.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    dynamic_guidance: Annotated[
        bool,
        typer.Option(
            "--dynamic-guidance",
            help="Let --guidance rise and fall between none and all of it, as CogVideoX's own pipelines can.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = False,
    fidelity: Annotated[
        float | None,
        typer.Option(
            "--fidelity",
            help="0 invents freely, towards 1 it stays with the input. Default: 0.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            "--window", help="Frames seen at once: 17, 25, ... Default: 121.", rich_help_panel=_FOOTAGE
        ),
    ] = None,
    colour: Annotated[
        Literal["adain", "wavelet", "none"] | None,
        typer.Option("--colour", help="How colours are kept. Default: adain.", rich_help_panel=_FOOTAGE),
    ] = None,
    colour_window: Annotated[
        int | None,
        typer.Option(
            "--colour-window",
            help="Over how many frames, an odd number; 1 may flicker. Default: 9.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    protect: Annotated[
        str | None,
        typer.Option(
            "--protect",
            metavar="MASKS",
            help="Grey picture, folder or video, white where the input is kept: text, say.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    stop_at: Annotated[
        int | None,
        typer.Option(
            "--stop-at",
            metavar="STEP",
            help="Go no step further: the result is the clip predicted there. 0 takes what an interrupted run has "
            "done. Without this and with --overwrite it goes on.",
            min=0,
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
    preview: Annotated[
        str | None,
        typer.Option(
            "--preview",
            metavar="2s@00:10/512x512+100+50",
            help="Of clips, restore this part only, to {output stem}_preview: so long from there on, and so wide and "
            "high so far from the left and the top. Either alone: all of the picture, or the first second.",
            rich_help_panel=_FOOTAGE,
        ),
    ] = None,
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
            "which takes the extra: pip install '.\\[heic]' in the clone of unfade). For clips mp4, m4v, mov or mkv.",
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
        plan = Plan(steps, frames, scale, seed, device, dtype, _tile(tile), neighbours=neighbours)
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
        inputs, output, format=output_format, film=film, sheet=sheet, frames=save_frames,
        confidence=confidence, recursive=recursive,
    )  # fmt: skip
    if dry_run and stop_at == 0:
        raise UsageError("--stop-at 0 takes what is done already; leave --dry-run out")
    if short_side is not None and scale > 1:
        raise UsageError("--short-side and --scale both say how large the result is; choose one")
    jobs, span = planned.jobs, None
    if preview is not None:
        from unfade.cli.preview import as_previews
        from unfade.media.excerpt import read_span

        jobs, span = as_previews(jobs), read_span(preview)
    _check_images_only(jobs, bit_depth, quality, confidence)
    chosen = {
        "preset": preset, "guidance": guidance, "guidance_begin": guidance_begin, "guidance_end": guidance_end,
        "frames": clip_frames,
        "large": large, "samples": samples, "words": words, "sampler": sampler,
        "adapter": adapter, "drift_adapter": drift_adapter, "drift": drift,
        "memory": memory, "vae_tiles": vae_tiles, "control": control, "captioner": captioner, "protect": protect,
        "trust_remote_code": trust_remote_code or None, "dynamic": dynamic_guidance or None,
        "short_side": short_side, "fidelity": fidelity, "window": window, "colour": colour,
        "colour_window": colour_window,
    }  # fmt: skip
    chosen = {name: value for name, value in chosen.items() if value is not None}
    settings = {"model": model, "prompt": prompt, **asdict(plan), "steps": plan.steps or _own_steps(model)}
    # Not the user's: run_job decides what is kept and what is made.
    del settings["keep"], settings["confidence"]
    settings |= {"bit_depth": bit_depth, "quality": quality, "strip_metadata": strip_metadata}
    # The film has frames of its own.
    settings |= {"clip_frames" if name == "frames" else name: value for name, value in chosen.items()}
    if stop_at is not None:
        settings["stop_at"] = stop_at
    reports = _run(jobs, model, chosen, prompt, plan, filing, dry_run, format, settings, span, stop_at)
    _finish(reports, planned.ignored)


def _run(
    jobs: Sequence["Job"],
    model: str,
    chosen: dict[str, Any],
    prompt: str | None,
    plan: "Plan",
    filing: "Filing",
    dry_run: bool,
    format: Format,
    settings: dict[str, Any],
    span: "Span | None" = None,
    stop_at: int | None = None,
) -> list["JobReport"]:
    """Tells and collects a report for every job, those first that fail before any work."""
    from unfade.cli.preview import as_in_the_whole, excerpted
    from unfade.restore.job import JobReport, run_job
    from unfade.restore.report import explained

    ready, reports = _screened(jobs, plan, filing)
    for report in reports:
        tell(report, format, settings, None)
    if not ready:
        return reports
    from unfade.core import UsageError
    from unfade.core.memory import reuse_large_blocks
    from unfade.restore.load import load
    from unfade.restore.vivid_restorer import VividRestorer

    reuse_large_blocks()
    restorer = load(model, **chosen)
    if stop_at is not None:
        if not isinstance(restorer, VividRestorer):
            raise UsageError(f"{restorer.name} has no use for --stop-at, which is of Vivid-VR; leave it out")
        restorer.stop_at = stop_at
    if dry_run:
        return reports + rehearse(ready, restorer, prompt, plan, filing, format, settings, span)
    sizes = {job: in_all(info) for job, info in ready}
    with Bar(sum(sizes.values()), len(ready)) as bar:
        for job, info in ready:
            bar.begin(job.input.name, sizes[job])
            try:
                with excerpted(job, info, span) as (taken, part):
                    fitting = as_in_the_whole(restorer, part, info)
                    report = run_job(taken, fitting, plan, prompt=prompt, filing=filing, progress=bar.share)
            except Exception as error:
                report = JobReport(job, "failed", error=explained(error, job))
            report = replace(report, job=job)
            reports.append(report)
            tell(report, format, settings, bar)
    return reports


def _check_images_only(
    jobs: Sequence["Job"], bit_depth: int | None, quality: int | None, confidence: bool
) -> None:
    """Raises for what could only change photos, where there are none."""
    from unfade.core import UsageError

    if not all(job.footage for job in jobs):
        return
    if quality is not None:
        raise UsageError("--quality is of photos; there are only clips here, leave it out")
    if confidence:
        raise UsageError("--confidence is of photos; there are only clips here, leave it out")
    if bit_depth is not None and not any(job.frames_folder for job in jobs):
        raise UsageError("--bit-depth is of images, a clip keeps its own; leave it out or add --save-frames")


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


def _finish(reports: Sequence["JobReport"], ignored: int) -> None:
    understood = {report.provenance.get("understood", "yes") for report in reports}
    for sentence in sorted(understood - {"yes"}):
        typer.echo(f"note: {sentence}", err=True)
    for report in reports:
        if report.job.footage and (stopped := report.provenance.get("stopped")):
            typer.echo(
                f"note: {report.job.output} shows what was predicted {stopped}; the same command with --overwrite and "
                "without --stop-at goes on from there",
                err=True,
            )
    failures = [(report.error_message, report.error) for report in reports if report.error is not None]
    if len(reports) == 1:
        for _, failure in failures:
            raise failure
        if not ignored:
            return
    done = sum(report.status in ("done", "planned") and report.error is None for report in reports)
    close(failures, done, sum(report.status == "skipped" for report in reports), ignored)


def _own_steps(model: str) -> int | None:
    """The model's own number of steps where its name says it."""
    from unfade.backbones.catalog import find

    info = find(model)
    return info.steps if info else None


def _tile(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"{text!r} is neither auto nor a number of pixels", param_hint="--tile")
    return int(text)
