"""PSNR and SSIM against hand-computed values and scikit-image."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from unfade.core import generator
from unfade.evaluation.metrics.fidelity import luma, psnr, ssim


def _pair(height: int = 37, width: int = 53) -> tuple[torch.Tensor, torch.Tensor]:
    dice = generator(0, "pair", height, width)
    truth = torch.rand(3, height, width, generator=dice)
    return (truth + 0.1 * torch.randn(truth.shape, generator=dice)).clamp(0, 1), truth


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.permute(1, 2, 0).double().numpy()


@pytest.mark.parametrize("levels", [1, 10, 255])
def test_psnr_of_a_constant_error_by_hand(levels: int) -> None:
    black = torch.zeros(3, 5, 7)
    assert psnr(black + levels / 255, black) == pytest.approx(20 * math.log10(255 / levels), abs=1e-5)


def test_psnr_pools_channels_rather_than_averaging_decibels() -> None:
    black, red = torch.zeros(3, 4, 4), torch.zeros(3, 4, 4)
    red[0] = 0.5
    assert psnr(red, black) == pytest.approx(10 * math.log10(3 / 0.25))


def test_equal_pictures_have_infinite_psnr_and_ssim_one() -> None:
    x, _ = _pair()
    for colour in ("rgb", "y"):
        assert psnr(x, x, colour) == math.inf
        assert ssim(x, x, colour) == pytest.approx(1, abs=1e-12)


def test_luma_spans_16_to_235_by_the_published_weights() -> None:
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).T[:, None, :]
    assert luma(colours).flatten().tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966])


def test_y_psnr_of_a_grey_step_by_hand() -> None:
    grey = torch.full((3, 6, 6), 0.5)
    error = 0.1 * (65.481 + 128.553 + 24.966)
    assert psnr(grey + 0.1, grey, "y") == pytest.approx(20 * math.log10(255 / error), abs=1e-4)


@pytest.mark.parametrize("size", [(37, 53), (12, 11), (64, 64)])
def test_rgb_figures_agree_with_scikit_image(size: tuple[int, int]) -> None:
    x, truth = _pair(*size)
    a, b = _numpy(x), _numpy(truth)
    assert psnr(x, truth) == pytest.approx(peak_signal_noise_ratio(b, a, data_range=1), abs=1e-6)
    expected = structural_similarity(
        b, a, data_range=1, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(x, truth) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("border", [0, 2, 4])
def test_y_figures_agree_with_scikit_image_on_an_odd_size(border: int) -> None:
    x, truth = _pair(41, 29)
    inner = slice(border, 41 - border), slice(border, 29 - border)
    a, b = (rgb2ycbcr(_numpy(picture))[..., 0][inner] for picture in (x, truth))
    assert psnr(x, truth, "y", border) == pytest.approx(
        peak_signal_noise_ratio(b, a, data_range=255), abs=1e-6
    )
    expected = structural_similarity(
        b, a, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(x, truth, "y", border) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_two_constants_by_hand() -> None:
    first, second = torch.full((3, 16, 16), 0.25), torch.full((3, 16, 16), 0.75)
    c1 = (0.01 * 255) ** 2
    a, b = 0.25 * 255, 0.75 * 255
    assert ssim(first, second) == pytest.approx((2 * a * b + c1) / (a**2 + b**2 + c1), abs=1e-6)


def test_the_border_is_not_counted() -> None:
    _, truth = _pair()
    spoilt = truth.clone()
    spoilt[:, :3] = 1 - spoilt[:, :3]
    spoilt[:, :, -3:] = 1 - spoilt[:, :, -3:]
    assert psnr(spoilt, truth) < 20
    assert psnr(spoilt, truth, border=3) == math.inf


def test_footage_is_pooled_over_its_frames() -> None:
    black = torch.zeros(2, 3, 8, 8)
    half = black.clone()
    half[1] = 1
    assert psnr(half, black) == pytest.approx(10 * math.log10(2))


def test_impossible_comparisons_are_refused() -> None:
    x = torch.zeros(3, 12, 12)
    with pytest.raises(ValueError, match="one size"):
        psnr(x, torch.zeros(3, 12, 13))
    with pytest.raises(ValueError, match="one size"):
        psnr(x[:1], x[:1])
    with pytest.raises(ValueError, match="border"):
        psnr(x, x, border=6)
    with pytest.raises(ValueError, match="11x11"):
        ssim(x, x, border=1)
    with pytest.raises(ValueError, match="colour"):
        psnr(x, x, "lab")  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(st.integers(11, 40), st.integers(11, 40), st.floats(0.01, 0.3))
def test_figures_are_symmetric_and_in_range(height: int, width: int, amount: float) -> None:
    dice = generator(1, height, width)
    truth = torch.rand(3, height, width, generator=dice)
    x = (truth + amount * torch.randn(truth.shape, generator=dice)).clamp(0, 1)
    assert psnr(x, truth) == psnr(truth, x) > 0
    assert ssim(x, truth) == pytest.approx(ssim(truth, x), abs=1e-12)
    assert -1 <= ssim(x, truth) < 1
