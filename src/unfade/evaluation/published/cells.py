"""Numbers that papers print, as data with their source, and the arithmetic that checks them.

The tables lie in `tables/*.json`, one file a paper, each laid out as the paper prints it: rows of one metric, one
column a system. A value is

- a number;
- a number in quotes, `"2492"`, where the text at hand lost the decimal point and nothing else: it is put back, and
  the cell's caveat says so;
- an object with `value`, `caveat` and, where the digits themselves are doubtful or lost, `text` (what stands there)
  and `damaged`. Such a cell is kept and shown but enters no average; with no `value` it is only listed by `illegible`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from unfade.core import UsageError

Averaging = Literal["images", "groups"]
Rule = Literal["images", "groups", "either", "neither", "unknown"]

UNKNOWN = "unknown"
_FULL_REFERENCE = ("psnr", "ssim")
_DECIMALS = {"psnr": 2, "ssim": 4}
_OVER = {"images": "over images alike", "groups": "over groups alike"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of one printed table.

    Attributes:
        system: what was measured; variants carry the paper's own words for what was left out or changed.
        benchmark: name in `unfade.evaluation.benchmarks`.
        group: of the benchmark; None for the whole of it.
        metric: in lower case: psnr (dB), ssim, lpips, niqe, musiq, clip-iqa, dover, md-vqa.
        value: as printed.
        convention: name of the `Convention` it is counted by; "unknown" where neither paper nor code tells.
        averaging: how the mean was taken: over images, or over groups; None where nobody says. A group's own cell
            is a mean over its images.
        quantised: whether the inputs were rounded to 8 bits; None where nobody says.
        lossy: whether the results were read back from a lossy video file before they were compared.
        damaged: whether digits are doubtful in the text it was read from.
        paper, table: where it is printed.
        caveat: what to know before setting another number beside it.
    """

    system: str
    benchmark: str
    group: str | None
    metric: str
    value: float
    convention: str
    averaging: Averaging | None
    quantised: bool | None
    lossy: bool
    damaged: bool
    paper: str
    table: str
    caveat: str

    @property
    def source(self) -> str:
        """Paper and table in one phrase."""
        return f"{self.paper}, {self.table[0].lower()}{self.table[1:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recomputed:
    """A printed average beside the two that its cells give.

    Attributes:
        system, metric: whose.
        printed: as the paper has it; None where it is not legible.
        micro, macro: mean over images (groups weighted by their count) and over groups alike; None where a cell is
            missing or damaged.
        rule: which of the two the printed one agrees with, to less than one unit of its last digit (some papers round,
            some cut off).
        note: all of that in a sentence or two.
    """

    system: str
    metric: str
    printed: float | None
    micro: float | None
    macro: float | None
    rule: Rule
    note: str


def cells(benchmark: str, group: str | None = None, metric: str | None = None) -> tuple[Cell, ...]:
    """The published cells of a benchmark, in the order of their tables; none for a benchmark nobody printed.

    Args:
        benchmark, metric: None for a metric means every one.
        group: None means every group and the averages over all (whose own `group` is None).
    """
    return tuple(
        cell
        for cell in _read()[0]
        if cell.benchmark == benchmark and group in (None, cell.group) and metric in (None, cell.metric)
    )


def every_cell() -> tuple[Cell, ...]:
    """All published cells, paper after paper."""
    return _read()[0]


def illegible() -> tuple[str, ...]:
    """A line for each printed cell that no reading could be given to: where it stands and what the text has there."""
    return _read()[1]


def group_average(chosen: Iterable[Cell], counts: Mapping[str, int] | None = None) -> float:
    """The mean of one system's groups: alike without `counts` (macro), weighted by images with them (micro).

    Args:
        chosen: cells of one system, one metric and one table, one a group.
        counts: images in each group.

    Raises:
        UsageError: cells of several systems, metrics or tables; a group twice; no cell; a group without a count;
            a damaged cell.
    """
    chosen = tuple(chosen)
    kinds = {(cell.system, cell.metric, cell.paper, cell.table) for cell in chosen}
    groups = [cell.group for cell in chosen if cell.group is not None]
    if len(kinds) != 1 or len(set(groups)) != len(chosen):
        raise UsageError(
            "an average is of one cell for each group, all of one system, one metric and one table"
        )
    for cell in chosen:
        if cell.damaged:
            raise UsageError(f"{_place(cell)} is damaged in the text and enters no average: {cell.caveat}")
    if counts is None:
        return sum(cell.value for cell in chosen) / len(chosen)
    missing = [group for group in groups if group not in counts]
    if missing:
        raise UsageError(f"no count of images is given for {', '.join(missing)}")
    weights = [counts[group] for group in groups]
    return sum(cell.value * weight for cell, weight in zip(chosen, weights, strict=True)) / sum(weights)


def recomputed_averages(
    system: str, counts: Mapping[str, int], benchmark: str = "foundir"
) -> tuple[Recomputed, ...]:
    """PSNR's and SSIM's printed averages of a system beside those its cells give.

    Args:
        system: as in `Cell.system`.
        counts: images in each group of the benchmark; an average needs a sound cell for every one of them.

    Raises:
        UsageError: no such system has cells of the benchmark's groups.
    """
    own = [cell for cell in cells(benchmark) if cell.system == system]
    if not any(cell.group is not None for cell in own):
        known = dict.fromkeys(cell.system for cell in cells(benchmark) if cell.group is not None)
        raise UsageError(
            f"no published groups of {benchmark} for {system!r}; there is {', '.join(known) or 'none'}"
        )
    return tuple(
        _recomputed(system, metric, [cell for cell in own if cell.metric == metric], counts)
        for metric in _FULL_REFERENCE
    )


def _recomputed(system: str, metric: str, own: Sequence[Cell], counts: Mapping[str, int]) -> Recomputed:
    overall = next((cell for cell in own if cell.group is None), None)
    sound = {cell.group: cell for cell in own if cell.group is not None and not cell.damaged}
    unsound = [group for group in counts if group not in sound]
    printed = None if overall is None or overall.damaged else overall.value
    micro = macro = None
    if not unsound:
        parts = [sound[group] for group in counts]
        micro, macro = group_average(parts, counts), group_average(parts)
    digits = _DECIMALS[metric]
    rule = _rule(printed, micro, macro, 10.0**-digits)

    says = "prints no legible average" if printed is None else f"prints {printed:.{digits}f}"
    if micro is None or macro is None:
        gives = f"it can't be recomputed, {len(unsound)} of {len(counts)} cells being damaged or lost"
    else:
        gives = (
            f"its cells give {micro:.{digits}f} {_OVER['images']} and {macro:.{digits}f} {_OVER['groups']}"
        )
    verdict = {
        "images": f": the printed one is {_OVER['images']}",
        "groups": f": the printed one is {_OVER['groups']}",
        "either": ": the printed one fits both",
        "neither": ": the printed one is neither",
        "unknown": "",
    }[rule]
    remark = f" ({overall.caveat})" if overall is not None and rule == "neither" and overall.caveat else ""
    note = f"{system} {says} {metric.upper()}; {gives}{verdict}{remark}."
    return Recomputed(
        system=system, metric=metric, printed=printed, micro=micro, macro=macro, rule=rule, note=note
    )


def _rule(printed: float | None, micro: float | None, macro: float | None, unit: float) -> Rule:
    if printed is None or micro is None or macro is None:
        return "unknown"
    by_images, by_groups = abs(micro - printed) < unit, abs(macro - printed) < unit
    if by_images and by_groups:
        return "either"
    return "images" if by_images else "groups" if by_groups else "neither"


def differences(
    cell: Cell,
    *,
    conventions: Sequence[str],
    averaging: str,
    synthetic: bool,
    quantised: bool,
    limited: bool,
) -> tuple[str, ...]:
    """How a cell's protocol differs from the run it is set beside: a sentence for each point, none if nothing is known.

    Args:
        conventions: names of those the run counted PSNR and SSIM by.
        averaging: of the run's headline number, "images" or "groups".
        synthetic: whether the run's pictures were made in place of the benchmark's own.
        quantised: whether the run's inputs were rounded to 8 bits.
        limited: whether the run took fewer pictures than the benchmark has.
    """
    found: list[str] = []
    if synthetic:
        found.append(
            "This run's pictures are synthetic, not the benchmark's own: the numbers are not comparable."
        )
    if limited:
        found.append("This run took fewer pictures than the paper.")
    name = cell.metric.upper()
    if cell.metric not in _FULL_REFERENCE:
        found.append(f"The paper names neither implementation nor weights of its {name}.")
    elif cell.convention == UNKNOWN:
        found.append(f"The paper does not say by which convention it counts {name}.")
    elif cell.convention not in conventions:
        run = " and ".join(conventions) or "no convention"
        found.append(f"The paper counts {name} by the convention {cell.convention!r}, this run by {run}.")
    if cell.group is None and cell.averaging is None:
        found.append("Nothing tells by which rule the paper averaged.")
    elif cell.group is None and cell.averaging != averaging:
        theirs, ours = (_OVER.get(rule or "", rule) for rule in (cell.averaging, averaging))
        found.append(f"The paper averages {theirs}, this run {ours}.")
    if cell.quantised is not None and cell.quantised != quantised:
        theirs, ours = (
            "rounded to 8 bits" if yes else "not rounded to 8 bits" for yes in (cell.quantised, quantised)
        )
        found.append(f"The paper's inputs were {theirs}, this run's were {ours}.")
    if cell.lossy:
        found.append("The paper's results were read back from a lossy mp4, as its released script does.")
    if cell.damaged:
        found.append("The printed value is doubtful: it was misread in the text at hand.")
    return tuple(found)


@cache
def _read() -> tuple[tuple[Cell, ...], tuple[str, ...]]:
    read: list[Cell] = []
    lost: list[str] = []
    folder = files("unfade.evaluation.published") / "tables"
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".json"):
            paper = json.loads(entry.read_text(encoding="utf-8"))
            for table in paper["tables"]:
                for found in _cells_of(paper["paper"], table):
                    (lost if isinstance(found, str) else read).append(found)  # type: ignore[arg-type]
    return tuple(read), tuple(lost)


def _cells_of(paper: str, table: Mapping[str, Any]) -> Iterator[Cell | str]:
    """The cells of a table, and a line for each that can't be read. What a row says goes before what a column says,
    and that before what the table says; caveats add up."""
    for row in table["rows"]:
        for system, entry in zip(table["systems"], row["values"], strict=True):
            column = table.get("of_system", {}).get(system, {})
            said = {**table, **column, **row}
            own: Mapping[str, Any] = entry if isinstance(entry, dict) else {"value": entry}
            value, caveats = own["value"], [own.get("caveat", "")]
            if isinstance(value, str):
                caveats.append(f"the text reads {value!r}, its decimal point lost and put back")
                value = int(value) / 10 ** _DECIMALS[row["metric"]]
            elif own.get("text"):
                caveats.append(f"the text reads {own['text']!r}")
            caveats += [part.get("caveat", "") for part in (row, column, table)]
            caveat = "; ".join(part for part in caveats if part)
            if value is None:
                where = row["group"] or "average"
                yield f"{paper}, {table['table']}: {system}, {where}, {row['metric']}: {caveat}"
                continue
            yield Cell(
                system=system,
                benchmark=said["benchmark"],
                group=row["group"],
                metric=row["metric"],
                value=float(value),
                convention=said["convention"],
                averaging=said.get("averaging") if row["group"] is None else "images",
                quantised=said.get("quantised"),
                lossy=said.get("lossy", False),
                damaged=own.get("damaged", False),
                paper=paper,
                table=table["table"],
                caveat=caveat,
            )


def _place(cell: Cell) -> str:
    return f"{cell.system}, {cell.group or 'average'}, {cell.metric} ({cell.source})"
