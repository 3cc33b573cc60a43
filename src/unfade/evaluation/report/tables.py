"""The tables of the page as data: what stands in a cell, what it sorts by, what it says when pointed at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from unfade.evaluation.report.figures import (
    MISSING,
    decimals,
    difference,
    finite,
    fixed,
    number,
    probability,
    short,
)
from unfade.evaluation.report.published import Note, Notes

_NO_VALUES: Mapping[str, Mapping[str, float]] = {"input": {}, "output": {}}


@dataclass(frozen=True, slots=True)
class Column:
    """A column that can be sorted.

    Attributes:
        label: its header.
        kind: what its cells sort by.
        first: direction of the first click, the one that brings the interesting end up.
        span: a header above neighbouring columns that share it.
        hint, tag: a longer description; a small addition to the label.
        foreign: whether the column holds somebody else's numbers.
    """

    label: str
    kind: Literal["text", "number"] = "number"
    first: Literal["asc", "desc"] = "desc"
    span: str = ""
    hint: str = ""
    tag: str = ""
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: what stands in it.
        value: what it sorts by; None sorts last.
        gain: signed change against the input, as text.
        tone: -1 (much worse than the input) to 1 (much better), for the colour; None without one.
        best: whether no model of ours is better there.
        sub, tag: a second, smaller line; a small addition.
        note: a footnote.
        hint: the whole story, shown when pointed at.
    """

    text: str = MISSING
    value: float | str | None = None
    gain: str = ""
    tone: float | None = None
    best: bool = False
    sub: str = ""
    tag: str = ""
    note: Note | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        name: its id in the page and in deep links.
        caption: what it shows.
        columns: the first holds the row headers.
        rows, foot: cells by row; the foot is not sorted.
        notes: footnotes below it.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    foot: tuple[tuple[Cell, ...], ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def spans(self) -> list[tuple[str, int]]:
        """The upper header: text and number of columns, empty texts where there is none."""
        spans: list[tuple[str, int]] = []
        for column in self.columns:
            if column.span and spans and spans[-1][0] == column.span:
                spans[-1] = (column.span, spans[-1][1] + 1)
            else:
                spans.append((column.span, 1))
        return spans


def summary_table(report: Mapping[str, Any], timing: Mapping[str, Any]) -> Table:
    """Models by metrics, averaged over images and over groups, with the seconds a megapixel takes."""
    metrics, models = report["metrics"], {entry["name"]: entry for entry in report["models"]}
    averages = {entry["model"]: entry for entry in report["averages"]}
    names = [name for name in models if name in averages]
    sides = _sides(report)
    columns = [
        Column("Model", "text", "asc"),
        Column("Pictures", hint="pictures the averages are taken over"),
    ]
    counts = [averages[name]["count"] for name in names]
    lines: dict[str, list[Cell]] = {
        name: [_model_cell(models[name]), _count(averages[name], counts)] for name in names
    }
    foot = [Cell("Input", sub="as degraded"), Cell("")]
    for metric in metrics:
        for side in sides:
            first = "desc" if metric["higher_is_better"] else "asc"
            label = (
                {"by_images": "over images", "by_groups": "over groups"}[side] if len(sides) > 1 else "mean"
            )
            columns.append(
                Column(label, first=first, span=_headline(metric), hint=metric.get("convention", ""))
            )
            values = [averages[name].get(side, _NO_VALUES) for name in names]
            before = [number(one["input"].get(metric["name"])) for one in values]
            after = [number(one["output"].get(metric["name"])) for one in values]
            for name, cell in zip(names, _judged(metric, before, after, counts), strict=True):
                lines[name].append(cell)
            foot.append(_common(before, decimals(metric["unit"], after)))
    seconds = {
        entry["name"]: number(entry.get("seconds_per_megapixel")) for entry in timing.get("models", ())
    }
    columns.append(Column("s / MP", first="asc", span="Cost", hint="seconds per megapixel, on this machine"))
    columns.append(Column("ratio", first="asc", span="Cost", hint=f"time against {next(iter(models), '')}"))
    base = seconds.get(next(iter(models), ""))
    for name in names:
        taken = seconds.get(name)
        ratio = taken / base if taken is not None and base else None
        lines[name].append(Cell(short(taken), taken))
        lines[name].append(Cell(MISSING if ratio is None else f"{short(ratio)}×", ratio))
    foot += [Cell(""), Cell("")]
    return Table(
        "summary",
        "All models",
        tuple(columns),
        tuple(map(tuple, lines.values())),
        (tuple(foot),) if names else (),
    )


def group_table(report: Mapping[str, Any], metric: Mapping[str, Any], name: str) -> Table:
    """Groups by models for one metric, with published numbers beside ours."""
    key, notes = metric["name"], Notes(name, bool(report["benchmark"].get("synthetic")))
    models = [entry["name"] for entry in report["models"]]
    measured = {(entry["group"], entry["model"]): entry for entry in report["groups"]}
    groups = list(dict.fromkeys(entry["group"] for entry in report["groups"]))
    told = [entry for entry in report.get("published", ()) if beside(entry, report["metrics"]) == key]
    systems, printed = _placed(told, report)
    columns = [Column("Group", "text", "asc"), Column("n", hint="pictures in the group"), Column("Input")]
    first = "desc" if metric["higher_is_better"] else "asc"
    kinds = {entry["name"]: entry for entry in report["models"]}
    columns += [
        Column(model, first=first, tag="told" if _told(kinds[model]) else "", hint=_told(kinds[model]))
        for model in models
    ]
    columns += [Column(system, first=first, tag="published", foreign=True) for system, _ in systems]
    why = {(entry["group"], entry["model"]): entry["why"] for entry in report.get("not_applicable", ())}
    places = decimals(metric["unit"], [entry["output"].get(key) for entry in report["groups"]])

    def line(label: str, row: str, ours: Sequence[Mapping[str, Any] | None]) -> tuple[Cell, ...]:
        before = [None if one is None else number(one["input"].get(key)) for one in ours]
        after = [None if one is None else number(one["output"].get(key)) for one in ours]
        counts = [0 if one is None else one["count"] for one in ours]
        cells = _judged(metric, before, after, counts, places)
        for index in range(len(ours)):
            reason = why.get((row, models[index]))
            if reason is not None:
                cells[index] = replace(cells[index], text="n/a", hint=reason, value=None, sub="")
            elif 0 < counts[index] < max(counts):
                cells[index] = replace(cells[index], sub=f"only {counts[index]} of {max(counts)}")
        count = max(counts, default=0) or None
        head = Cell(label, label), Cell(MISSING if count is None else str(count), count)
        return *head, _common(before, places), *cells, *map(lambda system: foreign(row, system), systems)

    def foreign(row: str, system: tuple[str, int]) -> Cell:
        entry = printed.get((row, system))
        if entry is None:
            return Cell()
        note = notes.of(entry)
        value = number(entry["value"])
        return Cell(fixed(value, places), value, note=note, hint=note.hint)

    others = [row for row in dict.fromkeys(row for row, _ in printed) if row not in groups]
    rows = [line(group, group, [measured.get((group, model)) for model in models]) for group in groups]
    rows += [line(row, row, [None] * len(models)) for row in others if row not in ("by_images", "by_groups")]
    foot: list[tuple[Cell, ...]] = []
    averages = {entry["model"]: entry for entry in report["averages"]}
    for side, label in (("by_images", "Mean over images"), ("by_groups", "Mean over groups")):
        if len(groups) > 1 or any(row == side for row, _ in printed):
            ours = [
                {**averages[model].get(side, _NO_VALUES), "count": averages[model]["count"]}
                if model in averages
                else None
                for model in models
            ]
            foot.append(line(label, side, ours))
    caption = f"{_headline(metric)} by group"
    return Table(name, caption, tuple(columns), tuple(rows), tuple(foot), notes.all())


def other_numbers(report: Mapping[str, Any]) -> Table | None:
    """Published numbers in metrics that the run did not measure; None if there are none."""
    entries = [entry for entry in report.get("published", ()) if beside(entry, report["metrics"]) is None]
    if not entries:
        return None
    notes = Notes("published", bool(report["benchmark"].get("synthetic")))
    rows = []
    for entry in entries:
        note = notes.of(entry)
        group = entry["group"] or "all"
        texts = [Cell(text, text) for text in (entry["system"], group, entry["metric"])]
        value = number(entry["value"])
        rows.append((*texts, Cell(str(entry["value"]), value, note=note, hint=note.hint)))
    columns = (
        *(Column(label, "text", "asc") for label in ("System", "Group", "Metric")),
        Column("Published"),
    )
    caption = "Published numbers in metrics not measured here"
    return Table("published", caption, columns, tuple(rows), notes=notes.all())


def paired_table(report: Mapping[str, Any]) -> Table | None:
    """Models against the first one, case by case; None where there is but one model."""
    entries = report.get("paired", ())
    if not entries:
        return None
    metrics = {metric["name"]: metric for metric in report["metrics"]}
    rows: list[tuple[Cell, ...]] = []
    for entry in entries:
        metric = metrics[entry["metric"]]
        figures = [number(entry[name]) for name in ("mean", "low", "high")]
        places = decimals(metric["unit"], figures)
        mean, low, high = (fixed(figure, places, signed=True) for figure in figures)
        sure = None not in figures and (figures[1] or 0) * (figures[2] or 0) > 0
        texts = [Cell(text, text) for text in (entry["model"], entry["group"], metric["label"])]
        hint = f"95 % interval {low} to {high}; {entry['photos']} photos"
        interval = Cell(f"{low} to {high}" if figures[1] is not None else MISSING, figures[1])
        told = probability(entry["p"]) if number(entry["p"]) is not None else MISSING
        rows.append(
            (*texts, Cell(mean, figures[0], best=sure, hint=hint), interval, Cell(told, number(entry["p"])))
        )
    columns = (
        *(Column(label, "text", "asc") for label in ("Model", "Group", "Metric")),
        Column("Difference", hint="bold where the interval leaves zero out"),
        Column("95 % interval"),
        Column("p", first="asc", hint="Wilcoxon, paired by photo, two-sided"),
    )
    caption = f"Against {entries[0]['against']}, on the same pictures with the same seeds"
    return Table("paired", caption, columns, tuple(rows))


def _sides(report: Mapping[str, Any]) -> list[str]:
    """The averages worth a column: the benchmark's own first; one where the other can't differ."""
    own, other = "by_images", "by_groups"
    if report["benchmark"].get("averaging") == "groups":
        own, other = other, own
    groups = {entry["group"] for entry in report["groups"]}
    return [own, other] if len(groups) > 1 else [own]


def beside(entry: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Which of our metrics a published number stands beside; None if there is none.

    A paper says PSNR where we say by which convention: then it is the metric of that convention, or, where the
    convention is unknown or not ours, the first of that kind. Its differences say so.
    """
    names, kind = [metric["name"] for metric in metrics], str(entry["metric"])
    wanted = (kind, f"{kind}-{entry.get('convention') or ''}")
    alike = [name for name in names if name.startswith(f"{kind}-")]
    return next((name for name in wanted if name in names), next(iter(alike), None))


def _placed(
    entries: Sequence[Mapping[str, Any]], report: Mapping[str, Any]
) -> tuple[list[tuple[str, int]], dict[tuple[str, tuple[str, int]], Mapping[str, Any]]]:
    """The columns of published numbers and what stands in them.

    A system that several tables list with different figures has one column for each.
    """
    own = "by_groups" if report["benchmark"].get("averaging") == "groups" else "by_images"
    sides = {"images": "by_images", "groups": "by_groups"}
    placed: dict[tuple[str, tuple[str, int]], Mapping[str, Any]] = {}
    for entry in entries:
        row = entry["group"] or sides.get(entry.get("averaging") or "", own)
        copy = 0
        while (row, (entry["system"], copy)) in placed:
            copy += 1
        placed[row, (entry["system"], copy)] = entry
    return sorted({column for _, column in placed}, key=_first_met(placed)), placed


def _first_met(
    placed: Mapping[tuple[str, tuple[str, int]], Any],
) -> Callable[[tuple[str, int]], tuple[int, int]]:
    systems = list(dict.fromkeys(system for _, (system, _) in placed))
    return lambda column: (systems.index(column[0]), column[1])


def _judged(
    metric: Mapping[str, Any],
    before: Sequence[float | None],
    after: Sequence[float | None],
    counts: Sequence[int],
    places: int | None = None,
) -> list[Cell]:
    """One cell a model: its value, its gain over the input, the best of those over all pictures marked."""
    places = decimals(metric["unit"], after) if places is None else places
    sign = 1 if metric["higher_is_better"] else -1
    gains = [difference(*pair) for pair in zip(after, before, strict=True)]
    largest = max((abs(gain) for gain in finite(gains)), default=0.0)
    whole = [count == max(counts, default=0) for count in counts]
    known = [sign * value for value, full in zip(after, whole, strict=True) if full and value is not None]
    best = fixed(sign * max(known), places) if len(known) > 1 else None
    cells: list[Cell] = []
    for value, start, gain, full in zip(after, before, gains, whole, strict=True):
        if value is None:
            cells.append(Cell())
            continue
        text, change = fixed(value, places), fixed(gain, places, signed=True)
        better = None if gain is None else sign * gain
        tone = None if better is None or not largest else max(-1.0, min(1.0, better / largest))
        verdict = "" if better is None else "better" if better > 0 else "worse" if better < 0 else "unchanged"
        hint = f"input {fixed(start, places)}, restored {text}, change {change}"
        hint += f" ({verdict})" if verdict else ""
        cells.append(
            Cell(text, value, "" if gain is None else change, tone, full and text == best, hint=hint)
        )
    return cells


def _common(values: Sequence[float | None], places: int) -> Cell:
    """The inputs' value; a range where models were given different inputs or pictures."""
    texts = list(dict.fromkeys(fixed(value, places) for value in sorted(v for v in values if v is not None)))
    lowest = min((value for value in values if value is not None), default=None)
    return Cell(" to ".join([texts[0], texts[-1]] if len(texts) > 1 else texts) or MISSING, lowest)


def _model_cell(model: Mapping[str, Any]) -> Cell:
    hint = model.get("source") or ""
    return Cell(model["name"], model["name"], tag=model.get("kind", ""), sub=_told(model), hint=hint)


def _told(model: Mapping[str, Any]) -> str:
    return f"told {model['told']}" if model.get("told") else ""


def _count(average: Mapping[str, Any], counts: Sequence[int]) -> Cell:
    fewer = average["count"] < max(counts)
    return Cell(str(average["count"]), average["count"], sub=f"of {max(counts)}" if fewer else "")


def _headline(metric: Mapping[str, Any]) -> str:
    unit = f" in {metric['unit']}" if metric.get("unit") else ""
    return f"{metric['label']}{unit} {'↑' if metric['higher_is_better'] else '↓'}"
