"""Deconvolution agrees with independent implementations, and the true kernel beats a wrong one."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unfade.core import Clip, generator
from unfade.degrade.blur import convolve, disc_kernels, gaussian_kernels, line_kernels
from unfade.degrade.classic import quantise
from unfade.degrade.degradation import from_linear, to_linear
from unfade.evaluation.metrics.fidelity import psnr
from unfade.evaluation.peers import PEERS
from unfade.evaluation.peers.deconvolution import (
    RichardsonLucy,
    Wiener,
    circular,
    extended,
    richardson_lucy,
    wiener,
    wrong_kernel,
)
from unfade.evaluation.peers.facts import Facts

ndimage = pytest.importorskip("scipy.ndimage")

LINE = line_kernels(torch.tensor([9.0]), torch.tensor([0.7]))[0]
DISC = disc_kernels(torch.tensor([2.5]))[0]
GAUSSIAN = gaussian_kernels(torch.tensor([1.5]))[0]
LOPSIDED = torch.rand(5, 5, generator=generator(0, "kernel"))
LOPSIDED = LOPSIDED / LOPSIDED.sum()
KERNELS = {"line": LINE, "disc": DISC, "gaussian": GAUSSIAN}


def _photo(height: int = 72, width: int = 85) -> Tensor:
    """Shaded rectangles before a shaded ground: edges, corners and slopes."""
    dice = generator(0, "deconvolution")
    down, across = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    photo = 0.3 + 0.3 * (down + across) / 2 * torch.rand(3, 1, 1, generator=dice)
    for _ in range(25):
        top, left = (int(torch.randint(side, (), generator=dice)) for side in (height, width))
        tall, wide = (int(torch.randint(4, 25, (), generator=dice)) for _ in range(2))
        colour = torch.rand(3, 1, 1, generator=dice)
        photo[:, top : top + tall, left : left + wide] = colour * (0.6 + 0.4 * down[top : top + tall])
    return quantise(photo[None])


def _blurred(photo: Tensor, kernel: Tensor) -> Tensor:
    return quantise(from_linear(convolve(to_linear(photo), kernel[None])))


def _plane(height: int, width: int) -> Tensor:
    return torch.rand(height, width, generator=generator(0, "plane"), dtype=torch.float64)


def _spread(kernel: Tensor) -> tuple[float, float, float]:
    """Standard deviations across and along, and the direction of the latter in radians."""
    line = np.arange(len(kernel)) - len(kernel) // 2
    weights = kernel.double().numpy() / float(kernel.sum())
    places = np.stack([grid.ravel() for grid in np.meshgrid(line, line)])
    values, vectors = np.linalg.eigh(np.cov(places, aweights=weights.ravel(), ddof=0))
    return math.sqrt(max(values[0], 0)), math.sqrt(values[1]), math.atan2(vectors[1, 1], vectors[0, 1])


@pytest.mark.parametrize("size", [(17, 22), (8, 9), (5, 5)])
def test_circular_is_a_convolution_that_wraps(size: tuple[int, int]) -> None:
    plane = _plane(*size)
    expected = ndimage.convolve(plane.numpy(), LOPSIDED.double().numpy(), mode="wrap")
    assert np.abs(circular(plane, LOPSIDED).numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("balance", [1e-3, 0.01, 1.0])
def test_wiener_agrees_with_scikit_image(balance: float) -> None:
    restoration = pytest.importorskip("skimage.restoration")
    plane = _plane(24, 31)
    expected = restoration.wiener(plane.numpy(), LOPSIDED.double().numpy(), balance, clip=False)
    assert np.abs(wiener(plane, LOPSIDED, balance).numpy() - expected).max() < 1e-9


@pytest.mark.parametrize("iterations", [1, 2, 15])
def test_richardson_lucy_agrees_with_scikit_image(iterations: int) -> None:
    restoration = pytest.importorskip("skimage.restoration")
    plane = torch.zeros(40, 43, dtype=torch.float64)
    plane[15:25, 14:28] = _plane(10, 14)  # Far from the border, which the two treat differently.
    blurred = circular(plane, LOPSIDED).clamp_min(0)
    expected = restoration.richardson_lucy(
        blurred.numpy(), LOPSIDED.double().numpy(), iterations, clip=False, filter_epsilon=1e-6
    )
    assert np.abs(richardson_lucy(blurred, LOPSIDED, iterations).numpy() - expected).max() < 1e-4


def test_richardson_lucy_agrees_with_its_formula() -> None:
    kernel = LOPSIDED.double().numpy()
    blurred = 0.1 + _plane(14, 19)
    estimate = np.full(blurred.shape, 0.5)
    for _ in range(7):
        ratio = blurred.numpy() / ndimage.convolve(estimate, kernel, mode="wrap")
        estimate = estimate * ndimage.correlate(ratio, kernel, mode="wrap")
    assert np.abs(richardson_lucy(blurred, LOPSIDED, 7).numpy() - estimate).max() < 1e-10


def test_wiener_without_prior_undoes_a_periodic_blur() -> None:
    plane = _plane(20, 33)
    mild = torch.zeros(3, 3)
    mild[1] = torch.tensor([0.2, 0.7, 0.1])
    assert (wiener(circular(plane, mild), mild, 0.0) - plane).abs().max() < 1e-9


@pytest.mark.parametrize("size", [(23, 31), (6, 1), (2, 50)])
def test_extension_keeps_the_picture_and_closes_the_period(size: tuple[int, int]) -> None:
    plane = _plane(*size)
    wide = extended(plane, 9)
    assert torch.equal(wide[: size[0], : size[1]], plane)
    assert all(after >= before + 18 for after, before in zip(wide.shape, size, strict=True))
    assert 0 <= float(wide.min()) <= float(wide.max()) <= 1
    slope = torch.linspace(0, 1, 40, dtype=torch.float64).expand(40, 40)
    steps = (extended(slope, 20) - extended(slope, 20).roll(1, 1)).abs()
    assert float(steps.max()) < 0.1  # Repeated as it is, it would jump by 1.


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("method", ["wiener", "richardson-lucy"])
def test_the_true_kernel_beats_the_input_and_the_wrong_kernel(method: str, name: str) -> None:
    photo = _photo()
    blurred = _blurred(photo, KERNELS[name])
    facts = Facts(kernel=KERNELS[name])
    true, wrong = (PEERS[entry].make(facts) for entry in (method, f"{method}-wrong"))
    assert true is not None and wrong is not None
    result = psnr(true.restore(Clip(blurred)).result.frames, photo)
    assert result > psnr(blurred, photo) + 1.5
    assert result > psnr(wrong.restore(Clip(blurred)).result.frames, photo) + 3


def test_estimating_the_surroundings_helps_a_line_blur() -> None:
    photo = _photo()
    blurred = Clip(_blurred(photo, LINE))
    once, often = (
        psnr(Wiener(LINE, rounds=rounds).restore(blurred).result.frames, photo) for rounds in (0, 10)
    )
    assert often > once + 1


def test_a_lopsided_kernel_does_not_shift_the_picture() -> None:
    photo = _photo()
    shifting = torch.zeros(5, 5)
    shifting[2, 4] = 1.0
    moved = Clip(_blurred(photo, shifting))
    for restorer in (Wiener(shifting), RichardsonLucy(shifting)):
        restored = restorer.restore(moved).result.frames
        assert (
            psnr(restored[..., 8:-8], photo[..., 8:-8]) > psnr(moved.frames[..., 8:-8], photo[..., 8:-8]) + 10
        )


def test_more_noise_asks_for_a_stronger_prior() -> None:
    photo = _photo()
    noise = 10 / 255 * torch.randn(photo.shape, generator=generator(0, "noise"))
    noisy = Clip(quantise(_blurred(photo, DISC) + noise))
    assert Wiener.balance_for(None) == Wiener.balance_for(3) < Wiener.balance_for(10)
    told, untold = (
        Wiener(DISC, Wiener.balance_for(sigma)).restore(noisy).result.frames for sigma in (10, None)
    )
    assert psnr(told, photo) > psnr(untold, photo) + 1


def test_a_wrong_streak_is_turned_by_thirty_degrees() -> None:
    across, along, angle = _spread(LINE)
    wrong_across, wrong_along, wrong_angle = _spread(wrong_kernel(LINE))
    turned = abs(wrong_angle - angle) % math.pi
    assert min(turned, math.pi - turned) == pytest.approx(math.pi / 6, abs=0.02)
    assert wrong_along == pytest.approx(along, rel=0.05) and wrong_across < 2 * across


@pytest.mark.parametrize("kernel", [DISC, GAUSSIAN])
def test_a_wrong_round_kernel_is_half_as_wide_again(kernel: Tensor) -> None:
    wrong = wrong_kernel(kernel)
    assert _spread(wrong)[0] == pytest.approx(1.5 * _spread(kernel)[0], rel=0.08)
    assert float(wrong.sum()) == pytest.approx(1) and len(wrong) % 2 == 1 and len(wrong) >= 1.5 * len(kernel)


def test_a_kernel_may_exceed_the_picture() -> None:
    large = disc_kernels(torch.tensor([12.0]))[0]
    small = Clip(_photo(9, 7))
    for restorer in (Wiener(large), RichardsonLucy(large)):
        assert bool(restorer.restore(small).result.frames.isfinite().all())


@pytest.mark.parametrize("kernel", [torch.ones(4, 4), torch.ones(3, 5), torch.ones(3), torch.zeros(3, 3)])
def test_what_is_no_kernel_is_refused(kernel: Tensor) -> None:
    for use in (Wiener, RichardsonLucy, wrong_kernel):
        with pytest.raises(ValueError, match="square with an odd side"):
            use(kernel)
