"""`unfade prompt`: the sentence a photo or a piece of footage would be restored with, and why that one."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from unfade.core.contracts import Device
    from unfade.prompts.footage import FootageCaptioner
    from unfade.prompts.scene import Captioner


def prompt(
    photo: Annotated[Path, typer.Argument(metavar="FILE", help="A degraded photo or footage.")],
    own: Annotated[str | None, typer.Option("--prompt", help="Your own; it always wins.")] = None,
    model: Annotated[
        Literal["progressive", "vivid-vr"] | None,
        typer.Option(
            "--model", "-n", help="What is to be told: by default progressive of photos, vivid-vr of footage."
        ),
    ] = None,
    task: Annotated[
        Literal["auto", "resolution", "blur", "lowlight"],
        typer.Option("--task", help="What is to become better; auto measures what is wrong."),
    ] = "auto",
    kind: Annotated[
        Literal["scene", "uniform"],
        typer.Option("--kind", help="A prompt that fits the photo, or the task's fixed one."),
    ] = "scene",
    captioner: Annotated[
        str,
        typer.Option(
            "--captioner",
            help="rules (measures the pixels, no model), qwen3-vl-4b, llava-onevision-7b, llava-onevision-0.5b, blip "
            "(photos only), a hub id, a model folder (of footage also CogVLM2-caption's), or auto: qwen3-vl-4b where "
            "it is on this machine, of footage with --trust-remote-code CogVLM2-caption, else rules. Default: auto.",
        ),
    ] = "auto",
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let CogVLM2-caption's folder run the code in it.")
    ] = False,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"],
        typer.Option("--device", help="Where a captioner that is a model computes."),
    ] = "auto",
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions", help="Folder in which captions of models are kept. Default: the user's cache."
        ),
    ] = None,
    format: Annotated[Literal["text", "json"], typer.Option("--format", help="Of what is printed.")] = "text",
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", help="Refuse photos and frames larger than this.", min=0.001)
    ] = 200.0,
) -> None:
    """Show the prompt that a photo would be restored with by Progressive, or footage by Vivid-VR, and why."""
    from unfade.core import UsageError
    from unfade.media.images import read_image
    from unfade.media.source import FOOTAGE
    from unfade.prompts.measured import chosen_task, measure
    from unfade.prompts.scene import own_prompt, plain_prompt, scene_prompt

    footage = photo.suffix.lower() in FOOTAGE
    if footage and model == "progressive":
        raise UsageError("progressive makes prompts for photos; footage is told to vivid-vr")
    if footage or model == "vivid-vr":
        if task != "auto" or kind != "scene":
            raise UsageError("vivid-vr has neither tasks nor fixed prompts; leave out --task and --kind")
        # Your own prompt needs no captioner.
        looks = footage_captioner_of(
            "rules" if own and own.strip() else captioner, captions, trust_remote_code, device
        )
        return _tell_footage(photo, own, looks, format, max_megapixels)
    picture = read_image(photo, max_megapixels=max_megapixels).frames[0]
    found = measure(picture)
    wanted, because = chosen_task(found) if task == "auto" else (task, "you said so")
    chosen = own_prompt(own)
    if chosen is None:
        chosen = (
            plain_prompt(wanted)
            if kind == "uniform"
            else scene_prompt(picture, wanted, captioner_of(captioner, captions, device))
        )
    if format == "json":
        row = {
            "photo": str(photo), "prompt": chosen.text, "source": chosen.source, "why": chosen.why,
            "caption": chosen.caption, "task": wanted, "because": because,
            "measured": {
                "brightness": found.brightness, "highlights": found.highlights, "falloff": found.falloff,
                "directed": found.directed, "direction": found.direction, "noise": found.noise, "cast": found.cast,
            },
        }  # fmt: skip
        typer.echo(json.dumps(row, ensure_ascii=False))
        return
    typer.echo(chosen.text)
    typer.echo(f"task: {wanted}, because {because}", err=True)
    typer.echo(f"prompt: {chosen.source}, because {chosen.why}", err=True)


def _tell_footage(
    path: Path, own: str | None, captioner: "FootageCaptioner", format: str, max_megapixels: float
) -> None:
    from unfade.restore.footage_prompts import footage_prompt

    told = footage_prompt(path, captioner, own, max_megapixels)
    grid = told.grid
    if format == "json":
        row = {"footage": str(path), "prompt": told.text, **asdict(told)}
        row["grid"]["captions"] = grid.captions
        typer.echo(json.dumps(row, ensure_ascii=False))
        return
    typer.echo(told.text)
    typer.echo(f"caption: {told.source}, because {told.why}: {told.caption}", err=True)
    typer.echo(f"suffix, which is never cut: {told.suffix}", err=True)
    typer.echo(f"negative prompt: {told.negative}", err=True)
    same = (
        "the same for all"
        if told.source == "user"
        else "each its own; above is that of whole frames of the first clip"
    )
    typer.echo(
        f"captions: {grid.captions}, for {grid.rows} x {grid.columns} tiles on {grid.width}x{grid.height} in "
        f"{grid.clips} clip{'s' if grid.clips > 1 else ''}, {same}",
        err=True,
    )


def footage_captioner_of(
    name: str, captions: Path | None, trust_remote_code: bool = False, device: "Device" = "auto"
) -> "FootageCaptioner":
    """What looks at footage: as `captioner_of`, and "auto" for the best that is on this machine."""
    from unfade.backbones.video_captioner import choose_video_captioner
    from unfade.restore.device import choose_device

    return choose_video_captioner(
        name, choose_device(device), trust_remote_code=trust_remote_code, captions=captions
    )


def captioner_of(name: str, captions: Path | None, device: "Device" = "auto") -> "Captioner":
    """What looks at photos: the rules, or a model whose captions are kept in a folder (by default the user's cache).

    Raises:
        ModelError: the captioner is unknown or not on this machine.
        UsageError: the device is not there.
    """
    from unfade.backbones.captioner import choose_captioner
    from unfade.restore.device import choose_device

    return choose_captioner(name, choose_device(device), captions)
