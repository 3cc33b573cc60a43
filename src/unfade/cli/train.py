"""`unfade train tiny`: the embedded model from a folder of photos."""

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
