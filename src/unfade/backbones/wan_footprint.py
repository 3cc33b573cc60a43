"""What a Wan model needs for one size: bytes and arithmetic of each phase, from its configuration alone."""

import json
from functools import lru_cache
from typing import Any

import torch

from unfade.backbones.footprint import TILES, Footprint, bytes_of, saved_by_fp8
from unfade.backbones.live_bytes import peak_and_flops, peak_of
from unfade.backbones.wan import build_wan
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_denoiser import WanCondition
from unfade.backbones.wan_vae_tiles import tile_grid, tiles_decoded


def footprint_of(
    config: WanConfig,
    canvas: tuple[int, int],
    frames: int,
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    prompts: int = 2,
    text_tokens: int = 512,
    denoised: tuple[int, int] | None = None,
    last: bool = False,
) -> Footprint:
    """Runs every phase on the meta device, where shapes are real and memory is not.

    Args:
        config: of the model.
        canvas: (height, width) of what is encoded and decoded.
        frames: of the clip.
        dtype, vae_dtype: of the weights.
        prompts: how many are in use; 2 with guidance.
        text_tokens: of one prompt.
        denoised: (height, width) of what is denoised at once, where that is a tile of the canvas.
        last: whether the last frame is all that is wanted, so that tiles keep no other.

    Raises:
        ValueError: the model can't have this size.
    """
    known = json.dumps([dict(part) for part in (config.transformer, config.vae, config.scheduler)])
    return _footprint(known, canvas, frames, dtype, vae_dtype, prompts, text_tokens, denoised or canvas, last)


@lru_cache(32)
def _footprint(
    known: str,
    canvas: tuple[int, int],
    frames: int,
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
    prompts: int,
    text_tokens: int,
    denoised: tuple[int, int],
    last: bool,
) -> Footprint:
    config = WanConfig(*json.loads(known))
    height, width = canvas
    shape = config.latent_shape(frames, height, width)
    window = config.latent_shape(frames, *denoised)
    tokens = config.tokens(frames, *denoised)
    layers = config.transformer["num_layers"]
    # One block stands for all: their activations are the same, and one is gone before the next begins.
    lean = WanConfig({**config.transformer, "num_layers": 1}, config.vae, config.scheduler)
    wan = build_wan(lean, "meta", dtype, vae_dtype)
    model, vae = wan.denoiser.model, wan.vae
    block = bytes_of(model.blocks[0])
    around = bytes_of(model) - block
    image = torch.empty(1, 3, 1, height, width, device="meta")
    latents = torch.empty(1, *shape, device="meta")
    text = torch.empty(1, text_tokens, config.transformer["text_dim"], device="meta", dtype=dtype)
    seen = torch.empty(1, *window, device="meta")
    condition = WanCondition(seen[:, :, :1], text)
    # Where a denoiser is guided, one of its two answers waits for the other.
    waiting = latents.numel() * dtype.itemsize * (prompts - 1)
    encode, encode_flops = peak_and_flops(lambda: vae.encode(image))
    decode, decode_flops = peak_and_flops(lambda: [chunk.shape for chunk in vae.decode(latents)])
    tiled, tile_flops = _tiled(wan.vae.model, latents, vae_dtype, decode, decode_flops, last)
    return Footprint(
        transformer=around + layers * block,
        vae=bytes_of(vae.model),
        block=block,
        around=around,
        fp8=around + layers * block - layers * saved_by_fp8(model.blocks[0]),
        encode=encode,
        denoise=peak_of(lambda: wan.denoiser(seen, 500, condition)) + waiting,
        decode=decode,
        decode_tiled=tiled,
        remembered=prompts * layers * 2 * text_tokens * _inner(config) * dtype.itemsize,
        encode_flops=encode_flops,
        forward_flops=config.forward_flops(tokens, text_tokens, times=2, remembered=True),
        decode_flops=decode_flops,
        tile_flops=tile_flops,
    )


def _tiled(
    vae: Any, latents: torch.Tensor, dtype: torch.dtype, whole: int, whole_flops: float, last: bool
) -> tuple[dict[int, int], dict[int, float]]:
    """Peak and arithmetic for each side of tiles, from the one that has most around it."""
    z = torch.empty_like(latents, dtype=dtype)
    peaks: dict[int, int] = {}
    flops: dict[int, float] = {}
    for side in TILES:
        rows, columns = tile_grid(vae, z.shape[3], z.shape[4], side)
        if len(rows) * len(columns) == 1:
            peaks[side], flops[side] = whole, whole_flops
            continue
        row, column = (
            max(line, key=lambda tile: tile.outer_stop - tile.outer_start) for line in (rows, columns)
        )
        sizes = {name: _outer(line) for name, line in (("rows", rows), ("columns", columns))}
        peak, one = peak_and_flops(
            lambda row=row, column=column: next(tiles_decoded(vae, z, [row], [column], last))[2].shape
        )
        frames = 1 if last else (latents.shape[2] - 1) * vae.config["scale_factor_temporal"] + 1
        stride = vae.config["scale_factor_spatial"]
        canvas = 3 * frames * latents.shape[3] * latents.shape[4] * stride**2
        # The canvas in the VAE's precision is converted to fp32 at the end.
        peaks[side] = peak + canvas * (dtype.itemsize + 4)
        _, lead = peak_and_flops(lambda: next(tiles_decoded(vae, z, [], []), None))
        share = sizes["rows"] * sizes["columns"] / (_outer([row]) * _outer([column]))
        flops[side] = lead + (one - lead) * share
    return peaks, flops


def _outer(line: Any) -> int:
    return sum(tile.outer_stop - tile.outer_start for tile in line)


def _inner(config: WanConfig) -> int:
    return config.transformer["num_attention_heads"] * config.transformer["attention_head_dim"]
