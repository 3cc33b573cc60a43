"""The page: one HTML file that needs no network, in the reader's light or dark."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from unfade.evaluation.report.exhibits import Exhibit
from unfade.evaluation.report.figures import decimals, difference, fixed, number, short
from unfade.evaluation.report.pictures import Plate, error_gradient, plates
from unfade.evaluation.report.plots import cost_plot, curve_plots, model_styles
from unfade.evaluation.report.tables import Cell, group_table, other_numbers, paired_table, summary_table

PICTURE_BYTES = 5 * 1024 * 1024


def render_page(
    report: Mapping[str, Any],
    timing: Mapping[str, Any],
    exhibits: Sequence[Exhibit] = (),
    picture_bytes: int = PICTURE_BYTES,
) -> str:
    """The HTML of a run.

    A table can be linked to as sorted: `#sort=TABLE:COLUMN:asc`, columns counted from 0, e.g. `#sort=summary:2:desc`.

    Args:
        report, timing: as `json_safe` gives them.
        exhibits: in the order in which they are to stand.
        picture_bytes: what the pictures may take; they are stored smaller, and at last left out, to keep to it.
    """
    import jinja2

    folder = files("unfade.evaluation.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = short
    template = environment.from_string((folder / "page.html.jinja").read_text(encoding="utf-8"))
    metrics, kinds = report["metrics"], {entry["name"]: entry for entry in report["metrics"]}
    by_groups = report["benchmark"].get("averaging") == "groups"
    side = "by_groups" if by_groups else "by_images"
    drawn = plates(exhibits, picture_bytes)
    return template.render(
        report={"undefined": (), "verdicts": (), **report},
        shifts=shifts(report),
        benchmark=report["benchmark"],
        timing=timing,
        counts=counts(report),
        summary=summary_table(report, timing),
        cost=cost_plot(report, timing, metrics[0], side) if metrics else None,
        groups=[group_table(report, metric, f"groups-{index}") for index, metric in enumerate(metrics)],
        not_applicable=not_applicable(report),
        others=other_numbers(report),
        paired=paired_table(report),
        curves=[(metric, plots) for metric in metrics if (plots := curve_plots(report, metric))],
        cases=[(plate, change(plate, kinds.get(plate.exhibit.metric))) for plate in drawn],
        left_out=len(exhibits) - len(drawn),
        styles=model_styles(report),
        gradient=error_gradient() if drawn else "",
        style=(folder / "style.css").read_text(encoding="utf-8"),
        script=(folder / "page.js").read_text(encoding="utf-8"),
    )


def counts(report: Mapping[str, Any]) -> str:
    """What was measured, as one sentence."""
    pictures = {(row["group"], row["name"]) for row in report["rows"]}
    groups = {row["group"] for row in report["rows"]}
    frames = sum({(row["group"], row["name"]): row.get("frames", 1) for row in report["rows"]}.values())
    footage = f" ({frames:,} frames)" if frames != len(pictures) else ""
    what = _many(len(pictures), "picture" if not footage else "clip")
    return (
        f"{what}{footage} in {_many(len(groups), 'group')}, "
        f"{_many(len(report['models']), 'model')}, {_many(len(report['metrics']), 'metric')}"
    )


def not_applicable(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Model, why, and the groups it could not be run on, as one text."""
    groups: dict[tuple[str, str], list[str]] = {}
    for entry in report.get("not_applicable", ()):
        groups.setdefault((entry["model"], entry["why"]), []).append(entry["group"])
    return [(model, why, ", ".join(names)) for (model, why), names in groups.items()]


def shifts(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Model, how its results lay beside the truth, and the group; nothing where nothing was aligned."""
    found: list[tuple[str, str, str]] = []
    for entry in report.get("shifts", ()):
        places = "; ".join(
            f"{_many(place['clips'], 'clip')} {_beside(place['down'], place['right'])}"
            for place in entry["places"]
        )
        rest = f"{fixed(entry['rest_down'], 2, signed=True)} down, {fixed(entry['rest_right'], 2, signed=True)} right"
        found.append((entry["model"], f"{places}; about {rest} was left on average", entry["group"]))
    return found


def _beside(down: int, right: int) -> str:
    ways = [
        f"{abs(pixels)} px {words[pixels > 0]}"
        for pixels, words in ((down, ("above", "below")), (right, ("left", "right")))
        if pixels
    ]
    return " and ".join(ways) or "in place"


def change(plate: Plate, metric: Mapping[str, Any] | None) -> tuple[str, Cell]:
    """A case's metric by label, and its value after restoring with the change against the input."""
    exhibit = plate.exhibit
    before, after = number(exhibit.input_value), number(exhibit.output_value)
    gain = difference(after, before)
    unit, sign = ("", 1) if metric is None else (metric["unit"], 1 if metric["higher_is_better"] else -1)
    places = decimals(unit, [before, after])
    tone = None if gain is None else float((sign * gain > 0) - (sign * gain < 0))
    text = f"{fixed(before, places)} → {fixed(after, places)}{' ' + unit if unit else ''}"
    shown = "" if gain is None else fixed(gain, places, signed=True)
    return (exhibit.metric if metric is None else metric["label"]), Cell(text, after, shown, tone)


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
