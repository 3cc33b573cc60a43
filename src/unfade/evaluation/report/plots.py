"""Curves along the film, and quality against cost, as SVG for both themes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from unfade.evaluation.report.axes import Axes, Point, log_ticks, padded
from unfade.evaluation.report.figures import decimals, finite, fixed, number, probability, short

_HUES = 8
_ANCHORS = {"round trip of": "a3", "input": "a0", "target": "a1", "vae": "a2"}
_ALL = "all"
_TALLEST = 0.6
Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Key:
    """A line of a legend.

    Attributes:
        style: class of the line drawn.
        label: what it is.
        detail: what was found, e.g. the trend.
    """

    style: str
    label: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its legend."""

    title: str
    svg: str
    keys: tuple[Key, ...]


def curve_plots(report: Mapping[str, Any], metric: Mapping[str, Any]) -> list[Plot]:
    """One plot a group that has curves of this metric: every model's mean with its interval, and the anchors."""
    curves = [entry for entry in report.get("curves", ()) if entry["metric"] == metric["name"]]
    groups = sorted(dict.fromkeys(entry["group"] for entry in curves), key=lambda group: group != _ALL)
    plots = []
    for group in groups:
        drawn = [entry for entry in curves if entry["group"] == group and finite(entry["mean"])]
        anchors = [
            entry
            for entry in report.get("anchors", ())
            if entry["group"] == group and entry["metric"] == metric["name"] and finite(entry["values"])
        ]
        if drawn:
            plots.append(_curves(report, metric, group, drawn, anchors))
    return plots


def cost_plot(
    report: Mapping[str, Any], timing: Mapping[str, Any], metric: Mapping[str, Any], side: str
) -> Plot | None:
    """The first metric's average against seconds per megapixel; None with fewer than two models on it."""
    seconds = {
        entry["name"]: number(entry.get("seconds_per_megapixel")) for entry in timing.get("models", ())
    }
    kinds = {entry["name"]: entry.get("kind") for entry in report["models"]}
    places: list[tuple[str, float, float]] = []
    for entry in report["averages"]:
        value = number(entry[side]["output"].get(metric["name"])) if side in entry else None
        taken = seconds.get(entry["model"])
        if taken and taken > 0 and value is not None and math.isfinite(value):
            places.append((entry["model"], taken, value))
    if len(places) < 2:
        return None
    before = finite(entry[side]["input"].get(metric["name"]) for entry in report["averages"] if side in entry)
    level = before[0] if len(set(before)) == 1 else None
    times = [taken for _, taken, _ in places]
    low, high = min(times) / 1.6, max(times) * 1.6
    values = [value for _, _, value in places] + ([level] if level is not None else [])
    axes = Axes((low, high), padded(values, 0.12), 1080, 340, logarithmic=True, left=56, right=24, bottom=42)
    parts = [axes.frame("seconds per megapixel (logarithmic)", _axis(metric), log_ticks(low, high))]
    labels: list[Rectangle] = []
    if level is not None:
        x, y = axes.place(high, level)
        parts.append(f'<path class="line a0" d="{axes.line([(low, level), (high, level)])}"/>')
        parts.append(f'<text class="name" x="{x:.1f}" y="{y - 6:.1f}" text-anchor="end">input</text>')
        labels.append((x - 40, y - 20, x, y))
    styles = model_styles(report)
    dots = [axes.place(taken, value) for _, taken, value in places]
    labels += [(x - 8, y - 8, x + 8, y + 8) for x, y in dots]
    for (name, taken, value), (x, y) in zip(places, dots, strict=True):
        shape = (
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6.5"/>'
            if kinds.get(name) == "model"
            else f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" rx="2"/>'
        )
        hint = f"{name}: {fixed(value, decimals(metric['unit'], values))}, {short(taken)} s/MP"
        parts.append(f'<g class="dot {styles[name]}"><title>{escape(hint)}</title>{shape}</g>')
        left, middle = _free(axes, labels, name, x, y)
        parts.append(f'<text class="name" x="{left:.1f}" y="{middle + 4.5:.1f}">{escape(name)}</text>')
    told = "; ".join(f"{name} {value:.4g} at {short(taken)} s" for name, taken, value in places)
    title = f"{metric['label']} against cost"
    return Plot(title, axes.drawing(f"{title}: {told}", *parts), ())


def model_styles(report: Mapping[str, Any]) -> dict[str, str]:
    """Each model's classes of colour and, when the colours are used up, of dashes; the same in all plots."""
    return {
        entry["name"]: f"s{index % _HUES}{' dashed' if index >= _HUES else ''}"
        for index, entry in enumerate(report["models"])
    }


def _curves(
    report: Mapping[str, Any],
    metric: Mapping[str, Any],
    group: str,
    curves: Sequence[Mapping[str, Any]],
    anchors: Sequence[Mapping[str, Any]],
) -> Plot:
    styles = model_styles(report)
    rising = {(entry["group"], entry["model"]): number(entry.get("rising")) for entry in report["groups"]}
    own = finite(
        value for curve in curves for key in ("mean", "low", "high") for value in curve.get(key) or ()
    )
    own += [value for anchor in anchors for value in finite(anchor["values"])[:1]]
    low, high = padded(own)
    reach = _TALLEST * (high - low)
    for anchor in anchors:
        for value in finite(anchor["values"]):
            low, high = min(low, max(value, low - reach)), max(high, min(value, high + reach))
    taus = [float(tau) for curve in curves for tau in curve["taus"]]
    axes = Axes((min(taus), max(taus)) if min(taus) < max(taus) else (0.0, 1.0), (low, high))
    parts, keys = [axes.frame("restoration time τ", _axis(metric), [0, 0.25, 0.5, 0.75, 1])], []
    for anchor in anchors:
        style = next((_ANCHORS[word] for word in _ANCHORS if word in anchor["label"].lower()), "a3")
        parts.append(f'<path class="line {style}" d="{axes.line(_along(axes, anchor["values"]))}"/>')
        keys.append(Key(style, anchor["label"]))
    for curve in curves:
        style, means = styles.get(curve["model"], "s0"), curve["mean"]
        edges = [
            (float(tau), under, over)
            for tau, under, over in zip(
                curve["taus"],
                map(number, curve.get("low") or ()),
                map(number, curve.get("high") or ()),
                strict=False,
            )
            if under is not None and over is not None and math.isfinite(under) and math.isfinite(over)
        ]
        band = axes.area([(tau, under) for tau, under, _ in edges], [(tau, over) for tau, _, over in edges])
        points = [
            (float(tau), value) if (value := number(mean)) is not None and math.isfinite(value) else None
            for tau, mean in zip(curve["taus"], means, strict=True)
        ]
        parts.append(
            f'<path class="band {style}" d="{band}"/><path class="line {style}" d="{axes.line(points)}"/>'
        )
        parts.append(_marks(axes, metric, curve, points, style))
        keys.append(Key(style, curve["model"], _found(curve, rising.get((group, curve["model"])))))
    told = "; ".join(_story(metric, curve) for curve in curves)
    return Plot(
        "All groups together" if group == _ALL else group,
        axes.drawing(f"{metric['label']} along the film of {group}: {told}", *parts),
        tuple(keys),
    )


def _marks(
    axes: Axes,
    metric: Mapping[str, Any],
    curve: Mapping[str, Any],
    points: Sequence[Point | None],
    style: str,
) -> str:
    """A dot for each frame, a ring around each kink, both with their figures."""
    places = decimals(metric["unit"], curve["mean"])
    parts = [f'<g class="dot {style}">']
    for index, point in enumerate(points):
        if point is None:
            continue
        x, y = axes.place(*point)
        kink = index in curve.get("kinks", ())
        hint = f"{curve['model']}, τ {point[0]:.3g}: {fixed(point[1], places)}{', kink' if kink else ''}"
        ring = f'<circle class="kink" cx="{x:.1f}" cy="{y:.1f}" r="7"/>' if kink else ""
        parts.append(f'<g><title>{escape(hint)}</title><circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>{ring}</g>')
    return "".join(parts) + "</g>"


def _found(curve: Mapping[str, Any], rising: float | None) -> str:
    """The trend and the kinks in words."""
    trend = curve.get("spearman") or {}
    rho = number(trend.get("rho"))
    found = [] if rho is None else [f"Spearman ρ {fixed(rho, 2)}, {probability(trend.get('p'))}"]
    if kinks := len(curve.get("kinks") or ()):
        found.append(f"{kinks} kink{'s' if kinks > 1 else ''} ◯")
    if rising is not None:
        found.append(f"{rising:.0%} of the films always improve")
    return "; ".join(found)


def _story(metric: Mapping[str, Any], curve: Mapping[str, Any]) -> str:
    places = decimals(metric["unit"], curve["mean"])
    return f"{curve['model']} from {fixed(curve['mean'][0], places)} to {fixed(curve['mean'][-1], places)}"


def _along(axes: Axes, values: Sequence[Any]) -> list[Point | None]:
    """An anchor as points: level where it is one value, else one a frame; what lies outside is left out."""
    figures = [number(value) for value in values]
    if len(figures) == 1:
        figures = figures * 2
    low, high = axes.x
    points: list[Point | None] = []
    for index, value in enumerate(figures):
        inside = value is not None and axes.y[0] <= value <= axes.y[1]
        x = low + (high - low) * index / (len(figures) - 1)
        points.append((x, value) if inside and value is not None else None)
    return points


def _free(axes: Axes, taken: list[Rectangle], text: str, x: float, y: float) -> Point:
    """Left end and middle height of a label near (x, y) where nothing stands yet; it is noted as taken."""
    width, half = 7.6 * len(text), 8.0
    sides = [(11.0, 0.0), (-11 - width, 0.0), (-width / 2, -18.0), (-width / 2, 18.0)]
    sides += [(side, lift) for lift in (-18.0, 18.0, -34.0, 34.0) for side in (11.0, -11 - width)]
    spots = [(x + side, y + lift, x + side + width) for side, lift in sides]

    def is_free(spot: tuple[float, float, float]) -> bool:
        left, middle, right = spot
        inside = left > axes.left and right < axes.width and half < middle < axes.height - axes.bottom
        return inside and not any(
            left < other[2] and right > other[0] and middle - half < other[3] and middle + half > other[1]
            for other in taken
        )

    left, middle, right = next(filter(is_free, spots), spots[0])
    taken.append((left, middle - half, right, middle + half))
    return left, middle


def _axis(metric: Mapping[str, Any]) -> str:
    return f"{metric['label']}{', ' + metric['unit'] if metric.get('unit') else ''}"
