"""Options of `unfade restore` that every model takes, or that are of files."""

from typing import Annotated, Literal

import typer

Inputs = Annotated[list[str], typer.Argument(metavar="INPUT", help="Photos, clips, and folders of them.")]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        help="File or folder. Default: {stem}_unfaded beside the input, {folder}_unfaded/.",
    ),
]
Model = Annotated[
    str,
    typer.Option("--model", "-n", help="A model's name, a .safetensors file, or a video model's folder."),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", help='What to achieve, e.g. "remove the noise". Default: everything.'),
]
Scale = Annotated[int, typer.Option("--scale", "-s", help="Enlarge as well.", min=1, max=4)]
Frames = Annotated[
    int,
    typer.Option(
        "--frames",
        help="Length of the film, the sheet, the frames; of a clip, the sheet, and the states in Vivid-VR's film.",
        min=2,
        max=1000,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Evaluations of the model; of tiny, 1 is closest to the original. Default: the model's own "
        "number (tiny 1, V-Bridge 50).",
        min=1,
        max=1000,
    ),
]
Film = Annotated[
    bool,
    typer.Option(
        "--film",
        help="Also write {output stem}.mp4; of a clip {output stem}_film.mp4, the restoration sweeping through, "
        "by Vivid-VR its steps one after another.",
    ),
]
Sheet = Annotated[
    bool,
    typer.Option("--sheet", help="Also write {output stem}_sheet.png; of a clip, input above result."),
]
SaveFrames = Annotated[
    bool,
    typer.Option(
        "--save-frames",
        help="Also write {output stem}_frames/0000.png and so on; of a clip, all its restored frames.",
    ),
]
Confidence = Annotated[
    bool,
    typer.Option(
        "--confidence",
        help="Also write {output stem}_confidence.png, how sure each pixel is (white: sure; 16 bits): of tiny "
        "1 - 2 x the error expected there; of video models, with --samples, 1 - 2 x their spread.",
    ),
]
Neighbours = Annotated[
    int,
    typer.Option(
        help="Frames of a clip before and after each that help to restore it; 0: frame by frame. Of tiny.",
        min=0,
        max=2,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of every random draw.")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], typer.Option("--device", help="Where to compute.")]
Dtype = Annotated[Literal["auto", "bf16", "fp32"], typer.Option("--dtype", help="Precision.")]
Tile = Annotated[
    str, typer.Option("--tile", "-t", metavar="auto|0|PX", help="Side of a tile in pixels; 0 for none.")
]
Format = Annotated[
    Literal["text", "json"], typer.Option("--format", help="json: one object per file on stdout.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the inputs, say what would be done, write nothing.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Pass over inputs all of whose results exist.")
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Enter the folders of folders, and keep the tree.")
]
StripMetadata = Annotated[
    bool, typer.Option("--strip-metadata", help="Leave EXIF, XMP, IPTC and provenance out.")
]
MaxMegapixels = Annotated[
    float,
    typer.Option("--max-megapixels", help="Refuse photos, and clips of frames, larger than this.", min=0.001),
]
OutputFormat = Annotated[
    str | None,
    typer.Option(
        "--output-format",
        help="jpeg, png, tiff, webp, avif, gif or ppm. Default: as the input, and avif for HEIC (reading "
        "which takes the extra: pip install '.\\[heic]' in the clone of unfade). For clips mp4, m4v, mov or mkv.",
    ),
]
BitDepth = Annotated[
    int | None, typer.Option("--bit-depth", help="8 or 16 (AVIF: 8, 10, 12). Default: as the input.")
]
Quality = Annotated[
    int | None,
    typer.Option("--quality", help="Of JPEG, WebP, AVIF. Default: 95, AVIF 90.", min=1, max=100),
]
