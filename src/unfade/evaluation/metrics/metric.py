"""One figure that can be taken of a clip, with all that a report must say about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

Needs = Literal["pair", "picture", "footage", "mask"]


class Measure(Protocol):
    """Takes a clip's figure; None where it is not defined for such a clip."""

    def __call__(
        self, x: Tensor, truth: Tensor | None = None, mask: Tensor | None = None
    ) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of a clip.

    Attributes:
        name: key in JSON and CSV, such as "psnr-rgb", "gmsd", "lpips", "warping-error".
        label: for people.
        unit: "dB", "levels" (of 255), or "" for a pure number.
        higher_is_better: which way is up.
        of: what it needs. "pair": the truth. "picture": nothing else. "footage": several frames, and the truth
            where there is one. "mask": the truth and a mask.
        convention: one line on how it counts.
        source: library with version, or paper.
        measure: clips `[T, 3, H, W]` in [0, 1], truth alike, mask `[1, H, W]` or `[T, 1, H, W]`. Gives None
            where the figure is not defined for such a clip (too small, too few frames, nothing in the mask) and
            `math.inf` for the PSNR of equal clips. Raises ValueError where what it needs is missing or the
            shapes differ.
        weights: first 12 hex digits of the SHA-256 of the weight files, one after the other; None without any.
        licence: of library and weights, where it restricts their use or is not this project's.
        cheap: whether it may be taken of every frame of a film.
        guided: whether the degraded clip serves it where there is no truth.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    of: Needs
    convention: str
    source: str
    measure: Measure
    weights: str | None = None
    licence: str | None = None
    cheap: bool = True
    guided: bool = False


@dataclass(frozen=True, slots=True)
class Absence:
    """A metric that can't be had here.

    Attributes:
        name: of the metric.
        why: one line: what is missing, where it was looked for, what to do.
    """

    name: str
    why: str


def of_pairs(one: Callable[[Tensor, Tensor], float | None], smallest: int = 1) -> Measure:
    """The mean over a clip's frames of a figure of two pictures `[3, H, W]`.

    None where a side is shorter than `smallest` or the figure of a frame is None.
    """

    def measure(x: Tensor, truth: Tensor | None = None, mask: Tensor | None = None) -> float | None:
        if truth is None:
            raise ValueError("this metric compares with the truth, and there is none")
        if x.dim() != 4 or x.shape != truth.shape or x.shape[1] != 3:
            raise ValueError(f"two clips [T, 3, H, W] of one size are compared, not {_shapes(x, truth)}")
        if min(x.shape[-2:]) < smallest:
            return None
        return _mean([one(frame, true) for frame, true in zip(x, truth, strict=True)])

    return measure


def of_pictures(one: Callable[[Tensor], float | None], smallest: int = 1) -> Measure:
    """The mean over a clip's frames of a figure of a picture `[3, H, W]` alone; None as for `of_pairs`."""

    def measure(x: Tensor, truth: Tensor | None = None, mask: Tensor | None = None) -> float | None:
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"a clip is [T, 3, H, W], not {tuple(x.shape)}")
        if min(x.shape[-2:]) < smallest:
            return None
        return _mean([one(frame) for frame in x])

    return measure


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _shapes(*clips: Tensor) -> str:
    return " and ".join(str(tuple(clip.shape)) for clip in clips)
