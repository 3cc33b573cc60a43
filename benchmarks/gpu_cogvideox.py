"""CogVideoX1.5-5B-I2V at full size with random weights: ours against diffusers' pipeline, phase by phase."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpu_timing import (
    PUBLISHED_STEPS,
    Report,
    Spent,
    StepClock,
    last_of,
    spent,
    tell_phases,
)
from unfade.backbones.cogvideox import CogVideoX, build_cogvideox
from unfade.backbones.cogvideox_config import I2V_1_5_5B, SMALL_1_5, CogVideoXConfig
from unfade.backbones.free_memory import free_bytes
from unfade.backbones.memory_plan import MemoryPlan
from unfade.backbones.placement import apply_memory_plan, retreat
from unfade.diffusion.guidance import Contrast, guided
from unfade.diffusion.v_schedule import VSchedule
from unfade.restore.cogvideox_load import CogVideoXLoad
from unfade.restore.placement import Room

GUIDANCE = 6.0


@dataclass(frozen=True, slots=True)
class CogVideoXScale:
    """What is measured.

    Attributes:
        config: of the model.
        size: (height, width) of the canvas.
        frames: of the clip.
        steps: of the sampler.
    """

    config: CogVideoXConfig
    size: tuple[int, int]
    frames: int
    steps: int


FULL = CogVideoXScale(I2V_1_5_5B, (704, 1280), 9, 3)
# What training learns from, the largest size the model was made for.
FULL_TRAINING = CogVideoXScale(I2V_1_5_5B, (768, 1360), 9, 3)
TINY = CogVideoXScale(SMALL_1_5, (32, 48), 9, 2)


@dataclass(frozen=True, slots=True)
class _Inputs:
    image: Tensor
    noise: Tensor
    text: Tensor
    negative: Tensor

    @staticmethod
    def drawn(scale: CogVideoXScale, device: torch.device) -> "_Inputs":
        dice = torch.Generator().manual_seed(0)
        words = (1, scale.config.text_tokens, scale.config.transformer["text_embed_dim"])
        drawn = (
            torch.rand(1, 3, *scale.size, generator=dice),
            torch.randn(1, *scale.config.latent_shape(scale.frames, *scale.size), generator=dice),
            torch.randn(words, generator=dice),
            torch.randn(words, generator=dice),
        )
        return _Inputs(*(one.to(device) for one in drawn))


def measure_cogvideox(device: torch.device, scale: CogVideoXScale, report: Report) -> None:
    """Tells a row for each phase of one image-to-video clip, ours and theirs."""
    torch.manual_seed(0)
    built = spent(lambda: build_cogvideox(scale.config, device, torch.bfloat16), device)
    model: CogVideoX = built.answer
    who = "ours, CogVideoX1.5-5B"
    count = sum(one.numel() for one in model.denoiser.model.parameters())
    report({"phase": "build", "who": who, **built.row(), "parameters": count})
    inputs = _Inputs.drawn(scale, device)
    plan = _plan(model, scale, device)
    common = {"width": scale.size[1], "height": scale.size[0], "frames": scale.frames}
    common |= {"memory": plan.name, "vae_dtype": str(model.vae.dtype).removeprefix("torch.")}
    apply_memory_plan(model, plan, device)
    try:
        _ours(model, inputs, 1, device)
        phases = _ours(model, inputs, scale.steps, device)
    except torch.OutOfMemoryError:
        report({"phase": "out of memory", "who": who, **common})
    else:
        cost = plan.footprint
        work = {
            "encode": cost.encode_flops,
            "denoise": 2 * scale.steps * cost.forward_flops,
            "decode": cost.decode_flops,
        }
        tell_phases(who, common, phases, work, plan, scale.steps, report)
    retreat(model)
    _tell_theirs(model, inputs, scale, device, report)


def _plan(model: CogVideoX, scale: CogVideoXScale, device: torch.device) -> MemoryPlan:
    """What this device has room for; the model lies there while this is asked."""
    load = CogVideoXLoad(scale.config, scale.size, scale.size, scale.frames, 2, torch.bfloat16)
    lying = sum(
        one.numel() * one.itemsize
        for part in (model.denoiser.model, model.vae.model)
        for one in (*part.parameters(), *part.buffers())
    )
    room = Room("auto", "off" if device.type == "cpu" else "auto")
    return load.plan(room, device, free_bytes(device) + lying)


def _ours(model: CogVideoX, inputs: _Inputs, steps: int, device: torch.device) -> dict[str, Spent]:
    """Each phase of a restoration."""
    encoded = spent(lambda: model.conditions(inputs.image, (inputs.text, inputs.negative)), device)
    told, other = encoded.answer

    def denoise() -> Tensor:
        schedule = VSchedule(steps, "dpm", model.config.scheduler)
        dice = torch.Generator().manual_seed(0)
        with torch.inference_mode(), model.denoiser.remembering():
            return schedule.sample(
                guided(model.denoiser, GUIDANCE), inputs.noise, Contrast(told, other), dice
            )

    denoised = spent(denoise, device)
    latents = model.finished(denoised.answer, told)
    decoded = spent(lambda: last_of(model.vae.decode(latents)), device)
    return {"encode": encoded, "denoise": denoised, "decode": decoded}


def _tell_theirs(
    model: CogVideoX, inputs: _Inputs, scale: CogVideoXScale, device: torch.device, report: Report
) -> None:
    """diffusers' `CogVideoXImageToVideoPipeline` on the same weights, its VAE in 16 bits."""
    from diffusers import CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline

    dtype = torch.bfloat16
    stock: Any = CogVideoXImageToVideoPipeline(
        tokenizer=None,  # type: ignore[arg-type]
        text_encoder=None,  # type: ignore[arg-type]
        vae=model.vae.model.to(device, dtype),  # type: ignore[arg-type]
        transformer=model.denoiser.model.to(device),  # type: ignore[arg-type]
        scheduler=CogVideoXDPMScheduler.from_config(dict(scale.config.scheduler)),
    )
    stock.set_progress_bar_config(disable=True)
    clock = StepClock(device)
    common = {"width": scale.size[1], "height": scale.size[0], "frames": scale.frames}
    common |= {"memory": "resident", "vae_dtype": "bfloat16"}

    def work(count: int) -> Any:
        clock.begin()
        return stock(
            image=inputs.image.to(dtype),
            height=scale.size[0],
            width=scale.size[1],
            num_frames=scale.frames,
            num_inference_steps=count,
            guidance_scale=GUIDANCE,
            prompt_embeds=inputs.text.to(dtype),
            negative_prompt_embeds=inputs.negative.to(dtype),
            output_type="pt",
            callback_on_step_end=clock,
        ).frames

    who = "diffusers, CogVideoX1.5-5B"
    try:
        work(1)
        whole = spent(lambda: work(scale.steps), device)
    except torch.OutOfMemoryError:
        report({"phase": "out of memory", "who": who, **common})
        return
    report(
        {
            "phase": "restore",
            "who": who,
            **common,
            **whole.row(),
            "steps": scale.steps,
            **clock.row(whole.seconds, PUBLISHED_STEPS),
        }
    )
