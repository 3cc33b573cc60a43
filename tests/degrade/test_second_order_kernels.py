"""The kernels of the second-order degradation against their formulas."""

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor

from unfade.core import generator
from unfade.degrade.blur import gaussian_kernels
from unfade.degrade.degradation import Draw
from unfade.degrade.kernels import (
    BlurKernel,
    KernelRanges,
    chosen,
    generalised_kernel,
    plateau_kernel,
    sinc_kernel,
)


def _by_definition(side: int, sigma: tuple[float, float], angle: float, beta: float, plateau: bool) -> Tensor:
    """Pixel by pixel with the covariance matrix of section 3.1."""
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    inverse = np.linalg.inv(turn @ np.diag(np.square(sigma)) @ turn.T)
    kernel = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            offset = np.array([column - side // 2, row - side // 2])
            power = (offset @ inverse @ offset) ** beta
            kernel[row, column] = 1 / (1 + power) if plateau else math.exp(-power / 2)
    return torch.from_numpy(kernel / kernel.sum())


@pytest.mark.parametrize("plateau", [False, True])
@pytest.mark.parametrize("side", [7, 21])
@pytest.mark.parametrize(("sigma", "angle"), [((1.0, 1.0), 0.0), ((3.0, 0.4), 0.7), ((0.2, 2.0), -2.5)])
@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_kernels_are_their_formula(
    plateau: bool, side: int, sigma: tuple[float, float], angle: float, beta: float
) -> None:
    made = (plateau_kernel if plateau else generalised_kernel)(side, sigma, angle, beta)
    torch.testing.assert_close(made, _by_definition(side, sigma, angle, beta, plateau), atol=1e-9, rtol=1e-7)


def test_a_gaussian_is_the_gaussian_of_the_other_blurs() -> None:
    theirs = gaussian_kernels(torch.tensor([2.0]))[0].double()
    torch.testing.assert_close(generalised_kernel(theirs.shape[0], (2.0, 2.0)), theirs, atol=1e-6, rtol=0)


def test_beta_flattens_the_top_and_lowers_the_tails() -> None:
    rows = [generalised_kernel(21, (2.0, 2.0), beta=beta)[10] for beta in (0.5, 1.0, 2.0, 4.0)]
    beside, far = [float(row[11] / row[10]) for row in rows], [float(row[14] / row[10]) for row in rows]
    assert beside == sorted(beside) and far == sorted(far, reverse=True)


@pytest.mark.parametrize("side", [7, 13, 21])
@pytest.mark.parametrize("cutoff", [math.pi / 5, 1.5, math.pi])
def test_sinc_is_its_formula(side: int, cutoff: float) -> None:
    """To the six digits of torch's own Bessel function."""
    line = np.arange(side) - side // 2
    radius = np.hypot(line[:, None], line[None, :])
    with np.errstate(invalid="ignore"):
        kernel = cutoff * special.j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)
    torch.testing.assert_close(
        sinc_kernel(side, cutoff), torch.from_numpy(kernel / kernel.sum()), atol=1e-6, rtol=0
    )


def test_sinc_lets_pass_what_lies_below_its_cutoff_and_rings() -> None:
    kernel = sinc_kernel(101, 1.5)
    response = torch.fft.fft2(torch.fft.ifftshift(kernel)).real
    across = torch.fft.fftfreq(101, dtype=torch.float64) * 2 * math.pi
    radius = torch.sqrt(across[:, None] ** 2 + across[None, :] ** 2)
    assert float((response[radius < 1.2] - 1).abs().max()) < 0.1
    assert float(response[(radius > 1.8) & (radius < 3)].abs().max()) < 0.1
    assert float(kernel.min()) < 0


def test_every_drawn_kernel_keeps_the_light() -> None:
    draw = Draw(generator(0), 1, 1, 1)
    for _ in range(300):
        kernel = BlurKernel.draw(draw, KernelRanges())
        weights = kernel.weights()
        assert weights.shape == (kernel.side, kernel.side) and bool(torch.isfinite(weights).all())
        assert float(weights.sum()) == pytest.approx(1, abs=1e-9)
        torch.testing.assert_close(weights, weights.flip(0, 1))
        if kernel.shape == "sinc":
            assert (math.pi / 3 if kernel.side < 13 else math.pi / 5) <= kernel.cutoff <= math.pi


def test_the_last_filter_has_the_higher_cutoffs() -> None:
    draw = Draw(generator(1), 1, 1, 1)
    cutoffs = [BlurKernel.draw_sinc(draw).cutoff for _ in range(500)]
    assert math.pi / 3 <= min(cutoffs) < 1.1 and 3.1 < max(cutoffs) <= math.pi


def test_ranges_on_one_side_of_one_are_heeded() -> None:
    draw = Draw(generator(2), 1, 1, 1)
    only = (0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    for low, high in ((0.5, 0.8), (2.0, 3.0)):
        ranges = KernelRanges(only, sinc=0.0, generalised=(low, high))
        assert all(low <= BlurKernel.draw(draw, ranges).beta <= high for _ in range(50))


def test_a_share_of_nothing_is_never_chosen() -> None:
    draw = Draw(generator(3), 1, 1, 1)
    assert {chosen(draw, (0.0, 2.0, 0.0, 6.0, 0.0)) for _ in range(400)} == {1, 3}
    for wrong in ((), (0.0,), (-1.0, 2.0)):
        with pytest.raises(ValueError, match="shares are 0 or more"):
            chosen(draw, wrong)


def test_impossible_kernels_are_refused() -> None:
    with pytest.raises(ValueError, match="is odd, not 8"):
        generalised_kernel(8, (1.0, 1.0))
    with pytest.raises(ValueError, match="above 0"):
        plateau_kernel(7, (1.0, 0.0))
    for cutoff in (0.0, 3.2):
        with pytest.raises(ValueError, match="cut-off"):
            sinc_kernel(7, cutoff)
