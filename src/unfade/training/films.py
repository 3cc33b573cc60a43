"""Many films at once from a CogVideoX model."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition
from unfade.core import generator
from unfade.diffusion.v_schedule import VSchedule, sample_v
from unfade.training.folded import folded_convolutions


@dataclass(frozen=True, slots=True)
class Shooting:
    """How a model is asked; without guidance, by DDIM.

    Attributes:
        frames: of a film, 8k + 1.
        steps: of the sampler.
        seed: of the noise, which depends on the film's name as well.
        batch: films at once.
        bf16: whether the transformer computes in bf16.
    """

    frames: int = 9
    steps: int = 10
    seed: int = 0
    batch: int = 16
    bf16: bool = True


def shot(
    video: CogVideoX, first: Tensor, names: Sequence[str], texts: Sequence[Tensor], how: Shooting
) -> Tensor:
    """The films a model generates from degraded photos.

    Args:
        video: the model; whatever adapter is active stays so.
        first: `[N, 3, H, W]` in [0, 1], sides of legal size.
        names: of the films.
        texts: embedded prompt of each, `[1, L, D]`.
        how: the sampler.

    Returns:
        `[N, T, 3, H, W]`, rounded to 8 bits as if saved.
    """
    schedule = VSchedule(how.steps, "ddim", video.config.scheduler)
    shape = video.config.latent_shape(how.frames, first.shape[2], first.shape[3])
    parts: list[Tensor] = []
    with folded_convolutions(video.vae.model), torch.inference_mode():
        for begin in range(0, len(first), how.batch):
            these = slice(begin, begin + how.batch)
            noise = torch.stack(
                [torch.randn(shape, generator=generator(how.seed, "film", name)) for name in names[these]]
            )
            condition = CogVideoXCondition(
                video.vae.encode_image(first[these]), torch.cat([text.float() for text in texts[these]])
            )
            with torch.autocast("cpu", torch.bfloat16, enabled=how.bf16):
                made = sample_v(video.denoiser, noise, condition, schedule)
            frames = torch.cat(list(video.vae.decode(video.finished(made, condition))), dim=2)
            parts.append(frames.transpose(1, 2))
    return torch.cat(parts).clamp(0, 1).mul(255).round().div(255)
