"""Our sampling against diffusers' own image-to-video pipeline, on small models of the real classes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL
from unfade.backbones.wan_denoiser import WanCondition
from unfade.diffusion.flow import FlowSchedule, sample_flow
from unfade.diffusion.guidance import Contrast, guided

SIZE = (64, 96)


@pytest.fixture(scope="module")
def wan() -> Wan:
    torch.manual_seed(3)
    return build_wan(SMALL)


@pytest.mark.parametrize("frames", [5, 9])
@pytest.mark.parametrize(("guidance", "steps"), [(1.0, 3), (5.0, 3), (6.0, 4)])
def test_latents_and_frames_are_those_of_the_pipeline(
    wan: Wan, stock_pipeline: Callable[[Wan], Any], frames: int, guidance: float, steps: int
) -> None:
    dice = torch.Generator().manual_seed(frames)
    image = torch.rand(1, 3, *SIZE, generator=dice)
    noise = torch.randn(1, *wan.config.latent_shape(frames, *SIZE), generator=dice)
    text, negative = torch.randn(2, 1, 7, 24, generator=dice)
    told = {
        "image": image,
        "num_frames": frames,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "latents": noise,
        "prompt_embeds": text,
        "negative_prompt_embeds": negative,
    }
    first = wan.vae.encode(image.unsqueeze(2))
    contrast = Contrast(WanCondition(first, text), WanCondition(first, negative))
    ours = sample_flow(guided(wan.denoiser, guidance), noise, contrast, FlowSchedule(steps, 5.0))
    ours = contrast.positive.pinned(ours)  # type: ignore[attr-defined]
    theirs = stock_pipeline(wan)(height=SIZE[0], width=SIZE[1], output_type="latent", **told).frames
    assert float(theirs.std()) > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    video = torch.cat(list(wan.vae.decode(ours)), dim=2)
    pixels = stock_pipeline(wan)(height=SIZE[0], width=SIZE[1], output_type="pt", **told).frames
    torch.testing.assert_close(video.transpose(1, 2), pixels, atol=1e-5, rtol=0)


def test_guidance_and_text_matter(wan: Wan) -> None:
    """So that the agreement above isn't that of two constants."""
    dice = torch.Generator().manual_seed(0)
    noise = torch.randn(1, *wan.config.latent_shape(5, *SIZE), generator=dice)
    first = wan.vae.encode(torch.rand(1, 3, 1, *SIZE, generator=dice))
    text, negative = torch.randn(2, 1, 7, 24, generator=dice)
    contrast = Contrast(WanCondition(first, text), WanCondition(first, negative))
    plain, led = (
        sample_flow(guided(wan.denoiser, scale), noise, contrast, FlowSchedule(3)) for scale in (1.0, 5.0)
    )
    assert float((plain - led).abs().max()) > 1e-2
    other = Contrast(WanCondition(first.flip(-1), text), contrast.negative)
    assert (
        float((sample_flow(guided(wan.denoiser, 1), noise, other, FlowSchedule(3)) - plain).abs().max())
        > 1e-2
    )
