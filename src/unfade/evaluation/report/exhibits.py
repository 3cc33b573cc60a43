"""Cases worth looking at: which ones, and where in them to look."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unfade.evaluation.report.figures import difference, number

_SHARE = 5
_SMALLEST = 48


@dataclass(frozen=True, slots=True)
class Case:
    """One row of a run, chosen to be shown.

    Attributes:
        title: why it was chosen, e.g. "Worst of 24".
        group, name, model: which row.
        metric: by which it was chosen.
    """

    title: str
    group: str
    name: str
    model: str
    metric: str


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One case with its pictures, `[3, H, W]` of one size in [0, 1], sRGB.

    Attributes:
        title, group, name, model, metric: see `Case`.
        input_value, output_value: of the metric, before and after.
        degraded, restored: what went in and what came out.
        truth: the clean picture, or None where nobody knows it.
        film: frames at evenly spaced tau, the first as degraded; may be empty.

    Raises:
        ValueError: the pictures differ in shape.
    """

    title: str
    group: str
    name: str
    model: str
    metric: str
    input_value: float | None
    output_value: float | None
    degraded: Tensor
    restored: Tensor
    truth: Tensor | None = None
    film: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        shape = tuple(self.degraded.shape)
        others = [self.restored, *([] if self.truth is None else [self.truth]), *self.film]
        if len(shape) != 3 or shape[0] != 3 or any(tuple(other.shape) != shape for other in others):
            shapes = [shape, *(tuple(other.shape) for other in others)]
            raise ValueError(f"an exhibit's pictures are [3, H, W] of one size, not {shapes}")


@dataclass(frozen=True, slots=True)
class Box:
    """A window of a picture in pixels."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: Tensor) -> Tensor:
        """The window of `[..., H, W]`."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True, slots=True)
class Place:
    """A window and what happened there, in words."""

    box: Box
    label: str


def error_of(image: Tensor, truth: Tensor) -> Tensor:
    """Absolute error of each pixel, mean of the three channels: `[H, W]` on the scale 0 to 255, float64."""
    return (image.detach().cpu().double() - truth.detach().cpu().double()).abs().mean(0) * 255


def places_of_change(exhibit: Exhibit) -> tuple[Place, ...]:
    """Where restoring lowered the error most, and where it raised it most (or lowered it least).

    One of the two is the place whose error changed most. Boxes have the picture's shape, a fifth of its sides and at
    least 48 pixels where the picture has them; of equal places the first is taken. There is one place where both are
    the same, and without a truth, where it is the place that restoring altered most.
    """
    truth = exhibit.truth
    before = error_of(exhibit.degraded, exhibit.restored if truth is None else truth)
    after = torch.zeros_like(before) if truth is None else error_of(exhibit.restored, truth)
    # Rounded to 1/1024 of a level, sums are exact and equal places are equal.
    change = ((after - before) * 1024).round()
    height, width = before.shape
    scale = min(1.0, max(1 / _SHARE, _SMALLEST / min(height, width)))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    total = torch.zeros(height + 1, width + 1, dtype=torch.float64)
    total[1:, 1:] = change.cumsum(0).cumsum(1)
    sums = (
        total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    )
    found = [int(sums.flatten().argmin()), int(sums.flatten().argmax())]
    boxes = [Box(*divmod(index, sums.shape[1]), rows, columns) for index in dict.fromkeys(found)]
    places = []
    for box in boxes[:1] if truth is None else boxes:
        old, new = float(box.cut(before).mean()), float(box.cut(after).mean())
        if truth is None:
            label = f"altered most, by {old:.1f} levels"
        elif len(boxes) == 1:
            label = f"error {old:.1f} → {new:.1f}"
        elif box is boxes[0]:
            label = f"error {'falls most' if new < old else 'rises least'}, {old:.1f} → {new:.1f}"
        else:
            label = f"error {'rises most' if new > old else 'falls least'}, {old:.1f} → {new:.1f}"
        places.append(Place(box, label))
    return tuple(places)


def worst_and_best(
    report: Mapping[str, Any], models: Sequence[str] = (), metric: str | None = None, each: int = 1
) -> tuple[Case, ...]:
    """The rows with the least and the largest gain, model by model, worst before best.

    Args:
        report: as `write_report` takes it; needs "models", "metrics" and "rows".
        models: whose rows; by default all of kind "model", or all if none is.
        metric: that decides; by default the first of the report.
        each: rows at either end; fewer where a model has less than twice as many.

    Raises:
        ValueError: the report has no such metric.
    """
    known = {entry["name"]: entry for entry in report["metrics"]}
    if not known or (metric is not None and metric not in known):
        raise ValueError(f"the report has no metric {metric!r}; choose one of {', '.join(known) or 'none'}")
    chosen = known[metric] if metric is not None else next(iter(known.values()))
    kinds = {entry["name"]: entry.get("kind") for entry in report["models"]}
    names = tuple(models) or tuple(name for name, kind in kinds.items() if kind == "model") or tuple(kinds)
    cases: list[Case] = []
    for model in names:
        ranked = sorted(_gains(report["rows"], model, chosen))
        low = min(each, (len(ranked) + 1) // 2)
        high = min(each, len(ranked) - low)
        for index, (_, group, name) in enumerate(ranked[:low], 1):
            cases.append(Case(_title("Worst", index, len(ranked)), group, name, model, chosen["name"]))
        for index, (_, group, name) in enumerate(reversed(ranked[len(ranked) - high :]), 1):
            cases.append(Case(_title("Best", index, len(ranked)), group, name, model, chosen["name"]))
    return tuple(cases)


def _gains(
    rows: Sequence[Mapping[str, Any]], model: str, metric: Mapping[str, Any]
) -> list[tuple[float, str, str]]:
    sign = 1 if metric["higher_is_better"] else -1
    found = []
    for row in rows:
        values = [number(row[side].get(metric["name"])) for side in ("output", "input")]
        gain = difference(*values) if row["model"] == model else None
        if gain is not None:
            found.append((sign * gain, row["group"], row["name"]))
    return found


def _title(word: str, rank: int, count: int) -> str:
    if count == 1:
        return "The only case"
    place = "" if rank == 1 else f"{rank}. "
    return f"{place}{word.lower() if place else word} of {count}"
