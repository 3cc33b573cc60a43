"""`unfade distill`: training clips that a frozen video model makes of real ones."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unfade.cli.size import size_of

app = typer.Typer(no_args_is_help=True, help="Make training clips with a frozen model.")


@app.command("concepts")
def distill_concepts(
    videos: Annotated[
        list[Path], typer.Option(help="Folders of videos (repeatable), or one manifest of curated footage.")
    ],
    model: Annotated[str, typer.Option(help="CogVideoX1.5-5B: a folder, or a name that was downloaded.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of clips, captions and manifest.")],
    count: Annotated[
        int | None, typer.Option(help="How many clips, drawn by their names. Default: all.", min=1)
    ] = None,
    strength: Annotated[
        float, typer.Option(help="Share of the schedule a clip goes back; 1 begins with pure noise.")
    ] = 0.5,
    steps: Annotated[
        int, typer.Option(help="Of the whole schedule; best a divisor of 1000.", min=1, max=1000)
    ] = 50,
    sampler: Annotated[Literal["dpm", "ddim"], typer.Option(help="The solver.")] = "dpm",
    guidance: Annotated[float, typer.Option(help="Scale; 1 is none.", min=1)] = 6.0,
    negative: Annotated[str, typer.Option(help="Prompt to go away from.")] = "",
    suffix: Annotated[
        bool, typer.Option("--suffix/--no-suffix", help="Add what Vivid-VR adds to every caption.")
    ] = False,
    captioner: Annotated[str, typer.Option(help="rules, or a model as unfade prompt takes it.")] = "rules",
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run the captioner's own Python code, from its folder."),
    ] = False,
    captions: Annotated[
        Path | None, typer.Option(help="Captions of the footage that were made before (JSON lines).")
    ] = None,
    frames: Annotated[int, typer.Option(help="Of a clip, 8k + 1.", min=1)] = 33,
    size: Annotated[str, typer.Option(metavar="PX|WxH", help="Of a frame; multiples of 16.")] = "1024",
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N",
            help="Which of N processes this is, from 0/N, each with a GPU of its own; merge them afterwards.",
        ),
    ] = "0/1",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="Where it is computed.")
    ] = "auto",
    dtype: Annotated[Literal["auto", "bf16", "fp32"], typer.Option(help="Of the transformer.")] = "auto",
) -> None:
    """Let the frozen base make clips anew under their captions; the same command goes on where it stopped."""
    from unfade.cli.prompt import footage_captioner_of
    from unfade.recipes.run_concepts import run_concepts
    from unfade.restore.load import check_extra
    from unfade.training.concepts import ConceptRun

    check_extra(model)
    run = ConceptRun(
        strength=strength,
        steps=steps,
        sampler=sampler,
        guidance=guidance,
        negative=negative,
        suffix=suffix,
        frames=frames,
        size=size_of(size, "--size"),
        seed=seed,
        count=count,
    )
    part = _shard(shard)
    made = run_concepts(
        videos,
        model,
        output,
        run,
        captioner=footage_captioner_of(captioner, None, trust_remote_code, device),
        captions=captions,
        shard=part,
        device=device,
        dtype=dtype,
        say=_say,
    )
    more = "" if part[1] == 1 else f"; when all are done: unfade distill merge -o {output} --shards {part[1]}"
    typer.echo(f"{output}: {made} clips{more}")


@app.command("merge")
def distill_merge(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder that the shards filled.")],
    shards: Annotated[int, typer.Option(help="How many there are.", min=1)],
) -> None:
    """Put the manifests and captions of all shards together."""
    from unfade.training.concept_store import MANIFEST, merge_concepts

    totals = merge_concepts(output, shards)
    typer.echo(f"{output / MANIFEST}: {totals.clips} clips, {totals.hours:.2f} hours")


def _say(line: str) -> None:
    typer.echo(line)


def _shard(text: str) -> tuple[int, int]:
    """(index, count)."""
    index, _, count = text.partition("/")
    if not all(part.isascii() and part.isdigit() for part in (index, count)):
        raise typer.BadParameter(
            f"{text!r} is not a shard such as 0/8, the first of eight", param_hint="--shard"
        )
    return int(index), int(count)
