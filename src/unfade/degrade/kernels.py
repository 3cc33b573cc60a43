"""The blur kernels of Real-ESRGAN: Gaussians of all shapes, their generalised and plateau forms, and sinc."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unfade.degrade.degradation import Draw

Shape = Literal["gaussian", "generalised", "plateau", "sinc"]
Range = tuple[float, float]

# Odd sides that a kernel may have.
SIDES = (7, 9, 11, 13, 15, 17, 19, 21)


def _offsets(side: int) -> tuple[Tensor, Tensor]:
    """Distances across and down from the centre of a kernel, `[K, K]` each."""
    if side < 1 or side % 2 == 0:
        raise ValueError(f"the side of a kernel is odd, not {side}")
    line = torch.arange(side, dtype=torch.float64) - side // 2
    return line[None, :].expand(side, side), line[:, None].expand(side, side)


def _distance(side: int, sigma: Range, angle: float) -> Tensor:
    """The squared distance from the centre, `[K, K]`, along two turned axes in units of their deviations."""
    if min(sigma) <= 0:
        raise ValueError(f"the deviations of a kernel are above 0, not {sigma}")
    across, down = _offsets(side)
    along = (across * math.cos(angle) + down * math.sin(angle)) / sigma[0]
    beside = (down * math.cos(angle) - across * math.sin(angle)) / sigma[1]
    return along**2 + beside**2


def generalised_kernel(side: int, sigma: Range, angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """A generalised Gaussian, `[K, K]` in double precision, with sum 1.

    Args:
        side: K, odd.
        sigma: deviations along the two axes, pixels.
        angle: of the first axis, radians from the horizontal.
        beta: shape; 1 is the Gaussian itself, less has a sharper peak and heavier tails, more a flatter top.

    Source: Wang et al. 2021 (arXiv 2107.10833), section 3.1.
    """
    kernel = torch.exp(-0.5 * _distance(side, sigma, angle) ** beta)
    return kernel / kernel.sum()


def plateau_kernel(side: int, sigma: Range, angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """A plateau-shaped kernel, `[K, K]`, with sum 1; arguments and source as for `generalised_kernel`."""
    kernel = 1 / (1 + _distance(side, sigma, angle) ** beta)
    return kernel / kernel.sum()


def sinc_kernel(side: int, cutoff: float) -> Tensor:
    """The circular low-pass filter cut to a square, `[K, K]` in double precision, with sum 1; it rings.

    Args:
        side: K, odd.
        cutoff: angular frequency in (0, pi], pi being that of neighbouring pixels that alternate.

    Source: Wang et al. 2021, section 3.3.
    """
    if not 0 < cutoff <= math.pi:
        raise ValueError(f"the cut-off of a sinc filter lies in (0, pi], not {cutoff}")
    across, down = _offsets(side)
    radius = torch.sqrt(across**2 + down**2)
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius.clamp_min(1e-12))
    kernel[side // 2, side // 2] = cutoff**2 / (4 * math.pi)
    return kernel / kernel.sum()


@dataclass(frozen=True, slots=True)
class KernelRanges:
    """What a kernel is drawn from.

    Attributes:
        shapes: shares of isotropic Gaussian, anisotropic Gaussian, isotropic and anisotropic generalised, isotropic
            and anisotropic plateau, among kernels that are not sinc.
        sinc: share of sinc kernels.
        sigma: of deviations, pixels.
        generalised, plateau: of beta. Half of the draws lie in the range's part up to 1, half in that from 1 on; where
            it has no such part, they are the end nearest to 1.
        sides: that the kernel may have.
    """

    shapes: tuple[float, ...] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    sinc: float = 0.1
    sigma: Range = (0.2, 3.0)
    generalised: Range = (0.5, 4.0)
    plateau: Range = (1.0, 2.0)
    sides: tuple[int, ...] = SIDES


@dataclass(frozen=True, slots=True)
class BlurKernel:
    """A drawn kernel, told in plain numbers.

    Attributes:
        shape: which formula.
        side: of the square, odd.
        sigma: deviations along its axes, pixels; equal ones are isotropic.
        angle: of the first axis, radians.
        beta: of the generalised and plateau shapes.
        cutoff: of sinc, radians a pixel.
    """

    shape: Shape
    side: int
    sigma: Range = (1.0, 1.0)
    angle: float = 0.0
    beta: float = 1.0
    cutoff: float = math.pi

    @staticmethod
    def draw(draw: Draw, ranges: KernelRanges) -> "BlurKernel":
        """A kernel as the first or second blur has it; always the same number of throws."""
        side = ranges.sides[int(draw.choice(len(ranges.sides)))]
        is_sinc = bool(draw.chance(ranges.sinc))
        # Small kernels can't hold the rings of a low cut-off.
        cutoff = float(draw.uniform(math.pi / (3 if side < 13 else 5), math.pi))
        index = chosen(draw, ranges.shapes)
        first, second = float(draw.uniform(*ranges.sigma)), float(draw.uniform(*ranges.sigma))
        angle = float(draw.uniform(-math.pi, math.pi))
        share, below = float(draw.uniform(0, 1)), bool(draw.chance(0.5))
        if is_sinc:
            return BlurKernel("sinc", side, cutoff=cutoff)
        shape: Shape = ("gaussian", "generalised", "plateau")[index // 2]
        sigma, angle = ((first, first), 0.0) if index % 2 == 0 else ((first, second), angle)
        if shape == "gaussian":
            return BlurKernel(shape, side, sigma, angle)
        low, high = ranges.generalised if shape == "generalised" else ranges.plateau
        low, high = (low, max(low, min(1.0, high))) if below else (min(high, max(1.0, low)), high)
        return BlurKernel(shape, side, sigma, angle, low + (high - low) * share)

    @staticmethod
    def draw_sinc(draw: Draw, sides: tuple[int, ...] = SIDES) -> "BlurKernel":
        """The kernel of the last filter."""
        side = sides[int(draw.choice(len(sides)))]
        return BlurKernel("sinc", side, cutoff=float(draw.uniform(math.pi / 3, math.pi)))

    def weights(self) -> Tensor:
        """`[K, K]` in double precision, with sum 1."""
        if self.shape == "sinc":
            return sinc_kernel(self.side, self.cutoff)
        formula = plateau_kernel if self.shape == "plateau" else generalised_kernel
        return formula(self.side, self.sigma, self.angle, self.beta)


def chosen(draw: Draw, shares: tuple[float, ...]) -> int:
    """One index, each as likely as its share of the sum.

    Raises:
        ValueError: there is no share above 0, or one below.
    """
    if not shares or min(shares) < 0 or sum(shares) <= 0:
        raise ValueError(f"shares are 0 or more, and one of them is above 0, not {shares}")
    throw = float(draw.uniform(0, 1)) * sum(shares)
    for index, share in enumerate(shares):
        throw -= share
        if throw < 0:
            return index
    return max(index for index, share in enumerate(shares) if share > 0)
