"""What the families' VAEs need where one is trained from nothing: an easy beginning, and latents of unit size."""

from typing import Any

import torch
from torch import Tensor, nn


def settle(vae: Any) -> None:
    """Makes a fresh VAE easy to teach.

    Convolutions see each frame by itself: older moments of every kernel become 0, so what a photo teaches holds for
    clips from the first step on (CogVideoX's norms still look at all frames together). Each residual block passes on
    what it gets: its last convolution becomes 0, so
    training begins from the averages and copies of the shortcuts. The posterior begins narrow (a standard deviation
    of 0.05), or its noise would drown what little the latents say at first. And CogVideoX's norms, which take their
    scale and shift from the latents, begin as plain ones.
    """
    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, nn.Conv3d):
                if module.kernel_size[0] > 1:
                    module.weight[:, :, :-1].zero_()
                if name.endswith(("conv2", "conv2.conv", "conv_y.conv", "conv_b.conv")):
                    module.weight.zero_()
                    if module.bias is not None:
                        module.bias.fill_(float(name.endswith("conv_y.conv")))
        last = vae.quant_conv if _is_wan(vae) else vae.encoder.conv_out.conv
        channels = last.weight.shape[0] // 2
        last.weight[channels:].zero_()
        last.bias[channels:].fill_(-6.0)


def scale(vae: Any, latents: Tensor) -> None:
    """Has a VAE's configuration say how its latents get unit size.

    Args:
        vae: Wan's scales by channel, CogVideoX's all alike and without moving them.
        latents: `[z, ...]`, of typical pictures.
    """
    flat = latents.flatten(1)
    if _is_wan(vae):
        vae.register_to_config(
            latents_mean=flat.mean(1).tolist(), latents_std=flat.std(1).clamp_min(1e-3).tolist()
        )
    else:
        vae.register_to_config(scaling_factor=1 / max(1e-3, float(flat.square().mean().sqrt())))


def _is_wan(vae: Any) -> bool:
    return "z_dim" in vae.config
