"""The report's files: what they say, what they don't change, what they keep to."""

import csv
import io
import json
import math
import random
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from unfade.core import OutputError
from unfade.evaluation.report import write_report
from unfade.evaluation.report.figures import decimals, difference, fixed, json_safe, number, short
from unfade.evaluation.report.page import render_page
from unfade.evaluation.report.plots import cost_plot
from unfade.evaluation.report.tables import beside, group_table, other_numbers, summary_table

INF = math.inf


def test_figures_as_people_read_them() -> None:
    assert (
        fixed(29.456, 2) == "29.46"
        and fixed(-0.5, 1, signed=True) == "−0.5"
        and fixed(0.5, 1, True) == "+0.5"
    )
    assert fixed(-0.001, 2, signed=True) == "0.00" and fixed(None, 2) == "–" and fixed("inf", 2) == "∞"
    assert (
        short(0.0975) == "0.0975"
        and short(4.012) == "4.01"
        and short(1234.5) == "1\u202f234"
        and short(0) == "0"
    )
    assert decimals("dB", [0.1]) == 2 and decimals("", [0.93, "inf"]) == 4 and decimals("", [61.2]) == 2
    assert difference(INF, INF) == 0 and difference(1, None) is None and difference(INF, 30) == INF


def test_json_keeps_infinities_as_text_and_undefined_as_null() -> None:
    safe = json_safe({"a": [INF, -INF, math.nan, 1, True], 2: (0.1 + 0.2,)})
    assert safe == {"a": ["inf", "-inf", None, 1, True], "2": [0.3]}
    assert [number(value) for value in safe["a"]] == [INF, -INF, None, 1, None]


def test_files_say_the_same_whatever_the_order_of_rows(sample_run: Any, tmp_path: Path) -> None:
    page = write_report(tmp_path / "a", sample_run.report, sample_run.timing, sample_run.exhibits)
    shuffled = deepcopy(sample_run.report)
    random.Random(1).shuffle(shuffled["rows"])
    later = {**sample_run.timing, "date": "2030-05-05"}
    write_report(tmp_path / "b", shuffled, later, sample_run.exhibits)
    assert page == tmp_path / "a" / "report.html"
    assert {path.name for path in page.parent.iterdir()} == {
        "report.html",
        "report.json",
        "report.csv",
        "timing.json",
    }
    for name in ("report.json", "report.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "timing.json").read_bytes() != (tmp_path / "b" / "timing.json").read_bytes()
    assert page.stat().st_size < 3e6


def test_json_and_csv_hold_every_figure(sample_run: Any, tmp_path: Path) -> None:
    run = deepcopy(sample_run.report)
    run["rows"][0]["output"] = {"psnr-rgb": INF, "mae": math.nan}
    write_report(tmp_path, run, sample_run.timing)
    stored = json.loads((tmp_path / "report.json").read_text())
    lines = list(csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text())))
    assert len(lines) == len(run["rows"]) * len(run["metrics"])
    by_key = {(line["group"], line["name"], line["model"], line["metric"]): line for line in lines}
    for row in run["rows"]:
        key = row["group"], row["name"], row["model"]
        twin = next(
            other for other in stored["rows"] if (other["group"], other["name"], other["model"]) == key
        )
        for metric in ("psnr-rgb", "mae"):
            line = by_key[*key, metric]
            assert float(line["input"]) == pytest.approx(row["input"][metric], rel=1e-9)
            assert number(twin["input"][metric]) == pytest.approx(row["input"][metric], rel=1e-9)
    changed = run["rows"][0]
    key = changed["group"], changed["name"], changed["model"]
    assert by_key[*key, "psnr-rgb"]["output"] == "inf" and by_key[*key, "mae"]["output"] == ""
    assert {line["synthetic"] for line in lines} == {""}


def test_a_failure_leaves_no_half_report(sample_run: Any, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("x")
    with pytest.raises(OutputError, match="not a folder"):
        write_report(blocked, sample_run.report, sample_run.timing)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class _Page(HTMLParser):
    """Tags, ids and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_names_from_outside_are_text_never_markup(report: dict[str, Any], sample_run: Any) -> None:
    evil = '"><img src=x onerror=alert(1)></script>'
    text = json.dumps(report).replace("noise-25", json.dumps(evil)[1:-1])
    text = text.replace('"nlm"', json.dumps(evil))
    page = _Page(render_page(json.loads(text), sample_run.timing))
    assert not [tag for tag, attributes in page.tags if "onerror" in attributes]
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_the_page_refers_to_nothing_outside(sample_run: Any) -> None:
    page = _Page(render_page(sample_run.report, sample_run.timing, sample_run.exhibits))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for tag, attributes in page.tags:
        for key in ("src", "href"):
            link = attributes.get(key)
            assert link is None or link.startswith("data:image/") or link.removeprefix("#") in ids, (
                tag,
                link,
            )
        if tag == "img":
            assert attributes["alt"]


def test_synthetic_is_said_in_every_table_and_figure(
    report: dict[str, Any], sample_run: Any, tmp_path: Path
) -> None:
    assert 'class="stamp"' not in render_page(report, sample_run.timing, sample_run.exhibits)
    report["benchmark"]["synthetic"] = True
    text = render_page(report, sample_run.timing, sample_run.exhibits)
    tables = [part.split("</caption>")[0] for part in text.split("<caption>")[1:]]
    measured = [caption for caption in tables if caption not in ("Metrics", "Models")]
    assert len(measured) == 3 and all('<strong class="stamp">Synthetic' in caption for caption in measured)
    drawn = [
        part.split("</figcaption>")[0] for part in text.split("<figcaption>")[1:] if "noise-" in part[:200]
    ]
    assert drawn and all("stamp" in caption for caption in drawn)
    write_report(tmp_path, report, sample_run.timing)
    lines = csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text()))
    assert {line["synthetic"] for line in lines} == {"SYNTHETIC"}
    table = group_table(report, report["metrics"][0], "t")
    assert all("synthetic stand-in" in note.differences[0] for note in table.notes)


def test_groups_show_gains_and_published_numbers(report: dict[str, Any]) -> None:
    table = group_table(report, report["metrics"][0], "t")
    assert [column.label for column in table.columns][3:] == ["nlm", "bilateral", "identity", "CBM3D"]
    first = table.rows[0]
    measured = {entry["model"]: entry for entry in report["groups"] if entry["group"] == "noise-25"}
    for cell, model in zip(first[3:6], ("nlm", "bilateral", "identity"), strict=True):
        assert cell.text == f"{measured[model]['output']['psnr-rgb']:.2f}"
        gain = measured[model]["output"]["psnr-rgb"] - measured[model]["input"]["psnr-rgb"]
        assert cell.gain.lstrip("+") == f"{gain:.2f}"
    assert first[5].tone == 0 and max(first[3].tone or 0, first[4].tone or 0) == 1
    best = max(measured, key=lambda model: measured[model]["output"]["psnr-rgb"])
    assert [cell.best for cell in first[3:6]] == [model == best for model in ("nlm", "bilateral", "identity")]
    published = first[6]
    assert published.text == "30.71" and published.note is not None and published.note.mark == "†1"
    assert "noise neither clipped nor rounded" in published.hint
    assert table.rows[1][6].text == "–"
    errors = group_table(report, report["metrics"][1], "e")
    # Less error is better: the colour is that of a gain, although the sign is a minus.
    assert errors.rows[0][3].gain.startswith("−") and (errors.rows[0][3].tone or 0) > 0


def test_numbers_of_one_protocol_bear_no_dagger(report: dict[str, Any]) -> None:
    entry = report["published"][0]
    report["published"] = [
        {**entry, "differences": []},
        {**entry, "group": None, "value": 28.0},
        {**entry, "group": "noise-75", "value": 25.0},
        {**entry, "metric": "lpips", "value": 0.2},
    ]
    table = group_table(report, report["metrics"][0], "t")
    assert table.rows[0][6].note is not None and table.rows[0][6].note.mark == "1"
    assert table.foot[0][6].text == "28.00" and table.foot[0][6].note is not None
    assert table.foot[0][6].note.mark == "†2" and table.foot[1][6].text == "–"
    extra = table.rows[2]
    assert (
        extra[0].text == "noise-75"
        and extra[6].text == "25.00"
        and {cell.text for cell in extra[1:6]} == {"–"}
    )
    others = other_numbers(report)
    assert others is not None and [cell.text for cell in others.rows[0]] == [
        "CBM3D",
        "noise-25",
        "lpips",
        "0.2",
    ]


def test_an_average_over_less_is_said_and_never_the_best(report: dict[str, Any]) -> None:
    for entry in report["groups"]:
        if (entry["group"], entry["model"]) == ("noise-50", "nlm"):
            entry["count"], entry["output"]["psnr-rgb"] = 2, 99.0
    report["not_applicable"] = [{"model": "bilateral", "group": "noise-25", "why": "no reason"}]
    report["groups"] = [
        entry for entry in report["groups"] if (entry["group"], entry["model"]) != ("noise-25", "bilateral")
    ]
    for entry in report["averages"]:
        entry["count"] = 3 if entry["model"] == "bilateral" else 6
    table = group_table(report, report["metrics"][0], "t")
    assert table.rows[1][3].sub == "only 2 of 3" and not table.rows[1][3].best
    assert (table.rows[0][4].text, table.rows[0][4].hint) == ("n/a", "no reason")
    assert table.foot[0][4].sub == "only 3 of 6" and not table.foot[0][4].best
    summary = summary_table(report, {})
    assert summary.rows[1][1].sub == "of 6" and not summary.rows[1][2].best


def test_summary_compares_times_with_the_first_model(report: dict[str, Any]) -> None:
    seconds = {"nlm": 4.0, "bilateral": 0.5}
    timing = {"models": [{"name": name, "seconds_per_megapixel": value} for name, value in seconds.items()]}
    table = summary_table(report, timing)
    assert [row[-1].text for row in table.rows] == ["1.00×", "0.125×", "–"]
    assert [row[-2].value for row in table.rows] == [4.0, 0.5, None]
    assert table.spans[2] == ("PSNR (RGB) in dB ↑", 2)
    report["groups"] = [entry for entry in report["groups"] if entry["group"] == "noise-25"]
    # With one group both averages are the same; one column is enough.
    assert summary_table(report, timing).spans[2] == ("PSNR (RGB) in dB ↑", 1)


def test_published_numbers_stand_beside_the_metric_of_their_convention() -> None:
    metrics = [{"name": name} for name in ("psnr-rgb", "psnr-y", "ssim-y", "niqe")]
    placed = {
        ("psnr", "y"): "psnr-y",
        ("psnr", "unknown"): "psnr-rgb",
        ("ssim", "foundir"): "ssim-y",
        ("niqe", "unknown"): "niqe",
        ("psnr-y", ""): "psnr-y",
        ("lpips", "rgb"): None,
    }
    for (metric, convention), wanted in placed.items():
        assert beside({"metric": metric, "convention": convention}, metrics) == wanted


def test_two_tables_about_one_system_have_a_column_each(report: dict[str, Any]) -> None:
    entry = report["published"][0]
    report["published"] = [
        entry,
        {**entry, "value": 30.8, "paper": "Another"},
        {**entry, "group": None, "averaging": "groups", "value": 29.0},
    ]
    table = group_table(report, report["metrics"][0], "t")
    assert [column.label for column in table.columns][6:] == ["CBM3D", "CBM3D"]
    assert [cell.text for cell in table.rows[0][6:]] == ["30.71", "30.80"]
    assert [[cell.text for cell in row[6:]] for row in table.foot] == [["–", "–"], ["29.00", "–"]]


def test_a_model_without_averages_is_listed_without_them(report: dict[str, Any], sample_run: Any) -> None:
    entry = report["averages"][0]
    del entry["by_images"], entry["by_groups"]
    entry["count"], entry["missing"] = 3, ["noise-50"]
    report["undefined"] = [{"model": "nlm", "group": "noise-25", "metric": "mae", "of": 3, "defined": 2}]
    table = summary_table(report, sample_run.timing)
    assert [cell.text for cell in table.rows[0][2:6]] == ["–"] * 4 and table.rows[0][1].sub == "of 6"
    assert [cell.text for cell in table.foot[0][2:4]] == [
        f"{report['averages'][1]['by_images']['input']['psnr-rgb']:.2f}"
    ] * 2
    page = render_page(report, sample_run.timing)
    assert "mae is defined for 2 of 3 pictures" in page
    plot = cost_plot(report, sample_run.timing, report["metrics"][0], "by_images")
    assert plot is not None and "nlm" not in plot.svg
