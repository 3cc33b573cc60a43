"""The protocol measured with restorers whose answer is known."""

import math
from dataclasses import dataclass

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from unfade.core import Clip, Plan, Restoration, Trajectory, generator
from unfade.core.contracts import Progress
from unfade.degrade import FOUNDIR, SINGLE
from unfade.degrade.classic import quantise
from unfade.evaluation.fidelity import psnr
from unfade.evaluation.peers import Identity
from unfade.evaluation.protocol import Row, classic, composed, run_task, spearman


def _photo(height: int = 33, width: int = 46) -> Tensor:
    smooth = torch.rand(1, 3, 5, 6, generator=generator(0, "photo"))
    return torch.nn.functional.interpolate(smooth, (height, width), mode="bicubic").clamp(0, 1)[0]


@dataclass
class Oracle:
    """Knows the truth; keeps what it was given, and overshoots on the way if told."""

    truth: Tensor
    detour: float = 0.0
    given: Clip | None = None
    prompt: str | None = None
    plan: Plan | None = None

    def restore(
        self,
        clip: Clip,
        prompt: str | None = None,
        plan: Plan | None = None,
        progress: Progress | None = None,
    ) -> Restoration:
        self.given, self.prompt, self.plan = clip, prompt, plan
        end = clip.with_frames(self.truth[None])
        if not self.detour:
            return Restoration(Trajectory((0.0, 1.0), (clip, end)))
        middle = clip.with_frames((clip.frames + self.detour).clamp(0, 1))
        return Restoration(Trajectory((0.0, 0.5, 1.0), (clip, middle, end)))


def test_identity_gains_nothing_and_never_rises() -> None:
    report = run_task(classic("noise-25"), [("a", _photo())], Identity(), restorer_name="identity")
    (row,) = report.rows
    assert row.gain == 0 and row.input_psnr == row.output_psnr and row.input_ssim == row.output_ssim
    assert not row.rises and row.largest_drop == 0 and math.isnan(row.spearman)
    assert report.rising == 0


def test_an_oracle_restores_perfectly_and_rises() -> None:
    photo = quantise(_photo())
    report = run_task(classic("noise-25"), [("a", photo)], Oracle(photo), restorer_name="oracle")
    (row,) = report.rows
    assert row.output_psnr == math.inf and row.output_ssim == pytest.approx(1)
    assert len(row.film) == 9 and row.film[0] == row.input_psnr and row.film[-1] == math.inf
    assert row.rises and row.largest_drop == 0 and row.spearman == pytest.approx(1)
    # Halfway along the straight line half the error is left: about 6 dB better.
    assert row.film[4] - row.film[0] == pytest.approx(6.02, abs=0.1)


def test_a_detour_is_seen() -> None:
    photo = quantise(_photo())
    report = run_task(classic("noise-15"), [("a", photo)], Oracle(photo, detour=0.3), restorer_name="detour")
    (row,) = report.rows
    assert not row.rises and row.largest_drop > 1 and row.spearman < 1
    assert row.largest_drop == max(a - b for a, b in zip(row.film, row.film[1:], strict=False))


def test_input_and_output_have_8_bits() -> None:
    photo = _photo()
    truth = quantise(photo)
    oracle = Oracle(truth + 0.4 / 255)
    report = run_task(classic("jpeg-10"), [("a", photo)], oracle, restorer_name="oracle")
    assert oracle.given is not None
    levels = oracle.given.frames * 255
    assert float((levels - levels.round()).abs().max()) < 1e-4
    assert report.rows[0].output_psnr == math.inf, "an error below half a level is rounded away"


def test_prompt_and_plan_reach_the_restorer() -> None:
    photo = _photo()
    oracle, plan = Oracle(quantise(photo)), Plan(steps=3)
    run_task(classic("clean"), [("a", photo)], oracle, restorer_name="oracle", plan=plan, prompt="denoise")
    assert oracle.prompt == "denoise" and oracle.plan is plan


def test_seeds_depend_on_task_and_name_only() -> None:
    photo = _photo()

    def inputs(*names: str, seed: int = 0) -> list[float]:
        photos = [(name, photo) for name in names]
        report = run_task(classic("noise-50"), photos, Identity(), restorer_name="identity", seed=seed)
        return [row.input_psnr for row in report.rows]

    assert inputs("a", "b") == inputs("a", "b") == inputs("b", "a")[::-1]
    assert inputs("a") != inputs("b")
    assert inputs("a") != inputs("a", seed=1)


def test_enlargement_is_cropped_to_the_scale_and_judged_on_luma_without_border() -> None:
    task = classic("x4")
    assert (task.colour, task.border, task.multiple) == ("y", 4, 4)
    photo = _photo(33, 46)
    report = run_task(task, [("a", photo)], Identity(), restorer_name="identity")
    truth = quantise(photo)[:, :32, :44]
    degraded = task.degrade(truth[None], generator(0))[0]
    assert report.rows[0].input_psnr == psnr(degraded, truth, "y", 4)


@pytest.mark.parametrize("name", ["Lowlight_Blur_Noise", "Rain_Haze", "Raindrop"])
def test_compositions_are_tasks(name: str) -> None:
    report = run_task(composed(name, FOUNDIR[name]), [("a", _photo())], Identity(), restorer_name="identity")
    assert 0 < report.rows[0].input_psnr < 60


def test_clean_photos_come_back_with_infinite_psnr_from_the_identity() -> None:
    report = run_task(classic("clean"), [("a", _photo())], Identity(), restorer_name="identity")
    assert report.summary()["output_psnr"] == math.inf and report.summary()["gain"] == 0


def test_a_report_lists_summary_and_rows() -> None:
    photos = [("a", _photo()), ("b", _photo(40, 40))]
    report = run_task(composed("snow", SINGLE["snow"]), photos, Identity(), restorer_name="identity")
    document = report.as_dict()
    assert document["images"] == 2 and [row["image"] for row in document["rows"]] == ["a", "b"]
    mean = sum(row["input_psnr"] for row in document["rows"]) / 2
    assert document["input_psnr"] == pytest.approx(mean)
    assert {"film", "rises", "largest_drop", "spearman", "seconds"} <= document["rows"][0].keys()


def test_the_impossible_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown task"):
        classic("x17")
    with pytest.raises(ValueError, match="no photos"):
        run_task(classic("clean"), [], Identity(), restorer_name="identity")
    with pytest.raises(ValueError, match="smaller than 4"):
        run_task(classic("x4"), [("thin", torch.zeros(3, 3, 50))], Identity(), restorer_name="identity")


@pytest.mark.parametrize("values", [[1.0, 3, 2, 5, 4], [2.0, 2, 1, 5, 5], [5.0, 4, 3, 2, 1]])
def test_spearman_agrees_with_scipy(values: list[float]) -> None:
    assert spearman(range(5), values) == pytest.approx(spearmanr(range(5), values).statistic)


def test_one_drop_among_nine_frames() -> None:
    film = (20.0, 21, 22, 23, 24, 25, 24.5, 26, 27)
    row = Row("a", 20, 27, 0.5, 0.9, film, 0.0)
    assert not row.rises and row.largest_drop == 0.5 and row.gain == 7
