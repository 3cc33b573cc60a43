"""Vivid-VR's footage benchmarks: the short side, the shift, and the paper's tables beside ours."""

import csv
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import Clip, InputError, Plan, Restoration
from unfade.core.trajectory import Trajectory
from unfade.degrade.classic import quantise
from unfade.evaluation.alignment import Shift
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group, Layout
from unfade.evaluation.benchmarks.case import Case, find_cases
from unfade.evaluation.benchmarks.material import prepare
from unfade.evaluation.benchmarks.table import BENCHMARKS, synthesized
from unfade.evaluation.contender import Contender
from unfade.evaluation.journal import Journal, Row
from unfade.evaluation.measure import Settings, metrics_of
from unfade.evaluation.metrics.learned import NEVER
from unfade.evaluation.metrics.metric import Absence, Metric, of_pictures
from unfade.evaluation.published.cells import cells
from unfade.evaluation.report.tables import group_table, other_numbers
from unfade.evaluation.run import Run, execute
from unfade.evaluation.summary import summarise
from unfade.media.image_writer import write_image
from unfade.media.images import read_image
from unfade.recipes.evaluate import evaluate

VIVID = ("spmcs", "udm10", "youhq40", "videolq", "ugc50", "aigc50")
WITH_TRUTH = VIVID[:3]
NO_REFERENCE = ("niqe", "musiq", "clip-iqa", "dover", "md-vqa")
SIDE = 64


@pytest.fixture(scope="module")
def photo(examples: Path) -> Tensor:
    return read_image(examples / "coffee.png").frames


def write_clip(frames: Tensor, folder: Path) -> None:
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames.split(1)):
        write_image(Clip(frame.contiguous()), folder / f"{index:04d}.png")


def panning(photo: Tensor, height: int = 64, width: int = 92, down: int = 0, right: int = 0) -> Tensor:
    """Three frames of a window that moves over the photo; what it shows lies `down` and `right` of its place."""
    places = [(50 + 2 * t - down, 60 + 3 * t - right) for t in range(3)]
    return torch.cat([photo[:, :, top : top + height, left : left + width] for top, left in places])


def small(name: str, **changes: object) -> Benchmark:
    """A benchmark of the table with clips of any number and a short side that is quickly computed."""
    chosen = BENCHMARKS[name]
    groups = tuple(replace(group, count=None) for group in chosen.groups)
    return replace(chosen, groups=groups, **{"short_side": SIDE, **changes})  # type: ignore[arg-type]


@pytest.fixture
def data(photo: Tensor, tmp_path: Path) -> Path:
    """Two clips in the layout of the six: 16 x 23 in LQ, four times as large in GT."""
    for index in range(2):
        truth = panning(photo.roll(40 * index, 3))
        soft = functional.interpolate(truth, (16, 23), mode="bicubic", antialias=True).clamp(0, 1)
        write_clip(truth, tmp_path / f"data/GT/{index:03d}")
        write_clip(soft, tmp_path / f"data/LQ/{index:03d}")
    return tmp_path / "data"


# The short side


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (270, 480, (1024, 1820)),
        (135, 240, (1024, 1820)),
        (180, 318, (1024, 1809)),
        (480, 270, (1820, 1024)),
        (1080, 1920, (1024, 1820)),
        (1024, 1333, (1024, 1333)),
        (7, 7, (1024, 1024)),
    ],
)
def test_the_shorter_side_is_exact_and_the_longer_one_rounded_down(
    height: int, width: int, expected: tuple[int, int]
) -> None:
    benchmark = BENCHMARKS["udm10"]
    assert benchmark.canvas(height, width) == expected
    assert benchmark.canvas(*expected) == expected
    assert BENCHMARKS["set5"].canvas(height, width) == (height, width)
    exact = max(height, width) * Fraction(1024, min(height, width))
    assert 0 <= exact - max(expected) < 1


def test_only_vivid_vrs_benchmarks_have_one() -> None:
    assert [name for name, one in BENCHMARKS.items() if one.short_side] == list(VIVID)
    assert [name for name, one in BENCHMARKS.items() if one.aligned] == ["spmcs"]
    for name, one in BENCHMARKS.items():
        assert ("short side of 1024" in one.rules()) == (name in VIVID)
        assert bool(one.learned) == (name in VIVID)


@pytest.mark.parametrize("name", ["udm10", "videolq"])
def test_the_input_arrives_at_1024_and_the_truth_with_it(name: str, photo: Tensor, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    truth = panning(photo, 120, 212)[:2]
    lq = functional.interpolate(truth, (30, 53), mode="bicubic", antialias=True).clamp(0, 1)
    write_clip(truth, tmp_path / "GT/000")
    write_clip(lq, tmp_path / "LQ/000")
    chosen = small(name, short_side=1024)
    (case,) = find_cases(chosen, tmp_path)
    material = prepare(chosen, case, 0)
    assert material.degraded.frames.shape == (2, 3, 1024, 1809)
    assert material.scale == 1
    # Pillow's bicubic has a = -0.5 and works in single precision on planes of floats.
    plane = pillow.fromarray(quantise(lq)[1, 0].numpy()).resize((1809, 1024), pillow.Resampling.BICUBIC)
    assert np.abs(np.clip(np.asarray(plane), 0, 1) - material.degraded.frames[1, 0].numpy()).max() < 1e-4
    if name == "videolq":
        assert material.truth is None
        return
    assert material.truth is not None
    assert material.truth.frames.shape == material.degraded.frames.shape
    assert torch.equal(material.truth.frames, quantise(material.truth.frames))
    plane = pillow.fromarray(quantise(truth)[0, 2].numpy()).resize((1809, 1024), pillow.Resampling.BICUBIC)
    assert (
        np.abs(np.clip(np.asarray(plane), 0, 1) - material.truth.frames[0, 2].numpy()).max()
        < 0.5 / 255 + 1e-4
    )


def test_a_truth_larger_than_that_is_reduced_without_aliasing(photo: Tensor, tmp_path: Path) -> None:
    fine = torch.rand(1, 3, 240, 240, generator=torch.Generator().manual_seed(1)).expand(2, 3, 240, 240)
    write_clip(fine, tmp_path / "GT/000")
    write_clip(photo[:, :, :60, :60].expand(2, 3, 60, 60), tmp_path / "LQ/000")
    chosen = small("youhq40", short_side=80)
    (case,) = find_cases(chosen, tmp_path)
    truth = prepare(chosen, case, 0).truth
    assert truth is not None and truth.frames.shape == (2, 3, 80, 80)
    # White noise loses its variance where nine pixels become one; picking pixels would keep it.
    assert float(truth.frames.var()) < 0.3 * float(fine[:1].var())


def test_other_proportions_are_refused(photo: Tensor, tmp_path: Path) -> None:
    write_clip(photo[:, :, :120, :160], tmp_path / "GT/000")
    write_clip(photo[:, :, :30, :42], tmp_path / "LQ/000")
    with pytest.raises(InputError, match=r"GT/000 is 160 x 120, but .*LQ/000 is 42 x 30: other proportions"):
        find_cases(small("udm10"), tmp_path)
    # Less than a pixel of the input is rounding, as 53 is of 212 / 4.
    write_clip(photo[:, :, :120, :163], tmp_path / "near/GT/000")
    write_clip(photo[:, :, :30, :41], tmp_path / "near/LQ/000")
    assert len(find_cases(small("udm10"), tmp_path / "near")) == 1


def test_a_restorer_sees_the_large_input_and_other_sizes_are_brought_to_it(data: Path) -> None:
    """Results twice as large as asked for, with and without a truth."""
    seen: list[tuple[int, ...]] = []

    class Twice:
        def restore(
            self, clip: Clip, prompt: str | None = None, plan: Plan = Plan(), progress: object = None
        ) -> Restoration:
            seen.append(tuple(clip.frames.shape))
            assert plan.scale == 1
            large = clip.with_frames(clip.frames.repeat_interleave(2, 2).repeat_interleave(2, 3))
            return Restoration(Trajectory((1.0,), (large,)))

    one = Contender(name="twice", kind="peer", make=lambda facts: Twice())
    for name in ("udm10", "aigc50"):
        chosen = small(name)
        run = Run(
            benchmark=chosen, cases=find_cases(chosen, data), models=["twice"], resolve=lambda name: one,
            settings=Settings(),
        )  # fmt: skip
        for row in execute(run, Journal(None)):
            # Twice every pixel, averaged again, is what the restorer was given.
            assert row.output["warping-error"] == pytest.approx(row.input["warping-error"], rel=0.05)
            assert (row.frames, row.input.keys()) == (3, row.output.keys())
    assert (3, 3, 64, 92) in seen


def test_a_stand_in_keeps_its_own_size(photo: Tensor, tmp_path: Path) -> None:
    stand_in = synthesized(BENCHMARKS["spmcs"])
    assert (stand_in.short_side, stand_in.aligned) == (None, 0)
    assert (
        stand_in.notes[1]
        == "the stand-in keeps its own size: not brought to a short side of 1024, not aligned"
    )
    write_image(Clip(photo[:, :, :60, :80].contiguous()), tmp_path / "photo.png")
    (case,) = find_cases(stand_in, tmp_path)
    assert prepare(stand_in, case, 0).degraded.frames.shape == (9, 3, 54, 72)


# The shift


def shifted(photo: Tensor, root: Path, down: int, right: int) -> Path:
    """One clip whose input is its truth, moved."""
    write_clip(panning(photo), root / "GT/000")
    write_clip(panning(photo, down=down, right=right), root / "LQ/000")
    return root


def test_a_shift_is_undone_and_stands_in_the_record(photo: Tensor, tmp_path: Path) -> None:
    root = shifted(photo, tmp_path / "data", 3, -2)
    out = tmp_path / "out"
    found = evaluate(small("spmcs"), root, ["peer:identity"], output=out)
    (row,) = found.rows
    assert row.shift == {"input": Shift(3, -2), "output": Shift(3, -2)}
    # What is left of both is equal, whatever looks at it.
    assert row.output["psnr-rgb"] == row.output["psnr-y"] == float("inf")
    assert row.output["ssim-rgb"] == pytest.approx(1) and row.output["flicker"] == 0
    assert row.output["gmsd"] == pytest.approx(0, abs=1e-6)
    blind = evaluate(small("spmcs", aligned=0), root, ["peer:identity"]).rows[0]
    assert blind.shift == {} and blind.output["psnr-rgb"] < 25
    report = json.loads((out / "report.json").read_text())
    (shown,) = report["rows"]
    assert shown["shift"]["output"] == {"down": 3, "right": -2, "rest_down": 0.0, "rest_right": 0.0}
    assert report["shifts"] == [
        {
            "group": "SPMCS", "model": "identity", "reach": 8, "rest_down": 0.0, "rest_right": 0.0,
            "places": [{"down": 3, "right": -2, "clips": 1}],
        }
    ]  # fmt: skip
    lines = {line["metric"]: line for line in csv.DictReader((out / "report.csv").read_text().splitlines())}
    assert (lines["shift-down"]["output"], lines["shift-right"]["input"]) == ("3", "-2")
    page = (out / "report.html").read_text()
    assert "1 clip 3 px below and 2 px left; about 0.00 down, 0.00 right was left on average" in page
    # Kept results are taken as they are, shift and all.
    again = evaluate(small("spmcs"), root, ["peer:identity"], output=out)
    assert again.rows == found.rows and again.report == found.report


def test_an_aligned_clip_has_the_same_numbers_as_without(data: Path) -> None:
    cheap = Settings(along="first")
    chosen = [small("spmcs"), small("spmcs", aligned=0)]
    found = [evaluate(one, data, ["peer:bilateral"], settings=cheap, frames=True, limit=1) for one in chosen]
    for row, other in zip(*(one.rows for one in found), strict=True):
        if row.shift:
            assert all((shift.down, shift.right) == (0, 0) for shift in row.shift.values())
        assert (row.input, row.output, row.film) == (other.input, other.output, other.film)


def test_the_shift_of_spmcs_is_that_of_its_making(photo: Tensor, tmp_path: Path) -> None:
    """The first of every 4 x 4 pixels is kept: 1.5 pixels of the truth off, 3 at twice its size."""
    truth = panning(photo, 64, 92)
    soft = functional.interpolate(truth, (20, 29), mode="bicubic", antialias=True)
    soft = functional.interpolate(soft, (64, 92), mode="bicubic", antialias=True).clamp(0, 1)
    write_clip(truth, tmp_path / "GT/000")
    write_clip(soft[:, :, ::4, ::4], tmp_path / "LQ/000")
    found = evaluate(small("spmcs", short_side=128), tmp_path, ["peer:identity"]).rows[0]
    assert (found.shift["output"].down, found.shift["output"].right) == (3, 3)
    blind = evaluate(small("spmcs", short_side=128, aligned=0), tmp_path, ["peer:identity"]).rows[0]
    assert found.output["psnr-y"] > blind.output["psnr-y"] + 1


# The tables


def test_the_metrics_of_the_tables_are_taken_or_said_to_be_absent() -> None:
    for name in VIVID:
        wanted = (*(("lpips",) if name in WITH_TRUTH else ()), *NO_REFERENCE)
        metrics, absent = metrics_of(BENCHMARKS[name], Settings())
        told = {one.name: one.why for one in absent}
        assert {"warping-error", "flicker"} <= {metric.name for metric in metrics}
        assert all(one in told or one in {metric.name for metric in metrics} for one in wanted)
        assert "github.com/VQAssessment/DOVER" in told["dover"] and "github.com/" in told["md-vqa"]
        assert {cell.metric for cell in cells(name)} <= {"psnr", "ssim", *wanted}
        # Asked for as well, they are not taken twice.
        assert metrics_of(BENCHMARKS[name], Settings(learned=("niqe", "dover"))) == (metrics, absent)
    assert set(NEVER) == {"dover", "md-vqa"}
    assert not any(isinstance(one, Metric) for one in metrics_of(BENCHMARKS["set5"], Settings())[1])


@pytest.mark.parametrize("name", VIVID)
def test_the_papers_numbers_stand_beside_ours(name: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = evaluate(small(name), data, ["peer:bilateral", "peer:identity"], output=out)
    report = found.report
    assert all((row.width, row.height, row.frames) == (92, 64, 3) for row in found.rows)
    assert all(row.output["warping-error"] >= 0 and row.input["warping-error"] >= 0 for row in found.rows)
    told = {(one["system"], one["metric"]): one for one in report["published"]}
    page = (out / "report.html").read_text()
    for cell in cells(name):
        one = told[cell.system, cell.metric]
        assert one["caveat"] and one["differences"]
        assert cell.system in page
    assert "run at a short side of 1024 pixels" in page
    if name in WITH_TRUTH:
        metric = next(one for one in report["metrics"] if one["name"] == "psnr-rgb")
        table = group_table(report, metric, "psnr")
        foreign = [column.label for column in table.columns if column.foreign]
        assert foreign[0] == "Real-ESRGAN" and foreign[-1] == "Vivid-VR" and len(foreign) == 9
        mean = dict(zip((column.label for column in table.columns), table.foot[0], strict=True))
        assert mean["Vivid-VR"].value == {"spmcs": 21.73, "udm10": 24.54, "youhq40": 21.31}[name]
        assert mean["bilateral"].value == pytest.approx(
            sum(row.output["psnr-rgb"] for row in found.rows if row.model == "bilateral") / 2, rel=1e-6
        )
        assert "does not say by which convention" in mean["Vivid-VR"].hint
        assert ("aligned at pixel level" in mean["DOVE"].hint) == (name != "spmcs")
        assert ("shifted pixels to align SPMCS" in mean["DOVE"].hint) == (name == "spmcs")
    others = other_numbers(report)
    assert others is not None
    lines = {(row[0].text, row[2].text): row[3] for row in others.rows}
    assert lines["Vivid-VR", "dover"].value == told["Vivid-VR", "dover"]["value"]
    assert "100 times DOVER's technical score" in lines["Vivid-VR", "dover"].hint


def test_where_a_network_judged_its_column_has_the_papers_beside_it() -> None:
    """NIQE as it would come from its package: the paper's systems of both tables stand beside our models."""
    niqe = Metric(
        name="niqe", label="NIQE", unit="", higher_is_better=False, of="picture", convention="", source="",
        measure=of_pictures(lambda picture: float(picture.mean())),
    )  # fmt: skip
    chosen = BENCHMARKS["ugc50"]
    one = Contender(name="ours", kind="model", make=lambda facts: None)
    rows = [
        Row(group="UGC50", name=str(index), model="ours", input={"niqe": 6.0}, output={"niqe": 4.0 + index})
        for index in range(2)
    ]
    report = summarise(chosen, [one], Settings(), [niqe], [Absence("dover", "not here")], rows)
    table = group_table(report, report["metrics"][0], "niqe")
    mean = {column.label: cell for column, cell in zip(table.columns, table.foot[0], strict=True)}
    assert (mean["ours"].value, mean["Vivid-VR"].value, mean["Real-ESRGAN"].value) == (4.5, 4.361, 5.866)
    assert mean["Vivid-VR (e): no concept distillation"].value == 5.364
    assert len([column for column in table.columns if column.foreign]) == 9 + 6
    assert "names neither implementation nor weights of its NIQE" in mean["Vivid-VR"].hint


def test_notes_say_which_reading_was_taken(data: Path) -> None:
    for name in VIVID:
        notes = " ".join(BENCHMARKS[name].notes)
        assert "short side of 1024, the longer side rounded down" in notes
        assert ("here it is the truth" in notes) == (name in WITH_TRUTH)
        assert ("shifted back by the whole pixels" in notes) == (name == "spmcs")
    found = evaluate(small("aigc50"), data, ["peer:identity"], limit=1)
    assert found.report["benchmark"]["notes"] == list(BENCHMARKS["aigc50"].notes)


def test_masks_are_brought_to_the_short_side_too(photo: Tensor, tmp_path: Path) -> None:
    pairs = Benchmark(
        name="p", title="P", holds="photo pairs", groups=(Group(name="all"),), masked=True, short_side=80, aligned=4,
        layouts=(Layout(degraded="LQ", truth="GT", masks="M"),),
    )  # fmt: skip
    mask = torch.zeros(1, 3, 40, 60)
    mask[..., :30] = 1
    for folder, image in (("LQ", photo[:, :, :40, :60] * 0.9), ("GT", photo[:, :, :40, :60]), ("M", mask)):
        (tmp_path / folder).mkdir()
        write_image(Clip(image.contiguous()), tmp_path / folder / "a.png")
    (group,) = pairs.groups
    case = Case(group, "a", *(tmp_path / folder / "a.png" for folder in ("GT", "LQ", "M")))
    material = prepare(pairs, case, 0)
    assert material.mask is not None and material.mask.shape == (1, 80, 120)
    assert float(material.mask.mean()) == pytest.approx(0.5, abs=0.01)
    (row,) = evaluate(pairs, tmp_path, ["peer:identity"]).rows
    assert row.shift["output"].down == row.shift["output"].right == 0 and row.output["psnr-masked"] > 20
