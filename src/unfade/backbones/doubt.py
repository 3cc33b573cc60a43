"""How far a result of `tiny` is expected to be from the truth, pixel by pixel.

A network of its own that is asked only where a map is wanted: it costs nothing otherwise. It sees how much was changed
here and around, and how much detail there is in the photo and in the result: where they part, detail was taken
away or made up, and where there is much of it, much can be wrong.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Sides of the squares over which is averaged.
_SQUARES = (5, 17, 49)
FEATURES = 5 + 4 * len(_SQUARES)
# Pixels beyond which nothing can influence the map.
REACH = _SQUARES[-1] // 2 + 3
_ROWS = 512


class Doubt(nn.Module):
    """Expected absolute error of a result.

    Args:
        context: width of `tiny`'s context vector.
        width: of the layers, which work on every pixel alone.
    """

    def __init__(self, context: int, width: int = 48) -> None:
        super().__init__()
        self.context = context
        self.enter = nn.Conv2d(FEATURES, width, 1)
        self.told = nn.Linear(context, width)
        self.between = nn.Conv2d(width, width, 1)
        self.leave = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.constant_(self.leave.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, degraded: Tensor, result: Tensor, context: Tensor) -> Tensor:
        """The natural logarithm of the expected absolute error, averaged over the colours, `[B, 1, H, W]`.

        Args:
            degraded, result: `[B, 3, H, W]` in [0, 1].
            context: of the whole photo, `[B, C]`.
        """
        seen = features_of(degraded, result)
        hidden = functional.silu(self.enter(seen) + self.told(context)[:, :, None, None])
        hidden = functional.silu(self.between(hidden)) + hidden
        return self.leave(hidden).clamp(-9, 0)

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
