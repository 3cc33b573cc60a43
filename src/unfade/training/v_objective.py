"""The objective of Progressive restoration and of Vivid-VR: v, on a schedule that ends in pure noise."""

from typing import Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, velocity
from unfade.training.flow_matching import stratified


def drawn_times(count: int, generator: torch.Generator, longest: int = 1000) -> Tensor:
    """`[count]` diffusion times, uniform over 0 to `longest` - 1, one from each of `count` equal parts."""
    return (stratified(count, generator) * longest).long().clamp_max(longest - 1)


def v_target(clean: Tensor, noise: Tensor, signal: Tensor) -> tuple[Tensor, Tensor]:
    """The state the model sees and the v it is to answer.

    Args:
        clean: x0, scaled latents, `[B, z, k, h, w]`.
        noise: eps, standard normal, of the same shape.
        signal: a, the share of the signal's variance at each sample's time, `[B]`; 0 is pure noise.

    Returns:
        `sqrt(a) x0 + sqrt(1 - a) eps` and `sqrt(a) eps - sqrt(1 - a) x0`.

    Source: Salimans and Ho 2022 (arXiv 2202.00512, eq. 12).
    """
    a = signal.to(clean).reshape(-1, 1, 1, 1, 1)
    kept, added = a.sqrt(), (1 - a).sqrt()
    return kept * clean + added * noise, kept * noise - added * clean


def v_loss(
    model: Any,
    clean: Tensor,
    noise: Tensor,
    times: Tensor,
    signal: Tensor,
    condition: CogVideoXCondition,
    later: float = 1.0,
) -> Tensor:
    """Mean squared error of the predicted v, which is what CogVideo's own fine-tuning computes by way of x0.

    Args:
        model: diffusers' `CogVideoXTransformer3DModel`, or what wraps it for training.
        clean, noise, signal: as for `v_target`; `clean` has the copies of the first latent in front.
        times: `[B]`, 0 to 999.
        condition: the degraded photo and the prompts.
        later: weight of the latents from the second of the clip on, beside 1 for the first and its copy, which only
            repeat the photo and are half of the loss at nine frames.

    Returns:
        A scalar, float32.
    """
    state, wanted = v_target(clean, noise, signal)
    error = (velocity(model, state, times, condition).float() - wanted) ** 2
    front = 2 - clean.shape[2] % 2
    weight = torch.full((clean.shape[2],), later, device=error.device)
    weight[:front] = 1.0
    return (error.mean((0, 1, 3, 4)) * weight).sum() / weight.sum()


def controlled_v_loss(
    model: Any,
    clean: Tensor,
    noise: Tensor,
    times: Tensor,
    signal: Tensor,
    low: Tensor,
    text: Tensor,
) -> Tensor:
    """Mean squared error of the v that a controlled transformer predicts; its samples' times may differ.

    Args:
        model: `conditioning.control.Controlled`, or what wraps it for training.
        clean, noise, signal: as for `v_target`; `clean` has the copies of the first latent in front.
        times: `[B]`, 0 to 999.
        low: latents of the degraded footage, never noised, of the shape of `clean`.
        text: embeddings of the captions, `[B, L, D]`.

    Returns:
        A scalar, float32.

    Source: Vivid-VR (arXiv 2508.14483), section 3.2.
    """
    state, wanted = v_target(clean, noise, signal)
    dtype = getattr(model, "module", model).transformer.dtype
    answer = model(state.to(dtype), low.to(dtype), text.to(dtype), times)
    return ((answer.float() - wanted) ** 2).mean()
