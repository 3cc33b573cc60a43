"""Published numbers: every cell has a source and a sound value, and the tables' arithmetic comes out as printed."""

import json
import math
import re
from collections import Counter
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest

from unfade.core import UsageError
from unfade.evaluation.benchmarks.table import BENCHMARKS
from unfade.evaluation.metrics import convention
from unfade.evaluation.published.cells import (
    Cell,
    cells,
    differences,
    every_cell,
    group_average,
    illegible,
    recomputed_averages,
)

# FoundIR's test set, images in each of its folders.
COUNTS = {
    "Blur": 150, "Blur_Noise": 50, "Blur_JPEG": 50, "Blur_Noise_JPEG": 50, "Noise": 100, "JPEG": 50,
    "Noise_JPEG": 50, "Haze": 200, "Lowlight_Haze": 100, "Rain": 100, "Raindrop": 100, "NightRain": 50,
    "Rain_Haze": 50, "Lowlight": 50, "Lowlight_Blur": 100, "Lowlight_Noise": 50, "Lowlight_JPEG": 50,
    "Lowlight_Blur_Noise": 50, "Lowlight_Blur_JPEG": 50, "Lowlight_Noise_JPEG": 50,
}  # fmt: skip


RANGES = {
    "psnr": (5, 45), "ssim": (0, 1), "lpips": (0, 1), "niqe": (1, 10), "musiq": (20, 80),
    "clip-iqa": (0, 1), "dover": (2, 20), "md-vqa": (50, 100),
}  # fmt: skip

COPIED = (
    "Real-ESRGAN", "DGUNet", "TransWeather", "PromptIR", "DiffUIR", "DA-CLIP", "X-Restormer", "InstructIR", "AutoDIR",
)  # fmt: skip

SAME_RUN = {
    "conventions": ("rgb",),
    "averaging": "images",
    "synthetic": False,
    "quantised": True,
    "limited": False,
}


def the_cell(system: str, benchmark: str, group: str | None, metric: str, table: str | None = None) -> Cell:
    found = [
        cell
        for cell in cells(benchmark, metric=metric)
        if cell.system == system and cell.group == group and table in (None, cell.table)
    ]
    assert len(found) == 1
    return found[0]


def row(system: str, table: str, benchmark: str = "foundir") -> dict[tuple[str | None, str], float]:
    """The sound cells of one system in one table."""
    return {
        (cell.group, cell.metric): cell.value
        for cell in cells(benchmark)
        if cell.system == system and cell.table == table and not cell.damaged
    }


def averages(system: str) -> dict[str, tuple[float | None, float | None, float | None, str]]:
    return {
        found.metric: (found.printed, found.micro, found.macro, found.rule)
        for found in recomputed_averages(system, COUNTS)
    }


def plain(**changes: object) -> Cell:
    """A cell whose protocol is that of SAME_RUN."""
    known = the_cell("FFDNet", "cbsd68", "noise-25", "psnr")
    return replace(known, **{"quantised": True, **changes})  # type: ignore[arg-type]


def test_every_cell_names_its_source_and_a_legal_place():
    names = {value.name for value in vars(convention).values() if isinstance(value, convention.Convention)}
    for cell in every_cell():
        assert re.search(r"\d{4}, .+, arXiv \d{4}\.\d{5}$", cell.paper)
        assert cell.table.startswith("Table ")
        assert cell.source == f"{cell.paper}, t{cell.table[1:]}"
        assert cell.benchmark in BENCHMARKS
        groups = [group.name for group in BENCHMARKS[cell.benchmark].groups]
        assert cell.group is None or cell.group in groups
        assert cell.convention in {*names, "unknown"}
        assert cell.averaging in ("images", "groups", None)
        assert cell.group is None or cell.averaging == "images"
        assert cell.system == cell.system.strip() != ""


def test_values_are_plausible():
    for cell in every_cell():
        low, high = RANGES[cell.metric]
        assert low < cell.value < high, cell
        assert cell.metric != "ssim" or round(cell.value, 4) == cell.value
        assert cell.metric != "psnr" or round(cell.value, 2) == cell.value


def test_no_cell_is_there_twice():
    keys = Counter((c.paper, c.table, c.system, c.benchmark, c.group, c.metric) for c in every_cell())
    assert [key for key, times in keys.items() if times > 1] == []


def test_every_place_of_every_table_is_a_cell_or_called_illegible():
    places = 0
    for entry in (files("unfade.evaluation.published") / "tables").iterdir():
        for table in json.loads(entry.read_text(encoding="utf-8"))["tables"]:
            places += len(table["systems"]) * len(table["rows"])
    assert places == len(every_cell()) + len(illegible())
    assert all("Table 3" in line or "Table 4" in line or "Table 5" in line for line in illegible())


def test_every_foundir_row_has_all_twenty_groups_and_an_average():
    assert len(COUNTS) == 20 and sum(COUNTS.values()) == 1500
    assert {group.name: group.count for group in BENCHMARKS["foundir"].groups} == COUNTS
    places = Counter(
        (c.table, c.system, c.metric) for c in cells("foundir") if c.table in ("Table 1", "Table 2")
    )
    assert set(places.values()) == {21} and len(places) == 2 * (12 + 2)


def test_lookup_narrows():
    whole = cells("foundir")
    assert {cell.metric for cell in cells("foundir", metric="ssim")} == {"ssim"}
    assert {cell.group for cell in cells("foundir", "Haze")} == {"Haze"}
    assert len(cells("foundir", metric="psnr")) + len(cells("foundir", metric="ssim")) == len(whole)
    assert cells("everyday") == () and cells("foundir", metric="lpips") == ()


def test_a_lost_decimal_point_is_put_back_and_said():
    cell = the_cell("V-Bridge", "foundir", "Blur", "psnr")
    assert cell.value == 24.92 and not cell.damaged
    assert "'2492'" in cell.caveat and "put back" in cell.caveat
    small = the_cell("V-Bridge w/o DC, 9 frames", "foundir", "Blur", "ssim")
    assert small.value == 0.7023 and "'07023'" in small.caveat


# The V-Bridge table's arithmetic


@pytest.mark.parametrize(
    ("system", "metric", "printed", "micro", "macro"),
    [
        ("V-Bridge", "psnr", 25.18, 25.18, 25.64),
        ("V-Bridge", "ssim", 0.7729, 0.7729, 0.7892),
        ("V-Bridge w/o DC", "psnr", 23.68, 23.68, 23.99),
        ("V-Bridge w/o DC", "ssim", 0.7490, 0.7490, 0.7632),
    ],
)
def test_vbridge_prints_the_mean_over_images(
    system: str, metric: str, printed: float, micro: float, macro: float
):
    found = averages(system)[metric]
    digits = 2 if metric == "psnr" else 4
    assert found[1] is not None and found[2] is not None
    assert (found[0], round(found[1], digits), round(found[2], digits)) == (printed, micro, macro)
    assert found[3] == "images"


@pytest.mark.parametrize("system", COPIED)
def test_copied_rows_print_the_mean_over_groups(system: str):
    rules = {metric: found[3] for metric, found in averages(system).items()}
    odd = {
        "Real-ESRGAN": {"ssim": "neither"},  # in FoundIR's own table too
        "InstructIR": {"psnr": "neither"},  # V-Bridge's JPEG cell is not FoundIR's
        "DA-CLIP": {"psnr": "either"},  # 19.151 over groups, 19.158 over images
    }
    assert rules == {"psnr": "groups", "ssim": "groups", **odd.get(system, {})}


def test_foundirs_generalist_prints_neither_and_that_is_said():
    for found in recomputed_averages("FoundIR-G", COUNTS):
        assert found.rule == "neither"
        assert "neither" in found.note
    psnr, ssim = recomputed_averages("FoundIR-G", COUNTS)
    assert (psnr.printed, ssim.printed) == (23.57, 0.8199)
    assert psnr.micro == pytest.approx(23.615, abs=1e-3) and psnr.macro == pytest.approx(23.724, abs=1e-3)
    assert ssim.micro == pytest.approx(0.8235, abs=6e-5) and ssim.macro == pytest.approx(0.8232, abs=6e-5)
    assert "32.77 for JPEG" in psnr.note


def test_the_jpeg_row_looks_shifted_by_one_system():
    """With the cells one place to the left, three printed averages come out that do not otherwise."""
    generalist = [
        cell for cell in cells("foundir", metric="psnr") if cell.system == "FoundIR-G" and cell.group
    ]
    shifted = [replace(cell, value=32.77) if cell.group == "JPEG" else cell for cell in generalist]
    assert round(group_average(shifted, COUNTS), 2) == 23.57
    for system, own in (("InstructIR", 33.44), ("AutoDIR", 32.99)):
        chosen = [cell for cell in cells("foundir", metric="psnr") if cell.system == system and cell.group]
        chosen = [replace(cell, value=own) if cell.group == "JPEG" else cell for cell in chosen]
        printed = the_cell(system, "foundir", None, "psnr").value
        assert math.floor(group_average(chosen) * 100) / 100 == printed
        assert f"prints {own}" in the_cell(system, "foundir", "JPEG", "psnr").caveat
    assert (
        the_cell("FoundIR-G", "foundir", "JPEG", "psnr").value
        == the_cell("FoundIR", "foundir", "JPEG", "psnr").value
    )


def test_the_two_rows_that_vbridge_leaves_out():
    assert averages("FoundIR")["psnr"][0] == 27.81 and averages("FoundIR")["psnr"][3] == "groups"
    assert the_cell("FoundIR", "foundir", None, "ssim").value == 0.8529
    assert averages("FoundIR")["ssim"][3] == "neither"  # its 20 cells give 0.8543
    assert [found[0] for found in averages("DiffIR").values()] == [24.68, 0.7817]
    assert {found[3] for found in averages("DiffIR").values()} == {"groups"}
    assert {cell.table for cell in cells("foundir") if cell.system in ("FoundIR", "DiffIR")} == {"Table 1"}


def test_every_sound_ablation_row_prints_the_mean_over_images():
    systems = dict.fromkeys(
        cell.system for cell in cells("foundir") if cell.system.startswith("V-Bridge w/o DC,")
    )
    found = [one for system in systems for one in recomputed_averages(system, COUNTS)]
    rules = Counter(one.rule for one in found)
    assert set(rules) == {"images", "unknown", "neither"} and rules["images"] == 14
    assert [(one.system, one.metric) for one in found if one.rule == "neither"] == [
        ("V-Bridge w/o DC, 0.2K pairs", "ssim")
    ]
    torn = next(one for one in found if one.system.endswith("720+512") and one.metric == "psnr")
    assert torn.printed is None and torn.micro is not None and "no legible average" in torn.note


@pytest.mark.parametrize(
    ("system", "table", "same_as", "in_table"),
    [
        ("V-Bridge w/o DC, 5 frames", "Table 3", "V-Bridge w/o DC, curriculum 512", "Table 4"),
        ("V-Bridge w/o DC, curriculum 512+720+960", "Table 4", "V-Bridge w/o DC", "Table 1"),
        ("V-Bridge w/o DC, 1K pairs", "Table 5", "V-Bridge w/o DC, curriculum 720", "Table 4"),
    ],
)
def test_rows_printed_twice_agree(system: str, table: str, same_as: str, in_table: str):
    one, other = row(system, table), row(same_as, in_table)
    shared = one.keys() & other.keys()
    assert len(shared) >= 39
    assert {key: one[key] for key in shared} == {key: other[key] for key in shared}


def test_vivid_vr_prints_its_own_row_twice():
    full = {cell.metric: cell.value for cell in cells("ugc50") if cell.system == "Vivid-VR"}
    again = {cell.metric: cell.value for cell in cells("ugc50") if cell.system == "Vivid-VR (f): as proposed"}
    assert len(again) == 4 and again.items() <= full.items()


def test_vbridge_leads_seven_groups_and_ties_one():
    """As the project's specification counts them by hand."""
    lead, tie = set(), set()
    for group in COUNTS:
        chosen = {c.system: c.value for c in cells("foundir", group, "psnr") if c.table == "Table 1"}
        chosen = {
            name: value
            for name, value in chosen.items()
            if name not in ("FoundIR", "DiffIR", "V-Bridge w/o DC")
        }
        own = chosen.pop("V-Bridge")
        if own > max(chosen.values()):
            lead.add(group)
        elif own == max(chosen.values()):
            tie.add(group)
    assert len(lead) == 7 and sum("Lowlight" not in group for group in lead) == 1
    assert tie == {"Lowlight_JPEG"}


# Averages


def some(values: list[float], **changes: object) -> list[Cell]:
    groups = list(COUNTS)[: len(values)]
    return [plain(group=group, value=value, **changes) for group, value in zip(groups, values, strict=True)]


def test_group_average_against_numpy():
    dice = np.random.default_rng(3)
    values = dice.uniform(10, 40, 20).tolist()
    chosen = some(values)
    assert group_average(chosen) == pytest.approx(np.mean(values), abs=1e-12)
    weights = [COUNTS[cell.group or ""] for cell in chosen]
    assert group_average(chosen, COUNTS) == pytest.approx(np.average(values, weights=weights), abs=1e-12)
    assert group_average(chosen, dict.fromkeys(COUNTS, 7)) == pytest.approx(group_average(chosen), abs=1e-12)


def test_group_average_by_hand():
    chosen = some([10.0, 20.0])  # Blur has 150 images, Blur_Noise 50
    assert group_average(chosen) == 15.0
    assert group_average(chosen, COUNTS) == 12.5


def test_nothing_damaged_enters_an_average():
    damaged = [cell for cell in every_cell() if cell.damaged]
    assert len(damaged) > 20
    assert all("the text reads" in cell.caveat for cell in damaged)
    for cell in damaged:
        with pytest.raises(UsageError, match=r"damaged|one cell for each group"):
            group_average([cell])
    for system in {cell.system for cell in damaged}:
        for found in recomputed_averages(system, COUNTS):
            hit = [c for c in damaged if c.system == system and c.metric == found.metric]
            if any(cell.group is None for cell in hit):
                assert found.printed is None
            if any(cell.group is not None for cell in hit):
                assert found.micro is None and found.macro is None and found.rule == "unknown"
                assert "can't be recomputed" in found.note


@pytest.mark.parametrize(
    "chosen",
    [
        [],
        [plain(), plain()],
        [plain(), plain(group="noise-50", metric="ssim")],
        [plain(), plain(group="noise-50", system="DnCNN")],
        [plain(group=None)],
    ],
    ids=["none", "a group twice", "two metrics", "two systems", "an average"],
)
def test_a_mixture_is_no_average(chosen: list[Cell]):
    with pytest.raises(UsageError, match="one cell for each group"):
        group_average(chosen)


def test_a_missing_count_is_named():
    with pytest.raises(UsageError, match="noise-25"):
        group_average([plain()], {"noise-15": 68})


def test_an_unknown_system_is_answered_with_the_known():
    with pytest.raises(UsageError, match=r"'Nothing'.*V-Bridge w/o DC"):
        recomputed_averages("Nothing", COUNTS)


# Differences


def test_an_equal_protocol_has_no_difference():
    assert differences(plain(), **SAME_RUN) == ()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cell", "run", "says"),
    [
        (plain(), {"synthetic": True}, "synthetic"),
        (plain(), {"limited": True}, "fewer pictures"),
        (plain(convention="unknown"), {}, "does not say by which convention"),
        (plain(convention="y"), {"conventions": ("rgb", "foundir")}, "'y', this run by rgb and foundir"),
        (plain(quantised=False), {}, "not rounded to 8 bits, this run's were rounded"),
        (plain(quantised=True), {"quantised": False}, "rounded to 8 bits, this run's were not"),
        (plain(group=None), {"averaging": "groups"}, "over images alike, this run over groups"),
        (plain(group=None, averaging=None), {}, "which rule the paper averaged"),
        (plain(lossy=True), {}, "lossy mp4"),
        (plain(damaged=True), {}, "misread"),
        (plain(metric="musiq", convention="unknown"), {}, "neither implementation nor weights of its MUSIQ"),
    ],
)
def test_each_difference_is_one_sentence(cell: Cell, run: dict[str, object], says: str):
    found = differences(cell, **{**SAME_RUN, **run})  # type: ignore[arg-type]
    assert len(found) == 1 and says in found[0] and found[0].endswith(".")


def test_a_groups_own_mean_does_not_depend_on_the_average_over_groups():
    assert differences(plain(), **{**SAME_RUN, "averaging": "groups"}) == ()  # type: ignore[arg-type]


def test_published_noise_is_flagged_where_it_is_not_in_8_bits():
    for cell in cells("cbsd68") + cells("kodak24"):
        found = " ".join(differences(cell, **SAME_RUN))  # type: ignore[arg-type]
        assert ("not rounded to 8 bits" in found) == (cell.system in ("CBM3D", "DnCNN", "FFDNet", "SwinIR"))


def test_vbridges_own_rows_are_flagged():
    run = {**SAME_RUN, "conventions": ("foundir", "vbridge-rgb", "vbridge-y"), "averaging": "groups"}
    found = " ".join(differences(the_cell("V-Bridge", "foundir", None, "psnr"), **run))  # type: ignore[arg-type]
    assert "convention" in found and "over images" in found and "lossy mp4" in found
    assert differences(the_cell("DiffUIR", "foundir", None, "psnr"), **run) == ()  # type: ignore[arg-type]


def test_numbers_that_two_papers_print_differently_say_so():
    assert "32.15" in the_cell("CBM3D", "kodak24", "noise-25", "psnr").caveat
    assert "33.90" in the_cell("DnCNN", "cbsd68", "noise-15", "psnr").caveat
    assert "37.56" in the_cell("VDSR", "set5", "x2", "psnr").caveat
    assert the_cell("VDSR", "set5", "x4", "psnr").caveat == ""
