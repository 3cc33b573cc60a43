"""`unfade restore`: photos, clips and folders of them, one after another."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

import typer

import unfade.cli.footage_options as footage
import unfade.cli.restore_options as every
import unfade.cli.video_options as video
from unfade.cli.restoring import carry_out, finish

if TYPE_CHECKING:
    from unfade.restore.outputs import Job


def restore(
    inputs: every.Inputs,
    output: every.Output = None,
    model: every.Model = "tiny",
    prompt: every.Prompt = None,
    scale: every.Scale = 1,
    frames: every.Frames = 9,
    steps: every.Steps = None,
    film: every.Film = False,
    sheet: every.Sheet = False,
    save_frames: every.SaveFrames = False,
    confidence: every.Confidence = False,
    neighbours: every.Neighbours = 2,
    preset: video.Preset = None,
    guidance: video.Guidance = None,
    guidance_begin: video.GuidanceBegin = None,
    guidance_end: video.GuidanceEnd = None,
    clip_frames: video.ClipFrames = None,
    large: video.Large = None,
    samples: video.Samples = None,
    words: video.Words = None,
    task: video.Task = None,
    sampler: video.Sampler = None,
    adapter: video.Adapter = None,
    drift_adapter: video.DriftAdapter = None,
    drift: video.Drift = None,
    memory: video.Memory = None,
    vae_tiles: video.VaeTiles = None,
    control: footage.Control = None,
    captioner: video.Captioner = None,
    trust_remote_code: footage.TrustRemoteCode = False,
    short_side: footage.ShortSide = None,
    dynamic_guidance: footage.DynamicGuidance = False,
    fidelity: footage.Fidelity = None,
    window: footage.Window = None,
    colour: footage.Colour = None,
    colour_window: footage.ColourWindow = None,
    protect: footage.Protect = None,
    stop_at: footage.StopAt = None,
    preview: footage.Preview = None,
    seed: every.Seed = 0,
    device: every.Device = "auto",
    dtype: every.Dtype = "auto",
    tile: every.Tile = "auto",
    format: every.Format = "text",
    dry_run: every.DryRun = False,
    overwrite: every.Overwrite = False,
    skip_existing: every.SkipExisting = False,
    recursive: every.Recursive = False,
    strip_metadata: every.StripMetadata = False,
    max_megapixels: every.MaxMegapixels = 200.0,
    output_format: every.OutputFormat = None,
    bit_depth: every.BitDepth = None,
    quality: every.Quality = None,
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
        "large": large, "samples": samples, "words": words, "task": task, "sampler": sampler,
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
    reports = carry_out(jobs, model, chosen, prompt, plan, filing, dry_run, format, settings, span, stop_at)
    finish(reports, planned.ignored)


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
