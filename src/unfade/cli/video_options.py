"""Options of `unfade restore` that are of video models."""

from typing import Annotated, Literal

import typer

_VIDEO = "Video models (V-Bridge)"

Preset = Annotated[
    Literal["paper", "release"] | None,
    typer.Option(
        "--preset", help="Published settings to start from. Default: paper.", rich_help_panel=_VIDEO
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance", help="Towards the prompt; 1 is none, at half the cost.", rich_help_panel=_VIDEO
    ),
]
GuidanceBegin = Annotated[
    float | None,
    typer.Option(
        "--guidance-begin", help="Share of the steps without guidance first.", rich_help_panel=_VIDEO
    ),
]
GuidanceEnd = Annotated[
    float | None,
    typer.Option("--guidance-end", help="Share of the steps where guidance ends.", rich_help_panel=_VIDEO),
]
ClipFrames = Annotated[
    int | None,
    typer.Option("--clip-frames", help="Frames generated: 5, 9, 13, ...", rich_help_panel=_VIDEO),
]
Large = Annotated[
    Literal["resize", "tile"] | None,
    typer.Option(
        "--large",
        help="Above 2560 x 1440: resize there and back as published, or tile.",
        rich_help_panel=_VIDEO,
    ),
]
Samples = Annotated[
    int | None,
    typer.Option("--samples", help="Draw so many, give their mean: nearer, softer.", rich_help_panel=_VIDEO),
]
Words = Annotated[
    Literal["scene", "uniform"] | None,
    typer.Option(
        "--words",
        help="Of Progressive, without --prompt: a sentence for the photo, or the task's own. Default: scene.",
        rich_help_panel=_VIDEO,
    ),
]
Task = Annotated[
    Literal["auto", "resolution", "blur", "lowlight"] | None,
    typer.Option(
        "--task",
        help="Of Progressive, without --prompt: what is to become better. Default: auto, which measures what is "
        "wrong.",
        rich_help_panel=_VIDEO,
    ),
]
Sampler = Annotated[
    Literal["dpm", "ddim"] | None,
    typer.Option("--sampler", help="Of CogVideoX. Default: dpm.", rich_help_panel=_VIDEO),
]
Adapter = Annotated[
    str | None, typer.Option("--adapter", help="What training wrote.", rich_help_panel=_VIDEO)
]
DriftAdapter = Annotated[
    str | None,
    typer.Option("--drift-adapter", help="That of the second pass.", rich_help_panel=_VIDEO),
]
Drift = Annotated[
    Literal["always", "gated", "never"] | None,
    typer.Option(
        "--drift",
        help="When the second pass is taken; gated: where it moves light or sharpens. Default: always.",
        rich_help_panel=_VIDEO,
    ),
]
Memory = Annotated[
    Literal["auto", "resident", "offload", "group", "fp8"] | None,
    typer.Option(
        "--memory",
        help="How weights are kept: on the device, in turns, block by block, in turns and in 8 bits. Default: "
        "auto, from what is free.",
        rich_help_panel=_VIDEO,
    ),
]
VaeTiles = Annotated[
    Literal["auto", "on", "off"] | None,
    typer.Option("--vae-tiles", help="Decode in tiles. Default: auto, if need be.", rich_help_panel=_VIDEO),
]
Captioner = Annotated[
    str | None,
    typer.Option(
        "--captioner",
        help="Of Progressive and Vivid-VR, without --prompt, says what is in the picture: rules, a model's name or "
        "folder, or auto, the best that is on this machine: CogVLM2-caption (of footage, with "
        "--trust-remote-code), Qwen3-VL, rules. Default: auto.",
        rich_help_panel=_VIDEO,
    ),
]
