"""Tables in the paper's form, and what they say about its trends."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        name: of the method.
        groups: by category, with "result" in dB and perhaps "ssim"; "all" is the mean over all photos.
    """

    name: str
    groups: Mapping[str, Mapping[str, Any]]

    def counted(self, ending: str) -> "Row":
        """The line of figures whose names end so, such as "result_y"."""
        return Row(
            self.name,
            {
                group: {name: figures[f"{name}{ending}"] for name in ("result", "ssim")}
                for group, figures in self.groups.items()
            },
        )

    def less(self, other: "Row", name: str) -> "Row":
        """By how much figures are higher than those of another line."""
        return Row(
            name,
            {
                group: {figure: value - other.groups[group][figure] for figure, value in figures.items()}
                for group, figures in self.groups.items()
            },
        )


def tables_in_both(
    title: str,
    rows: Sequence[Row],
    categories: Sequence[str],
    gains: Mapping[str, tuple[str, str]] | None = None,
) -> str:
    """A table for each of the two ways of counting, since the paper does not say which one is its own.

    Args:
        title: what is compared.
        rows: with "result", "ssim", "result_y" and "ssim_y".
        categories: columns.
        gains: lines at the end, by name: the row that gained, and the one it gained on.
    """
    tables: list[str] = []
    for way, ending in (("over RGB", ""), ("on luma (BT.601, 16 to 235)", "_y")):
        told = {row.name: row.counted(ending) for row in rows}
        differences = [told[row].less(told[other], name) for name, (row, other) in (gains or {}).items()]
        tables.append(
            markdown_table(f"{title}: PSNR in dB and SSIM {way}", told.values(), categories, differences)
        )
    return "\n".join(tables)


def markdown_table(
    title: str, rows: Iterable[Row], categories: Sequence[str], differences: Iterable[Row] = ()
) -> str:
    """Methods down, categories across, the mean over all photos and over categories at the end; the best is bold.

    Args:
        title: a line above, or nothing.
        rows: of the table.
        categories: columns; "all" becomes the two averages.
        differences: lines at the end, between other lines and so with a sign and never the best.
    """
    rows = list(rows)
    columns = [name for name in categories if name != "all"]
    lines = [title, ""] if title else []
    lines.append("| method | " + " | ".join([*columns, "average", "of groups"]) + " |")
    lines.append("| --- |" + " --- |" * (len(columns) + 2))
    table = [_cells(row, columns) for row in rows]
    best = [max(column) for column in zip(*table, strict=True)]
    for row, line in zip(rows, table, strict=True):
        shown = [
            f"**{value:.2f}**" if value == top else f"{value:.2f}"
            for value, top in zip(line, best, strict=True)
        ]
        lines.append(f"| {row.name} | " + " | ".join(shown) + " |")
        lines += _similar(row, columns, ".4f")
    for row in differences:
        signed = (f"{value:+.2f}" for value in _cells(row, columns))
        lines.append(f"| {row.name} | " + " | ".join(signed) + " |")
        lines += _similar(row, columns, "+.4f")
    return "\n".join(lines) + "\n"


def _similar(row: Row, columns: Sequence[str], form: str) -> list[str]:
    """A line of SSIM, where a row has it."""
    if not all("ssim" in row.groups[name] for name in (*columns, "all")):
        return []
    return ["| SSIM | " + " | ".join(f"{value:{form}}" for value in _cells(row, columns, "ssim")) + " |"]


def _cells(row: Row, columns: Sequence[str], figure: str = "result") -> list[float]:
    """A line's figures by category, the mean over all photos, and that over categories."""
    line = [row.groups[name][figure] for name in columns]
    return [*line, row.groups["all"][figure], sum(line) / max(1, len(columns))]


def verdicts(figures: Mapping[str, Any]) -> list[str]:
    """One sentence for each thing the proof was to show and for each trend of the paper, with the figures.

    Args:
        figures: with "drift" ("w/o DC": a summary, "gain" and "gated gain": by category, "taken": the share of
            sequences that the gate corrects), "steps" (summaries by number of steps) and "tables" (rows with "name" and
            "sizes": summaries by crop).
    """
    base, gain, kept = (figures["drift"][name] for name in ("w/o DC", "gain", "gated gain"))
    told: list[str] = []
    for name, group in base.items():
        if name == "all":
            continue
        better = "better" if group["gain"] > 0 else "NOT better"
        rising = _rises([group["input"], *group["frames"]])
        told.append(
            f"{name}: the last frame is {better} than the input ({group['input']:.2f} -> {group['result']:.2f} dB; VAE "
            f"ceiling {group['ceiling']:.2f}); PSNR rises in {rising[0]} of {rising[1]} steps along the frames."
        )
    signs = ", ".join(f"{name} {value:+.2f}" for name, value in gain.items() if name != "all")
    agrees = "agrees" if gain["all"] >= 0.5 else "the sign agrees, the size does not"
    if gain["all"] <= 0:
        agrees = "disagrees"
    told.append(
        f"Drift correction: {gain['all']:+.2f} dB on average ({signs}); the paper has +1.5 dB on average, most in low "
        f"light and blur: {agrees}."
    )
    told.append(
        f"Gated, the correction is taken in {100 * figures['drift']['taken']['all']:.0f} % of the sequences and makes "
        f"{kept['all']:+.2f} dB on average: {_gate(gain['all'], kept['all'])}. The paper has no gate."
    )
    by_steps = {int(steps): group["all"]["result"] for steps, group in figures["steps"].items()}
    best = max(by_steps, key=lambda steps: by_steps[steps])
    told.append(
        f"Steps: {best} of {sorted(by_steps)} give the highest PSNR (the paper uses 50 and reports no other number)."
    )
    paper = {
        "frames": "9 frames best, 5 worst, more than 9 a little worse",
        "curriculum": "coarse to fine better than any single size",
        "trajectory": "no such comparison",
    }
    for table, rows in figures["tables"].items():
        for size in rows[0]["sizes"]:
            order = sorted(rows, key=lambda row: -row["sizes"][size]["all"]["result"])
            ranks = " > ".join(f"{row['name']} ({row['sizes'][size]['all']['result']:.2f})" for row in order)
            told.append(
                f"{table.capitalize()}, judged at {size}: {ranks}. The paper: {paper.get(table, 'nothing')}."
            )
    return told


def _gate(always: float, gated: float) -> str:
    """What a gate is worth, from the gain of the correction everywhere and where the gate takes it."""
    if gated >= max(always, 0):
        return "at least as good as the better of always and never"
    if gated > min(always, 0):
        return "between always and never"
    return "no better than the worse of always and never"


def _rises(values: Sequence[float]) -> tuple[int, int]:
    """(how often a value is above the one before, how many steps there are)."""
    return sum(later > earlier for earlier, later in zip(values, values[1:], strict=False)), len(values) - 1
