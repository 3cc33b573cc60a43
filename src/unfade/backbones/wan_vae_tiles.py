"""Decoding in tiles that leave no trace: with all they can see around them, the pixels are those of the whole.

diffusers' own tiles overlap a little and are blended, which changes pixels. Here the part of the decoder that looks
at the whole picture (attention, at an eighth of the final size or less, where memory is no matter) runs on the whole;
only the convolutions after it run tile by tile, each tile with the surroundings that its convolutions reach.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unfade.diffusion.tiled import Tile, tiles_along

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

_KEPT = 2  # frames that a causal convolution looks back


def decode_in_tiles(model: "AutoencoderKLWan", z: Tensor, side: int, last: bool = False) -> Tensor:
    """What `model.decode` gives, up to rounding, in the memory of one tile.

    Args:
        model: the VAE.
        z: its own latents, `[B, z, k, h, w]`.
        side: largest side of what a tile contributes, in pixels; at least the VAE's stride.
        last: whether the last frame is all that is kept.

    Returns:
        `[B, 3, t, H, W]` in [-1, 1].
    """
    whole: Tensor | None = None
    grid = tile_grid(model, z.shape[3], z.shape[4], side)
    for rows, columns, frames in tiles_decoded(model, z, *grid, last):
        if whole is None:
            stride = model.config["scale_factor_spatial"]
            whole = frames.new_empty(*frames.shape[:3], z.shape[3] * stride, z.shape[4] * stride)
        whole[..., rows, columns] = frames
    assert whole is not None, "a canvas has at least one tile"
    return whole


def tile_grid(model: "AutoencoderKLWan", height: int, width: int, side: int) -> tuple[list[Tile], list[Tile]]:
    """Rows and columns of tiles for latents of this size, in pixels of what the whole part hands on."""
    grow = 2 if _grows(model.decoder.up_blocks[0]) else 1
    inner = max(1, side * grow // model.config["scale_factor_spatial"])
    halo = reach(model)
    rows, columns = (tiles_along(length * grow, inner, halo, 1) for length in (height, width))
    return rows, columns


def reach(model: "AutoencoderKLWan") -> int:
    """How far the tiled part looks, in pixels of what it is given."""
    depth, scale = 0, 1
    for block in list(model.decoder.up_blocks)[1:]:
        depth += 2 * len(block.resnets)  # type: ignore[arg-type]
        if _grows(block):
            depth, scale = 2 * depth + 1, 2 * scale
    return -(-(depth + 1) // scale)


def tiles_decoded(
    model: "AutoencoderKLWan", z: Tensor, rows: Sequence[Tile], columns: Sequence[Tile], last: bool = False
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Tile after tile: where it lies on the canvas, in pixels, and its frames `[B, 3, t, H', W']` in [-1, 1].

    With `last`, only the last of its frames, and none of those before it is held longer than the next takes.
    """
    features, begin = _features(model, z)
    ratio = z.shape[4] * model.config["scale_factor_spatial"] // features[0].shape[4]
    for row in rows:
        for column in columns:
            cache: list[Any] = [None] * model._cached_conv_counts["decoder"]
            parts: list[Tensor] = []
            for index, feature in enumerate(features):
                window = feature[
                    ..., row.outer_start : row.outer_stop, column.outer_start : column.outer_stop
                ]
                made = _inner(_head(model, window, cache, begin, index == 0), row, column, ratio, last)
                parts = [made] if last else [*parts, made]
            del cache
            yield _span(row, ratio), _span(column, ratio), torch.cat(parts, dim=2)


def _features(model: "AutoencoderKLWan", z: Tensor) -> tuple[list[Tensor], int]:
    """What the whole part of the decoder makes of each latent, and how many causal convolutions it has."""
    decoder: Any = model.decoder
    latents = model.post_quant_conv(z)
    cache: list[Any] = [None] * model._cached_conv_counts["decoder"]
    features: list[Tensor] = []
    at = [0]
    for index in range(z.shape[2]):
        at = [0]
        x = _remembering(decoder.conv_in, latents[:, :, index : index + 1], cache, at)
        x = decoder.mid_block(x, feat_cache=cache, feat_idx=at)
        features.append(decoder.up_blocks[0](x, feat_cache=cache, feat_idx=at, first_chunk=index == 0))
    return features, at[0]


def _head(model: "AutoencoderKLWan", x: Tensor, cache: list[Any], begin: int, first: bool) -> Tensor:
    """Pixels of a window of features."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    decoder: Any = model.decoder
    at = [begin]
    for block in decoder.up_blocks[1:]:
        x = block(x, feat_cache=cache, feat_idx=at, first_chunk=first)
    x = _remembering(decoder.conv_out, decoder.nonlinearity(decoder.norm_out(x)), cache, at)
    size = model.config["patch_size"]
    return (x if size is None else unpatchify(x, patch_size=size)).clamp(-1, 1)


def _remembering(convolution: Any, x: Tensor, cache: list[Any], at: list[int]) -> Tensor:
    """A causal convolution that sees the frames before, as `WanDecoder3d.forward` calls its first and last one."""
    before = cache[at[0]]
    kept = x[:, :, -_KEPT:].clone()
    if kept.shape[2] < _KEPT and before is not None:
        kept = torch.cat([before[:, :, -1:], kept], dim=2)
    answer = convolution(x, before)
    cache[at[0]] = kept
    at[0] += 1
    return answer


def _grows(block: Any) -> bool:
    return bool(getattr(block, "upsampler", None) or getattr(block, "upsamplers", None))


def _span(tile: Tile, ratio: int) -> slice:
    return slice(tile.start * ratio, tile.stop * ratio)


def _inner(pixels: Tensor, row: Tile, column: Tile, ratio: int, last: bool) -> Tensor:
    top, left = (row.start - row.outer_start) * ratio, (column.start - column.outer_start) * ratio
    height, width = (row.stop - row.start) * ratio, (column.stop - column.start) * ratio
    return pixels[:, :, -1 if last else 0 :, top : top + height, left : left + width].clone()
