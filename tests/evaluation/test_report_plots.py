"""The report's curves and colours."""

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unfade.evaluation.report.axes import Axes, log_ticks, round_ticks, tick_texts
from unfade.evaluation.report.figures import json_safe
from unfade.evaluation.report.plots import cost_plot, curve_plots


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
