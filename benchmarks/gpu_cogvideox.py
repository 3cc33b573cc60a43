"""CogVideoX1.5-5B-I2V at full size with random weights, in diffusers' own pipeline: the peer of Progressive's walk."""

import time
from typing import Any

import torch

from gpu_timing import spent, synchronize
from gpu_wan import Report

# THUDM/CogVideoX1.5-5B-I2V.
_TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "in_channels": 32,
    "out_channels": 16,
    "num_layers": 42,
    "time_embed_dim": 512,
    "ofs_embed_dim": 512,
    "text_embed_dim": 4096,
    "max_text_seq_length": 224,
    "patch_size": 2,
    "patch_size_t": 2,
    "patch_bias": False,
    "sample_height": 300,
    "sample_width": 300,
    "sample_frames": 81,
    "use_rotary_positional_embeddings": True,
}
_VAE: dict[str, Any] = {"scaling_factor": 0.7, "invert_scale_latents": True}
_TINY_TRANSFORMER: dict[str, Any] = {
    **_TRANSFORMER,
    "num_attention_heads": 2,
    "num_layers": 2,
    "text_embed_dim": 24,
    "time_embed_dim": 16,
    "ofs_embed_dim": 16,
    "max_text_seq_length": 12,
}
_TINY_VAE: dict[str, Any] = {
    **_VAE,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
}
_SCHEDULER: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
}


def measure_cogvideox(device: torch.device, full: bool, report: Report) -> None:
    """Tells a row for one image-to-video clip of 9 frames: at 1280x704, or tiny."""
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDPMScheduler,
        CogVideoXImageToVideoPipeline,
        CogVideoXTransformer3DModel,
    )

    torch.manual_seed(0)
    height, width, frames, steps = (704, 1280, 9, 3) if full else (32, 48, 9, 2)
    sizes = _TRANSFORMER if full else _TINY_TRANSFORMER
    dtype = torch.bfloat16 if full else torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            transformer = CogVideoXTransformer3DModel(**sizes).eval().requires_grad_(False)
            vae = AutoencoderKLCogVideoX(**(_VAE if full else _TINY_VAE)).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    stock: Any = CogVideoXImageToVideoPipeline(
        tokenizer=None,  # type: ignore[arg-type]
        text_encoder=None,  # type: ignore[arg-type]
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDPMScheduler(**_SCHEDULER),
    )
    stock.set_progress_bar_config(disable=True)
    text = torch.randn(1, sizes["max_text_seq_length"], sizes["text_embed_dim"], device=device, dtype=dtype)
    ends: list[float] = []

    def ended(pipeline: Any, step: int, time_: Any, given: dict[str, Any]) -> dict[str, Any]:
        synchronize(device)
        ends.append(time.perf_counter())
        return given

    def work(count: int) -> Any:
        ends.clear()
        ends.append(time.perf_counter())
        return stock(
            image=torch.rand(1, 3, height, width, device=device, dtype=dtype),
            height=height,
            width=width,
            num_frames=frames,
            num_inference_steps=count,
            guidance_scale=6.0,
            prompt_embeds=text,
            negative_prompt_embeds=torch.zeros_like(text),
            output_type="pt",
            callback_on_step_end=ended,
        ).frames

    work(1)
    whole = spent(lambda: work(steps), device)
    step = (ends[-1] - ends[1]) / (steps - 1)
    encode = max(0.0, ends[1] - ends[0] - step)
    decode = whole.seconds - (ends[-1] - ends[0])
    report(
        {
            "phase": "restore",
            "who": "diffusers, CogVideoX1.5-5B",
            "width": width,
            "height": height,
            "frames": frames,
            **whole.row(),
            "parameters": sum(x.numel() for x in transformer.parameters()),
            "steps": steps,
            "encode_seconds": round(encode, 4),
            "seconds_per_step": round(step, 4),
            "decode_seconds": round(decode, 4),
            "seconds_at_50_steps": round(encode + 50 * step + decode, 3),
        }
    )
