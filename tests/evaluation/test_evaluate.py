"""Whole evaluations on small folders: averages by hand, interruption, workers, what is not comparable."""

import json
import math
import multiprocessing
import signal
import time
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch
from tests.forked import Command

from unfade.core import Clip, InputError, ModelError, OutputError, UnfadeError, UsageError
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group, Layout
from unfade.evaluation.contender import Contender
from unfade.evaluation.journal import Journal
from unfade.evaluation.measure import Settings, metrics_of
from unfade.evaluation.peers.enlargement import Identity
from unfade.evaluation.run import Run, execute
from unfade.evaluation.summary import summarise
from unfade.media.image_writer import write_image
from unfade.recipes.evaluate import contender, evaluate

SMALL = Benchmark(
    name="small",
    title="Small",
    holds="clean photos",
    groups=(
        Group(name="noise-25", make="noise-25"),
        Group(name="clean", make="clean"),
        Group(name="x2", make="x2", scale=2),
    ),
)
MODELS = ("peer:identity", "peer:bilateral")


@pytest.fixture
def photos(tmp_path: Path, examples: Path) -> Path:
    """Three crops of the example photos, 48 pixels a side."""
    from unfade.media.images import read_image

    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut.png", "chelsea.png", "coffee.png"):
        frames = read_image(examples / name).frames[:, :, 100:148, 200:248]
        write_image(Clip(frames.contiguous()), folder / name)
    return folder


def test_averages_over_images_and_over_groups_are_those_of_the_rows(photos: Path) -> None:
    uneven = replace(SMALL, groups=(SMALL.groups[0], SMALL.groups[2]))
    found = evaluate(uneven, photos, MODELS)
    rows = [row for row in found.rows if row.model == "bilateral"]
    values = [row.output["psnr-rgb"] for row in rows]
    (average,) = (one for one in found.report["averages"] if one["model"] == "bilateral")
    assert average["count"] == len(values) == 6
    assert average["by_images"]["output"]["psnr-rgb"] == pytest.approx(sum(values) / 6)
    groups = [one for one in found.report["groups"] if one["model"] == "bilateral"]
    assert [one["count"] for one in groups] == [3, 3]
    expected = sum(one["output"]["psnr-rgb"] for one in groups) / 2
    assert average["by_groups"]["output"]["psnr-rgb"] == pytest.approx(expected)
    gains = [row.output["psnr-rgb"] - row.input["psnr-rgb"] for row in rows if row.group == "noise-25"]
    assert groups[0]["gain"]["psnr-rgb"] == pytest.approx(sum(gains) / 3)
    assert gains[0] > 0


def test_a_perfect_input_has_no_finite_psnr_and_the_report_says_so(photos: Path) -> None:
    found = evaluate(SMALL, photos, ["peer:identity"], groups=["clean"])
    (group,) = found.report["groups"]
    assert group["input"]["psnr-rgb"] == group["output"]["psnr-rgb"] == "inf"
    assert group["gain"]["psnr-rgb"] == 0
    json.dumps(found.report, allow_nan=False)


def test_films_become_curves_with_their_anchors(photos: Path) -> None:
    found = evaluate(SMALL, photos, MODELS, groups=["noise-25"], frames=True)
    (curve,) = (
        one for one in found.report["curves"] if (one["model"], one["metric"]) == ("bilateral", "psnr-rgb")
    )
    assert len(curve["mean"]) == 9
    assert curve["mean"][0] == pytest.approx(found.report["groups"][0]["input"]["psnr-rgb"])
    assert curve["spearman"]["rho"] == pytest.approx(1)
    anchors = {one["label"]: one["values"] for one in found.report["anchors"] if one["metric"] == "psnr-rgb"}
    assert anchors["input vs truth"] == [pytest.approx(curve["mean"][0])]
    target = anchors["target trajectory vs truth"]
    assert len(target) == 9
    assert target == sorted(target)
    # The straight way to the truth halves the error half way: 6 dB, but for rounding to 8 bits.
    assert target[4] - target[0] == pytest.approx(20 * math.log10(2), abs=0.3)


def test_a_round_trip_is_the_ceiling_of_a_latent_backbone(photos: Path) -> None:
    """Rounding to 16 levels stands for what a codec loses: its error is known."""
    from unfade.evaluation.benchmarks.case import find_cases
    from unfade.evaluation.benchmarks.table import only

    lossy = Contender(
        name="coarse",
        kind="model",
        make=lambda facts: Identity(),
        round_trip=lambda clip: clip.with_frames((clip.frames * 15).round() / 15),
        film_trip=lambda film: (film * 15).round() / 15,
    )
    chosen = only(SMALL, ["noise-25"])
    run = Run(
        benchmark=chosen, cases=find_cases(chosen, photos), models=["coarse"], resolve=lambda name: lossy,
        settings=Settings(film=3),
    )  # fmt: skip
    rows = {(row.model, row.name): row for row in execute(run, Journal(None))}
    ceiling = rows["VAE round trip (coarse)", "chelsea"].output["psnr-rgb"]
    assert ceiling == pytest.approx(20 * math.log10(15 * math.sqrt(12)), abs=0.5)
    assert ceiling > rows["coarse", "chelsea"].output["psnr-rgb"]
    # The way there is anchored to what the codec leaves of it: worse than the way itself where that is good.
    way = rows["target trajectory", "chelsea"].film["psnr-rgb"]
    through = rows["VAE round trip (coarse)", "chelsea"].film["psnr-rgb"]
    assert len(through) == 3 and through[-1] == pytest.approx(ceiling)
    assert way[0] - 2 < through[0] < through[1] < through[2] and through[1] < way[1]
    report = summarise(chosen, [lossy], run.settings, *metrics_of(chosen, run.settings), list(rows.values()))
    anchors = {one["label"]: one["values"] for one in report["anchors"] if one["metric"] == "psnr-rgb"}
    curve = anchors["VAE round trip of the target trajectory (coarse) vs truth"]
    assert len(curve) == 3 and curve[-1] == anchors["VAE round trip (coarse) vs truth"][0]


def test_what_does_not_apply_has_no_row_and_no_average(photos: Path) -> None:
    found = evaluate(SMALL, photos, ["peer:identity", "peer:wiener"])
    assert {row["model"] for row in found.report["rows"]} == {"identity"}
    assert {one["group"] for one in found.report["not_applicable"]} == {"noise-25", "clean", "x2"}
    assert [one["model"] for one in found.report["averages"]] == ["identity"]


def test_a_limit_and_a_synthetic_source_are_said(photos: Path) -> None:
    found = evaluate("foundir", photos, ["peer:identity"], synthesize=True, limit=2, groups=["Blur", "Haze"])
    assert found.report["benchmark"]["synthetic"]
    assert found.report["benchmark"]["notes"][0].startswith("SYNTHETIC")
    assert found.report["settings"]["limit"] == 2
    assert [one["count"] for one in found.report["groups"]] == [2, 2]
    told = [one["differences"] for one in found.report["published"]]
    assert told
    assert all(any("synthetic" in line.lower() for line in lines) for lines in told)


def test_several_workers_give_the_same_report(
    photos: Path, forkserver: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers that have everything imported.
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: forkserver)
    alone = evaluate(SMALL, photos, MODELS, limit=2)
    shared = evaluate(SMALL, photos, MODELS, limit=2, workers=2)
    assert alone.report == shared.report


def test_an_interrupted_run_goes_on_to_the_identical_report(
    photos: Path, tmp_path: Path, forkserver: object
) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    words = [
        "evaluate", "--synthesize", "foundir", "--from", photos, "--group", "Noise", "--group", "Haze",
        "--limit", "2", "--model", "tiny", "--model", "peer:nlm-default", "--frames",
    ]  # fmt: skip
    with Command(*words, "-o", whole) as running:
        running.communicate()
    assert running.returncode == 0
    journal = torn / "journal.jsonl"
    with Command(*words, "-o", torn) as running:
        while running.poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
            time.sleep(0.005)
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert not (torn / "report.json").exists()
    before = len(Journal(journal))
    assert 4 <= before < len(Journal(whole / "journal.jsonl"))
    # A crash may leave half a line as well.
    journal.write_bytes(journal.read_bytes() + b'{"format": 1, "key": "ab')
    with Command(*words, "-o", torn) as running:
        running.communicate()
    assert running.returncode == 0
    for name in ("report.json", "report.csv"):
        assert (torn / name).read_bytes() == (whole / name).read_bytes()


def test_kept_results_are_not_computed_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = evaluate(SMALL, photos, MODELS, output=out)
    lines = (out / "journal.jsonl").read_bytes()
    second = evaluate(SMALL, photos, MODELS, output=out)
    assert (out / "journal.jsonl").read_bytes() == lines
    assert [row.seconds for row in first.rows] == [row.seconds for row in second.rows]
    evaluate(SMALL, photos, MODELS, settings=Settings(seed=1), output=out)
    assert (out / "journal.jsonl").stat().st_size > 1.9 * len(lines)


def test_masks_weigh_the_error(tmp_path: Path) -> None:
    masked = Benchmark(
        name="masked", title="Masked", holds="photo pairs", groups=(Group(name="all"),), masked=True,
        layouts=(Layout(degraded="blur", truth="sharp", masks="masks"),),
    )  # fmt: skip
    truth = torch.full((3, 32, 32), 100 / 255)
    blur, mask = truth.clone(), torch.zeros(3, 32, 32)
    blur[:, 8:24, 8:24] += 51 / 255
    mask[:, 8:24, 8:24] = 1
    for folder, image in (("blur", blur), ("sharp", truth), ("masks", mask)):
        (tmp_path / folder).mkdir()
        write_image(Clip.of(image), tmp_path / folder / "1.png")
    (row,) = evaluate(masked, tmp_path, ["peer:identity"]).rows
    assert row.input["psnr-masked"] == pytest.approx(20 * math.log10(255 / 51), abs=1e-6)
    assert row.input["psnr-weighted"] == pytest.approx(row.input["psnr-masked"], abs=1e-6)
    assert row.input["psnr-rgb"] == pytest.approx(row.input["psnr-masked"] + 10 * math.log10(4), abs=1e-6)


def test_footage_is_judged_with_its_own_metrics(tmp_path: Path, photos: Path) -> None:
    from unfade.media.images import read_image

    photo = read_image(photos / "coffee.png").frames
    for side, extra in (("GT", 0.0), ("LQ", 0.1)):
        folder = tmp_path / side / "clip"
        folder.mkdir(parents=True)
        for index in range(3):
            shifted = torch.roll(photo, index, 3) + extra * (index % 2)
            write_image(Clip(shifted.clamp(0, 1)), folder / f"{index}.png")
    real = Benchmark(
        name="clips", title="Clips", holds="clip pairs", groups=(Group(name="all", count=1),),
        layouts=(Layout(truth="GT", degraded="LQ"),),
    )  # fmt: skip
    (row,) = evaluate(real, tmp_path, ["peer:identity"]).rows
    assert row.frames == 3
    assert row.input["flicker"] > 0
    assert row.input["warping-error"] > 0
    (tmp_path / "GT/clip/2.png").unlink()
    with pytest.raises(InputError, match="3 frames"):
        evaluate(real, tmp_path, ["peer:identity"])


def test_groups_left_out_are_said_wherever_a_whole_average_stands_beside(photos: Path) -> None:
    found = evaluate("foundir", photos, ["peer:identity"], synthesize=True, groups=["JPEG"])
    assert found.report["settings"]["groups"] == ["JPEG"]
    assert "ONLY 1 of 20 groups: JPEG" in found.report["benchmark"]["notes"]
    averages = [one for one in found.report["published"] if one["group"] is None]
    assert averages
    assert all("This run took fewer pictures than the paper." in one["differences"] for one in averages)


def test_a_curve_over_all_groups_needs_all_groups(photos: Path) -> None:
    models = ["peer:identity", "peer:mean-gain"]
    found = evaluate(
        "everyday", photos, models, synthesize=True, frames=True, groups=["dark-0.2", "defocus-3"]
    )
    drawn = {(one["model"], one["group"]) for one in found.report["curves"]}
    assert ("identity", "all") in drawn
    assert ("mean-gain", "dark-0.2") in drawn
    assert ("mean-gain", "all") not in drawn


def test_enlargements_have_their_input_as_an_anchor(photos: Path) -> None:
    found = evaluate(SMALL, photos, ["peer:lanczos"], groups=["x2"], frames=True)
    assert {one["label"] for one in found.report["anchors"]} == {"input vs truth"}


def test_small_clips_are_judged_at_the_size_of_their_truth(photos: Path, tmp_path: Path) -> None:
    from unfade.media.images import read_image

    photo = read_image(photos / "coffee.png").frames
    for side, step in (("GT", 1), ("LQ", 4)):
        for index in range(2):
            path = tmp_path / side / "c0" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(Clip(photo[:, :, ::step, ::step].contiguous()), path)
    real = Benchmark(
        name="clips", title="Clips", holds="clip pairs", groups=(Group(name="all"),), resized=True,
        layouts=(Layout(truth="GT", degraded="LQ"),),
    )  # fmt: skip
    found = evaluate(real, tmp_path, ["peer:identity"], output=tmp_path / "out", frames=True)
    assert (found.rows[0].width, found.rows[0].height) == (48, 48)
    assert found.page is not None
    assert found.page.stat().st_size > 10_000


def test_without_a_truth_only_what_needs_none_is_reported(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "LQ/c0"
    folder.mkdir(parents=True)
    for index, name in enumerate(("coffee", "chelsea", "astronaut")):
        (folder / f"{index}.png").write_bytes((photos / f"{name}.png").read_bytes())
    real = Benchmark(
        name="clips", title="Clips", holds="clips without truth", groups=(Group(name="all"),),
        layouts=(Layout(degraded="LQ"),),
    )  # fmt: skip
    found = evaluate(real, tmp_path, ["peer:identity", "peer:bilateral"], output=tmp_path / "out")
    assert {one["name"] for one in found.report["metrics"]} == {"warping-error", "flicker"}
    assert (tmp_path / "out/report.html").exists()


def test_a_folder_with_another_benchmarks_report_is_left_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate(SMALL, photos, ["peer:identity"], groups=["clean"], output=out)
    with pytest.raises(OutputError, match="report of another benchmark"):
        evaluate("foundir", photos, ["peer:identity"], synthesize=True, output=out)
    (tmp_path / "odd/journal.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match="is a folder"):
        evaluate(SMALL, photos, ["peer:identity"], groups=["clean"], output=tmp_path / "odd")


def test_a_refused_evaluation_leaves_no_folder(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        evaluate("set5", photos, ["peer:identity"], output=tmp_path / "new/out")
    assert not (tmp_path / "new").exists()


def test_a_failing_restorer_is_told_with_its_case(photos: Path) -> None:
    class Broken:
        def restore(self, *given: object, **more: object) -> object:
            raise ModelError("its weights are gone")

    run = Run(
        benchmark=replace(SMALL, groups=SMALL.groups[:1]),
        cases=[],
        models=["broken"],
        resolve=lambda name: Contender(name="broken", kind="model", make=lambda facts: Broken()),  # type: ignore[arg-type,return-value]
        settings=Settings(),
    )
    from unfade.evaluation.benchmarks.case import find_cases

    run = replace(run, cases=find_cases(run.benchmark, photos))
    with pytest.raises(ModelError, match="broken failed on astronaut of noise-25: its weights are gone"):
        execute(run, Journal(None))


def test_wrong_requests_are_refused_before_any_work(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown benchmark 'nowhere'; there is foundir"):
        evaluate("nowhere", photos)
    with pytest.raises(UsageError, match="takes part twice"):
        evaluate(SMALL, photos, ["tiny", "tiny"])
    with pytest.raises(UsageError, match="nothing takes part"):
        evaluate(SMALL, photos, [])
    with pytest.raises(UnfadeError, match="nosuch"):
        contender("peer:nosuch")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be made"):
        evaluate(SMALL, photos, MODELS, output=tmp_path / "file/report")
