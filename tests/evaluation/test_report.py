"""The report's files: what they say, what they don't change, what they keep to."""

import base64
import csv
import io
import json
import math
import random
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from unfade.core import OutputError, generator
from unfade.evaluation.report import Exhibit, worst_and_best, write_report
from unfade.evaluation.report.axes import Axes, log_ticks, round_ticks, tick_texts
from unfade.evaluation.report.exhibits import places_of_change
from unfade.evaluation.report.figures import decimals, difference, fixed, json_safe, number, short
from unfade.evaluation.report.page import render_page
from unfade.evaluation.report.pictures import FINENESSES, error_colours, picture, plate, plates
from unfade.evaluation.report.plots import cost_plot, curve_plots
from unfade.evaluation.report.tables import beside, group_table, other_numbers, summary_table
from unfade.media.vips import pyvips

INF = math.inf


@pytest.fixture
def report(sample_run: Any) -> dict[str, Any]:
    return deepcopy(sample_run.report)


def _decoded(uri: str) -> np.ndarray:
    image = pyvips.Image.new_from_buffer(base64.b64decode(uri.split(",", 1)[1]), "")
    return np.frombuffer(bytes(image.write_to_memory()), np.uint8).reshape(
        image.height, image.width, image.bands
    )


def _exhibit(degraded: torch.Tensor, restored: torch.Tensor, truth: torch.Tensor | None) -> Exhibit:
    return Exhibit("Worst", "g", "n", "m", "psnr", 1.0, 2.0, degraded, restored, truth)


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


def test_the_two_places_are_those_of_a_brute_force_search() -> None:
    dice = generator(0, "places")
    truth, degraded, restored = (torch.rand(3, 90, 130, generator=dice) for _ in range(3))
    change = ((restored - truth).abs().mean(0) - (degraded - truth).abs().mean(0)).double()
    means = F.avg_pool2d(change[None, None], (48, 69), 1)[0, 0]
    fallen, risen = places_of_change(_exhibit(degraded, restored, truth))
    for place, index in ((fallen, means.argmin()), (risen, means.argmax())):
        assert (place.box.top, place.box.left) == divmod(int(index), means.shape[1])
        assert place.box.cut(truth).shape == (3, 48, 69)


def test_damage_and_repair_are_found_and_named() -> None:
    truth = torch.full((3, 300, 400), 0.5)
    degraded, restored = truth.clone(), truth.clone()
    degraded[:, 20:80, 30:110] = 0.9
    restored[:, 200:260, 250:330] = 0.3
    fallen, risen = places_of_change(_exhibit(degraded, restored, truth))
    assert (fallen.box.top, fallen.box.left, fallen.box.height, fallen.box.width) == (20, 30, 60, 80)
    assert (risen.box.top, risen.box.left) == (200, 250)
    assert fallen.label == "error falls most, 102.0 → 0.0" and risen.label == "error rises most, 0.0 → 51.0"
    (only,) = places_of_change(_exhibit(degraded, truth, None))
    assert (only.box.top, only.box.left) == (20, 30)


def test_pictures_smaller_than_a_crop_have_one_place() -> None:
    (place,) = places_of_change(_exhibit(torch.zeros(3, 1, 7), torch.ones(3, 1, 7), torch.zeros(3, 1, 7)))
    assert (place.box.height, place.box.width) == (1, 7)


def test_an_exhibit_of_two_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="of one size"):
        _exhibit(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9), None)


def test_worst_and_best_by_gain_in_the_metrics_direction() -> None:
    def row(name: str, before: float, after: float) -> dict[str, Any]:
        return {"group": "g", "name": name, "model": "m", "input": {"e": before}, "output": {"e": after}}

    report = {
        "models": [{"name": "m", "kind": "model"}, {"name": "p", "kind": "peer"}],
        "metrics": [{"name": "e", "higher_is_better": False}],
        "rows": [row("a", 5, 4), row("b", 9, 1), row("c", 3, 3.5), {**row("d", 9, 0), "model": "p"}],
    }
    found = [(case.title, case.name) for case in worst_and_best(report)]
    assert found == [("Worst of 3", "c"), ("Best of 3", "b")]
    found = [(case.title, case.name) for case in worst_and_best(report, ["m"], "e", each=2)]
    assert found == [("Worst of 3", "c"), ("2. worst of 3", "a"), ("Best of 3", "b")]
    assert [case.title for case in worst_and_best(report, ["p"])] == ["The only case"]
    with pytest.raises(ValueError, match="no metric"):
        worst_and_best(report, metric="psnr")


def test_crops_are_exact_and_pictures_near() -> None:
    image = torch.rand(3, 33, 47, generator=generator(0, "picture")).mul(255).round() / 255
    wanted = image.mul(255).round().byte().permute(1, 2, 0).numpy()
    exact = picture(image, "x", 100, "lossless")
    assert exact.uri.startswith("data:image/png;base64,") and np.array_equal(_decoded(exact.uri), wanted)
    smooth = F.interpolate(image[None, :, ::8, ::8], (96, 128), mode="bicubic").clamp(0, 1)[0]
    near = picture(smooth, "x", 200, 92)
    wanted = smooth.mul(255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(_decoded(near.uri).astype(float) - wanted).mean() < 2
    small = picture(smooth, "x", 32, 92)
    assert (small.width, small.height) == (32, 24) and _decoded(small.uri).shape == (24, 32, 3)


def test_error_colours_are_even_in_lightness() -> None:
    colour = pytest.importorskip("skimage.color")
    ramp = error_colours(torch.linspace(0, 64, 65, dtype=torch.float64)[None], 64)
    lightness = colour.rgb2lab(ramp.permute(1, 2, 0).numpy())[0, :, 0]
    steps = np.diff(lightness)
    # CIELAB exaggerates what is nearly black, so the first steps look smaller to it.
    assert steps.min() > 0.3 and steps[4:].min() > 1.0 and steps.max() < 2.2
    assert lightness[0] < 2 and lightness[-1] > 95
    assert torch.equal(error_colours(torch.full((1, 1), 255.0), 64)[:, 0, 0], ramp[:, 0, -1])


def test_error_maps_share_a_scale_that_is_stated(sample_run: Any) -> None:
    exhibit = sample_run.exhibits[0]
    drawn = plate(exhibit, FINENESSES[0])
    assert exhibit.truth is not None
    errors = [
        np.quantile((image - exhibit.truth).abs().mean(0).numpy() * 255, 0.995)
        for image in (exhibit.degraded, exhibit.restored)
    ]
    assert drawn.scale in (8, 16, 32, 64, 128, 255) and drawn.scale / 2 < max(errors) <= drawn.scale
    maps = [column.error for column in drawn.columns]
    assert maps[2] is None and all(
        error is not None and f"to {drawn.scale} of 255" in error.alt for error in maps[:2]
    )
    page = render_page(sample_run.report, sample_run.timing, [exhibit])
    assert f"<span>{drawn.scale} of 255 and more</span>" in page and len(drawn.film) == 9


def test_pictures_keep_to_their_budget(sample_run: Any) -> None:
    exhibits = sample_run.exhibits
    free = plates(exhibits, 1 << 30)
    total = sum(item.size for item in free)
    assert len(free) == len(exhibits) == 4
    tight = plates(exhibits, int(0.8 * total))
    assert len(tight) == 4 and sum(item.size for item in tight) <= 0.8 * total
    tiny = plates(exhibits, tight[0].size)
    assert len(tiny) == 1
    page = render_page(sample_run.report, sample_run.timing, exhibits, tight[0].size)
    assert "3 further cases left out" in page


def test_curves_are_drawn_with_gaps_bands_and_kinks(report: dict[str, Any]) -> None:
    curve = report["curves"][0]
    curve["mean"][3], curve["mean"][4], curve["kinks"] = None, "inf", [1, 6]
    metric = report["metrics"][0]
    plots = curve_plots(json_safe(report), metric)
    assert [plot.title for plot in plots] == ["noise-25", "noise-50"]
    drawing = ElementTree.fromstring(plots[0].svg)
    paths = {node.get("class"): node.get("d", "") for node in drawing.iter("path")}
    # Frames 3 and 4 have no finite value: two pieces of 3 and 4 frames.
    assert paths["line s0"].count("M") == 2 and paths["line s0"].count("L") == 2 + 3
    assert paths["line s1"].count("M") == 1 and paths["line s1"].count("L") == 8
    assert paths["band s0"].count("L") == 17 and paths["line a0"].count("L") == 1
    # The target reaches the truth itself, which is infinitely good and can't be drawn.
    assert paths["line a1"].count("L") <= 7
    assert [node.get("class") for node in drawing.iter("circle")].count("kink") >= 2
    details = {key.label: key.detail for key in plots[0].keys}
    assert set(details) == {"input vs truth", "target trajectory vs truth", "nlm", "bilateral"}
    rho = curve["spearman"]["rho"]
    assert details["nlm"].startswith(f"Spearman ρ {rho:.2f}") and "2 kinks" in details["nlm"]
    assert "bilateral from" in (drawing.get("aria-label") or "")


def test_cost_needs_two_models(report: dict[str, Any]) -> None:
    one = {"models": [{"name": "nlm", "seconds_per_megapixel": 2.0}]}
    assert cost_plot(report, one, report["metrics"][0], "by_images") is None
    two = {"models": [*one["models"], {"name": "bilateral", "seconds_per_megapixel": 0.2}]}
    plot = cost_plot(report, two, report["metrics"][0], "by_images")
    assert plot is not None
    places = {}
    for group in ElementTree.fromstring(plot.svg).iter("g"):
        if (group.get("class") or "").startswith("dot"):
            title, square = list(group)
            places[(title.text or "").split(":")[0]] = float(square.get("x", "nan"))
    assert places["bilateral"] < places["nlm"]


def test_a_value_stands_at_its_place() -> None:
    axes = Axes((0, 1), (10, 20), 100, 100, left=10, right=10, top=10, bottom=10)
    assert axes.place(0, 10) == (10, 90) and axes.place(1, 20) == (90, 10) and axes.place(0.5, 15) == (50, 50)
    log = Axes((0.01, 100), (0, 1), 100, 100, logarithmic=True, left=10, right=10, top=10, bottom=10)
    assert log.place(1, 0)[0] == pytest.approx(50)
    assert axes.line([(0, 10), None, (1, 20), (1, 10)]) == "M10.0 90.0h.01M90.0 10.0L90.0 90.0"


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_round_and_inside(low: float, width: float) -> None:
    high = low + width
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in ticks)
    texts = tick_texts(ticks)
    assert len(set(texts)) == len(texts)
    for tick, text in zip(ticks, texts, strict=True):
        assert float(text.replace("−", "-")) == pytest.approx(tick, abs=1e-9 * max(1, abs(tick)))


def test_logarithmic_ticks() -> None:
    assert log_ticks(0.5, 5) == [0.5, 1, 2, 5]
    assert log_ticks(0.001, 100) == pytest.approx([0.001, 0.01, 0.1, 1, 10, 100])


def _luminance(colour: str) -> float:
    shares = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    bright, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _mixed(wash: str, ground: str, share: float) -> str:
    pairs = [(int(wash[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


def test_colours_have_contrast_in_both_themes() -> None:
    """WCAG 2.2: 4.5 for text, 3 for lines and marks."""
    from importlib.resources import files

    style = (files("unfade.evaluation.report") / "style.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark")
    names = dict[str, str]()
    for part in (light, dark.split("}")[0]):
        words = part.replace("{", ";").replace("\n", ";").split(";")
        names = {
            **names,
            **{key.strip(): value.strip() for key, _, value in (word.partition(":") for word in words)},
        }
        for ground in ("--paper", "--card"):
            for ink in ("--ink", "--soft", "--accent", "--good", "--bad"):
                assert _contrast(names[ink], names[ground]) >= 4.5, (ink, ground)
            for index in range(8):
                assert _contrast(names[f"--s{index}"], names[ground]) >= 3, (index, ground)
        assert _contrast(names["--warn"], names["--warn-ink"]) >= 4.5
        for ink, wash in (("--good", "--good-wash"), ("--bad", "--bad-wash")):
            assert _contrast(names[ink], _mixed(names[wash], names["--card"], 0.24)) >= 4.5, ink


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
