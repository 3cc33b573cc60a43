"""What a CogVideoX model needs for one size, and the memory plan for it: from its configuration, on the meta device."""

import json
from functools import lru_cache
from typing import Literal, cast

import torch

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition
from unfade.backbones.cogvideox_strips import ASIDE
from unfade.backbones.cogvideox_vae import CogVideoXVae
from unfade.backbones.footprint import TILES, Footprint, bytes_of, saved_by_fp8
from unfade.backbones.live_bytes import peak_and_flops, peak_of
from unfade.backbones.memory_plan import (
    MemoryPlan,
    VaeTiles,
    Weights,
    first_that_fits,
    plans_of,
    plans_with,
)


def cogvideox_footprint(
    config: CogVideoXConfig,
    canvas: tuple[int, int],
    frames: int,
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    prompts: int = 2,
    denoised: tuple[int, int] | None = None,
    strips: bool = False,
    clip: bool = False,
) -> Footprint:
    """Runs every phase on the meta device, where shapes are real and memory is not.

    Args:
        config: of the model.
        canvas: (height, width) of what is encoded and decoded.
        frames: of the clip.
        dtype, vae_dtype: of the weights.
        prompts: how many are in use; 2 with guidance.
        denoised: (height, width) of what is denoised at once, where that is a tile of the canvas.
        strips: whether the VAE may compute its layers in strips; measuring that takes seconds for large canvases.
        clip: whether all frames are encoded, and not one alone.

    Raises:
        ValueError: the model can't have this size.
    """
    known = json.dumps([dict(part) for part in (config.transformer, config.vae, config.scheduler)])
    return _footprint(known, canvas, frames, dtype, vae_dtype, prompts, denoised or canvas, strips, clip)


@lru_cache(32)
def _footprint(
    known: str,
    canvas: tuple[int, int],
    frames: int,
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
    prompts: int,
    denoised: tuple[int, int],
    strips: bool,
    clip: bool,
) -> Footprint:
    config = CogVideoXConfig(*json.loads(known))
    height, width = canvas
    channels, _, rows, columns = config.latent_shape(frames, height, width)
    window = config.latent_shape(frames, *denoised)
    layers = config.transformer["num_layers"]
    # One block stands for all: their activations are the same, and one is gone before the next begins.
    lean = CogVideoXConfig({**config.transformer, "num_layers": 1}, config.vae, config.scheduler)
    model = build_cogvideox(lean, "meta", dtype, vae_dtype)
    vae, transformer = model.vae, model.denoiser.model
    block = bytes_of(transformer.transformer_blocks[0])
    around = bytes_of(transformer) - block
    seen = torch.empty(1, *window, device="meta")
    text = torch.empty(
        1, config.text_tokens, config.transformer["text_embed_dim"], device="meta", dtype=dtype
    )
    condition = CogVideoXCondition(seen[:, :, :1], text)
    # Where a denoiser is guided, one of its two answers waits for the other.
    waiting = channels * config.clip_latents(frames) * rows * columns * dtype.itemsize * (prompts - 1)
    sides = TILES if strips else ()
    encode, encode_flops = _coded(vae, config, canvas, frames if clip else 1, sides, encodes=True)
    decode, decode_flops = _coded(vae, config, canvas, frames, sides, encodes=False)
    whole = around + layers * block
    return Footprint(
        transformer=whole,
        vae=bytes_of(vae.model),
        block=block,
        around=around,
        fp8=whole - layers * saved_by_fp8(transformer.transformer_blocks[0]),
        encode=encode[0],
        denoise=peak_of(lambda: model.denoiser(seen, 500, condition)) + waiting,
        decode=decode[0],
        # Without strips, whoever asks what one would need is told that it needs as much.
        decode_tiled={side: decode.get(side, decode[0]) for side in TILES},
        remembered=0,
        encode_flops=encode_flops,
        forward_flops=config.forward_flops(config.tokens(frames, *denoised)),
        decode_flops=decode_flops,
        # The rows that strips see twice are few.
        tile_flops=dict.fromkeys(TILES, decode_flops),
        encode_tiled={side: encode[side] for side in sides},
    )


def _coded(
    vae: CogVideoXVae,
    config: CogVideoXConfig,
    canvas: tuple[int, int],
    frames: int,
    sides: tuple[int, ...],
    encodes: bool,
) -> tuple[dict[int, int], float]:
    """Bytes of encoding or decoding a clip for each side of strips (0 for none), and its operations.

    Only the first chunk and a later one are gone through, since the others are repetitions.
    """
    height, width = canvas
    stride, every = config.stride, config.temporal_stride
    size = cast(int, vae.model.num_latent_frames_batch_size)
    first = min(config.clip_latents(frames), size + 1)
    later = (config.clip_latents(frames) - first) // size

    def work(chunks: int) -> None:
        if encodes:
            encode = vae.encoding()
            for latents in (first, size)[:chunks]:
                count = every * latents if latents == size and chunks > 1 else 1 + every * (latents - 1)
                encode(torch.empty(1, 3, count, height, width, device="meta"))
            return
        latents = first + (chunks - 1) * size
        shape = (1, config.latent_channels, latents, height // stride, width // stride)
        for chunk in vae.decode(torch.empty(shape, device="meta")):
            del chunk

    chunks = 2 if later else 1
    peaks: dict[int, int] = {}
    peaks[0], flops = peak_and_flops(lambda: work(chunks))
    if later > 1:
        # Every frame costs as much as any other, but for the first one.
        flops *= frames / (1 + every * (first + size - 1))
    for side in sorted(sides):
        if ASIDE < side // 2 and height * width <= (side // 2) ** 2:
            peaks[side] = peaks[side // 2]  # one strip as well
            continue
        vae.tile = side
        # The first chunk is the largest, and with nothing left on the device the later ones need no more.
        peaks[side] = peak_of(lambda side=side: work(1 if side <= ASIDE else chunks))
    vae.tile = 0
    return peaks, flops


def choose_cogvideox_plan(
    footprint: Footprint,
    free_bytes: int,
    wanted: Literal["auto"] | Weights = "auto",
    device: str = "cuda",
    extra: int = 0,
    tiles: VaeTiles = "off",
) -> MemoryPlan:
    """The quickest plan that is predicted to fit; if none does, the one that needs least (see `fits`).

    Args:
        footprint: of the model and size.
        free_bytes: on the device, before the model is there.
        wanted: how weights are kept; "auto" never takes "fp8", since it changes results.
        device: type of the device; on the CPU there is nowhere to move weights to.
        extra: bytes of adapters beside the transformer.
        tiles: whether the VAE may compute its layers in strips, which the footprint has to know.
    """
    plans = plans_of(footprint, free_bytes, tiles, host=device == "cpu", extra=extra)
    if wanted == "fp8":
        plans = plans_with(footprint, "fp8", free_bytes, tiles, extra)
    elif wanted != "auto":
        plans = [plan for plan in plans if plan.weights == wanted] or plans
    return first_that_fits(plans)
