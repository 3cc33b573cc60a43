"""Gaussian, defocus and motion blur: exactly centred kernels, convolved in linear light."""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from unfade.degrade.degradation import Degradation, Draw, Ranges, from_linear, per_sample, to_linear
from unfade.degrade.view import View


def _offsets(radius: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Distances down and across from the centre of a kernel, `[K, K]` each."""
    line = torch.arange(-radius, radius + 1, dtype=torch.float32, device=like.device)
    size = len(line)
    return line[:, None].expand(size, size), line[None, :].expand(size, size)


def gaussian_kernels(sigma: Tensor) -> Tensor:
    """Normalised Gaussians `[B, K, K]` for standard deviations `[B]` in pixels."""
    down, across = _offsets(max(1, math.ceil(3 * float(sigma.max()))), sigma)
    spread = sigma.clamp_min(1e-3).reshape(-1, 1, 1)
    kernels = torch.exp(-(down**2 + across**2) / (2 * spread**2))
    return kernels / kernels.sum((1, 2), keepdim=True)


def disc_kernels(radius: Tensor) -> Tensor:
    """Normalised anti-aliased discs `[B, K, K]` for radii `[B]` in pixels (the thin-lens defocus)."""
    down, across = _offsets(max(1, math.ceil(float(radius.max()) + 0.5)), radius)
    distance = torch.sqrt(down**2 + across**2)
    kernels = (radius.reshape(-1, 1, 1) + 0.5 - distance).clamp(0, 1)
    return kernels / kernels.sum((1, 2), keepdim=True)


def line_kernels(length: Tensor, angle: Tensor) -> Tensor:
    """Normalised anti-aliased lines `[B, K, K]` through the centre.

    Args:
        length: `[B]` in pixels; 1 is no blur.
        angle: `[B]` in radians from the horizontal.
    """
    half = (length - 1).clamp_min(0) / 2
    radius = max(1, math.ceil(float(half.max())))
    down, across = _offsets(radius, length)
    steps = (torch.arange(512, device=length.device) + 0.5) / 256 - 1
    rows = (half * torch.sin(angle))[:, None] * steps
    columns = (half * torch.cos(angle))[:, None] * steps
    # A point spreads over its four neighbours by bilinear weights: hats of width one around every pixel.
    row_hats = (1 - (down[:, 0][None, :, None] - rows[:, None, :]).abs()).clamp_min(0)
    column_hats = (1 - (across[0][None, :, None] - columns[:, None, :]).abs()).clamp_min(0)
    kernels = torch.einsum("bip,bjp->bij", row_hats, column_hats)
    return kernels / kernels.sum((1, 2), keepdim=True)


def convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """Each sample convolved with its own kernel, borders reflected.

    Args:
        x: `[B, C, H, W]`.
        kernels: `[B, K, K]`, K odd.
    """
    radius = kernels.shape[-1] // 2
    padded = x
    for axis in (2, 3):
        index = torch.arange(-radius, x.shape[axis] + radius, device=x.device)
        period = max(1, 2 * (x.shape[axis] - 1))  # folded as often as needed: a kernel may exceed the picture
        folded = index.abs() % period
        padded = padded.index_select(axis, torch.minimum(folded, period - folded))
    size = (padded.shape[2], padded.shape[3])
    transfer = torch.fft.rfft2(kernels, s=size)
    filtered = torch.fft.irfft2(torch.fft.rfft2(padded) * transfer[:, None], s=size)
    return filtered[..., 2 * radius :, 2 * radius :][..., : x.shape[2], : x.shape[3]]


@dataclass(frozen=True, slots=True)
class Blur(Degradation):
    """A blur of one of three kinds, shrinking to a point as severity falls.

    Attributes:
        kind: `[B]`, 0 Gaussian, 1 defocus, 2 motion.
        size: `[B]` in photo pixels: standard deviation, disc radius, or half the line's length beyond 1.
        angle: `[B]` direction of motion in radians.
    """

    name: ClassVar[str] = "blur"
    only: ClassVar[int | None] = None
    kind: Tensor
    size: Tensor
    angle: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        kind = draw.choice(3)
        if cls.only is not None:
            kind = torch.full_like(kind, cls.only)
        sizes = torch.stack(
            (
                draw.ranged((0.6, 1.6), (1.6, 3.5)),
                draw.ranged((1.0, 2.5), (2.5, 5.0)),
                draw.ranged((2.0, 6.0), (6.0, 12.0)),
            )
        )
        return cls(kind, sizes.gather(0, kind[None])[0], draw.uniform(0, math.pi))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        size = self.size * severity.reshape(-1) / view.pitch(x)
        is_kind = [(self.kind == kind) for kind in range(3)]
        drawn = (
            gaussian_kernels(torch.where(is_kind[0], size, size * 0)),
            disc_kernels(torch.where(is_kind[1], size, size * 0)),
            line_kernels(1 + 2 * torch.where(is_kind[2], size, size * 0), self.angle),
        )
        width = max(kernels.shape[-1] for kernels in drawn)
        kernels = torch.zeros(x.shape[0], width, width, device=x.device)
        for chosen, candidate in zip(is_kind, drawn, strict=True):
            margin = (width - candidate.shape[-1]) // 2
            kernels += functional.pad(candidate, (margin,) * 4) * chosen.reshape(-1, 1, 1)
        return from_linear(convolve(to_linear(x), kernels))


class GaussianBlur(Blur):
    """Blur of kind 0 only."""

    name: ClassVar[str] = "gaussian-blur"
    only: ClassVar[int | None] = 0


class Defocus(Blur):
    """Blur of kind 1 only."""

    name: ClassVar[str] = "defocus"
    only: ClassVar[int | None] = 1


class MotionBlur(Blur):
    """Blur of kind 2 only."""

    name: ClassVar[str] = "motion-blur"
    only: ClassVar[int | None] = 2


@dataclass(frozen=True, slots=True)
class DirectionalBlur(Degradation):
    """Progressive's blur: a line of 9 to 51 pixels with a little Gaussian spread, shrinking to a point.

    Attributes:
        length: `[B]` in pixels of a photo 1360 wide, scaled with the photo's longer side.
        angle: `[B]` radians.
        spread: `[B]` standard deviation of the Gaussian, in the same pixels and scaled likewise.

    Source: Progressive Restoration (arXiv 2512.02273), second dataset; ranges are this project's.
    """

    name: ClassVar[str] = "directional-blur"
    lengths: ClassVar[Ranges] = ((9, 21), (25, 51))
    spreads: ClassVar[Ranges] = ((0, 2), (0, 2))
    length: Tensor
    angle: Tensor
    spread: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        length = draw.ranged(*cls.lengths)
        return cls(length, draw.uniform(0, math.pi), draw.ranged(*cls.spreads))

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        longer = torch.maximum(view.photo_height, view.photo_width)
        # All of it, so that a photo and a smaller copy of it are blurred alike.
        scale = severity.reshape(-1) * longer / 1360 / view.pitch(x)
        linear = convolve(to_linear(x), line_kernels(1 + (self.length - 1) * scale, self.angle))
        return from_linear(convolve(linear, gaussian_kernels(self.spread * scale)))


@dataclass(frozen=True, slots=True)
class LocalBlur(Degradation):
    """Something moved in a still scene: a directional blur inside a soft ellipse, nothing outside.

    Attributes:
        motion: the blur.
        centre: `[B, 2]` of the ellipse, x and y in [-1, 1] over the photo.
        radii: `[B, 2]` of the ellipse, likewise.
        edge: `[B]` share of the radius over which the blur fades out.

    Source: after ReLoBlur (Li et al. 2023), whose blur is local; shape and ranges are this project's.
    """

    name: ClassVar[str] = "local-blur"
    motion: DirectionalBlur
    centre: Tensor
    radii: Tensor
    edge: Tensor

    @classmethod
    def draw(cls, draw: Draw) -> Self:
        motion = DirectionalBlur.draw(draw)
        centre = torch.stack((draw.uniform(-0.6, 0.6), draw.uniform(-0.6, 0.6)), 1)
        radii = torch.stack((draw.uniform(0.2, 0.6), draw.uniform(0.2, 0.6)), 1)
        return cls(motion, centre, radii, draw.uniform(0.1, 0.4))

    def mask(self, x: Tensor, view: View) -> Tensor:
        """`[B, 1, H, W]`: 1 where the blur acts fully, 0 where not at all."""
        apart = (view.grid(x) - self.centre[:, None, None]) / self.radii[:, None, None]
        distance = apart.square().sum(-1).sqrt()[:, None]
        edge = per_sample(self.edge)
        return ((1 - distance) / edge + 0.5).clamp(0, 1)

    def corrupt(self, x: Tensor, severity: Tensor, view: View) -> Tensor:
        return torch.lerp(x, self.motion.corrupt(x, severity, view), self.mask(x, view))
