"""How far a result of `tiny` is expected to be from the truth, pixel by pixel.

A network of its own that is asked only where a map is wanted: it costs nothing otherwise. It sees the photo, the
result, how much was changed here and around, and how much detail there is in both: where they part, detail was taken
away or made up, and where there is much of it, much can be wrong.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Sides of the squares over which is averaged.
_SQUARES = (5, 17, 49)
FEATURES = 5 + 4 * len(_SQUARES)
# Distances, at half the size, between the pixels that the residual blocks look at.
_SPREADS = (1, 2, 4, 1)
# Pixels beyond which nothing can influence the map; even, as the map is made at half the size.
REACH = 2 * (2 + 2 * sum(_SPREADS)) + _SQUARES[-1] // 2 + 4
_ROWS = 512


class Doubt(nn.Module):
    """Expected absolute error of a result.

    Args:
        context: width of `tiny`'s context vector.
        width: channels at half the size of the photo.
    """

    def __init__(self, context: int, width: int = 48) -> None:
        super().__init__()
        self.context = context
        self.enter = nn.Conv2d(FEATURES + 24, width, 3, padding=1)
        self.told = nn.Linear(context, 2 * width)
        self.first = nn.ModuleList(_spread(width, spread) for spread in _SPREADS)
        self.second = nn.ModuleList(_spread(width, spread) for spread in _SPREADS)
        self.leave = nn.Conv2d(width, 4, 3, padding=1)
        for layer in (self.told, self.leave, *self.second):
            assert isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.leave.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, degraded: Tensor, result: Tensor, context: Tensor) -> Tensor:
        """The natural logarithm of the expected absolute error, averaged over the colours, `[B, 1, H, W]`.

        Args:
            degraded, result: `[B, 3, H, W]` in [0, 1].
            context: of the whole photo, `[B, C]`.
        """
        height, width = degraded.shape[2:]
        degraded, result = (
            functional.pad(part, (0, width % 2, 0, height % 2), mode="replicate")
            for part in (degraded, result)
        )
        seen = functional.avg_pool2d(features_of(degraded, result), 2)
        change = 4 * (result - degraded)
        seen = torch.cat((seen, *(functional.pixel_unshuffle(part, 2) for part in (result, change))), 1)
        scale, shift = self.told(context)[:, :, None, None].chunk(2, 1)
        hidden = self.enter(seen.contiguous(memory_format=torch.channels_last)) * (1 + scale) + shift
        for first, second in zip(self.first, self.second, strict=True):
            hidden = hidden + second(functional.silu(first(functional.silu(hidden))))
        told = functional.pixel_shuffle(self.leave(functional.silu(hidden)), 2)
        return told[:, :, :height, :width].clamp(-9, 0)

    @torch.inference_mode()
    def expected_error(self, degraded: Tensor, result: Tensor, context: Tensor) -> Tensor:
        """The expected absolute error, `[B, 1, H, W]` in [0, 1], of photos of any size, strip by strip."""
        height = degraded.shape[2]
        strips = []
        for start in range(0, height, _ROWS):
            stop = min(height, start + _ROWS)
            top, bottom = max(0, start - REACH), min(height, stop + REACH)
            told = self(degraded[:, :, top:bottom].float(), result[:, :, top:bottom].float(), context.float())
            strips.append(told[:, :, start - top : stop - top].exp())
        return torch.cat(strips, 2)


def _spread(width: int, spread: int) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=spread, dilation=spread)


def features_of(degraded: Tensor, result: Tensor) -> Tensor:
    """What the map is made of, `[B, 17, H, W]`: light, and logarithms of changes and of detail around each pixel."""
    change = result - degraded
    grey, before = result.mean(1, keepdim=True), degraded.mean(1, keepdim=True)
    changed, shift = change.abs().mean(1, keepdim=True), change.mean(1, keepdim=True)
    edges = [(part - _averaged(part, 3)).abs() for part in (grey, before)]
    parts = [changed, *edges]
    for side in _SQUARES:
        parts.append(_averaged(changed, side))
        parts.append(_averaged(shift, side).abs())
        parts += [_averaged(edge, side) for edge in edges]
    logs = (torch.log(torch.cat(parts, 1) + 2e-3) + 4) / 1.5
    return torch.cat((logs, grey, _averaged(grey, 17)), 1)


def _averaged(part: Tensor, side: int) -> Tensor:
    """Means over squares around each pixel, over what lies within the photo."""
    half = side // 2
    rows = functional.avg_pool2d(part, (side, 1), 1, (half, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, side), 1, (0, half), count_include_pad=False)
