"""The objective of a flow with a clean first latent, as formulas."""

from typing import Any

import torch
from torch import Tensor

from unfade.backbones.wan_denoiser import token_times


def shifted(u: Tensor, shift: float) -> Tensor:
    """Noise levels `s = shift u / (1 + (shift - 1) u)` in [0, 1] for u in [0, 1].

    With shift 5 and uniform u the median is 5/6 and one level in six lies below 0.5. Source: Esser et al. 2024
    (arXiv 2403.03206, eq. 23), with the value of Wan2.2's and V-Bridge's training.
    """
    return shift * u / (1 + (shift - 1) * u)


def stratified(count: int, generator: torch.Generator) -> Tensor:
    """`[count]` numbers in [0, 1), each uniform, one from each of `count` equal parts, in random order."""
    parts = torch.randperm(count, generator=generator)
    return (parts + torch.rand(count, generator=generator)) / count


def noised(latents: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
    """The state the model sees: `(1 - s) x0 + s eps`, with the first latent clean.

    Args:
        latents: x0, normalised, `[B, z, k, h, w]`.
        noise: eps, standard normal, of the same shape.
        levels: s, `[B]` in [0, 1].
    """
    state = torch.lerp(latents, noise, levels.reshape(-1, 1, 1, 1, 1))
    return torch.cat([latents[:, :, :1], state[:, :, 1:]], dim=2)


def flow_loss(
    model: Any,
    latents: Tensor,
    noise: Tensor,
    levels: Tensor,
    text: Tensor,
    patch: tuple[int, int, int],
    first_latent: bool = False,
) -> Tensor:
    """Mean squared error of the predicted velocity against `eps - x0`.

    Args:
        model: called as diffusers' `WanTransformer3DModel`, with a time for each token: 0 for those of the first
            latent, 1000 s for the others.
        latents, noise, levels: as for `noised`.
        text: embeddings, `[B, L, D]`.
        patch: the transformer's.
        first_latent: whether the first latent counts; it is known, so what is learnt there is of no use (the
            published code counts it).

    Returns:
        A scalar, float32.
    """
    times = token_times(latents, patch, 1000.0) * levels[:, None]
    velocity = model(
        hidden_states=noised(latents, noise, levels),
        timestep=times,
        encoder_hidden_states=text,
        return_dict=False,
    )[0]
    begin = 0 if first_latent else 1
    error = velocity.float() - (noise - latents)
    return (error[:, :, begin:] ** 2).mean()
