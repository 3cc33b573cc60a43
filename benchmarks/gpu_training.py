"""One LoRA training step of Wan2.2-TI2V-5B at the crops of the curriculum."""

from typing import Any

import torch

from gpu_timing import Report, spent
from gpu_wan import Scale
from unfade.backbones.wan import build_wan
from unfade.conditioning.lora import LoraSettings, attach_lora
from unfade.training.flow_matching import flow_loss


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
