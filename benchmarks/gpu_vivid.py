"""Vivid-VR at full size with random weights, phase by phase, beside diffusers' text-to-video pipeline alone."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpu_timing import PUBLISHED_STEPS, Report, Spent, StepClock, last_of, spent, tell_phases
from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V, T2V_1_5_5B, CogVideoXConfig
from unfade.backbones.cogvideox_denoiser import padded_in_front
from unfade.backbones.free_memory import free_bytes
from unfade.backbones.memory_plan import MemoryPlan, Weights
from unfade.backbones.placement import apply_memory_plan, retreat
from unfade.backbones.precision import default_dtype
from unfade.conditioning.control import Control, Controlled, ControlSettings
from unfade.conditioning.control_denoiser import ControlCondition, ControlDenoiser
from unfade.diffusion.guidance import Contrast, guided
from unfade.diffusion.v_schedule import VSchedule
from unfade.restore.placement import Room
from unfade.restore.vivid_forecast import controlled_flops
from unfade.restore.vivid_memory import VividLoad
from unfade.restore.vivid_model import VividModel

GUIDANCE = 6.0
# What the plan for a smaller card is chosen by: a card of 24 GB as it comes, on a GPU that has more.
SMALLER = 24_500_000_000


@dataclass(frozen=True, slots=True)
class VividScale:
    """What is measured.

    Attributes:
        config: of the base.
        control: what its control is made of.
        side: of the square canvas.
        frames: of each window that is measured.
        steps: of the sampler; seconds for the published 50 are those of a step times 50.
        streamed: the window that is measured block by block as well; None for none.
    """

    config: CogVideoXConfig
    control: ControlSettings
    side: int
    frames: tuple[int, ...]
    steps: int
    streamed: int | None


FULL = VividScale(T2V_1_5_5B, ControlSettings(), 1024, (33, 121), 2, 33)
TINY = VividScale(SMALL_T2V, ControlSettings(blocks=1, bottleneck=8, width=8, groups=2), 32, (9,), 2, None)


def measure_vivid(device: torch.device, scale: VividScale, report: Report) -> None:
    """Tells a row for each phase and window, ours under the plans of this and of a smaller device, and theirs."""
    torch.manual_seed(0)
    built = spent(lambda: _built(scale, device), device)
    model: VividModel = built.answer
    count = sum(one.numel() for one in model.denoiser.model.parameters())
    report({"phase": "build", "who": "ours, Vivid-VR", **built.row(), "parameters": count})
    for frames in scale.frames:
        common = {"width": scale.side, "height": scale.side, "frames": frames}
        inputs = _Inputs.drawn(scale, frames)
        for plan, limit in _plans(scale, frames, device):
            told = {**common, "memory": plan.name, **({"limit_gb": limit / 1e9} if limit else {})}
            _tell_ours(model, inputs, scale, plan, told, device, report)
        retreat(model)
    _tell_theirs(model, scale, device, report)


def _built(scale: VividScale, device: torch.device) -> VividModel:
    """On the device at once: drawing billions of numbers on a CPU takes minutes."""
    base = build_cogvideox(scale.config, device, torch.bfloat16)
    with torch.device(device), default_dtype(torch.bfloat16):
        control = Control(scale.config.transformer, scale.control)
    return VividModel(base.config, ControlDenoiser(Controlled(base.denoiser.model, control)), base.vae)


def _plans(scale: VividScale, frames: int, device: torch.device) -> list[tuple[MemoryPlan, int | None]]:
    """The plan for this device, that for a smaller one, and blocks that are streamed, each once."""
    seen = (scale.side, scale.side)
    load = VividLoad(
        scale.config,  # type: ignore[arg-type]
        seen,
        seen,
        frames,
        2,
        torch.bfloat16,
        control=scale.control,
    )
    # The model itself lies there while this is asked.
    free = free_bytes(device)
    if device.type != "cpu":
        footprint = load.plan(Room(), device, free).footprint
        free = min(
            free + footprint.transformer + footprint.vae,
            torch.cuda.get_device_properties(device).total_memory,
        )
    rooms: list[tuple[Weights | None, int | None]] = [(None, None)]
    if device.type != "cpu":
        rooms.append((None, SMALLER))
    if scale.streamed == frames:
        rooms.append(("group", SMALLER))
    found: dict[tuple[str, int], tuple[MemoryPlan, int | None]] = {}
    for wanted, limit in rooms:
        # Strips are for memory that is short, and measuring them takes a while.
        room = Room(wanted or "auto", "off" if device.type == "cpu" else "auto")
        plan = load.plan(room, device, limit or free)
        found.setdefault((plan.weights, plan.tile), (plan, limit))
    return list(found.values())


@dataclass(frozen=True, slots=True)
class _Inputs:
    frames: Tensor
    noise: Tensor
    text: Tensor
    negative: Tensor

    @staticmethod
    def drawn(scale: VividScale, frames: int) -> "_Inputs":
        """On the host, as frames are read and states are kept."""
        dice = torch.Generator().manual_seed(0)
        words = (1, scale.config.text_tokens, scale.config.transformer["text_embed_dim"])
        return _Inputs(
            torch.rand(frames, 3, scale.side, scale.side, generator=dice),
            torch.randn(1, *scale.config.latent_shape(frames, scale.side, scale.side), generator=dice),
            torch.randn(words, generator=dice),
            torch.randn(words, generator=dice),
        )


def _ours(model: VividModel, inputs: _Inputs, steps: int, device: torch.device) -> dict[str, Spent]:
    """Each phase of a window."""
    encoded = spent(lambda: model.vae.encode_frames(iter(inputs.frames)), device)
    front = inputs.noise.shape[2] - encoded.answer.shape[2]
    low = padded_in_front(encoded.answer, front)
    contrast = Contrast(ControlCondition(low, inputs.text), ControlCondition(low, inputs.negative))
    # What a shot's walk does with its states, on the host.
    stepper = VSchedule(PUBLISHED_STEPS, "ddim", model.config.scheduler).stepper()
    denoiser = guided(model.denoiser, GUIDANCE)

    def denoise(count: int) -> Tensor:
        state, clean = inputs.noise, None
        for step in range(count):
            v = denoiser(state, float(stepper.times[step]), contrast).float()
            state, clean = stepper(step, v, state, clean, torch.Generator().manual_seed(step))
        return state

    denoise(1)
    denoised = spent(lambda: denoise(steps), device)
    latents = denoised.answer[:, :, front:]
    decoded = spent(lambda: last_of(chunk.cpu() for chunk in model.vae.decode(latents)), device)
    return {"encode": encoded, "denoise": denoised, "decode": decoded}


def _tell_ours(
    model: VividModel,
    inputs: _Inputs,
    scale: VividScale,
    plan: MemoryPlan,
    common: dict[str, Any],
    device: torch.device,
    report: Report,
) -> None:
    apply_memory_plan(model, plan, device)
    try:
        phases = _ours(model, inputs, scale.steps, device)
    except torch.OutOfMemoryError:
        report({"phase": "out of memory", "who": "ours, Vivid-VR", **common})
        return
    tokens = scale.config.tokens(len(inputs.frames), scale.side, scale.side)
    cost = plan.footprint
    work = {
        "encode": cost.encode_flops,
        "denoise": 2 * scale.steps * controlled_flops(scale.config, scale.control, tokens),
        "decode": cost.decode_flops,
    }
    tell_phases("ours, Vivid-VR", common, phases, work, plan, scale.steps, report)


def _tell_theirs(model: VividModel, scale: VividScale, device: torch.device, report: Report) -> None:
    """diffusers' `CogVideoXPipeline` on the same transformer and VAE, without any control, its VAE in its own tiles."""
    from diffusers import CogVideoXDPMScheduler, CogVideoXPipeline

    transformer = model.denoiser.model.transformer.to(device)
    # As the released code has it: 16 bits and tiles that are blended. Whole it would not fit into 80 GB.
    vae = model.vae.model.to(device)  # type: ignore[arg-type]
    for parameter in vae.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    vae.enable_tiling()
    stock: Any = CogVideoXPipeline(
        tokenizer=None,  # type: ignore[arg-type]
        text_encoder=None,  # type: ignore[arg-type]
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDPMScheduler.from_config(dict(scale.config.scheduler)),
    )
    stock.set_progress_bar_config(disable=True)
    for frames in scale.frames:
        inputs = _Inputs.drawn(scale, frames)
        _tell_stock(stock, inputs, scale, frames, device, report)


def _tell_stock(
    stock: Any, inputs: _Inputs, scale: VividScale, frames: int, device: torch.device, report: Report
) -> None:
    common = {"width": scale.side, "height": scale.side, "frames": frames}
    clock = StepClock(device)

    def work(count: int) -> Any:
        clock.begin()
        return stock(
            height=scale.side,
            width=scale.side,
            num_frames=frames,
            num_inference_steps=count,
            guidance_scale=GUIDANCE,
            prompt_embeds=inputs.text.to(device, torch.bfloat16),
            negative_prompt_embeds=inputs.negative.to(device, torch.bfloat16),
            output_type="pt",
            callback_on_step_end=clock,
        ).frames

    try:
        whole = spent(lambda: work(scale.steps + 1), device)
    except torch.OutOfMemoryError:
        report({"phase": "out of memory", "who": "diffusers, no control", **common})
        return
    report(
        {
            "phase": "restore",
            "who": "diffusers, no control",
            **common,
            **whole.row(),
            "steps": scale.steps + 1,
            **clock.row(whole.seconds, PUBLISHED_STEPS),
        }
    )
