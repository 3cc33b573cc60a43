"""`unfade prompt`: the sentence a photo would be restored with, and why that one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from unfade.prompts.scene import Captioner


def prompt(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A degraded photo.")],
    own: Annotated[str | None, typer.Option("--prompt", help="Your own; it always wins.")] = None,
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
            help="rules (measures the photo, no model), qwen3-vl-4b, llava-onevision-7b, llava-onevision-0.5b, blip, a "
            "hub id or a model folder.",
        ),
    ] = "rules",
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions", help="Folder in which captions of models are kept. Default: the user's cache."
        ),
    ] = None,
    format: Annotated[Literal["text", "json"], typer.Option("--format", help="Of what is printed.")] = "text",
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", help="Refuse photos larger than this.", min=0.001)
    ] = 200.0,
) -> None:
    """Show the prompt that a photo would be restored with by Progressive, and why."""
    from unfade.media.images import read_image
    from unfade.prompts.measured import chosen_task, measure
    from unfade.prompts.scene import own_prompt, plain_prompt, scene_prompt

    picture = read_image(photo, max_megapixels=max_megapixels).frames[0]
    found = measure(picture)
    wanted, because = chosen_task(found) if task == "auto" else (task, "you said so")
    chosen = own_prompt(own)
    if chosen is None:
        chosen = (
            plain_prompt(wanted)
            if kind == "uniform"
            else scene_prompt(picture, wanted, captioner_of(captioner, captions))
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


def captioner_of(name: str, captions: Path | None) -> "Captioner":
    """What looks at photos: the rules, or a model whose captions are kept in a folder (by default the user's cache)."""
    import torch

    from unfade.backbones.captioner import open_captioner
    from unfade.prompts.captions import KeptCaptions, default_captions
    from unfade.prompts.measured import MeasuredCaptioner

    if name == MeasuredCaptioner.name:
        return MeasuredCaptioner()
    model = open_captioner(name, "cuda" if torch.cuda.is_available() else "cpu")
    return KeptCaptions(model, captions or default_captions())
