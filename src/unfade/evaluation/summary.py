"""From rows to what a report says: groups, both averages, curves, anchors, published numbers beside ours."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from unfade.evaluation.alignment import tally
from unfade.evaluation.benchmarks.benchmark import Benchmark
from unfade.evaluation.contender import Contender
from unfade.evaluation.curves import curve, rises
from unfade.evaluation.journal import Row
from unfade.evaluation.measure import ROUND_TRIP, TARGET, Settings
from unfade.evaluation.metrics.metric import Absence, Metric
from unfade.evaluation.paired import paired
from unfade.evaluation.published.cells import cells, differences
from unfade.evaluation.report.figures import json_safe
from unfade.evaluation.trends import verdicts
from unfade.version import __version__

ALL = "all"


def summarise(
    benchmark: Benchmark,
    contenders: Sequence[Contender],
    settings: Settings,
    metrics: Sequence[Metric],
    absent: Sequence[Absence],
    rows: Sequence[Row],
    limit: int | None = None,
) -> dict[str, Any]:
    """The whole report as JSON values: no time, no machine, so that the same run always gives the same report.

    Averages are taken over every case of a group or not at all: a contender that does not apply to a group has no
    row for it, and its averages over the benchmark are left out where groups are missing, which is said.
    """
    judged = [row for row in rows if row.applies and not _is_anchor(row.model)]
    # Where nobody knows the truth, metrics that need it have no column.
    metrics = [metric for metric in metrics if any(metric.name in row.output for row in judged)] or metrics
    groups = _groups(benchmark, contenders, metrics, judged)
    along = _curves(benchmark, metrics, judged)
    pairs = paired(_group_names(benchmark), contenders, metrics, judged, ALL)
    report = {
        "unfade": __version__,
        "benchmark": _benchmark(benchmark),
        "settings": {
            **asdict(settings),
            "limit": limit,
            "groups": [group.name for group in benchmark.groups],
        },
        "models": [_model(one) for one in contenders],
        "metrics": [_metric(metric) for metric in metrics],
        "absent": [asdict(one) for one in absent],
        "rows": [_row(row) for row in judged],
        "groups": groups,
        "averages": _averages(benchmark, contenders, metrics, judged, groups),
        "not_applicable": _not_applicable(benchmark, rows),
        "undefined": _undefined(metrics, judged),
        "curves": along,
        "verdicts": verdicts(benchmark, contenders, metrics, along, pairs),
        "anchors": _anchors(benchmark, metrics, rows),
        **_shifts(benchmark, judged),
        "paired": pairs,
        "published": _published(benchmark, settings, limit),
    }
    return json_safe(report)


def timing(contenders: Sequence[Contender], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Seconds and seconds a megapixel of every contender, over the cases it was measured on."""
    table: list[dict[str, Any]] = []
    for one in contenders:
        own = [row for row in rows if row.model == one.name and row.applies]
        seconds, megapixels = sum(row.seconds for row in own), sum(row.megapixels for row in own)
        if own:
            table.append(
                {
                    "name": one.name,
                    "images": len(own),
                    "seconds": seconds,
                    "megapixels": megapixels,
                    "seconds_per_megapixel": seconds / megapixels,
                    "threads": sorted({row.threads for row in own}),
                }
            )
    return json_safe(table)


def mean(values: Iterable[float]) -> float:
    """The mean; infinite where one value is, NaN of nothing."""
    known = list(values)
    return math.fsum(known) / len(known) if known and all(map(math.isfinite, known)) else _improper(known)


def _improper(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _is_anchor(model: str) -> bool:
    return model == TARGET or model.startswith(ROUND_TRIP)


def _benchmark(benchmark: Benchmark) -> dict[str, Any]:
    conventions = [{"name": one.name, "describe": one.describe()} for one in benchmark.conventions]
    return {
        "name": benchmark.name,
        "title": benchmark.title,
        "citation": benchmark.citation,
        "synthetic": benchmark.synthetic,
        "source": benchmark.holds,
        "averaging": benchmark.averaging,
        "conventions": conventions,
        "notes": list(benchmark.notes),
    }


def _model(one: Contender) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "weights": one.weights,
        "told": one.told,
        "source": one.source,
    }


def _metric(metric: Metric) -> dict[str, Any]:
    names = ("name", "label", "unit", "higher_is_better", "convention", "source", "weights", "licence")
    return {name: getattr(metric, name) for name in names}


def _row(row: Row) -> dict[str, Any]:
    values = asdict(row)
    del values["seconds"], values["applies"]
    if not row.shift:
        del values["shift"]
    return values


def _shifts(benchmark: Benchmark, rows: Sequence[Row]) -> dict[str, Any]:
    """Where a benchmark aligns: how far each model's results lay beside the truth, and how many by how much."""
    if not benchmark.aligned:
        return {}
    table: list[dict[str, Any]] = []
    for group, model in dict.fromkeys((row.group, row.model) for row in rows):
        own = [row for row in rows if (row.group, row.model) == (group, model)]
        shifts = [row.shift["output"] for row in own if row.shift]
        if shifts:
            table.append({"group": group, "model": model, "reach": benchmark.aligned, **tally(shifts)})
    return {"shifts": table}


def _groups(
    benchmark: Benchmark, contenders: Sequence[Contender], metrics: Sequence[Metric], rows: Sequence[Row]
) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = []
    for group in benchmark.groups:
        for one in contenders:
            own = [row for row in rows if row.group == group.name and row.model == one.name]
            if own:
                table.append(
                    {
                        "group": group.name,
                        "model": one.name,
                        "count": len(own),
                        **_means(metrics, own),
                        "gain": _gains(metrics, own),
                        "rising": _rising(metrics, own),
                    }
                )
    return table


def _means(metrics: Sequence[Metric], rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    def over(side: Callable[[Row], Mapping[str, float]]) -> dict[str, float]:
        known = [metric.name for metric in metrics if all(metric.name in side(row) for row in rows)]
        return {name: mean(side(row)[name] for row in rows) for name in known}

    return {"input": over(lambda row: row.input), "output": over(lambda row: row.output)}


def _gains(metrics: Sequence[Metric], rows: Sequence[Row]) -> dict[str, float]:
    """Mean change from input to output; 0 where a perfect picture stayed perfect."""

    def change(row: Row, name: str) -> float:
        before, after = row.input[name], row.output[name]
        return 0.0 if before == after else after - before

    known = [m.name for m in metrics if all(m.name in row.input and m.name in row.output for row in rows)]
    return {name: mean(change(row, name) for row in rows) for name in known}


def _rising(metrics: Sequence[Metric], rows: Sequence[Row]) -> float | None:
    """Share of the films whose first metric gets strictly better with every frame."""
    first = metrics[0]
    films = [row.film.get(first.name) for row in rows]
    known = [film for film in films if film]
    if len(known) != len(rows):
        return None
    return mean(float(rises(film, first.higher_is_better)) for film in known)


def _averages(
    benchmark: Benchmark,
    contenders: Sequence[Contender],
    metrics: Sequence[Metric],
    rows: Sequence[Row],
    groups: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = []
    for one in contenders:
        own = [row for row in rows if row.model == one.name]
        parts = [group for group in groups if group["model"] == one.name]
        if not own:
            continue
        missing = [
            group.name for group in benchmark.groups if group.name not in {part["group"] for part in parts}
        ]
        entry: dict[str, Any] = {
            "model": one.name,
            "count": len(own),
            "groups": len(parts),
            "missing": missing,
        }
        if not missing:
            entry["by_images"] = _means(metrics, own)
            entry["by_groups"] = {
                side: {
                    name: mean(part[side][name] for part in parts)
                    for name in parts[0][side]
                    if all(name in part[side] for part in parts)
                }
                for side in ("input", "output")
            }
        table.append(entry)
    return table


def _not_applicable(benchmark: Benchmark, rows: Sequence[Row]) -> list[dict[str, str]]:
    pairs = dict.fromkeys(
        (row.model, row.group) for row in rows if not row.applies and not _is_anchor(row.model)
    )
    why = "it needs to be told something that is not known of this group's inputs"
    return [{"model": model, "group": group, "why": why} for model, group in pairs]


def _undefined(metrics: Sequence[Metric], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Where a metric has a value for some pictures of a group only: it is then averaged over none of them."""
    table: list[dict[str, Any]] = []
    for model, group in dict.fromkeys((row.model, row.group) for row in rows):
        own = [row for row in rows if (row.model, row.group) == (model, group)]
        for metric in metrics:
            known = sum(metric.name in row.output for row in own)
            if 0 < known < len(own):
                table.append(
                    {"model": model, "group": group, "metric": metric.name, "of": len(own), "defined": known}
                )
    return table


def _group_names(benchmark: Benchmark) -> list[str]:
    """Of its groups and, where there are several, of all of them together."""
    names = [group.name for group in benchmark.groups]
    return [*names, ALL] if len(names) > 1 else names


def _curves(benchmark: Benchmark, metrics: Sequence[Metric], rows: Sequence[Row]) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = []
    models = dict.fromkeys(row.model for row in rows)
    names = [group.name for group in benchmark.groups]
    for group in _group_names(benchmark):
        for model in models:
            own = [row for row in rows if row.model == model and group in (row.group, ALL) and row.film]
            if group == ALL and {row.group for row in own} != set(names):
                continue
            for metric in metrics:
                films = [row.film[metric.name] for row in own if metric.name in row.film]
                if not films or len(films) != len(own):
                    continue
                found = curve(films, metric.higher_is_better, photos=[row.name for row in own])
                steps = len(found.mean) - 1
                table.append(
                    {
                        "group": group,
                        "model": model,
                        "metric": metric.name,
                        "taus": [index / steps for index in range(steps + 1)],
                        "mean": list(found.mean),
                        "low": list(found.low),
                        "high": list(found.high),
                        "spearman": {"rho": found.trend.rho, "p": found.trend.p},
                        "improved_p": found.trend.improved,
                        "kinks": list(found.kinks),
                        "images": found.images,
                        "replaced": found.replaced,
                    }
                )
    return table


def _anchors(benchmark: Benchmark, metrics: Sequence[Metric], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What needs no model: the input itself, the ideal way, and a latent backbone's own ceiling."""
    table: list[dict[str, Any]] = []
    for group in benchmark.groups:
        own = [row for row in rows if row.group == group.name]
        films = [row for row in own if row.model == TARGET and row.film]
        if not any(row.film for row in own):
            continue
        inputs = {row.name: row.input for row in own if row.input}
        ceilings = [row for row in own if row.model.startswith(ROUND_TRIP) and row.output]
        for metric in metrics:
            known = [values[metric.name] for values in inputs.values() if metric.name in values]
            if known and metric.cheap:
                anchor = {"group": group.name, "metric": metric.name}
                table.append({**anchor, "label": "input vs truth", "values": [mean(known)]})
                ways = [row.film[metric.name] for row in films if metric.name in row.film]
                if ways:
                    values = list(curve(ways, metric.higher_is_better).mean)
                    table.append({**anchor, "label": "target trajectory vs truth", "values": values})
                for label in dict.fromkeys(row.model for row in ceilings):
                    those = [row for row in ceilings if row.model == label]
                    reached = [row.output[metric.name] for row in those]
                    table.append({**anchor, "label": f"{label} vs truth", "values": [mean(reached)]})
                    ways = [row.film[metric.name] for row in those if metric.name in row.film]
                    if ways and len(ways) == len(those):
                        values = list(curve(ways, metric.higher_is_better).mean)
                        told = (
                            f"{ROUND_TRIP} of the target trajectory{label.removeprefix(ROUND_TRIP)} vs truth"
                        )
                        table.append({**anchor, "label": told, "values": values})
    return table


def _published(benchmark: Benchmark, settings: Settings, limit: int | None) -> list[dict[str, Any]]:
    told: dict[str, Any] = {
        "conventions": [one.name for one in benchmark.conventions],
        "averaging": benchmark.averaging,
        "synthetic": benchmark.synthetic,
        "quantised": benchmark.quantised,
    }

    def fewer(group: str | None) -> bool:
        return limit is not None or (group is None and benchmark.partial)

    return [
        {**asdict(cell), "differences": list(differences(cell, **told, limited=fewer(cell.group)))}
        for cell in cells(benchmark.name)
    ]
