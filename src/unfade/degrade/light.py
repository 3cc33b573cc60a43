"""What happens to the light of the whole scene: too little of it, or haze in front of it."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from unfade.degrade.degradation import Degradation, Draw, from_linear, per_sample, to_linear
from unfade.degrade.noise import add_field, fresh, read_variance
from unfade.degrade.view import View


@dataclass(frozen=True, slots=True)
class LowLight(Degradation):
    """Underexposure: stops lost, corners darker, white balance off, contrast up, sensor noise.

    Attributes:
        stops: `[B]` exposure lost, in stops, linear in severity so that brightness falls evenly to the eye.
        falloff: `[B]` share of light lost at the corners, growing with the squared distance.
        balance: `[B, 3]` gains of red, green, blue.
        contrast: `[B]` exponent on the sRGB values.
        shot, read: `[B]` noise variances in linear light.
        field: standard normal `[B, 3, H, W]`, one frozen realisation.

    Source: Progressive Restoration (arXiv 2512.02273), third dataset; ranges are this project's.
    """

    name: ClassVar[str] = "lowlight"
    stops: Tensor
    falloff: Tensor
    balance: Tensor
    contrast: Tensor
    shot: Tensor
    read: Tensor
    field: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        low, high = {"mild": (1.5, 2.5), "strong": (3.0, 4.5), "any": (0.8, 5.6)}[draw.strength]
        stops = draw.uniform(low, high)
        # In training a good share of the photos is only dark: exposure and nothing else.
        plain = draw.chance(0.4 if draw.strength == "any" else 0.0)
        falloff = torch.where(plain, 0.0, draw.uniform(0, 0.4))
        balance = torch.stack((draw.uniform(0.8, 1.25), torch.ones_like(stops), draw.uniform(0.8, 1.25)), 1)
        balance = torch.where(plain[:, None], 1.0, balance)
        contrast = torch.where(plain, 1.0, draw.uniform(1, 1.5))
        shot = draw.log_uniform(3e-5 if draw.strength == "any" else 1e-4, 3e-3)
        read = read_variance(shot, draw.normal(draw.batch))
        field = draw.normal(draw.batch, 3, draw.height, draw.width)
        return cls(stops, falloff, balance, contrast, shot, read, field)

    def anew(self, generator: torch.Generator) -> Self:
        return replace(self, field=fresh(self.field, generator))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        radius = (view.grid(x) ** 2).sum(-1)[:, None] / 2
        exposure = 2.0 ** (-per_sample(self.stops) * severity)
        corners = 1 - per_sample(self.falloff) * severity * radius
        gains = 1 + (self.balance[:, :, None, None] - 1) * severity
        linear = to_linear(x) * exposure * corners * gains
        # The exponent acts on sRGB values; a power of a power is the same in linear light.
        linear = linear.clamp(0, 1) ** (1 + (per_sample(self.contrast) - 1) * severity)
        sigma = torch.sqrt(linear * per_sample(self.shot) + per_sample(self.read)) * severity
        return from_linear(add_field(linear, sigma, self.field, view))


@dataclass(frozen=True, slots=True)
class Haze(Degradation):
    """Scattering over a smooth synthetic depth: `I = J t + A (1 - t)`, `t = exp(-density * depth)`.

    Attributes:
        density: `[B]` scattering coefficient times the scene's depth range.
        airlight: `[B, 3]` colour of the haze.
        depth: `[B, 1, 6, 6]` coarse depth in [0, 1], interpolated over the photo.

    Source: Koschmieder's law as used by RESIDE (Li et al. 2019, eq. 1).
    """

    name: ClassVar[str] = "haze"
    density: Tensor
    airlight: Tensor
    depth: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        density = draw.ranged((0.5, 1.2), (1.2, 2.6))
        grey = draw.uniform(0.7, 1.0)
        airlight = (grey[:, None] + 0.03 * draw.normal(draw.batch, 3)).clamp(0.5, 1)
        # Far at the top, near at the bottom, with hills: the usual layout of an outdoor photo.
        slope = torch.linspace(1, 0, 6, device=density.device).reshape(1, 1, 6, 1)
        tilt = per_sample(draw.uniform(0.2, 0.9))
        depth = 0.45 + tilt * (slope - 0.5) + 0.18 * draw.normal(draw.batch, 1, 6, 6)
        return cls(density, airlight, depth.clamp(0.05, 1))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        depth = functional.grid_sample(
            self.depth, view.grid(x), mode="bilinear", padding_mode="border", align_corners=True
        )
        transmission = torch.exp(-per_sample(self.density) * severity * depth)
        return x * transmission + self.airlight[:, :, None, None] * (1 - transmission)
