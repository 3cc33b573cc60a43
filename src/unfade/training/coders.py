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

    Args:
        vae: of either family.
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


def typical(vae: Any, posterior: Any, dice: torch.Generator) -> Tensor:
    """Latents as a model is given them: of Wan's VAE the posterior's mode, of CogVideoX's a draw."""
    return posterior.mode() if _is_wan(vae) else posterior.sample(dice)


def scale(vae: Any, latents: Tensor) -> None:
    """Brings the latents of a VAE to unit size, each channel by itself: one that varies little says what no other does,
    and beside larger ones a model would hardly be told when it is wrong.

    Args:
        vae: Wan's configuration has room for means and sizes. CogVideoX's has it for one size of all channels, so
            theirs go into its weights: into the last layer that makes latents and into every one that reads them,
            and the pixels that come back are the same. Means stay.
        latents: `[z, ...]`, of typical pictures.
    """
    flat = latents.flatten(1)
    size = flat.std(1).clamp_min(1e-3)
    if _is_wan(vae):
        vae.register_to_config(latents_mean=flat.mean(1).tolist(), latents_std=size.tolist())
        return
    made, channels = vae.encoder.conv_out.conv, len(size)
    norms = [module for module in vae.decoder.modules() if hasattr(module, "conv_y")]
    with torch.no_grad():
        made.weight[:channels] /= size.view(-1, 1, 1, 1, 1)
        made.bias[:channels] /= size
        # The logarithm of the variance of a draw.
        made.bias[channels:] -= 2 * size.log()
        for reads in (vae.decoder.conv_in, *(one for norm in norms for one in (norm.conv_y, norm.conv_b))):
            reads.conv.weight *= size.view(-1, 1, 1, 1)
    vae.register_to_config(scaling_factor=1.0)


def _is_wan(vae: Any) -> bool:
    return "z_dim" in vae.config
