"""The objective of Progressive restoration and of Vivid-VR: v, on a schedule that ends in pure noise."""

from typing import Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, velocity
from unfade.training.flow_matching import stratified

# Where late times begin, as a share of all.
LATE = 0.8


def drawn_times(
    count: int, generator: torch.Generator, longest: int = 1000, late: float | None = None
) -> Tensor:
    """`[count]` diffusion times, 0 to `longest` - 1, one from each of `count` equal parts of their law.

    Args:
        count: how many.
        generator: of the draw.
        longest: how many times there are.
        late: share of those in the last fifth, where a sampler begins; uniform within that fifth and before it. None
            is uniform over all.
    """
    places = stratified(count, generator)
    if late is not None:
        places = torch.where(
            places < 1 - late, places / (1 - late) * LATE, 1 - (1 - places) / late * (1 - LATE)
        )
    return (places * longest).long().clamp_max(longest - 1)


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


def evened(clean: Tensor, floor: float) -> Tensor:
    """The weight of each sample, `[B]`: `floor / (floor + change)`, 1 for a clip that stands still.

    Args:
        clean: x0, with the copies of the first latent in front.
        floor: the change that halves a weight; the change is the mean squared distance of the last latent from the
            first one.
    """
    front = 2 - clean.shape[2] % 2
    change = (clean[:, :, -1] - clean[:, :, front - 1]).float().square().mean((1, 2, 3))
    return floor / (floor + change)


def v_loss(
    model: Any,
    clean: Tensor,
    noise: Tensor,
    times: Tensor,
    signal: Tensor,
    condition: CogVideoXCondition,
    later: float = 1.0,
    even: float | None = None,
) -> Tensor:
    """Mean squared error of the predicted v, which is what CogVideo's own fine-tuning computes by way of x0.

    Args:
        model: diffusers' `CogVideoXTransformer3DModel`, or what wraps it for training.
        clean, noise, signal: as for `v_target`; `clean` has the copies of the first latent in front.
        times: `[B]`, 0 to 999.
        condition: the degraded photo and the prompts.
        later: weight of the latents from the second of the clip on, beside 1 for the first and its copy, which only
            repeat the photo and are half of the loss at nine frames.
        even: the floor of `evened`, whose weights the samples then have; None weighs them alike.

    Returns:
        A scalar, float32.
    """
    state, wanted = v_target(clean, noise, signal)
    error = (velocity(model, state, times, condition).float() - wanted) ** 2
    if even is not None:
        error = error * evened(clean, even).reshape(-1, 1, 1, 1, 1)
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
