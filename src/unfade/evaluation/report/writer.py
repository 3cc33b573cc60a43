"""The report's folder."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unfade.evaluation.report.exhibits import Exhibit
from unfade.evaluation.report.figures import json_safe
from unfade.evaluation.report.page import render_page
from unfade.media.atomic import atomic_output

COLUMNS = ("group", "name", "model", "metric", "input", "output", "synthetic")


def write_report(
    folder: Path, report: Mapping[str, Any], timing: Mapping[str, Any], exhibits: Sequence[Exhibit] = ()
) -> Path:
    """`report.html`, `report.json`, `report.csv` and `timing.json` in `folder`; gives back the page's path.

    Each file appears whole or not at all, the page last. `report.json` and `report.csv` depend on `report` alone,
    not on the order of its rows, so two runs with the same results give the same bytes.

    Raises:
        OutputError: the folder can't be made or written.
    """
    folder = Path(folder)
    figures = json_safe({**report, "rows": in_order(report)})
    seconds = json_safe(timing)
    _write(folder / "report.json", json_text(figures))
    _write(folder / "timing.json", json_text(seconds))
    _write(folder / "report.csv", csv_text(figures))
    page = folder / "report.html"
    _write(page, render_page(figures, seconds, exhibits))
    return page


def in_order(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows by group and model as the report lists them, and by name."""
    groups = [entry["group"] for entry in report["groups"]]
    models = [entry["name"] for entry in report["models"]]

    def key(row: Mapping[str, Any]) -> tuple[int, str, str, int, str]:
        return (
            groups.index(row["group"]) if row["group"] in groups else len(groups),
            row["group"],
            row["name"],
            models.index(row["model"]) if row["model"] in models else len(models),
            row["model"],
        )

    return sorted(report["rows"], key=key)


def json_text(document: Mapping[str, Any]) -> str:
    """JSON with sorted keys and one line for each entry of a list of objects."""

    def line(value: Any) -> str:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)

    parts = []
    for key in sorted(document):
        value = document[key]
        if isinstance(value, list) and value and isinstance(value[0], dict):
            body = "[\n  " + ",\n  ".join(map(line, value)) + "\n ]"
        else:
            body = line(value)
        parts.append(f" {line(key)}: {body}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def csv_text(report: Mapping[str, Any]) -> str:
    """One line for each row and metric, under a header, and for the pixels a clip was shifted by, where it was."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    synthetic = "SYNTHETIC" if report["benchmark"].get("synthetic") else ""
    for row in report["rows"]:
        for metric in _metrics_of(row, report["metrics"]):
            before, after = row["input"].get(metric), row["output"].get(metric)
            lines.writerow([row["group"], row["name"], row["model"], metric, before, after, synthetic])
        for axis in ("down", "right") if row.get("shift") else ():
            both = (row["shift"].get(side, {}).get(axis) for side in ("input", "output"))
            lines.writerow([row["group"], row["name"], row["model"], f"shift-{axis}", *both, synthetic])
    return text.getvalue()


def _metrics_of(row: Mapping[str, Any], metrics: Iterable[Mapping[str, Any]]) -> list[str]:
    return [
        entry["name"] for entry in metrics if entry["name"] in row["input"] or entry["name"] in row["output"]
    ]


def _write(path: Path, text: str) -> None:
    with atomic_output(path) as temporary:
        # A file name that is no UTF-8 holds lone surrogates; escaped, they are still JSON.
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))
