"""Pictures as data URIs, so that a page needs no second file."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unfade.evaluation.report.exhibits import Exhibit, Place, error_of, places_of_change
from unfade.media.pixels import quantise
from unfade.media.vips import pyvips

_SCALES = (8, 16, 32, 64, 128, 255)
_COLOURS = "inferno"
_HOPELESS = 1.5


@dataclass(frozen=True, slots=True)
class Fineness:
    """How large pictures are stored.

    Attributes:
        width, film: of a whole picture and of a film's frame, in pixels at most.
        quality: of WebP.
        crop: side of a crop that is still stored without loss.
    """

    width: int
    film: int
    quality: int
    crop: int


FINENESSES = (
    Fineness(800, 240, 92, 160),
    Fineness(640, 200, 88, 128),
    Fineness(480, 160, 82, 96),
    Fineness(320, 120, 75, 64),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture.

    Attributes:
        uri: data URI.
        width, height: stored pixels.
        alt: what it shows.
    """

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True, slots=True)
class Column:
    """One version of a case: whole, cut out at each place, and its error (None for the truth or without one)."""

    label: str
    whole: Picture
    crops: tuple[Picture, ...]
    error: Picture | None


@dataclass(frozen=True, slots=True)
class Spot:
    """A place's window in percent of the picture, and what happened there."""

    top: float
    left: float
    height: float
    width: float
    label: str


@dataclass(frozen=True, slots=True)
class Plate:
    """All pictures of one exhibit.

    Attributes:
        exhibit: what it shows.
        columns: degraded, restored and, where it is known, truth.
        spots: the places cut out.
        pixels: height and width of the picture, and of the crops.
        scale: the error drawn brightest, on the scale 0 to 255.
        film: pictures at evenly spaced tau, with tau.
    """

    exhibit: Exhibit
    columns: tuple[Column, ...]
    spots: tuple[Spot, ...]
    pixels: tuple[int, int, int, int]
    scale: int
    film: tuple[tuple[float, Picture], ...]

    @property
    def size(self) -> int:
        """Bytes the pictures take in the page."""
        pictures = [picture for _, picture in self.film]
        for column in self.columns:
            pictures += [column.whole, *column.crops, *([column.error] if column.error else [])]
        return sum(len(picture.uri) for picture in pictures)


def plates(exhibits: Sequence[Exhibit], budget: int) -> list[Plate]:
    """Every exhibit at the largest of `FINENESSES` at which all together take at most `budget` bytes.

    If even the smallest takes more, those at the end are left out; whoever draws the page says so.
    """
    drawn: list[Plate] = []
    for fineness in FINENESSES:
        drawn = []
        for exhibit in exhibits:
            drawn.append(plate(exhibit, fineness))
            expected = sum(item.size for item in drawn) / len(drawn) * len(exhibits)
            if fineness is not FINENESSES[-1] and expected > _HOPELESS * budget:
                break
        else:
            if sum(item.size for item in drawn) <= budget:
                return drawn
    while drawn and sum(item.size for item in drawn) > budget:
        drawn.pop()
    return drawn


def plate(exhibit: Exhibit, fineness: Fineness) -> Plate:
    """One exhibit's pictures, encoded."""
    places = places_of_change(exhibit)
    height, width = exhibit.degraded.shape[-2:]
    truth = exhibit.truth
    versions = [("Input", "as degraded", exhibit.degraded), ("Restored", exhibit.model, exhibit.restored)]
    errors = [] if truth is None else [error_of(image, truth) for _, _, image in versions]
    scale = _scale(errors)
    columns: list[Column] = []
    for index, (label, detail, image) in enumerate(versions):
        what = f"{exhibit.name}, {label.lower()} ({detail})"
        error = None
        if errors:
            peak = f"mean {errors[index].mean():.1f}, colours from 0 to {scale} of 255"
            error = picture(
                error_colours(errors[index], scale), f"Error map of {what}: {peak}", fineness.width, 80
            )
        columns.append(_column(label, what, image, places, fineness, error))
    if truth is not None:
        columns.append(_column("Truth", f"{exhibit.name}, truth", truth, places, fineness, None))
    last = max(1, len(exhibit.film) - 1)
    film = tuple(
        (
            index / last,
            picture(
                frame, f"Film of {exhibit.name} at tau {index / last:.3g}", fineness.film, fineness.quality
            ),
        )
        for index, frame in enumerate(exhibit.film)
    )
    spots = tuple(
        Spot(
            100 * place.box.top / height,
            100 * place.box.left / width,
            100 * place.box.height / height,
            100 * place.box.width / width,
            place.label,
        )
        for place in places
    )
    pixels = (height, width, places[0].box.height, places[0].box.width)
    return Plate(exhibit, tuple(columns), spots, pixels, scale, film)


def picture(image: Tensor, alt: str, width: int, quality: int | Literal["lossless"]) -> Picture:
    """`[3, H, W]` in [0, 1] as WebP of a quality, or as PNG, reduced to `width` where it is wider."""
    pixels = quantise(image.detach().cpu().float().nan_to_num(0.0), None, 8, False)
    array = np.ascontiguousarray(pixels)
    height, columns, bands = array.shape
    stored = pyvips.Image.new_from_memory(array.tobytes(), columns, height, bands, "uchar")
    stored = stored.copy(interpretation="srgb")
    if columns > width:
        stored = stored.resize(width / columns, vscale=max(1, round(height * width / columns)) / height)
    if quality == "lossless":
        kind, data = "png", stored.write_to_buffer(".png", keep="none", compression=9)
    else:
        kind, data = "webp", stored.write_to_buffer(".webp", keep="none", Q=quality, smart_subsample=True)
    text = base64.b64encode(bytes(data)).decode("ascii")  # type: ignore[arg-type]
    return Picture(f"data:image/{kind};base64,{text}", stored.width, stored.height, alt)


def error_colours(error: Tensor, scale: float) -> Tensor:
    """`[H, W]` on the scale 0 to 255 as `[3, H, W]`: black at 0, then violet, red, yellow at `scale` and above.

    Source: the map "inferno" of matplotlib (van der Walt and Smith 2015), even in perceived lightness.
    """
    index = (error / scale).clamp(0, 1).mul(255).round().long()
    return _palette()[index].permute(2, 0, 1)


def error_gradient(stops: int = 17) -> str:
    """The colours of `error_colours` as a CSS gradient from left to right."""
    places = [round(255 * index / (stops - 1)) for index in range(stops)]
    colours = [_palette()[place].mul(255).round().int().tolist() for place in places]
    return f"linear-gradient(90deg, {', '.join('#{:02x}{:02x}{:02x}'.format(*colour) for colour in colours)})"


@cache
def _palette() -> Tensor:
    """`[256, 3]` in [0, 1]."""
    import matplotlib

    return torch.from_numpy(matplotlib.colormaps[_COLOURS](np.arange(256))[:, :3]).float()


def _column(
    label: str, what: str, image: Tensor, places: Sequence[Place], fineness: Fineness, error: Picture | None
) -> Column:
    crops = []
    for index, place in enumerate(places, 1):
        small = max(place.box.height, place.box.width) <= fineness.crop
        kept = "lossless" if small else 95
        crops.append(picture(place.box.cut(image), f"Crop {index} of {what}", fineness.width, kept))
    return Column(label, picture(image, what, fineness.width, fineness.quality), tuple(crops), error)


def _scale(errors: Sequence[Tensor]) -> int:
    """The first round number that 99.5 % of the pixels of each map stay below."""
    if not errors:
        return _SCALES[-1]
    high = max(float(np.quantile(error.numpy(), 0.995)) for error in errors)
    return next((scale for scale in _SCALES if high <= scale), _SCALES[-1])
