"""Frames of a trajectory side by side."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unfade.media.vips import pyvips

_BACKGROUND = 0.18
_INK = 0.85


def contact_sheet(
    frames: Iterable[Tensor],
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    width: int = 1920,
) -> Tensor:
    """A grid of frames `[3, H, W]` on dark grey, as one image `[3, H', width]` in [0, 1].

    Frames are reduced to their cell as they come, so only the sheet is held; they are never enlarged, so the
    sheet of few small frames is narrower than `width`. Labels stand below their frames; where text can't be
    drawn (no font) they are left out.

    Args:
        frames: of one size, float in [0, 1].
        columns: frames in a row; by default as square a sheet as possible.
        labels: one for each frame, e.g. "tau 0.25".
        width: of the sheet in pixels, at most.

    Raises:
        ValueError: there are no frames, or not as many labels, or they differ in size.
    """
    if width < 16 or (columns is not None and columns < 1):
        raise ValueError(
            f"a sheet needs at least 16 pixels of width and one column, not {width} and {columns}"
        )
    cells: list[Tensor] = []
    size: torch.Size | None = None
    for frame in frames:
        if size is None:
            size = frame.shape
        if frame.shape != size:
            raise ValueError(f"a sheet's frames have one size, not {tuple(size)} and {tuple(frame.shape)}")
        # Before the number of frames is known, the width of a one-column sheet is the bound.
        cells.append(
            _reduced(frame.detach().to("cpu", torch.float32), (width // columns) if columns else width)
        )
    if size is None:
        raise ValueError("a sheet needs at least one frame")
    if labels is not None and len(labels) != len(cells):
        raise ValueError(f"{len(cells)} frames need as many labels, not {len(labels)}")
    columns = min(len(cells), columns or _square_columns(len(cells), size[-1] / size[-2]))
    gap = max(2, width // 160)
    cell_width = max(1, min(cells[0].shape[-1], (width - gap * (columns + 1)) // columns))
    cells = [_reduced(cell, cell_width) for cell in cells]
    texts = _draw_labels(labels, cell_width, gap)
    return _arranged(cells, texts, columns, gap)


def _arranged(cells: list[Tensor], texts: list[Tensor] | None, columns: int, gap: int) -> Tensor:
    cell_height, cell_width = cells[0].shape[-2:]
    label_height = gap + max(text.shape[-2] for text in texts) if texts else 0
    rows = math.ceil(len(cells) / columns)
    pitch = cell_height + label_height + gap
    sheet = torch.full((3, rows * pitch + gap, columns * (cell_width + gap) + gap), _BACKGROUND)
    for index, cell in enumerate(cells):
        top = gap + (index // columns) * pitch
        left = gap + (index % columns) * (cell_width + gap)
        sheet[:, top : top + cell_height, left : left + cell_width] = cell
        if texts:
            text = texts[index]
            row, column = top + cell_height + gap // 2, left + (cell_width - text.shape[-1]) // 2
            place = sheet[:, row : row + text.shape[-2], column : column + text.shape[-1]]
            place.lerp_(torch.tensor(_INK), text.expand_as(place))
    return sheet


def _reduced(image: Tensor, width: int) -> Tensor:
    if image.shape[-1] <= width:
        return image.clamp(0, 1)
    size = (max(1, round(image.shape[-2] * width / image.shape[-1])), width)
    return F.interpolate(image.unsqueeze(0), size=size, mode="bicubic", antialias=True)[0].clamp(0, 1)


def _square_columns(count: int, aspect: float) -> int:
    """Columns for which the sheet is nearest to a square, preferring full rows."""

    def badness(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(aspect * columns / rows)) + (rows * columns - count) / count

    return min(range(1, count + 1), key=badness)


def _draw_labels(labels: Sequence[str] | None, width: int, gap: int) -> list[Tensor] | None:
    """Each label as coverage `[1, h, w]` no wider than a cell, or None if there is nothing to draw with."""
    if not labels:
        return None
    points = max(6, min(14, width // 12))
    drawn = []
    for label in labels:
        text = "".join({"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(char, char) for char in label) or " "
        try:
            image = pyvips.Image.text(text, font=f"sans {points}", dpi=96)
            raw = bytes(image.write_to_memory())
        except pyvips.Error:
            return None
        array = np.frombuffer(raw, np.uint8).reshape(image.height, image.width)[:, :width]
        drawn.append(torch.from_numpy(array.astype(np.float32) / 255).unsqueeze(0))
    return drawn
