"""`unfade evaluate`: models and peers on a benchmark, and a report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from unfade.recipes.evaluate import Evaluation


def evaluate(
    benchmark: Annotated[str | None, typer.Option("--benchmark", "-b", help="Its name; see --list.")] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Its folder.")] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-n",
            help="A model's name, a .safetensors file, or peer:NAME. Repeatable. Default: tiny.",
        ),
    ] = None,
    synthesize: Annotated[
        str | None, typer.Option("--synthesize", help="Make this benchmark from the clean photos of --from.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--from", help="Clean photos for --synthesize.")] = None,
    group: Annotated[list[str] | None, typer.Option("--group", help="Only this group. Repeatable.")] = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Judge the nine frames of every film: curves along the way.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many a group.", min=1)] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the report. Default: {benchmark}_report.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Processes; several take one CPU thread each.", min=1)
    ] = 1,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Given to every restorer.")] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Evaluations of a model. Default: its own number.", min=1, max=1000),
    ] = None,
    along: Annotated[
        Literal["every", "cheap", "first"],
        typer.Option("--along", help="Metrics taken of film frames; VIF and networks take seconds each."),
    ] = "every",
    seed: Annotated[int, typer.Option("--seed", help="Of every random draw.")] = 0,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="Also lpips, dists, musiq, clip-iqa, niqe, dover or md-vqa, where its weights are. Repeatable.",
        ),
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="paper or release, of video models.")] = None,
    adapter: Annotated[
        str | None, typer.Option("--adapter", help="Trained adapter of the video models that take part.")
    ] = None,
    drift_adapter: Annotated[
        str | None, typer.Option("--drift-adapter", help="That of their drift correction.")
    ] = None,
    words: Annotated[
        Literal["scene", "uniform"] | None,
        typer.Option("--words", help="Of Progressive: a sentence for each photo, or the task's own."),
    ] = None,
    task: Annotated[
        Literal["auto", "resolution", "blur", "lowlight"] | None,
        typer.Option(
            "--task",
            help="Of Progressive. Default: the benchmark's own where it is one of them; auto measures each photo.",
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            "--captioner", help="Of Progressive, as unfade restore takes it; it sees degraded photos only."
        ),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="Where to compute.")
    ] = "auto",
    dtype: Annotated[Literal["auto", "bf16", "fp32"], typer.Option("--dtype", help="Precision.")] = "auto",
    listed: Annotated[
        bool, typer.Option("--list", help="Show every benchmark with what it needs on disk, and every peer.")
    ] = False,
) -> None:
    """Measure models and peers on a benchmark.

    Started again with the same --output it goes on where it stopped. The folder gets report.html, report.json,
    report.csv, timing.json and the journal of single results.
    """
    from unfade.cli.board import Stages
    from unfade.core import UsageError
    from unfade.core.memory import reuse_large_blocks
    from unfade.evaluation.measure import Settings
    from unfade.recipes.evaluate import evaluate as carry_out

    if listed:
        _list()
        return
    if source and not synthesize:
        raise UsageError(
            "--from holds the clean photos of --synthesize; a benchmark's own files go by --data"
        )
    if synthesize and data:
        raise UsageError("--data holds a benchmark's own files; clean photos for --synthesize go by --from")
    if synthesize and benchmark:
        raise UsageError("--benchmark measures real data, --synthesize makes its own; choose one")
    name, folder = (synthesize, source) if synthesize else (benchmark, data)
    if not name:
        raise UsageError("name a benchmark with --benchmark, or see them all with --list")
    if folder is None:
        raise UsageError(f"say where the files are with {'--from' if synthesize else '--data'}")
    output = output or Path(f"{name}{'_synthetic' if synthesize else ''}_report")
    video = {
        "preset": preset, "adapter": adapter, "drift_adapter": drift_adapter, "words": words, "task": task,
        "captioner": captioner,
    }  # fmt: skip
    settings = Settings(
        seed=seed,
        steps=steps,
        prompt=prompt,
        device=device,
        dtype=dtype,
        along=along,
        learned=tuple(metric or ()),
        video={name: value for name, value in video.items() if value},
    )
    reuse_large_blocks()
    with Stages() as stages:
        found = carry_out(
            name,
            folder,
            model or ["tiny"],
            groups=group or (),
            synthesize=bool(synthesize),
            limit=limit,
            frames=frames,
            settings=settings,
            output=output,
            workers=workers,
            progress=stages.tell,
        )
    _tell(found)


def _list() -> None:
    from unfade.evaluation.benchmarks.table import BENCHMARKS
    from unfade.evaluation.peers import PEERS

    for benchmark in BENCHMARKS.values():
        typer.echo(f"{benchmark.name}: {benchmark.title}")
        typer.echo(f"    needs   {benchmark.needs()}")
        typer.echo(f"    groups  {', '.join(group.name for group in benchmark.groups)}")
        for one in benchmark.conventions:
            typer.echo(f"    counts  {one.name}: {one.describe()}")
        typer.echo(f"    rules   {benchmark.rules()}")
        typer.echo(f"    source  {benchmark.citation}")
    typer.echo("\npeers, as --model peer:NAME:")
    for name, peer in PEERS.items():
        told = f"; is told {peer.told}" if peer.told else ""
        typer.echo(f"    {name}: {peer.label}{told}")


def _tell(found: "Evaluation") -> None:
    """The headline of a report: one line a model and group, then where the page is."""
    report = found.report
    metric = report["metrics"][0]
    name, unit = metric["name"], f" {metric['unit']}" if metric["unit"] else ""

    def shown(values: dict[str, float | str]) -> str:
        value = values.get(name)
        return f"{value:.{2 if unit else 4}f}" if isinstance(value, float) else str(value or "-")

    mark = "  SYNTHETIC" if report["benchmark"]["synthetic"] else ""
    typer.echo(f"{report['benchmark']['title']}{mark}: {metric['label']}")
    for row in report["groups"]:
        before, after = shown(row["input"]), shown(row["output"])
        typer.echo(f"  {row['group']:<24} {row['model']:<20} {before} -> {after}{unit}  ({row['count']})")
    for row in report["averages"]:
        said = f"no average: not measured on {', '.join(row['missing'])}"
        if "by_images" in row:
            alike = (shown(row[rule]["output"]) for rule in ("by_images", "by_groups"))
            said = "{}{} over images, {}{} over groups".format(
                *(part for one in alike for part in (one, unit))
            )
        typer.echo(f"  {'all':<24} {row['model']:<20} {said}")
    for one in report["verdicts"]:
        said = {True: "holds", False: "fails", None: "open"}[one["holds"]]
        typer.echo(f"  {said:<6} {one['model']}, {one['group']}: {one['why']}")
    for one in report["absent"]:
        typer.echo(f"not measured: {one['name']}: {one['why']}", err=True)
    typer.echo(f"report: {found.page}")
