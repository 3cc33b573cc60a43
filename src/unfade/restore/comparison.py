"""Input and result of footage in one picture: side by side in time, or one above the other."""

import torch
from torch import Tensor
from torch.nn import functional

from unfade.media.sheet import contact_sheet

_LIGHT = 0.9
_SHEET_WIDTH = 1920


def swept(before: Tensor, after: Tensor, share: float) -> Tensor:
    """A frame of the restoration sweeping through: what lies left of the border is restored.

    Args:
        before, after: the frame as degraded and as restored, `[3, H, W]`.
        share: where the border stands, from 0 at the left edge (all as degraded) to 1 at the right.

    Returns:
        `[3, H, W]`, with a thin light line at the border unless that is an edge.
    """
    width = before.shape[-1]
    border = round(min(1.0, max(0.0, share)) * width)
    frame = torch.cat((after[..., :border], before[..., border:]), -1)
    if 0 < border < width:
        thick = max(1, width // 320)
        left = max(0, border - thick // 2)
        frame[..., left : left + thick] = _LIGHT
    return frame


class PairSheet:
    """A contact sheet of input above result at evenly spaced frames of a clip; holds them reduced.

    Args:
        num_frames: of the clip.
        pairs: wanted on the sheet; a shorter clip shows each of its frames.
    """

    def __init__(self, num_frames: int, pairs: int) -> None:
        pairs = max(1, min(pairs, num_frames))
        self._wanted = {round(place * (num_frames - 1) / max(1, pairs - 1)) for place in range(pairs)}
        self._cells: list[Tensor] = []
        self._labels: list[str] = []

    def wants(self, index: int) -> bool:
        """Whether the frame belongs on the sheet."""
        return index in self._wanted

    def add(self, before: Tensor, after: Tensor, label: str) -> None:
        """The next pair, both `[3, H, W]`."""
        gap = before.new_zeros(3, max(1, before.shape[-2] // 100), before.shape[-1])
        pair = torch.cat((before, gap, after), -2)
        # A sheet of n cells is about sqrt(n) wide or, where cells are tall, wider.
        longest = max(16, _SHEET_WIDTH // max(1, int(len(self._wanted) ** 0.5) // 2))
        if pair.shape[-1] > longest:
            size = (max(2, round(pair.shape[-2] * longest / pair.shape[-1])), longest)
            pair = functional.interpolate(pair[None], size=size, mode="bicubic", antialias=True)[0].clamp(
                0, 1
            )
        self._cells.append(pair)
        self._labels.append(label)

    def image(self) -> Tensor:
        """The sheet, `[3, H, W]`."""
        return contact_sheet(self._cells, labels=self._labels, width=_SHEET_WIDTH)
