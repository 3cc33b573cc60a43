"""One model against another on the same cases with the same seeds: mean difference, interval, test."""

import math
from collections.abc import Sequence
from typing import Any

from unfade.evaluation.contender import Contender
from unfade.evaluation.curves import curve
from unfade.evaluation.journal import Row
from unfade.evaluation.metrics.metric import Metric


def paired(
    groups: Sequence[str],
    contenders: Sequence[Contender],
    metrics: Sequence[Metric],
    rows: Sequence[Row],
    whole: str = "all",
) -> list[dict[str, Any]]:
    """Every further model minus the first one, by group and metric.

    Args:
        groups: names.
        contenders: peers among them are left out.
        metrics: what is compared.
        rows: of all of them; cases that one of both lacks, or with an infinite value, don't count.
        whole: the name of a group that stands for all of them.

    Returns:
        For each pair: "group", "model", "against", "metric", the "mean" difference of the results with its 95 %
        bootstrap interval "low" and "high" over photos, the two-sided "p" of there being none (Wilcoxon 1945, paired by
        photo; NaN below six photos or without any difference), "photos", and "frames": the mean difference of each
        frame of the film, empty where films were not judged.
    """
    models = [one.name for one in contenders if one.kind == "model"]
    table: list[dict[str, Any]] = []
    for model in models[1:]:
        for group in groups:
            for metric in metrics:
                pairs = _pairs(rows, None if group == whole else group, models[0], model, metric.name)
                if pairs:
                    told = {"group": group, "model": model, "against": models[0], "metric": metric.name}
                    table.append({**told, **_difference(pairs, metric.name)})
    return table


def _pairs(
    rows: Sequence[Row], group: str | None, first: str, other: str, metric: str
) -> list[tuple[Row, Row]]:
    """(first, other) for every case of a group, or of all of them."""
    own = [row for row in rows if group in (None, row.group) and metric in row.output]
    found = {(row.group, row.name): row for row in own if row.model == first}
    return [
        (found[row.group, row.name], row)
        for row in own
        if row.model == other
        and (row.group, row.name) in found
        and math.isfinite(row.output[metric])
        and math.isfinite(found[row.group, row.name].output[metric])
    ]


def _difference(pairs: Sequence[tuple[Row, Row]], metric: str) -> dict[str, Any]:
    photos = [row.name for row, _ in pairs]
    last = curve([[other.output[metric] - row.output[metric]] for row, other in pairs], photos=photos)
    films = [
        [b - a for a, b in zip(row.film[metric], other.film[metric], strict=True)]
        for row, other in pairs
        if metric in row.film and metric in other.film
    ]
    whole = len(films) == len(pairs) and all(math.isfinite(value) for film in films for value in film)
    return {
        "mean": last.mean[0],
        "low": last.low[0] if last.low else math.nan,
        "high": last.high[0] if last.high else math.nan,
        "p": _p_value(pairs, metric),
        "photos": len(set(photos)),
        "frames": list(curve(films, photos=photos).mean) if whole else [],
    }


def _p_value(pairs: Sequence[tuple[Row, Row]], metric: str) -> float:
    from scipy.stats import wilcoxon

    by_photo: dict[str, list[float]] = {}
    for row, other in pairs:
        by_photo.setdefault(row.name, []).append(other.output[metric] - row.output[metric])
    means = [sum(values) / len(values) for values in by_photo.values()]
    if len(means) < 6 or not any(means):
        return math.nan
    return float(wilcoxon(means).pvalue)  # type: ignore[attr-defined]
