"""The fixed degradations that small restoration networks are tested with, written out to 8 bits as files are."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.degrade.blur import convolve, disc_kernels, line_kernels
from unfade.degrade.degradation import Codec, from_linear, to_linear
from unfade.degrade.jpeg import jpeg_round_trip
from unfade.degrade.resample import resize

Classic = Callable[[Tensor, torch.Generator], Tensor]


def quantise(x: Tensor) -> Tensor:
    """Clipped and rounded to 8 bits, still in [0, 1]."""
    return x.clamp(0, 1).mul(255).round().div(255)


def noisy(sigma: float) -> Classic:
    """White Gaussian noise of `sigma` on the 0 to 255 scale, clipped and quantised."""

    def degrade(x: Tensor, generator: torch.Generator) -> Tensor:
        return quantise(x + sigma / 255 * torch.randn(x.shape, generator=generator).to(x))

    return degrade


def enlarged(scale: int) -> Classic:
    """Bicubic reduction by `scale` (sides must be its multiples), 8 bits, bicubic enlargement."""

    def degrade(x: Tensor, generator: torch.Generator) -> Tensor:
        height, width = x.shape[2:]
        if height % scale or width % scale:
            raise ValueError(f"crop {height}x{width} to multiples of {scale} first")
        small = quantise(resize(x, height // scale, width // scale))
        return quantise(resize(small, height, width))

    return degrade


def compressed(quality: int, codec: Codec = "libjpeg") -> Classic:
    """JPEG of one quality with 4:2:0 chroma."""

    def degrade(x: Tensor, generator: torch.Generator) -> Tensor:
        return jpeg_round_trip(x, torch.full((x.shape[0],), float(quality), device=x.device), codec)

    return degrade


@dataclass(frozen=True, slots=True)
class Blurred:
    """Convolution with one kernel a photo in linear light.

    Attributes:
        kernels: (batch, dice) to `[B, k, k]`.
    """

    kernels: Callable[[int, torch.Generator], Tensor]

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return quantise(from_linear(convolve(to_linear(x), self.kernels(x.shape[0], generator).to(x))))


def shaken(length: float) -> Blurred:
    """A line blur of `length` pixels at a random angle, in linear light."""

    def kernels(batch: int, generator: torch.Generator) -> Tensor:
        angle = torch.rand(batch, generator=generator) * math.pi
        return line_kernels(torch.full((batch,), length), angle)

    return Blurred(kernels)


def defocused(radius: float) -> Blurred:
    """A disc blur of `radius` pixels, in linear light."""
    return Blurred(lambda batch, generator: disc_kernels(torch.full((batch,), radius)))


def darkened(factor: float, sigma: float = 3.0) -> Classic:
    """sRGB values times `factor` plus Gaussian noise of `sigma` on the 0 to 255 scale."""

    def degrade(x: Tensor, generator: torch.Generator) -> Tensor:
        return noisy(sigma)(x * factor, generator)

    return degrade


def untouched(x: Tensor, generator: torch.Generator) -> Tensor:
    """A clean photo, which should come back unharmed."""
    return x


CLASSIC: dict[str, Classic] = {
    "noise-15": noisy(15),
    "noise-25": noisy(25),
    "noise-50": noisy(50),
    "x2": enlarged(2),
    "x3": enlarged(3),
    "x4": enlarged(4),
    "jpeg-10": compressed(10),
    "jpeg-20": compressed(20),
    "jpeg-30": compressed(30),
    "jpeg-40": compressed(40),
    "motion-15": shaken(15),
    "defocus-3": defocused(3),
    "dark-0.2": darkened(0.2),
    "dark-0.1": darkened(0.1),
    "clean": untouched,
}
