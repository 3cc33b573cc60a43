"""Options of `unfade restore` that are of footage under Vivid-VR's control."""

from typing import Annotated, Literal

import typer

_FOOTAGE = "Footage (Vivid-VR)"

Control = Annotated[
    str | None,
    typer.Option(
        "--control",
        help="Folder of Vivid-VR's control (unfade models convert): restores footage with --model vivid-vr.",
        rich_help_panel=_FOOTAGE,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Let CogVLM2-caption run the code in its folder. Of the captioner only.",
        rich_help_panel=_FOOTAGE,
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(
        "--short-side",
        help="Of the result in pixels, without --scale; 0 keeps the input's. Default: 1024.",
        rich_help_panel=_FOOTAGE,
    ),
]
DynamicGuidance = Annotated[
    bool,
    typer.Option(
        "--dynamic-guidance",
        help="Let --guidance rise and fall between none and all of it, as CogVideoX's own pipelines can.",
        rich_help_panel=_FOOTAGE,
    ),
]
Fidelity = Annotated[
    float | None,
    typer.Option(
        "--fidelity",
        help="0 invents freely, towards 1 it stays with the input. Default: 0.",
        rich_help_panel=_FOOTAGE,
    ),
]
Window = Annotated[
    int | None,
    typer.Option("--window", help="Frames seen at once: 17, 25, ... Default: 121.", rich_help_panel=_FOOTAGE),
]
Colour = Annotated[
    Literal["adain", "wavelet", "none"] | None,
    typer.Option("--colour", help="How colours are kept. Default: adain.", rich_help_panel=_FOOTAGE),
]
ColourWindow = Annotated[
    int | None,
    typer.Option(
        "--colour-window",
        help="Over how many frames, an odd number; 1 may flicker. Default: 9.",
        rich_help_panel=_FOOTAGE,
    ),
]
Protect = Annotated[
    str | None,
    typer.Option(
        "--protect",
        metavar="MASKS",
        help="Grey picture, folder or video, white where the input is kept: text, say.",
        rich_help_panel=_FOOTAGE,
    ),
]
StopAt = Annotated[
    int | None,
    typer.Option(
        "--stop-at",
        metavar="STEP",
        help="Go no step further: the result is the clip predicted there. 0 takes what an interrupted run has "
        "done. Without this and with --overwrite it goes on.",
        min=0,
        rich_help_panel=_FOOTAGE,
    ),
]
Preview = Annotated[
    str | None,
    typer.Option(
        "--preview",
        metavar="2s@00:10/512x512+100+50",
        help="Of clips, restore this part only, to {output stem}_preview: so long from there on, and so wide and "
        "high so far from the left and the top. Either alone: all of the picture, or the first second.",
        rich_help_panel=_FOOTAGE,
    ),
]
