"""One LoRA training step of Wan2.2-TI2V-5B at the crops of the curriculum, and of CogVideoX1.5-5B-I2V at its size."""

from typing import Any

import torch

from gpu_cogvideox import CogVideoXScale
from gpu_timing import Report, spent
from gpu_wan import Scale
from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, padded_in_front
from unfade.backbones.wan import build_wan
from unfade.conditioning.lora import PROGRESSIVE, LoraSettings, attach_lora
from unfade.diffusion.v_schedule import VSchedule
from unfade.training.flow_matching import flow_loss
from unfade.training.progressive_run import ProgressiveRun
from unfade.training.v_objective import v_loss


def measure_training(device: torch.device, scale: Scale, report: Report) -> None:
    """Tells a row for each crop: encoding the clip, then forward and backward pass and the optimiser's step."""
    torch.manual_seed(0)
    wan = build_wan(scale.config, device, torch.bfloat16)
    model: Any = wan.denoiser.model
    learnt = attach_lora(model, LoraSettings(), seed=0)
    model.enable_gradient_checkpointing()
    model.train()
    optimizer = torch.optim.AdamW(learnt, lr=1e-4)
    text = torch.randn(1, scale.text_tokens, scale.config.transformer["text_dim"], device=device)
    for side in scale.train_sizes:
        clip = torch.rand(1, 3, scale.frames, side, side, device=device)
        common = {"side": side, "frames": scale.frames, "batch": 1}
        encoded = spent(lambda clip=clip: wan.vae.encode(clip).clone(), device)
        report({"phase": "encode for training", **common, **encoded.row()})
        latents = encoded.answer

        def step(latents: torch.Tensor = latents) -> float:
            noise, level = torch.randn_like(latents), torch.rand(1, device=device)
            with torch.autocast(device.type, torch.bfloat16):
                loss = flow_loss(model, latents, noise, level, text, tuple(model.config.patch_size))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return float(loss.detach())

        step()
        taken = spent(step, device)
        # Forward twice (blocks are evaluated again), and backward to the activations; frozen weights get no gradient.
        flops = 3 * scale.config.forward_flops(
            scale.config.tokens(scale.frames, side, side), scale.text_tokens
        )
        report({"phase": "lora step", **common, **taken.row(flops), "loss": round(taken.answer, 4)})


def measure_cogvideox_training(device: torch.device, scale: CogVideoXScale, report: Report) -> None:
    """Tells a row for encoding a progression with its noisy photo, and one for a step of the published recipe."""
    torch.manual_seed(0)
    video, run = build_cogvideox(scale.config, device, torch.bfloat16), ProgressiveRun()
    model: Any = video.denoiser.model
    learnt = attach_lora(model, PROGRESSIVE, seed=0)
    model.enable_gradient_checkpointing()
    model.train()
    optimizer = torch.optim.AdamW(learnt, lr=run.lr, betas=run.betas, weight_decay=run.weight_decay)
    text = torch.randn(1, scale.config.text_tokens, scale.config.transformer["text_embed_dim"], device=device)
    signal = VSchedule(config=scale.config.scheduler).signal()
    height, width = scale.size
    clip = torch.rand(1, 3, scale.frames, height, width, device=device)
    dice = torch.Generator().manual_seed(0)
    common = {
        "who": "ours, CogVideoX1.5-5B",
        "width": width,
        "height": height,
        "frames": scale.frames,
        "batch": 1,
    }

    def encode() -> tuple[torch.Tensor, torch.Tensor]:
        photo = video.vae.encode_image(run.seen(clip[:, :, 0].cpu(), dice).to(device))
        return photo.clone(), video.vae.encode(clip).clone()

    encoded = spent(encode, device)
    report({"phase": "encode for training", **common, **encoded.row()})
    photo, latents = encoded.answer
    condition = CogVideoXCondition(photo, text)
    clean = padded_in_front(latents, scale.config.padding(scale.frames))

    def step() -> float:
        time = torch.tensor([500])
        with torch.autocast(device.type, torch.bfloat16):
            loss = v_loss(
                model, clean, torch.randn_like(clean), time.to(device), signal[time].to(device), condition
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, run.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    step()
    taken = spent(step, device)
    # As above: forward twice, and backward to the activations.
    flops = 3 * scale.config.forward_flops(scale.config.tokens(scale.frames, height, width))
    adapter = sum(one.numel() for one in learnt)
    told = {"adapter_parameters": adapter, "loss": round(taken.answer, 4)}
    report({"phase": "lora step", **common, **taken.row(flops), **told})
