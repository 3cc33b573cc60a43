"""Footage described without a model: light, colours, contrast and motion as measured, in one to three sentences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from unfade.prompts.measured import DARK, SOFT, measure
from unfade.prompts.motion import Motion, measure_motion

# The longest side in pixels at which motion, and at which colours are looked for: noise averages out, and it is quick.
_SIDE, _COARSE = 192, 48
# Widths or heights a second below which a pan is slow, and above which it is quick.
_SLOW, _QUICK = 0.04, 0.25
# Root mean square of what changes between looks, whatever the camera does, above which parts of the scene move.
_ALIVE = 0.02
# Standard deviation of noise on the 0 to 255 scale, and excess of the steps between squares, above which they show. On
# three clips H.264 was at 0.13 or less, JPEG of quality 60 at 0.44 or more, of quality 30 at 0.91 or more.
NOISY = 6.0
BLOCKY = 0.3
# Contrast below which it is gentle, and above which it is strong.
_GENTLE, _STRONG = 0.35, 0.75
# Chroma below which a pixel is grey, and mean chroma below which all of the footage is.
_GREY = 0.06
_COLOURLESS = 0.015


class FootageCaptioner(Protocol):
    """Says what is in a piece of footage."""

    @property
    def name(self) -> str:
        """Of the captioner, as the user types it."""
        ...

    @property
    def identity(self) -> str:
        """What decides its texts besides the query; another identity may say something else of the same footage."""
        ...

    @property
    def query(self) -> str:
        """What it is asked; empty if it takes no questions."""
        ...

    def describe(self, frames: Tensor, times: Sequence[float]) -> str:
        """A text for frames `[T, 3, H, W]` in [0, 1], shown at `times` in seconds."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredFootage:
    """What the pixels of a few frames say, each number the median of the frames'.

    Attributes:
        brightness, highlights, falloff, noise, cast: as `unfade.prompts.measured.Measured`.
        contrast: luma that 5 % of the pixels exceed minus luma that 95 % exceed, 0 to 1.
        colours: the one or two colours that most of the coloured pixels have; empty where there are none.
        saturation: mean of (maximum - minimum) of the three channels, 0 to 1.
        blocks: how much larger steps at every eighth pixel are than elsewhere, as a share; None for small frames.
        motion: None where there is one frame only, or frames are too small.
    """

    brightness: float
    highlights: float
    contrast: float
    falloff: float
    noise: float
    cast: tuple[float, float]
    colours: tuple[str, ...]
    saturation: float
    blocks: float | None
    motion: Motion | None


def caption_times(num_frames: int, fps: float) -> tuple[int, ...]:
    """Which frames a captioner is shown: the first of every whole second, and the last.

    A second counts where all of its frames are there, so 55 frames at 24 a second give 0, 24 and 54.

    Args:
        num_frames: of the footage.
        fps: frames a second, rounded to a whole number (half to even).

    Raises:
        ValueError: there is no frame, or no rate.

    Source: Vivid-VR (arXiv 2508.14483), released code.
    """
    if num_frames < 1 or not 0 < fps < math.inf:
        raise ValueError(f"footage has at least 1 frame and a rate above 0, not {num_frames} at {fps}")
    step = max(1, round(fps))
    shown = [second * step for second in range(max(1, num_frames // step))]
    return tuple(shown if shown[-1] == num_frames - 1 else [*shown, num_frames - 1])


def measure_footage(frames: Tensor, times: Sequence[float]) -> MeasuredFootage:
    """Light, colours, sharpness, noise, blocks and motion of a few frames.

    Args:
        frames: `[T, 3, H, W]` in [0, 1], at their own size.
        times: when each is shown, in seconds, increasing.

    Raises:
        ValueError: the shapes don't fit together, or the times don't increase.
    """
    check_frames(frames, times)
    found = [measure(frame) for frame in frames]
    small, coarse = _reduced(frames, _SIDE), _reduced(frames, _COARSE)
    noise = median(one.noise for one in found)
    luma = _luma(frames)
    blocks = [share for plane in luma if (share := _blocks(plane)) is not None]
    # Averaging n pixels leaves 1 / n of the variance of noise.
    averaged = (frames.shape[2] * frames.shape[3]) / (small.shape[2] * small.shape[3])
    return MeasuredFootage(
        brightness=median(one.brightness for one in found),
        highlights=median(one.highlights for one in found),
        contrast=median(_spread(plane) for plane in _luma(small)),
        falloff=median(one.falloff for one in found),
        noise=noise,
        cast=(median(one.cast[0] for one in found), median(one.cast[1] for one in found)),
        colours=_colours(coarse),
        saturation=float((coarse.amax(1) - coarse.amin(1)).mean()),
        blocks=median(blocks) if blocks else None,
        motion=measure_motion(_luma(small), times, (noise / 255) ** 2 / averaged),
    )


def check_frames(frames: Tensor, times: Sequence[float]) -> None:
    """Whether frames and times fit together.

    Raises:
        ValueError: they don't.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames are [T, 3, H, W] with nothing empty, not {tuple(frames.shape)}")
    if len(times) != len(frames) or any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError(f"{len(frames)} frames are shown at as many increasing times, not {list(times)}")


class FootageRules:
    """The captioner without a model: says only what is measured, as it should look when it is restored."""

    name = "rules"
    identity = "footage rules 1"
    query = ""

    def describe(self, frames: Tensor, times: Sequence[float]) -> str:
        """As `FootageCaptioner.describe`; one to three sentences.

        Raises:
            ValueError: as for `measure_footage`.
        """
        return footage_sentences(measure_footage(frames, times))


def footage_sentences(found: MeasuredFootage) -> str:
    """What was measured as sentences. Faults are told by what is there without them."""
    clauses = [f"A {_light(found)} scene{_colouring(found)}", *_contrast(found), *_camera(found.motion)]
    sentences = [f"{', '.join(clauses)}."]
    if found.motion is not None and found.motion.camera == "still":
        alive = found.motion.change > _ALIVE
        sentences.append("Parts of the scene move." if alive else "Hardly anything in the scene moves.")
    clear = [
        words
        for words, wanted in (
            ("crisp edges and fine detail", found.falloff > SOFT),
            ("clean, even surfaces", found.noise > NOISY),
            ("smooth gradients", found.blocks is not None and found.blocks > BLOCKY),
        )
        if wanted
    ]
    if clear:
        listed = clear[0] if len(clear) == 1 else f"{', '.join(clear[:-1])} and {clear[-1]}"
        sentences.append(f"It has {listed}.")
    return " ".join(sentences)


def _light(found: MeasuredFootage) -> str:
    if found.highlights < DARK:
        return "very dark" if found.highlights < 0.22 else "dark"
    return "bright" if found.brightness > 0.55 else "dim" if found.brightness < 0.3 else "well-lit"


def _colouring(found: MeasuredFootage) -> str:
    if found.saturation < _COLOURLESS:
        return " in black and white"
    warm, green = found.cast
    tint = "warm" if warm > 0.2 else "cold" if warm < -0.2 else "greenish" if green > 0.2 else ""
    mostly = f", mostly {' and '.join(found.colours)}" if found.colours else ""
    return f" with {tint} colours{mostly}" if tint else mostly or " with muted colours"


def _contrast(found: MeasuredFootage) -> list[str]:
    """A clause, or none where there is nothing to be said."""
    if _GENTLE <= found.contrast <= _STRONG:
        return []
    return [f"of {'gentle' if found.contrast < _GENTLE else 'strong'} contrast"]


def _camera(motion: Motion | None) -> list[str]:
    """A clause, or none for a single frame."""
    if motion is None:
        return []
    if motion.camera != "panning":
        told = {"still": "camera standing still", "moving": "camera moving", "unknown": "the view changing"}
        return [told[motion.camera]]
    across, along = abs(motion.right), abs(motion.down)
    ways: list[str] = []
    if across > along / 2:
        ways.append("panning to the right" if motion.right > 0 else "panning to the left")
    if along > across / 2:
        ways.append("tilting down" if motion.down > 0 else "tilting up")
    speed = max(across, along)
    pace = " slowly" if speed < _SLOW else " quickly" if speed > _QUICK else ""
    return [f"camera{pace} {' and '.join(ways)}"]


# Names by hue in degrees, up to which each reaches.
_HUES = ((15, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (200, "cyan"), (255, "blue"), (290, "purple"),
         (345, "pink"), (360, "red"))  # fmt: skip


def _colours(frames: Tensor) -> tuple[str, ...]:
    """The one or two colours that at least a quarter of the coloured pixels have, if a seventh of all have any."""
    most, least = frames.amax(1), frames.amin(1)
    chroma = most - least
    coloured = (chroma > _GREY) & (chroma > 0.2 * most)
    if float(coloured.float().mean()) < 1 / 7:
        return ()
    red, green, blue = frames.unbind(1)
    safe = chroma.clamp_min(1e-6)
    hue = torch.where(
        most == red,
        (green - blue) / safe % 6,
        torch.where(most == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    degrees = 60 * hue[coloured]
    ends = degrees.new_tensor([end for end, _ in _HUES])
    counts = torch.bincount(torch.bucketize(degrees, ends).clamp_max(len(_HUES) - 1), minlength=len(_HUES))
    shares: dict[str, float] = {}
    for (_, name), number in zip(_HUES, counts.tolist(), strict=True):
        shares[name] = shares.get(name, 0.0) + number / len(degrees)
    most_first = sorted(shares, key=lambda name: -shares[name])
    return tuple(name for name in most_first[:2] if shares[name] >= 0.25)


def _blocks(luma: Tensor) -> float | None:
    """How much larger steps between the squares of 8 x 8 pixels are than others; 0 if they aren't."""
    if min(luma.shape) < 64:
        return None
    shares = []
    for plane in (luma, luma.mT):
        # How much a step differs from the slope around it.
        bends = (plane[:, 1:-2] - plane[:, 2:-1] - (plane[:, :-3] - plane[:, 3:]) / 3).abs().mean(0)
        whole = bends[: len(bends) // 8 * 8].reshape(-1, 8).mean(0)
        # Entry x tells of the step from column x + 1 to x + 2; squares meet between 7 and 8.
        others = torch.cat([whole[:6], whole[7:]]).mean()
        shares.append(float(whole[6] / (others + 1e-4)) - 1)
    return max(0.0, min(shares))


def _spread(luma: Tensor) -> float:
    ordered = luma.flatten().sort().values
    last = len(ordered) - 1
    return float(ordered[round(0.95 * last)] - ordered[round(0.05 * last)])


def _reduced(frames: Tensor, side: int) -> Tensor:
    """With the longer side at most `side`, by averages of areas."""
    scale = side / max(frames.shape[2:])
    if scale >= 1:
        return frames
    size = [max(1, round(length * scale)) for length in frames.shape[2:]]
    return functional.interpolate(frames, size=size, mode="area")


def _luma(frames: Tensor) -> Tensor:
    return (frames * frames.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1)
