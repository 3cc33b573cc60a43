"""Wan2.2-TI2V-5B at full size with random weights: ours against diffusers' pipeline, phase by phase."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpu_timing import PUBLISHED_STEPS, Report, Spent, StepClock, spent, tell_phases
from unfade.backbones.free_memory import free_bytes
from unfade.backbones.memory_plan import MemoryPlan
from unfade.backbones.placement import apply_memory_plan
from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL, TI2V_5B, WanConfig
from unfade.backbones.wan_denoiser import WanCondition
from unfade.backbones.wan_memory import choose_memory_plan
from unfade.backbones.wan_speed import measure_rates, predict_seconds
from unfade.diffusion.flow import FlowSchedule, sample_flow
from unfade.diffusion.guidance import Contrast, guided

GUIDANCE = 5.0


@dataclass(frozen=True, slots=True)
class Scale:
    """What is measured.

    Attributes:
        config: of the model.
        sizes: (height, width) of the canvases.
        frames: of the clip.
        steps: of the sampler; seconds for the published 50 are those of a step times 50.
        text_tokens: of a prompt.
        train_sizes: sides of the crops of training steps.
    """

    config: WanConfig
    sizes: tuple[tuple[int, int], ...]
    frames: int
    steps: int
    text_tokens: int
    train_sizes: tuple[int, ...]


FULL = Scale(TI2V_5B, ((704, 1280), (1088, 1920), (1408, 2560)), 9, 3, 512, (512, 704, 960))
TINY = Scale(SMALL, ((64, 96),), 5, 2, 12, (64,))


def measure_wan(device: torch.device, scale: Scale, report: Report) -> None:
    """Tells a row for each phase and size, ours and theirs, as soon as it is known."""
    torch.manual_seed(0)
    dtype = torch.bfloat16
    built = spent(lambda: build_wan(scale.config, device, dtype), device)
    wan: Wan = built.answer
    report({"phase": "build", **built.row()})
    rates = measure_rates(device, dtype)
    report(
        {
            "phase": "rates",
            "matmul_tflops": rates.matmul / 1e12,
            "fp32_convolution_tflops": rates.convolution / 1e12,
        }
    )
    inputs = _Inputs.drawn(scale, scale.sizes[0], device)
    _ours(wan, inputs, scale, 1)
    for vae_dtype in (torch.float32, torch.bfloat16):
        for parameter in wan.vae.model.parameters():
            parameter.data = parameter.data.to(vae_dtype)
        for size in scale.sizes:
            inputs = _Inputs.drawn(scale, size, device)
            weights = sum(
                x.numel() * x.itemsize
                for part in (wan.denoiser.model, wan.vae.model)
                for x in (*part.parameters(), *part.buffers())
            )
            plan = choose_memory_plan(
                scale.config, size, scale.frames, free_bytes(device) + weights, "resident",
                device=device.type, dtype=dtype, vae_dtype=vae_dtype,
            )  # fmt: skip
            apply_memory_plan(wan, plan, device)
            common = {
                "width": size[1],
                "height": size[0],
                "frames": scale.frames,
                "vae_dtype": str(vae_dtype).removeprefix("torch."),
            }
            _tell_ours(wan, inputs, scale, plan, common, report)
            seconds = predict_seconds(plan, 2 * PUBLISHED_STEPS, rates)
            report({"phase": "predicted", **common, "seconds_at_50_steps": round(seconds, 2)})
            _tell_theirs(wan, inputs, scale, common, report)


@dataclass(frozen=True, slots=True)
class _Inputs:
    image: Tensor
    noise: Tensor
    text: Tensor
    negative: Tensor

    @staticmethod
    def drawn(scale: Scale, size: tuple[int, int], device: torch.device) -> "_Inputs":
        dice = torch.Generator().manual_seed(0)
        shape = scale.config.latent_shape(scale.frames, *size)
        words = (1, scale.text_tokens, scale.config.transformer["text_dim"])
        drawn = (
            torch.rand(1, 3, *size, generator=dice),
            torch.randn(1, *shape, generator=dice),
            torch.randn(words, generator=dice),
            torch.randn(words, generator=dice),
        )
        return _Inputs(*(one.to(device) for one in drawn))


def _ours(wan: Wan, inputs: _Inputs, scale: Scale, steps: int) -> dict[str, Spent]:
    """Each phase of a restoration."""
    device = inputs.image.device
    encoded = spent(lambda: wan.vae.encode(inputs.image.unsqueeze(2)), device)
    first = encoded.answer
    contrast = Contrast(WanCondition(first, inputs.text), WanCondition(first, inputs.negative))

    def denoise() -> Tensor:
        schedule = FlowSchedule(steps, 5.0, scale.config.scheduler)
        with torch.inference_mode(), wan.denoiser.remembering():
            return sample_flow(guided(wan.denoiser, GUIDANCE), inputs.noise, contrast, schedule)

    denoised = spent(denoise, device)
    latents = WanCondition(first, inputs.text).pinned(denoised.answer)
    decoded = spent(lambda: [chunk for chunk in wan.vae.decode(latents)][-1][:, :, -1], device)
    return {"encode": encoded, "denoise": denoised, "decode": decoded}


def _tell_ours(
    wan: Wan, inputs: _Inputs, scale: Scale, plan: MemoryPlan, common: dict[str, Any], report: Report
) -> None:
    try:
        phases = _ours(wan, inputs, scale, scale.steps)
    except torch.OutOfMemoryError:
        wan.vae.model.clear_cache()
        report({"phase": "out of memory", "who": "ours", **common, "memory": plan.name})
        return
    cost = plan.footprint
    work = {
        "encode": cost.encode_flops,
        "denoise": 2 * scale.steps * cost.forward_flops,
        "decode": cost.tile_flops[plan.tile] if plan.tile else cost.decode_flops,
    }
    tell_phases("ours", common, phases, work, plan, scale.steps, report)


def _tell_theirs(wan: Wan, inputs: _Inputs, scale: Scale, common: dict[str, Any], report: Report) -> None:
    """diffusers' `WanImageToVideoPipeline` on the same weights, noise and prompts."""
    from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline

    device = inputs.image.device
    stock: Any = WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=wan.vae.model,
        scheduler=UniPCMultistepScheduler.from_config(dict(scale.config.scheduler)),
        transformer=wan.denoiser.model,
        expand_timesteps=True,
    )
    stock.set_progress_bar_config(disable=True)
    clock = StepClock(device)

    def work() -> Any:
        clock.begin()
        return stock(
            image=inputs.image,
            height=common["height"],
            width=common["width"],
            num_frames=scale.frames,
            num_inference_steps=scale.steps,
            guidance_scale=GUIDANCE,
            latents=inputs.noise,
            prompt_embeds=inputs.text,
            negative_prompt_embeds=inputs.negative,
            output_type="pt",
            callback_on_step_end=clock,
        ).frames

    try:
        whole = spent(work, device)
    except torch.OutOfMemoryError:
        wan.vae.model.clear_cache()
        report({"phase": "out of memory", "who": "diffusers", **common})
        return
    report(
        {
            "phase": "restore",
            "who": "diffusers",
            **common,
            **whole.row(),
            "steps": scale.steps,
            **clock.row(whole.seconds, PUBLISHED_STEPS),
        }
    )
