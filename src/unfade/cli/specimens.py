"""Clean photos to files of their degraded versions, and a manifest of what was drawn."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from unfade.core import Clip, Metadata, OutputError, UsageError, generator
from unfade.degrade import Composition, Strength, draw_composition, named
from unfade.degrade.framing import check_fits, framed
from unfade.degrade.progression import FPS, described
from unfade.degrade.trajectory import fade_frames, linear_frames
from unfade.media.atomic import atomic_output
from unfade.media.film import write_film
from unfade.media.image_formats import SUFFIXES
from unfade.media.images import read_image, write_image
from unfade.media.source import FOOTAGE
from unfade.restore.frames import write_frames
from unfade.restore.job import check_folder, taken_back_on_failure
from unfade.restore.outputs import FALLBACKS, check_distinct, photos_in

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is to be done to every photo.

    Attributes:
        name: of the degradation.
        frames: length of the trajectory.
        strength, seed: of the draw.
        trajectory: "fade" or "linear".
        write: any of "film", "frames", "pairs".
        size: (width, height) to crop and reduce to, or None.
        overwrite: replace files that exist.
        max_megapixels: the largest photo that is read.
    """

    name: str
    frames: int = 9
    strength: Strength = "any"
    seed: int = 0
    trajectory: Literal["fade", "linear"] = "fade"
    write: frozenset[str] = frozenset({"frames"})
    size: tuple[int, int] | None = None
    overwrite: bool = False
    max_megapixels: float = 200.0

    def check(self, output: Path) -> None:
        """Everything about the request that can be known to be wrong before a photo is looked at.

        Raises:
            UsageError: the degradation is unknown, or the output is named like a file.
            OutputError: the output is a file, can't be written, or holds an earlier manifest.
        """
        try:
            named(self.name)
        except ValueError as error:
            raise UsageError(str(error)) from error
        if not output.is_dir():
            if output.exists():
                kind = "file" if output.is_file() else "device or a pipe"
                raise OutputError(f"{output} is a {kind}, but degrade writes a folder; choose another output")
            suffix = output.suffix.lower()
            if suffix in SUFFIXES or suffix in FALLBACKS or suffix in FOOTAGE:
                raise UsageError(
                    f"{output} is named like a file, but degrade writes a folder; leave {output.suffix} off"
                )
        check_folder(output / MANIFEST)
        if not self.overwrite and os.path.lexists(output / MANIFEST):
            raise OutputError(f"{output / MANIFEST} exists already; add --overwrite or choose another folder")


@dataclass(frozen=True, slots=True)
class Specimen:
    """One photo and the files made from it.

    Attributes:
        photo: the clean photo.
        name: its path inside the folder it came from, which also seeds its draw.
        frames, film, lq, hq: what is written, or None.
    """

    photo: Path
    name: str
    frames: Path | None = None
    film: Path | None = None
    lq: Path | None = None
    hq: Path | None = None

    def targets(self) -> list[Path]:
        return [path for path in (self.frames, self.film, self.lq, self.hq) if path is not None]


def plan_specimens(
    photos: Sequence[Path], output: Path, experiment: Experiment, recursive: bool
) -> tuple[list[Specimen], int]:
    """The photos with what will be written for each, and the number of files passed over in folders.

    Raises:
        UsageError: two photos would share a file, or one's frames a folder with other files.
        InputError: a folder holds no images.
    """
    specimens: dict[Path, Specimen] = {}
    ignored = 0
    for source in photos:
        found, base = [source], source.parent
        if source.is_dir():
            found, passed_over = photos_in(source, recursive, skip=output)
            base = source
            ignored += passed_over
        for photo in found:
            name = photo.relative_to(base)
            stem = name.with_suffix("")
            write = experiment.write
            specimens[photo] = Specimen(
                photo,
                name.as_posix(),
                output / stem if "frames" in write else None,
                output / f"{stem}.mp4" if "film" in write else None,
                output / "lq" / f"{stem}.png" if "pairs" in write else None,
                output / "hq" / f"{stem}.png" if "pairs" in write else None,
            )
    check_distinct((specimen.photo, specimen.targets()) for specimen in specimens.values())
    return list(specimens.values()), ignored


def write_specimen(specimen: Specimen, experiment: Experiment) -> dict[str, object]:
    """Writes what was planned for one photo; gives its row of the manifest.

    The draw depends on seed and name only, so neither order nor company changes a photo's files. Whatever
    stops it, nothing of the photo stays behind that wasn't there before.

    Raises:
        InputError: the photo can't be read or is smaller than the size asked for.
        OutputError: a file exists and may not be replaced, or can't be written.
    """
    for target in specimen.targets():
        if not experiment.overwrite and os.path.lexists(target):
            raise OutputError(f"{target} exists already; add --overwrite or choose another folder")
    truth = _truth(specimen.photo, experiment)
    dice = generator(experiment.seed, "degrade", specimen.name)
    shape = (1, truth.height, truth.width)
    composition = draw_composition(named(experiment.name), dice, shape, experiment.strength)
    _write(specimen, experiment, truth, composition)
    return {
        "photo": specimen.name,
        "width": truth.width,
        "height": truth.height,
        "degradations": [described(part) for part in composition.parts],
    }


def write_manifest(rows: Sequence[dict[str, object]], experiment: Experiment, output: Path) -> None:
    """`manifest.json`: the experiment, and for every photo the numbers that were drawn."""
    whole = {
        "degradation": experiment.name,
        "strength": experiment.strength,
        "seed": experiment.seed,
        "trajectory": experiment.trajectory,
        "frames": experiment.frames,
        "size": experiment.size,
        "photos": sorted(rows, key=lambda row: str(row["photo"])),
    }
    with atomic_output(output / MANIFEST, overwrite=True) as temporary:
        temporary.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")


def _write(specimen: Specimen, experiment: Experiment, truth: Clip, composition: Composition) -> None:
    way = _way(truth, composition, experiment)
    overwrite = experiment.overwrite
    with taken_back_on_failure(specimen.targets()) as written:
        if specimen.lq is not None and specimen.hq is not None:
            written(specimen.lq)
            write_image(next(way()), specimen.lq, overwrite=overwrite)
            written(specimen.hq)
            write_image(truth, specimen.hq, overwrite=overwrite)
        if specimen.film is not None:
            written(specimen.film)
            write_film(way(), specimen.film, FPS, overwrite=overwrite)
        if specimen.frames is not None:
            written(specimen.frames)
            write_frames(way(), specimen.frames, overwrite=overwrite)


def _way(truth: Clip, composition: Composition, experiment: Experiment) -> Callable[[], Iterator[Clip]]:
    """The frames from worst to truth, made one at a time and anew on every call; all of a large photo's
    would not fit into memory."""
    if experiment.trajectory == "fade":
        return lambda: map(truth.with_frames, fade_frames(truth.frames, composition, experiment.frames))
    worst = composition(truth.frames)
    return lambda: map(truth.with_frames, linear_frames(worst, truth.frames, experiment.frames))


def _truth(photo: Path, experiment: Experiment) -> Clip:
    """The photo in sRGB at the depth it will be written in, without profile and EXIF."""
    clip = read_image(photo, max_megapixels=experiment.max_megapixels)
    depth = 8 if clip.metadata.bit_depth == 8 else 16
    frames, alpha = clip.frames, clip.alpha
    if experiment.size is not None:
        size = (experiment.size[1], experiment.size[0])
        check_fits(clip.height, clip.width, size, photo)
        frames = framed(frames, size)
        alpha = None if alpha is None else framed(alpha, size)
    levels = 2**depth - 1
    frames = torch.round(frames * levels) / levels
    grey = clip.metadata.colour == "grey"
    return Clip(frames, alpha=alpha, metadata=Metadata(bit_depth=depth, colour="grey" if grey else "rgb"))
