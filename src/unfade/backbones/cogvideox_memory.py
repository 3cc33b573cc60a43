"""What a CogVideoX model needs for one size, and the memory plan for it: from its configuration, on the meta device."""

import json
from functools import lru_cache
from typing import Literal

import torch

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition
from unfade.backbones.footprint import TILES, Footprint, bytes_of, saved_by_fp8
from unfade.backbones.live_bytes import peak_and_flops, peak_of
from unfade.backbones.memory_plan import MemoryPlan, Weights, first_that_fits, plans_of, plans_with


def cogvideox_footprint(
    config: CogVideoXConfig,
    canvas: tuple[int, int],
    frames: int,
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    prompts: int = 2,
    denoised: tuple[int, int] | None = None,
) -> Footprint:
    """Runs every phase on the meta device, where shapes are real and memory is not.

    Args:
        config: of the model.
        canvas: (height, width) of what is encoded and decoded.
        frames: of the clip.
        dtype, vae_dtype: of the weights.
        prompts: how many are in use; 2 with guidance.
        denoised: (height, width) of what is denoised at once, where that is a tile of the canvas.

    Raises:
        ValueError: the model can't have this size.
    """
    known = json.dumps([dict(part) for part in (config.transformer, config.vae, config.scheduler)])
    return _footprint(known, canvas, frames, dtype, vae_dtype, prompts, denoised or canvas)


@lru_cache(32)
def _footprint(
    known: str,
    canvas: tuple[int, int],
    frames: int,
    dtype: torch.dtype,
    vae_dtype: torch.dtype,
    prompts: int,
    denoised: tuple[int, int],
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
    latents = torch.empty(1, channels, config.clip_latents(frames), rows, columns, device="meta")
    seen = torch.empty(1, *window, device="meta")
    text = torch.empty(
        1, config.text_tokens, config.transformer["text_embed_dim"], device="meta", dtype=dtype
    )
    condition = CogVideoXCondition(seen[:, :, :1], text)
    image = torch.empty(1, 3, height, width, device="meta")
    # Where a denoiser is guided, one of its two answers waits for the other.
    waiting = latents.numel() * dtype.itemsize * (prompts - 1)
    encode, encode_flops = peak_and_flops(lambda: vae.encode_image(image))
    decode, decode_flops = peak_and_flops(lambda: [chunk.shape for chunk in vae.decode(latents)])
    whole = around + layers * block
    return Footprint(
        transformer=whole,
        vae=bytes_of(vae.model),
        block=block,
        around=around,
        fp8=whole - layers * saved_by_fp8(transformer.transformer_blocks[0]),
        encode=encode,
        denoise=peak_of(lambda: model.denoiser(seen, 500, condition)) + waiting,
        decode=decode,
        # No tiles: whoever asks what one would need is told that it needs as much.
        decode_tiled=dict.fromkeys(TILES, decode),
        remembered=0,
        encode_flops=encode_flops,
        forward_flops=config.forward_flops(config.tokens(frames, *denoised)),
        decode_flops=decode_flops,
        tile_flops=dict.fromkeys(TILES, decode_flops),
    )


def choose_cogvideox_plan(
    footprint: Footprint,
    free_bytes: int,
    wanted: Literal["auto"] | Weights = "auto",
    device: str = "cuda",
    extra: int = 0,
) -> MemoryPlan:
    """The quickest plan that is predicted to fit; if none does, the one that needs least (see `fits`).

    Args:
        footprint: of the model and size.
        free_bytes: on the device, before the model is there.
        wanted: how weights are kept; "auto" never takes "fp8", since it changes results.
        device: type of the device; on the CPU there is nowhere to move weights to.
        extra: bytes of adapters beside the transformer.

    """
    plans = plans_of(footprint, free_bytes, "off", host=device == "cpu", extra=extra)
    if wanted == "fp8":
        plans = plans_with(footprint, "fp8", free_bytes, "off", extra)
    elif wanted != "auto":
        plans = [plan for plan in plans if plan.weights == wanted] or plans
    return first_that_fits(plans)
