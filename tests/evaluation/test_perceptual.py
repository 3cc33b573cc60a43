"""GMSD and VIF against the papers' formulas in numpy; networks that judge, present or absent."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from torch import Tensor

from unfade.core import UsageError, generator
from unfade.evaluation.metrics.fidelity import full_luma
from unfade.evaluation.metrics.learned import LEARNED, NEVER, learned_metric
from unfade.evaluation.metrics.metric import Absence, Metric
from unfade.evaluation.metrics.perceptual import gmsd, perceptual_metrics, vif
from unfade.media.images import read_image

pytest.importorskip("cv2")
pytest.importorskip("torchmetrics")


@pytest.fixture
def photo(examples: Path) -> Tensor:
    """A piece of an example photo, `[3, 96, 120]`."""
    return read_image(examples / "coffee.png").frames[0, :, 100:196, 200:320]


def _noisy(photo: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(photo.shape, generator=generator(0, "noise"))
    return (photo + sigma / 255 * noise).clamp(0, 1)


def _grey(x: Tensor) -> np.ndarray:
    return full_luma(x)[0].numpy()


def _gmsd_in_numpy(x: np.ndarray, truth: np.ndarray) -> float:
    """Xue et al. 2014: halved, Prewitt gradients, similarity with c = 170, its standard deviation."""
    slope = np.array([[1, 0, -1]] * 3) / 3
    magnitudes = []
    for plane in (x, truth):
        padded = np.pad(plane, ((0, 1), (0, 1)))
        half = (padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:])[::2, ::2] / 4
        across, along = convolve2d(half, slope, "same"), convolve2d(half, slope.T, "same")
        magnitudes.append(np.hypot(across, along))
    first, second = magnitudes
    return float(np.std((2 * first * second + 170) / (first**2 + second**2 + 170)))


def _vif_in_numpy(x: np.ndarray, truth: np.ndarray) -> float:
    """VIFp of Sheikh and Bovik: four scales, Gaussian windows, scalar Gaussian model, noise variance 2."""
    kept = held = 0.0
    for scale in range(4):
        size = 2 ** (4 - scale) + 1
        distance = np.arange(size) - size // 2
        window = np.exp(-(distance**2) / (2 * (size / 5) ** 2))
        window = np.outer(window, window) / window.sum() ** 2

        def smooth(plane: np.ndarray, window: np.ndarray = window) -> np.ndarray:
            return convolve2d(plane, window, "valid")

        if scale:
            x, truth = smooth(x)[::2, ::2], smooth(truth)[::2, ::2]
        mean_x, mean_t = smooth(x), smooth(truth)
        var_x = np.maximum(smooth(x * x) - mean_x**2, 0)
        var_t = np.maximum(smooth(truth * truth) - mean_t**2, 0)
        both = smooth(x * truth) - mean_x * mean_t
        gain = both / (var_t + 1e-10)
        left = np.where(gain < 0, var_x, var_x - gain * both)
        gain = np.maximum(gain, 0)
        kept += np.log10(1 + gain**2 * var_t / (np.maximum(left, 1e-10) + 2)).sum()
        held += np.log10(1 + var_t / 2).sum()
    return float(kept / held)


@pytest.mark.parametrize("sigma", [2, 10, 40])
@pytest.mark.parametrize("size", [(96, 120), (64, 50), (8, 8)])
def test_gmsd_agrees_with_the_paper(photo: Tensor, sigma: float, size: tuple[int, int]) -> None:
    truth = photo[:, : size[0], : size[1]]
    x = _noisy(truth, sigma)
    assert gmsd(x, truth) == pytest.approx(_gmsd_in_numpy(_grey(x), _grey(truth)), abs=1e-5)


def test_gmsd_of_equal_pictures_is_nothing_and_grows_with_noise(photo: Tensor) -> None:
    values = [gmsd(_noisy(photo, sigma), photo) for sigma in (0, 5, 15, 40)]
    assert values[0] == 0 and values == sorted(set(values))


@pytest.mark.parametrize("sigma", [2, 10, 40])
@pytest.mark.parametrize("size", [(96, 120), (57, 83), (41, 41)])
def test_vif_agrees_with_the_paper(photo: Tensor, sigma: float, size: tuple[int, int]) -> None:
    truth = photo[:, : size[0], : size[1]]
    x = _noisy(truth, sigma)
    assert vif(x, truth) == pytest.approx(_vif_in_numpy(_grey(x), _grey(truth)), abs=5e-5)


def test_vif_is_one_for_equals_falls_with_noise_and_rises_with_contrast(photo: Tensor) -> None:
    values = [vif(_noisy(photo, sigma), photo) or 0.0 for sigma in (0, 5, 15, 40)]
    assert values[0] == pytest.approx(1, abs=5e-5)
    assert values == sorted(set(values), reverse=True)
    soft = 0.25 + 0.5 * photo
    assert (vif(photo, soft) or 0.0) > 1


def test_vif_of_a_constant_truth_is_not_defined(photo: Tensor) -> None:
    assert vif(photo, torch.full_like(photo, 0.5)) is None
    assert vif(torch.full_like(photo, 0.5), photo) == pytest.approx(0, abs=1e-6)


def test_what_is_too_small_or_unlike_is_refused(photo: Tensor) -> None:
    with pytest.raises(ValueError, match="8x8"):
        gmsd(photo[:, :7], photo[:, :7])
    with pytest.raises(ValueError, match="41x41"):
        vif(photo[:, :, :40], photo[:, :, :40])
    for measure in (gmsd, vif):
        with pytest.raises(ValueError, match="one size"):
            measure(photo, photo[:, 1:])


def test_metrics_average_frames_and_give_none_for_what_is_too_small(photo: Tensor) -> None:
    metrics, absences = perceptual_metrics()
    assert [metric.name for metric in metrics] == ["gmsd", "vif"] and absences == ()
    truth = torch.stack([photo, photo.flip(-1)])
    x = torch.stack([_noisy(frame, sigma) for frame, sigma in zip(truth, (5, 20), strict=True)])
    for metric, one, side in zip(metrics, (gmsd, vif), (7, 40), strict=True):
        values = [one(frame, true) or 0.0 for frame, true in zip(x, truth, strict=True)]
        assert metric.measure(x, truth) == pytest.approx(sum(values) / 2)
        assert metric.measure(x[..., :side], truth[..., :side]) is None
        with pytest.raises(ValueError, match="truth"):
            metric.measure(x)
    assert metrics[1].measure(x, torch.zeros_like(x)) is None
    assert "OpenCV" in metrics[0].source and "torchmetrics" in metrics[1].source


@pytest.mark.parametrize("name", LEARNED)
def test_networks_without_weights_are_absent_with_a_clear_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = learned_metric(name)
    assert isinstance(found, Absence) and found.name == name and "\n" not in found.why
    for file in LEARNED[name].files:
        assert Path(file).name in found.why and str((tmp_path / "hub" / file).parent) in found.why
    for module in LEARNED[name].modules:
        missing = importlib.util.find_spec(module) is None
        assert (module in found.why) == missing
    assert list(tmp_path.rglob("*.*")) == [], "nothing was downloaded"


@pytest.mark.parametrize("name", ["lpips", "musiq", "clip-iqa"])
def test_networks_with_damaged_weights_are_absent(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = [module for module in LEARNED[name].modules if importlib.util.find_spec(module) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (the extra perceptual)")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for file in LEARNED[name].files:
        path = tmp_path / "hub" / file
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no weights")
    found = learned_metric(name)
    assert isinstance(found, Absence) and "damaged" in found.why and str(tmp_path) in found.why


@pytest.mark.parametrize("name", NEVER)
def test_networks_no_package_holds_say_what_is_needed(name: str) -> None:
    found = learned_metric(name)
    assert isinstance(found, Absence) and "weights" in found.why and "\n" not in found.why
    assert "github.com/" in found.why


def test_unknown_networks_are_refused() -> None:
    with pytest.raises(UsageError, match=r"lpips.*dover"):
        learned_metric("vmaf")


@pytest.mark.parametrize("name", LEARNED)
def test_networks_that_are_here_judge_noise_as_worse(name: str, photo: Tensor) -> None:
    metric = learned_metric(name)
    if isinstance(metric, Absence):
        pytest.skip(f"{name}: {metric.why}")
    assert isinstance(metric, Metric) and metric.weights and len(metric.weights) == 12 and metric.licence
    truth = torch.nn.functional.interpolate(photo[None], (192, 240), mode="bicubic").clamp(0, 1)
    noisy = _noisy(truth, 40)
    pair = (truth, noisy) if metric.of == "pair" else (None, None)
    clean, worse = metric.measure(truth, pair[0]), metric.measure(noisy, pair[0])
    assert clean is not None and worse is not None
    assert (worse > clean) != metric.higher_is_better
    if metric.of == "pair":
        assert clean == pytest.approx(0, abs=1e-4)
    assert metric.measure(truth[..., :16, :16], truth[..., :16, :16]) is None
