"""Gaussian noise and a sensor's shot and read noise, from a field drawn once and only scaled."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from unfade.degrade.degradation import Degradation, Draw, from_linear, per_sample, to_linear
from unfade.degrade.view import View


def clipped_mean(mean: Tensor, sigma: Tensor) -> Tensor:
    """Expectation of max(0, N(mean, sigma)): what a dark noisy area averages to in a thumbnail."""
    ratio = mean / sigma.clamp_min(1e-8)
    density = torch.exp(-0.5 * ratio**2) / math.sqrt(2 * math.pi)
    return mean * torch.special.ndtr(ratio) + sigma * density


def read_variance(shot: Tensor, spread: Tensor) -> Tensor:
    """Read-noise variance that goes with a shot-noise level (Brooks et al. 2019, Unprocessing, eq. 2)."""
    return torch.exp(2.18 * torch.log(shot) + 1.20 + 0.26 * spread)


def add_field(x: Tensor, sigma: Tensor, field: Tensor, view: View) -> Tensor:
    """`x` plus `sigma * field`; a reduced copy gets the average effect instead.

    Raises:
        ValueError: the field was drawn for another size.
    """
    if view.is_reduced(x):
        return clipped_mean(x, sigma)
    if field.shape != x.shape:
        raise ValueError(f"noise drawn for {tuple(field.shape)} can't be added to {tuple(x.shape)}")
    return x + sigma * field


def fresh(field: Tensor, generator: torch.Generator) -> Tensor:
    """Another field of standard normal values, of the shape of the first."""
    return torch.randn(field.shape, generator=generator, device=field.device)


@dataclass(frozen=True, slots=True)
class GaussianNoise(Degradation):
    """White Gaussian noise on the sRGB values.

    Attributes:
        sigma: `[B]` standard deviation on the 0 to 255 scale.
        field: standard normal `[B, 3, H, W]`.
    """

    name: ClassVar[str] = "gaussian-noise"
    sigma: Tensor
    field: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        sigma = draw.ranged((3, 20), (20, 55))
        return cls(sigma, draw.normal(draw.batch, 3, draw.height, draw.width))

    def anew(self, generator: torch.Generator) -> Self:
        return replace(self, field=fresh(self.field, generator))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        return add_field(x, per_sample(self.sigma) / 255 * severity, self.field, view)


@dataclass(frozen=True, slots=True)
class SensorNoise(Degradation):
    """Shot and read noise in linear light.

    Attributes:
        shot: `[B]` variance per unit of signal.
        read: `[B]` variance at black.
        field: standard normal `[B, 3, H, W]`.
    """

    name: ClassVar[str] = "sensor-noise"
    shot: Tensor
    read: Tensor
    field: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        low, high = {"mild": (1e-4, 1e-3), "strong": (1e-3, 1.2e-2), "any": (1e-4, 1.2e-2)}[draw.strength]
        shot = draw.log_uniform(low, high)
        read = read_variance(shot, draw.normal(draw.batch))
        return cls(shot, read, draw.normal(draw.batch, 3, draw.height, draw.width))

    def anew(self, generator: torch.Generator) -> Self:
        return replace(self, field=fresh(self.field, generator))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        linear = to_linear(x)
        sigma = torch.sqrt(linear * per_sample(self.shot) + per_sample(self.read)) * severity
        return from_linear(add_field(linear, sigma, self.field, view))


@dataclass(frozen=True, slots=True)
class Noise(Degradation):
    """Gaussian or sensor noise, chosen per sample."""

    name: ClassVar[str] = "noise"
    is_sensor: Tensor
    gaussian: GaussianNoise
    sensor: SensorNoise

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        gaussian = GaussianNoise.draw(draw)
        sensor = SensorNoise.draw(draw)
        return cls(draw.chance(0.4), gaussian, SensorNoise(sensor.shot, sensor.read, gaussian.field))

    def anew(self, generator: torch.Generator) -> Self:
        gaussian = self.gaussian.anew(generator)
        return replace(self, gaussian=gaussian, sensor=replace(self.sensor, field=gaussian.field))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        return torch.where(
            per_sample(self.is_sensor),
            self.sensor.corrupt(x, severity, view),
            self.gaussian.corrupt(x, severity, view),
        )
