"""Noise has the level it says, and is one realisation scaled."""

import pytest
import torch

from unfade.core import generator
from unfade.degrade.classic import CLASSIC
from unfade.degrade.degradation import Draw
from unfade.degrade.noise import GaussianNoise, SensorNoise, clipped_mean, read_variance


@pytest.mark.parametrize("severity", [0.25, 1.0])
def test_gaussian_noise_has_its_sigma(severity: float) -> None:
    grey = torch.full((3, 3, 128, 128), 0.5)
    sigma = torch.tensor([5.0, 15.0, 25.0])
    noise = GaussianNoise(sigma, torch.randn(grey.shape, generator=generator(0)))
    difference = noise(grey, severity) - grey
    assert torch.allclose(difference.std((1, 2, 3)) * 255, sigma * severity, rtol=0.02)
    assert float(difference.mean().abs()) < 1e-3


def test_noise_grows_in_place() -> None:
    grey = torch.full((1, 3, 16, 16), 0.5)
    noise = GaussianNoise.draw(Draw(generator(0), 1, 16, 16, "mild"))
    half, full = noise(grey, 0.5) - grey, noise(grey, 1.0) - grey
    assert torch.allclose(2 * half, full, atol=1e-6)


@pytest.mark.parametrize("level", [0.2, 0.6])
def test_sensor_noise_has_its_variance_in_linear_light(level: float) -> None:
    shot, read = 1e-3, 1e-5
    grey = torch.full((1, 3, 160, 160), level)
    field = torch.randn(grey.shape, generator=generator(1))
    noise = SensorNoise(torch.tensor([shot]), torch.tensor([read]), field)
    linear = noise(grey) ** 2.2
    assert float(linear.std()) == pytest.approx((shot * level**2.2 + read) ** 0.5, rel=0.03)


def test_read_noise_follows_unprocessing() -> None:
    shot = torch.tensor([0.01, 0.001])
    expected = torch.exp(2.18 * torch.log(shot) + 1.20)
    assert torch.allclose(read_variance(shot, torch.zeros(2)), expected)


def test_clipped_mean_agrees_with_a_million_throws() -> None:
    throws = torch.randn(1_000_000, generator=generator(2))
    for mean, sigma in ((0.0, 0.1), (0.05, 0.1), (0.5, 0.1)):
        expected = float((mean + sigma * throws).clamp_min(0).mean())
        assert float(clipped_mean(torch.tensor(mean), torch.tensor(sigma))) == pytest.approx(
            expected, abs=3e-4
        )


@pytest.mark.parametrize("sigma", [15, 25, 50])
def test_classic_noise_is_that_of_the_published_tests(sigma: int) -> None:
    grey = torch.full((1, 3, 200, 200), 128 / 255)
    degraded = CLASSIC[f"noise-{sigma}"](grey, generator(0))
    levels = degraded * 255
    assert float((levels - levels.round()).abs().max()) < 1e-4
    assert float(levels.std()) == pytest.approx(sigma, rel=0.02)
