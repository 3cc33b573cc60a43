"""`unfade degrade`: clean photos made worse in a known way, as films, frames or pairs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unfade.cli.board import Bar, close

_KINDS = ("film", "frames", "pairs")
_PROGRESSION = "progression"
_SET = "With --as progression"


def degrade(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO|DIR", help="Clean photos, and folders of them.")
    ],
    name: Annotated[
        str,
        typer.Option(
            "--as",
            help="The degradation, e.g. lowlight, Blur_Noise, haze+jpeg; an unknown one lists all. Case counts where "
            "both exist: Blur is FoundIR's mixture, blur one long directional blur. progression builds a training "
            "set of resolution, blur and lowlight (docs/prompts.md).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for everything that is written.")],
    frames: Annotated[int, typer.Option("--frames", help="Length of the way.", min=2, max=1000)] = 9,
    strength: Annotated[
        Literal["mild", "strong", "any"], typer.Option("--strength", help="mild and strong don't overlap.")
    ] = "any",
    seed: Annotated[
        int, typer.Option("--seed", help="The same seed and file name give the same result.")
    ] = 0,
    trajectory: Annotated[
        Literal["fade", "linear"],
        typer.Option(
            "--trajectory", help="fade: the degradation grows weaker; linear: a blend towards the truth."
        ),
    ] = "fade",
    write: Annotated[
        list[str] | None,
        typer.Option(
            "--write", metavar="film|frames|pairs", help="Repeatable, or with commas. Default: frames."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WxH", help="Crop to these proportions, then reduce to this size."),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Enter the folders of folders.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", help="Refuse photos larger than this.", min=0.001)
    ] = 200.0,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="resolution|blur|lowlight",
            help="Repeatable. Default: all three.",
            rich_help_panel=_SET,
        ),
    ] = None,
    captioner: Annotated[
        str | None,
        typer.Option(
            "--captioner",
            help="Who writes the scene-adaptive prompts: rules, auto (qwen3-vl-4b where it is on this machine, else "
            "rules), qwen3-vl-4b, llava-onevision-7b, llava-onevision-0.5b, blip, or a model folder. Default: rules, "
            "which measures the photo and needs no model.",
            rich_help_panel=_SET,
        ),
    ] = None,
    shard: Annotated[
        int | None,
        typer.Option("--shard", help="Photos in a file. Default: 16.", min=1, rich_help_panel=_SET),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes. Default: one a core.", min=1, rich_help_panel=_SET),
    ] = None,
) -> None:
    """Degrade clean photos along a trajectory that ends at the truth.

    frames go to OUT/{stem}/0000.png (worst) and so on, the last being the photo itself; film to
    OUT/{stem}.mp4; pairs to OUT/lq/{stem}.png and OUT/hq/{stem}.png. OUT/manifest.json lists what was
    drawn. Files are in sRGB, without EXIF.

    --as progression writes OUT/shards/{task}-00000.tar (webdataset; PNG frames and a JSON each clip), OUT/manifest.json
    and OUT/preview.mp4: two strengths a photo, 1360x768 unless --size. Started again, it goes on where it stopped.
    """
    if name.lower() == _PROGRESSION:
        if write or strength != "any" or trajectory != "fade":
            raise typer.BadParameter(
                "progression always writes both strengths, fading, in shards; leave --write, --strength and "
                "--trajectory out",
                param_hint="--as",
            )
        from unfade.cli.progression import build_progression

        build_progression(
            photos, output, tasks=tasks or [], size=_size(size), frames=frames, seed=seed,
            captioner=captioner or "rules", photos_per_shard=shard or 16, workers=workers, recursive=recursive,
            overwrite=overwrite, max_megapixels=max_megapixels,
        )  # fmt: skip
        return
    if tasks or captioner or shard or workers:
        raise typer.BadParameter(
            "--task, --captioner, --shard and --workers belong to progression; leave them out",
            param_hint="--as",
        )
    from unfade.cli.specimens import Experiment, plan_specimens, write_manifest, write_specimen
    from unfade.core import UnfadeError

    experiment = Experiment(
        name, frames, strength, seed, trajectory, _wanted(write), _size(size), overwrite, max_megapixels
    )
    experiment.check(output)
    specimens, ignored = plan_specimens(photos, output, experiment, recursive)
    rows: list[dict[str, object]] = []
    failures: list[tuple[str, Exception]] = []
    try:
        with Bar(len(specimens), len(specimens)) as bar:
            for specimen in specimens:
                bar.begin(specimen.name, 1)
                try:
                    row = write_specimen(specimen, experiment)
                except UnfadeError as error:
                    failures.append((str(error), error))
                    continue
                except Exception as error:
                    sentence = f"{specimen.photo} failed unexpectedly: {type(error).__name__}: {error}"
                    failures.append((sentence, error))
                    continue
                rows.append(row)
                bar.line(f"{specimen.photo} -> {', '.join(map(str, specimen.targets()))}")
    finally:
        # After Ctrl-C too: what lies in the folder is described.
        if rows:
            write_manifest(rows, experiment, output)
    if len(specimens) == 1:
        for _, failure in failures:
            raise failure
        if not ignored:
            return
    close(failures, len(rows), ignored=ignored)


def _wanted(write: list[str] | None) -> frozenset[str]:
    kinds = [kind.strip().lower() for part in write or ["frames"] for kind in part.split(",")]
    for kind in kinds:
        if kind not in _KINDS:
            raise typer.BadParameter(f"{kind!r} is not one of {', '.join(_KINDS)}", param_hint="--write")
    return frozenset(kinds)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (text.isascii() and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise typer.BadParameter(f"{text!r} is not a width and a height such as 640x480", param_hint="--size")
    return int(width), int(height)
