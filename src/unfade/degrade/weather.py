"""Rain streaks, drops on the lens, and snow (which is never trained on: it is the unseen task)."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from unfade.degrade.blur import convolve, gaussian_kernels, line_kernels
from unfade.degrade.degradation import Degradation, Draw, per_sample
from unfade.degrade.view import View


@dataclass(frozen=True, slots=True)
class Veil(Degradation):
    """White of a frozen pattern over the photo, growing more transparent as severity falls.

    Attributes:
        opacity: `[B, 1, H, W]` at severity 1; a reduced copy gets the average.
    """

    opacity: Tensor

    def anew(self, generator: torch.Generator) -> Self:
        # What falls is somewhere else by the next frame; the pattern has no place of its own.
        height, width = self.opacity.shape[2:]
        down, right = (
            int(torch.randint(side, (), generator=generator, device=generator.device))
            for side in (height, width)
        )
        return replace(self, opacity=self.opacity.roll((down, right), (2, 3)))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        opacity = self.opacity
        if view.is_reduced(x):
            opacity = opacity.mean((2, 3), keepdim=True)
        elif opacity.shape[2:] != x.shape[2:]:
            raise ValueError(f"weather drawn for {tuple(opacity.shape)} can't be applied to {tuple(x.shape)}")
        return x + (1 - x) * (opacity * severity).clamp(0, 0.95)


class Rain(Veil):
    """Streaks of one direction."""

    name: ClassVar[str] = "rain"

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        impulses = draw.rand(draw.batch, 1, draw.height, draw.width)
        density = per_sample(draw.ranged((0.002, 0.006), (0.006, 0.02)))
        seeds = torch.where(impulses < density, 0.4 + 0.6 * impulses / density, 0.0)
        length = draw.ranged((7, 15), (15, 31))
        angle = math.pi / 2 + draw.uniform(-0.5, 0.5)
        streaks = convolve(seeds, line_kernels(length, angle))
        streaks = convolve(streaks, gaussian_kernels(draw.uniform(0.3, 0.8)))
        return cls((streaks * per_sample(length * draw.uniform(0.4, 0.9))).clamp(0, 0.9))


class Snow(Veil):
    """Flakes of three distances: small and sharp to large, soft and fast. For evaluation only."""

    name: ClassVar[str] = "snow"

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        opacity = torch.zeros(draw.batch, 1, draw.height, draw.width, device=draw.generator.device)
        angle = math.pi / 2 + draw.uniform(-0.8, 0.8)
        amount = draw.ranged((0.5, 1.0), (1.0, 2.0))
        for size, density, speed in ((0.7, 0.003, 1.0), (1.4, 0.0012, 4.0), (2.6, 0.0004, 9.0)):
            impulses = draw.rand(draw.batch, 1, draw.height, draw.width)
            seeds = (impulses < per_sample(amount) * density).to(torch.float32)
            sigma = torch.full_like(amount, size)
            flakes = convolve(seeds, gaussian_kernels(sigma)) * (2 * math.pi * size**2)
            flakes = convolve(flakes, line_kernels(torch.full_like(amount, speed), angle)) * math.sqrt(speed)
            opacity = 1 - (1 - opacity) * (1 - 0.9 * flakes.clamp(0, 1))
        return cls(opacity)


@dataclass(frozen=True, slots=True)
class Raindrops(Degradation):
    """Drops on the lens, each a small lens of its own showing the scene upside down and out of focus.

    Attributes:
        centre: `[B, N, 2]` (across, down) in photo coordinates, -1 to 1.
        radius: `[B, N]` in photo pixels.
        squash: `[B, N]` height over width.
    """

    name: ClassVar[str] = "raindrop"
    centre: Tensor
    radius: Tensor
    squash: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        count = {"mild": 24, "strong": 60, "any": 40}[draw.strength]
        centre = draw.rand(draw.batch, count, 2) * 2 - 1
        radius = 3 + 15 * draw.rand(draw.batch, count) ** 2
        return cls(centre, radius, 0.8 + 0.6 * draw.rand(draw.batch, count))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        if view.is_reduced(x):
            return x
        grid = view.grid(x)
        half = torch.stack((view.photo_width, view.photo_height), 1) / 2
        cover = torch.zeros_like(x[:, :1])
        sample = torch.zeros_like(grid)
        for drop in range(self.centre.shape[1]):
            offset = (grid - self.centre[:, None, None, drop]) * half[:, None, None]
            axes = torch.stack((torch.ones_like(self.squash[:, drop]), self.squash[:, drop]), 1)
            distance = torch.sqrt(((offset / axes[:, None, None]) ** 2).sum(-1))
            inside = ((self.radius[:, drop, None, None] - distance) / 2 + 0.5).clamp(0, 1)[:, None]
            # Through the drop one sees a wide, inverted view around its centre.
            seen = -3.0 * offset / half[:, None, None]
            sample = torch.where((inside > cover)[:, 0, :, :, None], seen, sample)
            cover = torch.maximum(cover, inside)
        window = torch.stack((view.width, view.height), 1)[:, None, None] / 2
        rows = torch.linspace(-1, 1, x.shape[2], device=x.device)
        columns = torch.linspace(-1, 1, x.shape[3], device=x.device)
        own = torch.stack((columns.expand(x.shape[2], -1), rows[:, None].expand(-1, x.shape[3])), -1)
        soft = convolve(x, gaussian_kernels(torch.full((x.shape[0],), 2.0, device=x.device)))
        displaced = own + sample * half[:, None, None] / window
        through = functional.grid_sample(soft, displaced, padding_mode="reflection", align_corners=True)
        through = 0.85 * through + 0.12
        return torch.lerp(x, through, 0.9 * cover * severity)
