"""Any denoiser on a canvas of any size: tiles with a halo, merged by hard masks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.core import Condition, Denoiser


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile along one axis: what is kept, and the larger span that is computed for it."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int


def tiles_along(length: int, tile: int, halo: int, multiple: int) -> list[Tile]:
    """Tiles of about equal size that cover `length` once, each seeing `halo` more on both sides where there is more.

    All borders but the canvas's own end are multiples of `multiple`, so that strided layers see every tile on
    the canvas's own grid.

    Raises:
        ValueError: the halo is not a multiple.
    """
    if halo % multiple:
        raise ValueError(f"halo {halo} must be a multiple of {multiple}")
    count = max(1, -(-length // max(tile, multiple)))
    units = -(-length // multiple)
    cuts = [min(length, round(index * units / count) * multiple) for index in range(count + 1)]
    return [
        Tile(start, stop, max(0, start - halo), min(length, stop + halo))
        for start, stop in zip(cuts, cuts[1:], strict=False)
        if stop > start
    ]


def flush_tiles(length: int, tile: int, stride: int) -> list[Tile]:
    """Tiles of one size, the last one flush with the end, each keeping its middle.

    As many as strides of at most `stride` need, which are then made alike.

    Raises:
        ValueError: the tiles would not overlap.

    Source: Vivid-VR's released code (128 places of latents, strides of 64).
    """
    if not 1 <= stride <= tile:
        raise ValueError(f"the stride of tiles must be 1 to {tile}, not {stride}")
    if length <= tile:
        return [Tile(0, length, 0, length)]
    free = length - tile
    count = -(-free // stride) + 1
    even = -(-free // (count - 1))
    starts = [*range(0, free + 1, even)]
    if free % even:
        starts.append(free)
    margin = (tile - even) // 2
    cuts = [0, *(start + tile - margin for start in starts[:-1]), length]
    return [
        Tile(begin, end, start, start + tile)
        for start, begin, end in zip(starts, cuts, cuts[1:], strict=False)
    ]


def tiled(
    denoiser: Denoiser,
    tile: int,
    halo: int,
    multiple: int,
    on_tile: Callable[[int, int], None] | None = None,
) -> Denoiser:
    """The same denoiser, computed tile by tile.

    With a halo no smaller than the denoiser's reach the result equals the untiled one; and since solvers work
    pixel by pixel, a hard-mask merge of predictions commutes with them, so the walk needs no state per tile.

    Args:
        denoiser: what to call on every tile; it takes `[..., H, W]`, frames or latents of several frames.
        tile: largest side of what a tile contributes, in places of the canvas (pixels, or those of latents).
        halo: surroundings each tile sees besides, a multiple of `multiple`.
        multiple: the size rule of the denoiser.
        on_tile: told (tiles done, tiles in all).
    """

    return tiled_by(denoiser, lambda length: tiles_along(length, tile, halo, multiple), on_tile)


def tiled_by(
    denoiser: Denoiser,
    along: Callable[[int], list[Tile]],
    on_tile: Callable[[int, int], None] | None = None,
) -> Denoiser:
    """As `tiled`, with a rule of one's own for where the tiles lie along an axis.

    Args:
        denoiser: what to call on every tile.
        along: the tiles of an axis of some length; what they keep covers it once.
        on_tile: told (tiles done, tiles in all).
    """

    def whole(x: Tensor, t: float, condition: Condition) -> Tensor:
        rows = along(x.shape[-2])
        columns = along(x.shape[-1])
        if len(rows) * len(columns) == 1:
            result = denoiser(x, t, condition)
            if on_tile:
                on_tile(1, 1)
            return result
        canvas = torch.empty_like(x)
        done = 0
        for row in rows:
            for column in columns:
                top, left = row.outer_start, column.outer_start
                height, width = row.outer_stop - top, column.outer_stop - left
                window = x[..., top : top + height, left : left + width]
                part = denoiser(window, t, condition.crop(top, left, height, width))
                inner = part[..., row.start - top : row.stop - top, column.start - left : column.stop - left]
                canvas[..., row.start : row.stop, column.start : column.stop] = inner
                done += 1
                if on_tile:
                    on_tile(done, len(rows) * len(columns))
        return canvas

    return whole
