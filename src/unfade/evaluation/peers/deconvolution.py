"""Deconvolution by a known kernel, in linear light: Wiener's filter and Richardson-Lucy's iteration.

Fourier transforms take a picture for periodic, so it is first continued on the right and below by its mirror
images, cross-faded so that the period closes without a step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import Clip, Plan, Restoration
from unfade.core.contracts import Progress
from unfade.degrade.degradation import from_linear, to_linear
from unfade.evaluation.peers.framewise import PLAN, framewise

_TURN = math.pi / 6
_WIDEN = 1.5
_ELONGATED = 2.0
_TINY = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Wiener:
    """Wiener's filter with a Laplacian as prior: `X = conj(K) Y / (|K|^2 + balance |L|^2)`.

    What a photo saw beyond its border is unknown and its mirror image only a first guess, so the surroundings are
    estimated anew from each result, blurred, before the next; without that a line blur ends in ripples.

    Attributes:
        kernel: `[k, k]`, k odd, sum 1, in pixels of the (enlarged) picture.
        balance: weight of the prior; 0.01 suits a blur that was rounded to 8 bits.
        rounds: how often the surroundings are estimated.
        name: what it is called in provenance.

    Raises:
        ValueError: the kernel is not square with an odd side and a sum above 0.

    Source: Hunt 1973, The Application of Constrained Least Squares Estimation.
    """

    kernel: Tensor
    balance: float = 0.01
    rounds: int = 10
    name: str = "wiener"

    def __post_init__(self) -> None:
        _check(self.kernel)

    @staticmethod
    def balance_for(sigma: float | None) -> float:
        """The weight for noise of a known level on the 0 to 255 scale; up to 3 it is that for rounding alone."""
        return 0.01 * max(1.0, (sigma or 0.0) / 3) ** 2

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The (enlarged) clip sharpened frame by frame; the prompt changes nothing."""

        def sharpen(blurred: Tensor) -> Tensor:
            height, width = blurred.shape[-2:]
            canvas = extended(blurred, 2 * self.kernel.shape[-1])
            sharp = wiener(canvas, self.kernel, self.balance)
            for _ in range(self.rounds):
                canvas = circular(sharp, self.kernel)
                canvas[..., :height, :width] = blurred
                sharp = wiener(canvas, self.kernel, self.balance)
            return sharp[..., :height, :width]

        provenance = {"model": self.name, "balance": f"{self.balance:g}", "rounds": str(self.rounds)}
        return framewise(provenance, clip, plan, progress, _in_linear_light(sharpen))


@dataclass(frozen=True, slots=True, eq=False)
class RichardsonLucy:
    """Richardson and Lucy's multiplicative iteration from a flat start.

    Attributes:
        kernel: `[k, k]`, k odd, sum 1, in pixels of the (enlarged) picture.
        iterations: how many; more sharpen more and amplify noise.
        name: what it is called in provenance.

    Raises:
        ValueError: the kernel is not square with an odd side and a sum above 0.

    Source: Richardson 1972; Lucy 1974.
    """

    kernel: Tensor
    iterations: int = 30
    name: str = "richardson-lucy"

    def __post_init__(self) -> None:
        _check(self.kernel)

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The (enlarged) clip sharpened frame by frame; the prompt changes nothing."""

        def sharpen(blurred: Tensor) -> Tensor:
            canvas = extended(blurred, 2 * self.kernel.shape[-1])
            sharp = richardson_lucy(canvas, self.kernel, self.iterations)
            return sharp[..., : blurred.shape[-2], : blurred.shape[-1]]

        provenance = {"model": self.name, "iterations": str(self.iterations)}
        return framewise(provenance, clip, plan, progress, _in_linear_light(sharpen))


def wrong_kernel(kernel: Tensor) -> Tensor:
    """A kernel misjudged as users misjudge it: a streak turned by 30 degrees, a round one 1.5 times as wide.

    A kernel is a streak where its standard deviations along and across differ by more than a factor of two.

    Args:
        kernel: `[k, k]`, k odd.

    Returns:
        Another one `[m, m]`, m odd and not below k, with sum 1.
    """
    _check(kernel)
    kernel = kernel.to(torch.float64) / kernel.sum()
    radius = kernel.shape[-1] // 2
    line = torch.arange(-radius, radius + 1, dtype=torch.float64)
    down, across = line[:, None] * kernel, line[None, :] * kernel
    covariance = torch.tensor(
        [
            [(line[:, None] * down).sum(), (line[None, :] * down).sum()],
            [(line[None, :] * down).sum(), (line[None, :] * across).sum()],
        ]
    )
    narrow, broad = torch.linalg.eigvalsh(covariance).clamp_min(0).sqrt().tolist()
    margin = math.ceil(radius * (_WIDEN - 1)) + 1
    side = 2 * (radius + margin) + 1
    if broad > _ELONGATED * narrow:
        cosine, sine = math.cos(_TURN), math.sin(_TURN)
        back = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]], dtype=torch.float64)
    else:
        back = torch.tensor([[1 / _WIDEN, 0.0, 0.0], [0.0, 1 / _WIDEN, 0.0]], dtype=torch.float64)
    grid = functional.affine_grid(back[None], [1, 1, side, side], align_corners=True)
    padded = functional.pad(kernel, (margin,) * 4)[None, None]
    warped = functional.grid_sample(padded, grid, align_corners=True)[0, 0]
    return warped / warped.sum()


def extended(x: Tensor, margin: int) -> Tensor:
    """`[..., H, W]` continued on the right and below by at least `2 * margin` so that it is smooth as a period.

    What is added fades from the mirror image of the far edge to that of the near one. Sides become products of
    2, 3 and 5, which transform fast.
    """
    from scipy.fft import next_fast_len

    for axis in (-2, -1):
        size = x.shape[axis]
        longer: Any = next_fast_len(size + 2 * margin, real=True)
        added = int(longer) - size
        index = torch.arange(added)
        after = x.index_select(axis, _mirrored(size + index, size))
        before = x.index_select(axis, _mirrored(index - added, size))
        fade = (0.5 - 0.5 * torch.cos(math.pi * (index + 0.5) / added)).to(x)
        x = torch.cat((x, torch.lerp(after, before, fade[:, None] if axis == -2 else fade)), axis)
    return x


def circular(x: Tensor, kernel: Tensor) -> Tensor:
    """`[..., H, W]` convolved as if it repeated for ever."""
    size = (x.shape[-2], x.shape[-1])
    return torch.fft.irfft2(torch.fft.rfft2(x) * _transfer(kernel, size), s=size)


def wiener(blurred: Tensor, kernel: Tensor, balance: float) -> Tensor:
    """`[..., H, W]`, periodic, through the filter of `Wiener` once."""
    height, width = blurred.shape[-2:]
    transfer = _transfer(kernel, (height, width))
    down = 2 * math.pi * torch.fft.fftfreq(height, dtype=torch.float64)
    across = 2 * math.pi * torch.fft.rfftfreq(width, dtype=torch.float64)
    laplacian = 4 - 2 * torch.cos(down)[:, None] - 2 * torch.cos(across)[None, :]
    inverse = transfer.conj() / (transfer.abs() ** 2 + balance * laplacian**2)
    return torch.fft.irfft2(torch.fft.rfft2(blurred) * inverse, s=(height, width))


def richardson_lucy(blurred: Tensor, kernel: Tensor, iterations: int) -> Tensor:
    """`[..., H, W]`, periodic and not negative, after so many iterations from a flat start."""
    size = (blurred.shape[-2], blurred.shape[-1])
    transfer = _transfer(kernel, size)
    estimate = torch.full_like(blurred, 0.5)
    for _ in range(iterations):
        again = torch.fft.irfft2(torch.fft.rfft2(estimate) * transfer, s=size).clamp_min_(_TINY)
        ratio = torch.fft.rfft2(blurred / again)
        estimate = estimate * torch.fft.irfft2(ratio * transfer.conj(), s=size).clamp_min_(0)
    return estimate


def _in_linear_light(sharpen: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    def apply(pixels: Any) -> Any:
        blurred = to_linear(torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float64) / 255)
        sharp = from_linear(sharpen(blurred)).mul(255).round().to(torch.uint8)
        return sharp.permute(1, 2, 0).contiguous().numpy()

    return apply


def _mirrored(index: Tensor, size: int) -> Tensor:
    period = max(1, 2 * (size - 1))
    folded = index.abs() % period
    return torch.minimum(folded, period - folded)


def _transfer(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """The kernel's spectrum with its centre at the origin, float64; a kernel larger than the period wraps."""
    radius = kernel.shape[-1] // 2
    line = torch.arange(-radius, radius + 1)
    canvas = torch.zeros(size, dtype=torch.float64)
    places = (line[:, None] % size[0]).expand_as(kernel), (line[None, :] % size[1]).expand_as(kernel)
    canvas.index_put_(places, kernel.detach().cpu().to(torch.float64), accumulate=True)
    return torch.fft.rfft2(canvas)


def _check(kernel: Tensor) -> None:
    shape = tuple(kernel.shape)
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] % 2 == 0 or not float(kernel.sum()) > 0:
        raise ValueError(f"a blur kernel is square with an odd side and a sum above 0, not {shape}")
