"""`unfade train`: the embedded model and Progressive from photos, V-Bridge from pairs, Vivid-VR from footage."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from unfade.cli.size import size_of

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


@app.command("skills")
def train_skills(
    photos: Annotated[
        list[Path], typer.Option(help="The folders, or the packed file, the network was trained on.")
    ],
    weights: Annotated[Path, typer.Option(help="Weights (.safetensors) of a network of one skill.")],
    runs: Annotated[Path, typer.Option(help="Where the specialists and the weights go.")] = Path(
        "runs/skills"
    ),
    steps: Annotated[int | None, typer.Option(help="Other than the usual number, of each.", min=1)] = None,
    workers: Annotated[int, typer.Option(help="Training processes; best one a CPU core.", min=1)] = 1,
) -> None:
    """Train copies of the embedded model for one kind of damage each, and make one of them that knows which to be.

    Started again with the same --runs it goes on where it stopped. Train the result on with unfade train tiny --start.
    """
    from unfade.recipes.run_skills import run_skills

    written = run_skills(photos, weights, runs, steps=steps, workers=workers, report=_report_skills)
    typer.echo(f"weights: {written}")


@app.command("judgement")
def train_judgement(
    photos: Annotated[
        list[Path], typer.Option(help="The folders, or the packed file, the network was trained on.")
    ],
    weights: Annotated[Path, typer.Option(help="Weights (.safetensors) of a finished training.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where both go together.")],
    doubt: Annotated[
        bool, typer.Option("--doubt", help="Fit how wrong results may be as well, for --confidence.")
    ] = False,
    keep_trust: Annotated[
        bool, typer.Option("--keep-trust", help="Leave how far answers are followed as the weights have it.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes; best one a CPU core.", min=1)] = 1,
) -> None:
    """Fit how far the embedded model's answers are followed and how wrong they may be; it stays as it is."""
    from unfade.recipes.run_judgement import run_judgement
    from unfade.training.doubt import DoubtRun

    written = run_judgement(
        photos,
        weights,
        output,
        doubt=DoubtRun() if doubt else None,
        keep_trust=keep_trust,
        workers=workers,
        report=_report_judgement,
    )
    typer.echo(f"weights: {written}")


@app.command("footage")
def train_footage(
    photos: Annotated[
        list[Path], typer.Option(help="The folders, or the packed file, the network was trained on.")
    ],
    weights: Annotated[Path, typer.Option(help="Weights (.safetensors) of a finished training.")],
    runs: Annotated[Path, typer.Option(help="Where checkpoint, log and weights go.")] = Path("runs/footage"),
    steps: Annotated[int | None, typer.Option(help="Other than the usual number of steps.", min=1)] = None,
    until: Annotated[
        int | None, typer.Option(help="Stop after this step; a later start goes on.", min=1)
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights (.safetensors) that know footage, to begin from.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Training processes; best one a CPU core.", min=1)] = 1,
) -> None:
    """Teach the embedded model what neighbouring frames of footage know; what it does to photos stays as it is."""
    from unfade.recipes.run_gather import run_gather

    written = run_gather(
        photos, weights, runs, steps=steps, until=until, start=start, workers=workers, report=_report_footage
    )
    typer.echo(f"weights: {written}")


def _report_footage(row: dict[str, Any]) -> None:
    typer.echo(f"step {row['step']}  loss {row['loss']}  rate {row['rate']}  {row['seconds']} s")
    for task, (before, alone, together) in row.get("psnr", {}).items():
        typer.echo(f"  {task} {before:.2f} -> {alone:.2f} frame by frame -> {together:.2f} with neighbours")


def _report_skills(row: dict[str, Any]) -> None:
    if "right" in row:
        typer.echo(f"choice {row['step']} of {row['of']}  right {row['right']:.1%}")
    else:
        _report(row)


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
    from unfade.core import UsageError

    _check_installed("V-Bridge")
    from unfade.recipes.run_vbridge import run_vbridge
    from unfade.training.video_run import parse_stages

    if role not in ("restore", "drift-correction"):
        raise UsageError(f"an adapter's role is restore or drift-correction, not {role!r}")
    with _saying_where(runs):
        written = run_vbridge(
            pairs, model, runs, recipe=recipe, adapter=lora, layout=layout, few_shot=few_shot, held_out=held_out,
            without=without or (), role=role, start=start, tracker=tracker, until=until, device=device,
            report=_report_video, stages=parse_stages(stages) if stages else None, frames=frames, lr=lr,
            batch=batch, accumulation=accumulation, crops=crops, text_dropout=text_dropout, seed=seed,
            checkpoint_every=checkpoint_every, validate_every=validate_every, precision=precision,
        )  # fmt: skip
    typer.echo(f"weights: {written}")


@app.command("progressive")
def train_progressive(
    photos: Annotated[
        list[str],
        typer.Option(
            help="Folders of clean photos (repeatable), or one set built by unfade degrade --as progression."
        ),
    ],
    model: Annotated[str, typer.Option(help="CogVideoX1.5-5B-I2V: a folder, or a name that was downloaded.")],
    runs: Annotated[Path, typer.Option(help="Where checkpoint, log, pictures and weights go.")] = Path(
        "runs/progressive"
    ),
    recipe: Annotated[str, typer.Option(help="lora or smoke: see unfade/recipes/progressive.py.")] = "lora",
    lora: Annotated[bool, typer.Option("--lora/--full", help="An adapter or all weights.")] = True,
    task: Annotated[
        list[str] | None,
        typer.Option(help="resolution, blur or lowlight; repeatable. Default: all three in one adapter."),
    ] = None,
    prompts: Annotated[
        str, typer.Option(help="uniform (one a task) or scene (one a clip, from its degraded frame).")
    ] = "uniform",
    captioner: Annotated[
        str, typer.Option(help="For scene prompts: rules, or a model as unfade prompt takes it.")
    ] = "rules",
    image_noise: Annotated[
        bool, typer.Option("--image-noise/--no-image-noise", help="Put noise on the photo the model sees.")
    ] = True,
    held_out: Annotated[int, typer.Option(help="Photos kept for validation.", min=0)] = 4,
    start: Annotated[Path | None, typer.Option(help="An adapter (.safetensors) to go on from.")] = None,
    stages: Annotated[
        str | None, typer.Option(help="Epochs x height x width, such as 10x768x1360; or epochs x pixels.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of a sequence: 9, 17, ...")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples of a step, all processes together.")] = None,
    accumulation: Annotated[
        int | None, typer.Option(help="Micro-batches of each process; by default of one sample each.")
    ] = None,
    crops: Annotated[
        int | None, typer.Option(help="Kept latents for each clip; 0 draws anew every time.", min=0)
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
    """Train Progressive; started again with the same --runs it goes on exactly where it stopped."""
    from unfade.core import UsageError

    _check_installed("Progressive")
    from unfade.cli.prompt import captioner_of
    from unfade.prompts.progressive import TASKS
    from unfade.recipes.run_progressive import captions_of, run_progressive
    from unfade.training.video_run import parse_stages

    if unknown := [name for name in task or () if name not in TASKS]:
        raise UsageError(f"unknown task {unknown[0]!r}; there is {', '.join(TASKS)}")
    with _saying_where(runs):
        written = run_progressive(
            photos, model, runs, recipe=recipe, adapter=None if lora else False,
            tasks=tuple(name for name in TASKS if not task or name in task), prompts=prompts,
            captioner=captioner_of(captioner, captions_of(photos)) if prompts == "scene" else None,
            say=partial(typer.echo, err=True), image_noise=image_noise,
            held_out=held_out, start=start, tracker=tracker, until=until, device=device, report=_report_video,
            stages=parse_stages(stages) if stages else None, frames=frames, lr=lr, batch=batch,
            accumulation=accumulation, crops=crops, text_dropout=text_dropout, seed=seed,
            checkpoint_every=checkpoint_every, validate_every=validate_every, precision=precision,
        )  # fmt: skip
    typer.echo(f"weights: {written}")


@app.command("vivid-vr")
def train_vivid(
    videos: Annotated[
        list[Path], typer.Option(help="Folders of videos (repeatable), or one manifest of curated footage.")
    ],
    model: Annotated[str, typer.Option(help="CogVideoX1.5-5B: a folder, or a name that was downloaded.")],
    runs: Annotated[Path, typer.Option(help="Where checkpoint, log, pictures and the control go.")] = Path(
        "runs/vivid-vr"
    ),
    recipe: Annotated[str, typer.Option(help="paper or smoke: see unfade/recipes/vivid.py.")] = "paper",
    concepts: Annotated[
        Path | None, typer.Option(help="What unfade distill concepts made, to be mixed in.")
    ] = None,
    ratio: Annotated[float, typer.Option(help="Distilled clips for each real one.", min=0)] = 0.2,
    captioner: Annotated[str, typer.Option(help="rules, or a model as unfade prompt takes it.")] = "rules",
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run the captioner's own Python code, from its folder."),
    ] = False,
    least_side: Annotated[int, typer.Option(help="Pixels of a frame's shorter side.", min=1)] = 1024,
    least_fps: Annotated[float, typer.Option(help="Frames a second.", min=0)] = 24.0,
    least_seconds: Annotated[float, typer.Option(help="Of a shot.", min=0)] = 2.0,
    least_quality: Annotated[
        float | None, typer.Option(help="What --judge must say at least (at most where less is better).")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="No-reference metric of clips: niqe, musiq or clip-iqa.")
    ] = None,
    connectors: Annotated[
        Literal["dual", "attention", "mlp", "sft"] | None,
        typer.Option(help="Other than the recipe's, for ablations."),
    ] = None,
    projector: Annotated[
        bool, typer.Option("--projector/--no-projector", help="The feature projector, for ablations.")
    ] = True,
    held_out: Annotated[int, typer.Option(help="Videos kept for validation.", min=0)] = 2,
    start: Annotated[Path | None, typer.Option(help="A control folder to go on from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of the whole run.", min=1)] = None,
    crop: Annotated[str | None, typer.Option(metavar="PX|WxH", help="Of the frames.")] = None,
    frames: Annotated[int | None, typer.Option(help="Of the longest clip: 17, 25, 33, ...")] = None,
    least_frames: Annotated[int | None, typer.Option(help="Of the shortest.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    batch: Annotated[int | None, typer.Option(help="Samples of a step, all processes together.")] = None,
    accumulation: Annotated[
        int | None, typer.Option(help="Micro-batches of each process; by default of one sample each.")
    ] = None,
    crops: Annotated[
        int | None,
        typer.Option(help="Kept latents for each clip; 0 draws crop and degradation anew.", min=0),
    ] = None,
    text_dropout: Annotated[float | None, typer.Option(help="Share trained without the caption.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything random.")] = None,
    checkpoint_every: Annotated[int | None, typer.Option(help="Steps.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps.")] = None,
    precision: Annotated[str | None, typer.Option(help="bf16 (autocast) or fp32.")] = None,
    tracker: Annotated[str, typer.Option(help="none, tensorboard, trackio or wandb.")] = "none",
    until: Annotated[
        int | None, typer.Option(help="Stop after this step; a later start goes on.", min=1)
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where it trains.")] = "auto",
) -> None:
    """Train Vivid-VR's control; started again with the same --runs it goes on exactly where it stopped."""
    _check_installed("Vivid-VR")
    from unfade.cli.prompt import footage_captioner_of
    from unfade.recipes.run_vivid import run_vivid
    from unfade.training.curation import CurationRules

    rules = CurationRules(
        least_side=least_side, least_fps=least_fps, least_seconds=least_seconds,
        most_seconds=max(10.0, 2 * least_seconds), least_quality=least_quality,
    )  # fmt: skip
    with _saying_where(runs):
        written = run_vivid(
            videos, model, runs, recipe=recipe, rules=rules, judge=judge,
            captioner=footage_captioner_of(captioner, None, trust_remote_code, device), concepts=concepts, ratio=ratio,
            connectors=connectors, projector=projector, held_out=held_out, start=start, tracker=tracker,
            until=until, device=device, say=typer.echo, report=_report_video, iterations=steps,
            stages=((1, size_of(crop, "--crop")),) if crop else None, frames=frames, least_frames=least_frames, lr=lr,
            batch=batch, accumulation=accumulation, crops=crops, text_dropout=text_dropout, seed=seed,
            checkpoint_every=checkpoint_every, validate_every=validate_every, precision=precision,
        )  # fmt: skip
    typer.echo(f"control: {written}")


def _check_installed(what: str) -> None:
    from unfade.core import ModelError

    if any(find_spec(package) is None for package in ("accelerate", "peft", "diffusers")):
        raise ModelError(
            f"training {what} needs more than is installed: pip install '.[models]' in the clone of unfade"
        )


@contextmanager
def _saying_where(runs: Path) -> Iterator[None]:
    """Says where the state is kept when training is stopped."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if (runs / "checkpoint.pt").exists():
            typer.echo(
                f"the state is saved in {runs / 'checkpoint.pt'}; the same command goes on from there",
                err=True,
            )
        raise


def _report_video(row: dict[str, object]) -> None:
    if "changed" in row:
        typer.echo(f"step {row['step']}  changed: {row['changed']}")
        return
    size = row["size"]
    pixels = f"{size[1]} x {size[0]}" if isinstance(size, (tuple, list)) else f"{size}"
    typer.echo(
        f"step {row['step']} of {row['of']}  {pixels} px  loss {row['loss']}  rate {row['rate']:g}  "
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
