"""`unfade models`: what there is, what is known of it, downloading, and checking what was downloaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from unfade.backbones.info import BackboneInfo
    from unfade.backbones.video import VideoConfig

app = typer.Typer(no_args_is_help=True, help="List, describe, download and verify models.")

Format = Annotated[
    Literal["text", "json"], typer.Option("--format", help="json: one object or list on stdout.")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model's name, hub id, file or folder.")]


@app.command("list")
def list_models(format: Format = "text") -> None:
    """Show every model of the catalog, and whether it is on this machine."""
    from unfade.backbones.catalog import CATALOG

    rows = [_row(info) for info in CATALOG.values()]
    if format == "json":
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        where = f"installed, {_bytes(row['bytes'])}" if row["installed"] else "not installed"
        if row["incomplete"]:
            where = "incomplete; run download again"
        names = ", ".join((row["name"], *row["aliases"]))
        typer.echo(f"{names:32}{_count(row['parameters']):>7}  {where:32}{row['licence']}")


@app.command("info")
def info(name: Name, format: Format = "text") -> None:
    """Show what is known of a model: sizes from its configuration, rules, licence, and where it lies."""
    told = _described(name)
    if format == "json":
        typer.echo(json.dumps(told, indent=2))
        return
    for key, value in told.items():
        if value not in ("", None):
            typer.echo(f"{key.replace('_', ' '):20}{value}")


@app.command("download")
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name, or a hub id: owner/model.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit. Default: main.")
    ] = None,
) -> None:
    """Download a model into the hub's cache (HF_HOME); started again, it goes on where it stopped."""
    from unfade.backbones.catalog import CATALOG, find
    from unfade.backbones.hub import download as fetch
    from unfade.backbones.hub import is_hub_id
    from unfade.backbones.video import open_video
    from unfade.core import ModelError
    from unfade.restore.load import check_extra, check_usable

    known = find(name)
    if known is not None and known.space == "pixels":
        typer.echo(f"{known.name} is part of unfade; there is nothing to download")
        return
    check_usable(name)
    if known is None and not is_hub_id(name):
        raise ModelError(
            f"unknown model {name!r}; there is {', '.join(CATALOG)}, or name a hub id (owner/model)"
        )
    check_extra(name)
    folder = fetch(known.weights if known else name, revision)
    open_video(folder, sees_photo=None)
    typer.echo(f"{name} is in {folder}")
    if revision is not None:
        typer.echo(f"the name alone means main; use this revision with -n {folder}")
    if known is not None and known.advice:
        typer.echo(known.advice, err=True)


@app.command("verify")
def verify(
    name: Name,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take what differs for right from now on.")
    ] = False,
) -> None:
    """Read every byte of a model again and compare it with what was known of it.

    What is known are the hashes that the hub published, where the files lie in its cache, and those taken when the
    model was first used. Ends with code 6 if a file differs.
    """
    from unfade.backbones.manifest import Manifest, Verdict
    from unfade.backbones.tiny_weights import load_tiny
    from unfade.backbones.video import open_video
    from unfade.core import ModelError
    from unfade.restore.load import located

    _, path = located(name)
    if not path.is_dir():
        typer.echo(f"{path.name}: sound, SHA-256 {load_tiny(path).sha256}")
        return

    def told(verdict: Verdict) -> None:
        typer.echo(f"{verdict.name}: {verdict.state}")

    verdicts = Manifest(path).verify(open_video(path, None).every_file(), accept, told)
    differing = [verdict.name for verdict in verdicts if verdict.state == "differs"]
    if differing and not accept:
        raise ModelError(
            f"{len(differing)} of {len(verdicts)} files in {path} are not what they were ({', '.join(differing)}); "
            "get them again, or accept them with --accept"
        )


@app.command("convert")
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="Vivid-VR's checkpoint folder, or one pickled checkpoint."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT", help="Folder, or .safetensors file, to write.")
    ],
) -> None:
    """Turn pickled weights into safetensors, the only kind that is loaded.

    The pickle is opened by another process, which takes tensors and nothing else. A folder is one of Vivid-VR's:
    controlnet/, connectors.pt, control_feat_proj.pt, control_patch_embed.pt; the result is what --control takes.
    """
    from unfade.backbones.unpickled import convert_pickle
    from unfade.conditioning.control_file import convert_control
    from unfade.core import UsageError
    from unfade.restore.load import check_extra

    if source.is_dir():
        check_extra("Vivid-VR's control")
        settings = convert_control(source, output)
        typer.echo(f"{output}: control of {settings.blocks} blocks; use it with --control {output}")
        return
    if output.suffix != ".safetensors":
        raise UsageError(f"{output} is not the name of a .safetensors file; choose one")
    convert_pickle(source, output)
    typer.echo(str(output))


def _row(info: "BackboneInfo") -> dict[str, Any]:
    from unfade.backbones.hub import lacking

    place = _place(info)
    missing = lacking(place) if place is not None and place.is_dir() else None
    return {
        "name": info.name,
        "aliases": list(info.aliases),
        "parameters": info.parameters,
        "installed": place is not None and missing is None,
        "incomplete": missing is not None,
        "bytes": None if place is None else _size(place),
        "licence": info.licence,
    }


def _place(info: "BackboneInfo") -> "Path | None":
    """The file or folder of a model of the catalog, if it is on this machine."""
    from unfade.core import ModelError
    from unfade.restore.load import located

    try:
        path = located(info.name)[1]
    except ModelError:
        return None
    return path if path.exists() else None


def _described(name: str) -> dict[str, Any]:
    from unfade.backbones.catalog import CONFIGS, find
    from unfade.backbones.hub import lacking
    from unfade.backbones.tiny_weights import load_tiny
    from unfade.backbones.video import open_video
    from unfade.restore.load import check_extra, check_usable, located

    known = find(name)
    check_usable(name)
    place = _place(known) if known else located(name)[1]
    told: dict[str, Any] = {"name": known.name if known else name}
    if known is not None:
        told |= {"aliases": ", ".join(known.aliases), "licence": known.licence, "from": known.weights}
    missing = lacking(place) if place is not None and place.is_dir() else None
    told["where"] = str(place) if place else "not on this machine"
    if missing is not None:
        told["state"] = f"incomplete: no {missing.relative_to(place or missing)}; run download again"
    if place is not None:
        told["bytes"] = _size(place)
    whole = place is not None and place.is_dir() and (missing is None or known is None)
    config = open_video(place, None).config if whole and place is not None else CONFIGS.get(told["name"])
    if config is not None:
        check_extra(name)
        told |= _sizes(config)
    elif place is not None and place.is_file():
        weights = load_tiny(place)
        told["parameters"] = sum(parameter.numel() for parameter in weights.model.parameters())
        told["sha256"] = weights.sha256
    if known is not None:
        told |= {
            "prediction": known.prediction,
            "size_multiple": known.size_multiple,
            "steps": known.steps,
            "advice": known.advice,
        }
    return told


def _sizes(config: "VideoConfig") -> dict[str, Any]:
    from unfade.backbones.video import build_video

    every, first = config.frame_rule
    model = build_video(config, "meta")
    transformer, vae = (
        sum(parameter.numel() for parameter in part.parameters())
        for part in (model.denoiser.model, model.vae.model)
    )
    told = config.transformer
    return {
        "parameters": transformer,
        "vae_parameters": vae,
        "layers": told["num_layers"],
        "width": told["num_attention_heads"] * told["attention_head_dim"],
        "latent_channels": config.latent_channels,
        "frame_rule": f"{every}k + {first}" if every else str(first),
        "size_multiple": config.size_multiple,
    }


def _size(path: "Path") -> int:
    """Bytes of a file, or of everything in a folder; links count as what they lead to."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 1e9 else f"{parameters / 1e6:.1f}M"
