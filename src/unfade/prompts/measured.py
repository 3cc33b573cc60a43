"""What is wrong with a photo, measured from its pixels alone, and the prompt that says so: no model needed."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unfade.prompts.progressive import TAIL, Task

Direction = Literal["horizontal", "diagonal", "vertical"]

_LUMA = (0.299, 0.587, 0.114)
_WINDOW = 128
_WINDOWS = 8
_SECTORS = 8
# Octave-like bands in cycles a pixel. The first two tell how directional the scene itself is.
_BANDS = ((0.012, 0.03), (0.03, 0.06), (0.06, 0.1), (0.1, 0.16), (0.16, 0.25), (0.25, 0.5))
# log2 of the power below which rounding to 8 bits is all there is.
_FLOOR = -19.0

# Set on 74 photos of BSDS and ImageNet under the trajectories' own draws; tests judge them on other photos.
DARK = 0.48
SOFT = 7.3
DIRECTED = 2.2


@dataclass(frozen=True, slots=True)
class Measured:
    """What the pixels say.

    Attributes:
        brightness: mean luma, 0 to 1.
        highlights: luma that 5 % of the pixels exceed.
        falloff: octaves of power lost from coarse to the finest detail; 4 to 7 for a sharp photo.
        directed: how many octaves more the fine detail depends on direction than the coarse does.
        direction: along which detail is missing most.
        noise: standard deviation on the 0 to 255 scale, in the calmest parts.
        cast: red minus blue and green minus the mean of both, of the mean colour, relative to its brightness.
    """

    brightness: float
    highlights: float
    falloff: float
    directed: float
    direction: Direction
    noise: float
    cast: tuple[float, float]

    @property
    def task(self) -> Task | None:
        """The task that fits, or None where nothing is clearly wrong."""
        if self.highlights < DARK:
            return "lowlight"
        if self.falloff < SOFT:
            return None
        return "blur" if self.directed > DIRECTED else "resolution"

    @property
    def reason(self) -> str:
        """Why that task, as a clause."""
        light = f"only 5 % of the pixels are brighter than {self.highlights:.2f}"
        soft = f"detail falls off by {self.falloff:.1f} octaves of power"
        if self.task == "lowlight":
            return f"{light} (dark is below {DARK})"
        if self.task is None:
            return f"it is neither dark nor soft: {soft} (soft is above {SOFT})"
        along = "along one direction" if self.task == "blur" else "alike in all directions"
        return f"{soft} (soft is above {SOFT}), {along} ({self.directed:+.1f}, directed is above {DIRECTED})"


def measure(picture: Tensor) -> Measured:
    """Light, sharpness, direction of blur, noise and cast of a photo.

    Args:
        picture: `[3, H, W]` in [0, 1], at its own size: enlarged or reduced, it is another photo.
    """
    luma = (picture * picture.new_tensor(_LUMA)[:, None, None]).sum(0)
    profile = _profile(luma)
    power = torch.log2(profile.mean(1) + 1e-12)
    spread = torch.log2((profile.max(1).values + 1e-12) / (profile.min(1).values + 1e-12))
    fine = [band for band in range(2, len(_BANDS)) if float(power[band]) > _FLOOR]
    most = max(fine, key=lambda band: float(spread[band]), default=2)
    directed = float(spread[most] - spread[:2].mean()) if fine else 0.0
    # A blur along a line takes the detail that varies along that line.
    sector = int(profile[most].argmin())
    direction: Direction = (
        "horizontal" if sector in (7, 0, 1) else "vertical" if sector in (3, 4, 5) else "diagonal"
    )
    red, green, blue = (float(colour) for colour in picture.mean((1, 2)))
    level = max((red + green + blue) / 3, 1e-3)
    return Measured(
        float(luma.mean()),
        _quantile(luma, 0.95),
        float(power[2] - power[5]),
        directed,
        direction,
        _noise(luma) * 255,
        ((red - blue) / level, (green - (red + blue) / 2) / level),
    )


def chosen_task(found: Measured) -> tuple[Task, str]:
    """The task for a photo, and why, as a clause; "resolution" where nothing is clearly wrong."""
    if found.task is None:
        return "resolution", f"nothing is clearly wrong ({found.reason}); name it with --task"
    return found.task, found.reason


class MeasuredCaptioner:
    """The captioner without a model: says how dark, soft, noisy or tinted a photo is, never what it shows."""

    name = "rules"
    identity = "rules 1"
    instructed = True

    def __call__(self, picture: Tensor, task: Task) -> str:
        """As `Captioner.__call__`; 20 to 45 words by construction."""
        found = measure(picture)
        scene = f"{_tone(found, task)} scene"
        stays = "while everything stays exactly in its place"
        match task:
            case "lowlight":
                noise = ", full of noise," if found.noise > 6 else ""
                tint = _tint(found)
                cast = f" with a {tint} cast" if tint else ""
                text = (
                    f"A {scene}{cast}{noise} gradually becomes brighter, with natural colors, clear shadows and "
                    f"less noise, {stays}."
                )
            case "blur":
                blur = f"{found.direction} blur" if found.directed > DIRECTED else "blur"
                degree = "long" if found.falloff > 12 else "light"
                text = (
                    f"A {scene} under a {degree} {blur} gradually becomes sharp as the blur disappears, with crisp "
                    f"edges and clear details, {stays}."
                )
            case "resolution":
                degree = "very soft" if found.falloff > 12.5 else "soft"
                text = (
                    f"A {scene}, {degree} and low in resolution, gradually becomes sharper and higher in "
                    f"resolution, with fine details and clear textures, {stays}."
                )
        return f"{text} {TAIL}"


def _tone(found: Measured, task: Task) -> str:
    if task == "lowlight":
        return "very dark" if found.highlights < 0.22 else "dark"
    light = "bright" if found.brightness > 0.55 else "dim" if found.brightness < 0.3 else "well-lit"
    tint = _tint(found)
    return f"{light}, {tint}" if tint else light


def _tint(found: Measured) -> str:
    warm, green = found.cast
    if abs(green) > 0.2:
        return "greenish" if green > 0 else "pinkish"
    if abs(warm) > 0.2:
        return "warm" if warm > 0 else "bluish"
    return ""


@cache
def _masks() -> Tensor:
    """`[bands, sectors, W * W]`: which frequencies belong where, each set summing to 1."""
    line = torch.fft.fftfreq(_WINDOW)
    down, across = line[:, None].expand(_WINDOW, _WINDOW), line[None, :].expand(_WINDOW, _WINDOW)
    radius = torch.sqrt(down**2 + across**2)
    sector = (torch.atan2(down, across) % math.pi / math.pi * _SECTORS + 0.5).long() % _SECTORS
    masks = torch.stack(
        [
            torch.stack([(radius >= low) & (radius < high) & (sector == index) for index in range(_SECTORS)])
            for low, high in _BANDS
        ]
    ).float()
    return (masks / masks.sum((2, 3), keepdim=True)).flatten(2)


def _profile(luma: Tensor) -> Tensor:
    """Mean power by band and direction, `[bands, sectors]`, over windows spread evenly across the photo."""
    luma = _at_least(luma, _WINDOW)
    hann = torch.hann_window(_WINDOW, periodic=True)
    weight = hann[:, None] * hann[None, :]
    total = torch.zeros(_WINDOW, _WINDOW)
    tops, lefts = (_starts(side) for side in luma.shape)
    for top in tops:
        for left in lefts:
            window = luma[top : top + _WINDOW, left : left + _WINDOW]
            total += torch.fft.fft2((window - window.mean()) * weight).abs() ** 2
    return _masks() @ (total.flatten() / (len(tops) * len(lefts) * _WINDOW**2))


def _starts(side: int) -> list[int]:
    count = min(_WINDOWS, (side - 1) // _WINDOW + 1)
    return [round(index * (side - _WINDOW) / max(1, count - 1)) for index in range(count)]


def _at_least(luma: Tensor, side: int) -> Tensor:
    """Mirrored at its borders, as often as needed, until both sides have the length."""
    for axis in (0, 1):
        length = luma.shape[axis]
        if length < side:
            index = torch.arange(side) % (2 * length)
            luma = luma.index_select(axis, torch.minimum(index, 2 * length - 1 - index))
    return luma


def _noise(luma: Tensor) -> float:
    """Standard deviation by Immerkær's mask, in the calmest fifth of the blocks.

    Source: Immerkær 1996, Fast noise variance estimation, eq. 3.
    """
    if min(luma.shape) < 18:
        return 0.0
    mask = luma.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    residual = functional.conv2d(luma[None, None], mask[None, None]).abs()
    blocks = functional.avg_pool2d(residual, 16)
    return math.sqrt(math.pi / 2) * _quantile(blocks, 0.2)


def _quantile(values: Tensor, share: float) -> float:
    flat = values.flatten()
    return float(flat.kthvalue(max(1, math.ceil(share * flat.numel()))).values)
