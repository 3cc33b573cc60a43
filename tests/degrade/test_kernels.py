"""Blur kernels and the convolution that applies them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unfade.core import generator
from unfade.degrade import draw_composition
from unfade.degrade.blur import (
    Blur,
    DirectionalBlur,
    convolve,
    disc_kernels,
    gaussian_kernels,
    line_kernels,
)
from unfade.degrade.degradation import Draw


def _check(kernels: Tensor) -> None:
    size = kernels.shape[-1]
    assert kernels.shape[1] == size and size % 2 == 1
    assert float(kernels.min()) >= 0
    assert float((kernels.sum((1, 2)) - 1).abs().max()) < 1e-5
    line = torch.arange(size, dtype=torch.float64) - size // 2
    exact = kernels.double()
    for axis in (1, 2):
        assert float((exact.sum(axis) * line).sum(1).abs().max()) < 1e-5


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0, 12), min_size=1, max_size=4),
    st.lists(st.floats(0, 60), min_size=4, max_size=4),
    st.lists(st.floats(-7, 7), min_size=4, max_size=4),
)
def test_kernels_are_centred_normalised_and_not_negative(
    sizes: list[float], lengths: list[float], angles: list[float]
) -> None:
    _check(gaussian_kernels(torch.tensor(sizes)))
    _check(disc_kernels(torch.tensor(sizes)))
    _check(line_kernels(torch.tensor(lengths), torch.tensor(angles)))


@pytest.mark.parametrize("strength", ["mild", "strong", "any"])
def test_drawn_kernels_are_centred(strength: str) -> None:
    draw = Draw(generator(0, strength), 200, 8, 8, strength)  # type: ignore[arg-type]
    blur, directional = Blur.draw(draw), DirectionalBlur.draw(draw)
    for share in (0.1, 0.5, 1.0):
        _check(gaussian_kernels(blur.size * share))
        _check(disc_kernels(blur.size * share))
        _check(line_kernels(1 + 2 * blur.size * share, blur.angle))
        _check(line_kernels(directional.length * share, directional.angle))


def test_kernels_of_no_extent_are_points() -> None:
    for kernels in (
        gaussian_kernels(torch.zeros(1)),
        disc_kernels(torch.zeros(1)),
        line_kernels(torch.ones(1), torch.ones(1)),
    ):
        middle = kernels.shape[-1] // 2
        assert float(kernels[0, middle, middle]) == pytest.approx(1, abs=1e-6)


def test_line_kernels_have_their_length_and_direction() -> None:
    level = line_kernels(torch.tensor([15.0]), torch.tensor([0.0]))[0]
    assert torch.equal(level.sum(1) > 1e-6, torch.arange(15) == 7)
    inner = level[7, 1:-1]
    assert float(inner.max() - inner.min()) < 0.01
    upright = line_kernels(torch.tensor([15.0]), torch.tensor([math.pi / 2]))[0]
    assert torch.allclose(upright, level.T, atol=1e-5)


def test_gaussian_kernels_have_their_deviation() -> None:
    sigma = torch.tensor([1.0, 2.5])
    kernels = gaussian_kernels(sigma)
    line = torch.arange(kernels.shape[-1]) - kernels.shape[-1] // 2
    measured = torch.sqrt((kernels.sum(1) * line**2).sum(1))
    assert torch.allclose(measured, sigma, rtol=0.02)


def test_disc_kernels_have_their_area() -> None:
    kernels = disc_kernels(torch.tensor([4.0]))
    assert float(1 / kernels.max()) == pytest.approx(math.pi * 16, rel=0.05)


def _direct(x: Tensor, kernels: Tensor) -> Tensor:
    """The same by definition: reflected, every sample with its own kernel, by torch's own convolution."""
    radius = kernels.shape[-1] // 2
    padded = torch.nn.functional.pad(x, (radius,) * 4, mode="reflect")
    rows = [
        torch.nn.functional.conv2d(sample[:, None], kernel[None, None])
        for sample, kernel in zip(padded, kernels.flip(1, 2), strict=True)
    ]
    return torch.stack(rows)[:, :, 0]


def test_convolve_agrees_with_a_direct_convolution(crops: Tensor) -> None:
    kernels = torch.rand(2, 9, 9, generator=generator(0))
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    result = convolve(crops, kernels)
    assert result.shape == crops.shape
    torch.testing.assert_close(result, _direct(crops, kernels), atol=1e-5, rtol=0)


def test_convolving_with_a_point_changes_nothing(crops: Tensor) -> None:
    point = torch.zeros(2, 5, 5)
    point[:, 2, 2] = 1
    assert torch.allclose(convolve(crops, point), crops, atol=1e-6)


@pytest.mark.parametrize("size", [(3, 3), (2, 40), (5, 9)])
def test_kernels_larger_than_the_photo_are_folded(size: tuple[int, int]) -> None:
    x = torch.full((1, 3, *size), 0.25)
    assert torch.allclose(convolve(x, gaussian_kernels(torch.tensor([6.0]))), x, atol=1e-5)


def test_blur_keeps_the_light(photo: Tensor) -> None:
    """Blur happens in linear light, whose mean it keeps up to what crosses the border."""
    for seed in range(4):
        drawn = draw_composition((Blur,), generator(seed), (1, *photo.shape[2:]), "strong")
        before, after = (photo**2.2).mean(), (drawn(photo) ** 2.2).mean()
        assert float(after / before) == pytest.approx(1, abs=0.01)


def test_a_line_does_not_depend_on_the_rest_of_its_batch() -> None:
    length, angle = torch.tensor([9.3, 25.0]), torch.tensor([0.7, 1.0])
    together, alone = line_kernels(length, angle)[0], line_kernels(length[:1], angle[:1])[0]
    margin = (together.shape[0] - alone.shape[0]) // 2
    inner = together[margin:-margin, margin:-margin]
    assert float((inner - alone).abs().sum()) < 1e-5
