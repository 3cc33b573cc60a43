"""The table of metrics: which are there, what they need, and that they are the functions they name."""

import math
import subprocess
import sys

import pytest
import torch

from unfade.core import UsageError, generator
from unfade.evaluation.metrics.choice import metrics_for
from unfade.evaluation.metrics.convention import FOUNDIR, RGB, VBRIDGE_RGB, VBRIDGE_Y, Y
from unfade.evaluation.metrics.fidelity import (
    masked_psnr,
    psnr,
    psnr_by,
    ssim,
    ssim_by,
    weighted_psnr,
    weighted_ssim,
)
from unfade.evaluation.metrics.learned import LEARNED, NEVER

pytest.importorskip("cv2")
pytest.importorskip("torchmetrics")

CONVENTIONS = (RGB, Y, FOUNDIR, VBRIDGE_RGB, VBRIDGE_Y)


def _clips(frames: int = 3, height: int = 44, width: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    dice = generator(0, "clips")
    truth = torch.rand(frames, 3, height, width, generator=dice)
    return (truth + 0.1 * torch.randn(truth.shape, generator=dice)).clamp(0, 1), truth


def test_a_convention_gives_two_metrics() -> None:
    metrics, absences = metrics_for(CONVENTIONS, scale=2)
    x, truth = _clips()
    by_name = {metric.name: metric for metric in metrics}
    assert absences == ()
    for convention in CONVENTIONS:
        for kind, count in (("psnr", psnr_by), ("ssim", ssim_by)):
            metric = by_name[f"{kind}-{convention.name}"]
            assert metric.measure(x, truth) == pytest.approx(count(convention, x, truth, 2), abs=1e-12)
            assert metric.of == "pair" and metric.higher_is_better and metric.cheap
            assert metric.unit == ("dB" if kind == "psnr" else "") and metric.convention and metric.source
    assert "border 2 cropped" in by_name["psnr-y"].convention
    assert list(by_name)[-2:] == ["gmsd", "vif"] and not by_name["vif"].cheap


def test_one_frame_counts_as_a_picture() -> None:
    x, truth = _clips(1)
    by_name = {metric.name: metric for metric in metrics_for((RGB, Y))[0]}
    assert by_name["psnr-rgb"].measure(x, truth) == pytest.approx(psnr(x[0], truth[0]), abs=1e-12)
    assert by_name["ssim-y"].measure(x, truth) == pytest.approx(ssim(x[0], truth[0], "y"), abs=1e-12)


def test_equal_clips_are_infinitely_alike_but_not_by_foundir() -> None:
    _, truth = _clips()
    by_name = {metric.name: metric.measure(truth, truth) for metric in metrics_for(CONVENTIONS)[0]}
    assert by_name.pop("psnr-foundir") == pytest.approx(80)
    assert by_name.pop("gmsd") == 0
    for name, value in by_name.items():
        assert value == (math.inf if name.startswith("psnr") else pytest.approx(1, abs=5e-5)), name


def test_what_is_too_small_has_no_figure() -> None:
    x, truth = _clips(1, 12, 12)
    values = {metric.name: metric.measure(x, truth) for metric in metrics_for((RGB, Y), scale=4)[0]}
    assert values["psnr-y"] is not None and values["ssim-rgb"] is not None
    assert values["ssim-y"] is None and values["vif"] is None
    tiny = {
        metric.name: metric.measure(x[..., :8, :8], truth[..., :8, :8])
        for metric in metrics_for((Y,), scale=4)[0]
    }
    assert tiny["psnr-y"] is None


def test_masks_add_three_figures() -> None:
    x, truth = _clips()
    mask = torch.rand(1, 44, 50, generator=generator(1))
    metrics, _ = metrics_for((RGB,), masked=True)
    by_name = {metric.name: metric for metric in metrics if metric.of == "mask"}
    for name, count in (
        ("psnr-masked", masked_psnr),
        ("psnr-weighted", weighted_psnr),
        ("ssim-weighted", weighted_ssim),
    ):
        measure = by_name[name].measure
        assert measure(x, truth, mask) == count(x, truth, mask)
        assert measure(x, truth, torch.zeros_like(mask)) is None
        assert measure(x[..., :10, :10], truth[..., :10, :10], torch.zeros(1, 10, 10)) is None
        with pytest.raises(ValueError, match="mask"):
            measure(x, truth)
    assert by_name["psnr-masked"].measure(x, truth, 0.5 * mask) is None
    rim = torch.ones_like(mask)
    rim[:, 5:-5, 5:-5] = 0
    assert by_name["ssim-weighted"].measure(x, truth, rim) is None
    assert len(by_name) == 3


def test_footage_adds_motion_and_light() -> None:
    metrics, absences = metrics_for((RGB,), footage=True)
    assert absences == ()
    of_footage = {metric.name: metric for metric in metrics if metric.of == "footage"}
    assert set(of_footage) == {"warping-error", "flicker"}
    assert not any(metric.higher_is_better for metric in of_footage.values())
    x, truth = _clips()
    for metric in of_footage.values():
        value = metric.measure(x, truth)
        assert value is not None and value > 0


def test_networks_are_asked_for_by_name_and_present_or_absent() -> None:
    names = [*LEARNED, *NEVER]
    metrics, absences = metrics_for((RGB,), learned=names)
    found = {metric.name for metric in metrics} & set(names)
    assert found | {absence.name for absence in absences} == set(names)
    assert {"dover", "md-vqa"} <= {absence.name for absence in absences}
    assert not any(metric.cheap for metric in metrics if metric.name in found)


def test_the_same_twice_or_unknown_is_refused() -> None:
    with pytest.raises(UsageError, match="psnr-rgb"):
        metrics_for((RGB, RGB))
    with pytest.raises(UsageError, match="dover"):
        metrics_for((RGB,), learned=("dover", "dover"))
    with pytest.raises(UsageError, match="choose one of"):
        metrics_for((RGB,), learned=("vmaf",))


def test_pairs_without_truth_or_of_two_sizes_are_refused() -> None:
    x, truth = _clips()
    for metric in metrics_for((RGB,))[0]:
        with pytest.raises(ValueError, match="truth"):
            metric.measure(x)
        with pytest.raises(ValueError, match="one size"):
            metric.measure(x, truth[:2])


def test_importing_metrics_and_peers_imports_no_library() -> None:
    heavy = ("bm3d", "cv2", "pyiqa", "scipy", "spandrel", "torchmetrics", "torchvision")
    script = (
        "import sys, unfade.evaluation.metrics.choice, unfade.evaluation.peers; "
        f"sys.exit(any(name in sys.modules for name in {heavy}))"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
