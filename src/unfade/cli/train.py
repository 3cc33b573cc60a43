"""`unfade train`: the embedded model from a folder of photos, V-Bridge from a folder of pairs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Train a model.")


@app.command("tiny")
def train_tiny(
    photos: Annotated[
        list[Path], typer.Option(help="Folders of clean photos, or one packed file; repeatable.")
    ],
    runs: Annotated[Path, typer.Option(help="Where checkpoint, log and weights go.")] = Path("runs/tiny"),
    recipe: Annotated[
        str, typer.Option(help="cpu, further, gpu or smoke: see unfade/recipes/tiny.py.")
    ] = "cpu",
    steps: Annotated[int | None, typer.Option(help="Other than the recipe's number of steps.", min=1)] = None,
    until: Annotated[
        int | None, typer.Option(help="Stop after this step; a later start goes on.", min=1)
    ] = None,
    start: Annotated[Path | None, typer.Option(help="Weights (.safetensors) to start from.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Training processes; best one a CPU core.", min=1)] = 1,
) -> None:
    """Train the embedded model; started again with the same --runs it goes on exactly where it stopped."""
    from unfade.recipes.run_tiny import run_tiny

    written = run_tiny(
        photos, runs, recipe=recipe, steps=steps, until=until, start=start, device=device, workers=workers,
        report=_report,
    )  # fmt: skip
    typer.echo(f"weights: {written}")


@app.command("judgement")
def train_judgement(
    photos: Annotated[
        list[Path], typer.Option(help="The folders, or the packed file, the network was trained on.")
    ],
    weights: Annotated[Path, typer.Option(help="Weights (.safetensors) of a finished training.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where both go together.")],
    workers: Annotated[int, typer.Option(help="Processes; best one a CPU core.", min=1)] = 1,
) -> None:
    """Fit how far the embedded model's answers are followed and how wrong they may be; it stays as it is."""
    from unfade.recipes.run_judgement import run_judgement

    written = run_judgement(photos, weights, output, workers=workers, report=_report_judgement)
    typer.echo(f"weights: {written}")


def _report_judgement(row: dict[str, object]) -> None:
    typer.echo("  ".join(f"{name} {value}" for name, value in row.items()))


@app.command("vbridge")
def train_vbridge(
    pairs: Annotated[
        list[Path],
        typer.Option(help="Folders of pairs: FoundIR's groups, Real-CE, or LQ and HQ folders; repeatable."),
    ],
    model: Annotated[str, typer.Option(help="Wan2.2-TI2V-5B: a folder, or a name that was downloaded.")],
    runs: Annotated[Path, typer.Option(help="Where checkpoint, log, pictures and weights go.")] = Path(
        "runs/vbridge"
    ),
    recipe: Annotated[
        str, typer.Option(help="paper, lora or smoke: see unfade/recipes/vbridge.py.")
    ] = "paper",
    lora: Annotated[
        bool | None, typer.Option("--lora/--full", help="An adapter or all weights; as the recipe says.")
    ] = None,
    layout: Annotated[str, typer.Option(help="Of the pairs: auto, foundir, realce or plain.")] = "auto",
    few_shot: Annotated[
        str, typer.Option(help="Pairs of each category: 50 (1K in all), 0.2K, 8K, a number, or all.")
    ] = "1K",
    held_out: Annotated[int, typer.Option(help="Pairs of each category kept for validation.", min=0)] = 1,
    without: Annotated[
        list[Path] | None, typer.Option(help="pairs.json of a run whose pairs are left alone; repeatable.")
    ] = None,
    role: Annotated[str, typer.Option(help="Of the adapter: restore or drift-correction.")] = "restore",
    start: Annotated[Path | None, typer.Option(help="An adapter (.safetensors) to go on from.")] = None,
    stages: Annotated[
        str | None, typer.Option(help="Epochs x pixels, such as 100x512,100x704,100x960.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of a sequence: 5, 9, 17, ...")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples of a step, all processes together.")] = None,
    accumulation: Annotated[
        int | None, typer.Option(help="Micro-batches of each process; by default of one sample each.")
    ] = None,
    crops: Annotated[
        int | None,
        typer.Option(help="Kept latents for each pair and size; 0 encodes anew every time.", min=0),
    ] = None,
    text_dropout: Annotated[float | None, typer.Option(help="Share trained without the prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps.")] = None,
    precision: Annotated[str | None, typer.Option(help="bf16 (autocast) or fp32.")] = None,
    tracker: Annotated[str, typer.Option(help="none, tensorboard, trackio or wandb.")] = "none",
    until: Annotated[
        int | None, typer.Option(help="Stop after this step; a later start goes on.", min=1)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train V-Bridge; started again with the same --runs it goes on exactly where it stopped."""
    from unfade.core import ModelError, UsageError

    if find_spec("accelerate") is None or find_spec("peft") is None or find_spec("diffusers") is None:
        raise ModelError("training V-Bridge needs more than is installed: pip install 'unfade[models]'")
    from unfade.recipes.run_vbridge import run_vbridge
    from unfade.recipes.vbridge import parse_stages

    if role not in ("restore", "drift-correction"):
        raise UsageError(f"an adapter's role is restore or drift-correction, not {role!r}")
    try:
        written = run_vbridge(
            pairs, model, runs, recipe=recipe, adapter=lora, layout=layout, few_shot=few_shot, held_out=held_out,
            without=without or (), role=role, start=start, tracker=tracker, until=until, device=device,
            report=_report_vbridge, stages=parse_stages(stages) if stages else None, frames=frames, lr=lr,
            batch=batch, accumulation=accumulation, crops=crops, text_dropout=text_dropout, seed=seed,
            checkpoint_every=checkpoint_every, validate_every=validate_every, precision=precision,
        )  # fmt: skip
    except (KeyboardInterrupt, SystemExit):
        if (runs / "checkpoint.pt").exists():
            typer.echo(
                f"the state is saved in {runs / 'checkpoint.pt'}; the same command goes on from there",
                err=True,
            )
        raise
    typer.echo(f"weights: {written}")


def _report_vbridge(row: dict[str, object]) -> None:
    if "changed" in row:
        typer.echo(f"step {row['step']}  changed: {row['changed']}")
        return
    typer.echo(
        f"step {row['step']} of {row['of']}  {row['size']} px  loss {row['loss']}  rate {row['rate']:g}  "
        f"clipped {row['clipped']:.0%}  {row['seconds']} s"
    )
    held_out = row.get("held_out")
    if isinstance(held_out, dict):
        cells = ("input", "result", "ceiling")
        told = ", ".join(f"{name} {_decibels(held_out[name])} dB" for name in cells)
        if "result_ssim" in held_out:
            told += f", SSIM {held_out['input_ssim']} -> {held_out['result_ssim']}"
        typer.echo(f"  held out: {told}")


def _report(row: dict[str, object]) -> None:
    text = f"step {row['step']}  loss {row['loss']}  rate {row['rate']}  {row['seconds']} s"
    table = row.get("psnr")
    if isinstance(table, dict):
        cells = (
            f"{task} {_decibels(before)} -> {_decibels(after)}" for task, (before, after) in table.items()
        )
        text += "\n  " + "\n  ".join(cells)
    typer.echo(text)


def _decibels(figure: float | None) -> str:
    return "perfect" if figure is None else f"{figure:.2f}"
