"""Our sampling against diffusers' own CogVideoX pipeline, on small models of the real classes and of both layouts."""

from typing import Any

import pytest
import torch

from unfade.backbones.cogvideox import CogVideoX, build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_1_0, SMALL_1_5, CogVideoXConfig
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition
from unfade.diffusion.guidance import Contrast, guided
from unfade.diffusion.v_schedule import Sampler, VSchedule

SIZE = (64, 96)


def built(config: CogVideoXConfig) -> CogVideoX:
    torch.manual_seed(3)
    return build_cogvideox(config)


MODELS = {"1.0": built(SMALL_1_0), "1.5": built(SMALL_1_5)}


def stock_pipeline(model: CogVideoX, sampler: Sampler) -> Any:
    """diffusers' own image-to-video pipeline around the same parts, without its text encoder."""
    import diffusers

    kind = {"dpm": "CogVideoXDPMScheduler", "ddim": "CogVideoXDDIMScheduler"}[sampler]
    stock = diffusers.CogVideoXImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=model.vae.model,
        transformer=model.denoiser.model,
        scheduler=getattr(diffusers, kind).from_config(
            dict(model.config.scheduler), timestep_spacing="trailing"
        ),
    )
    stock.set_progress_bar_config(disable=True)
    return stock


@pytest.mark.parametrize("layout", ["1.0", "1.5"])
@pytest.mark.parametrize("sampler", ["dpm", "ddim"])
@pytest.mark.parametrize(("guidance", "steps"), [(1.0, 4), (6.0, 5)])
def test_latents_and_frames_are_those_of_the_pipeline(
    layout: str, sampler: Sampler, guidance: float, steps: int
) -> None:
    model, frames = MODELS[layout], 9
    dice = torch.Generator().manual_seed(5)
    image = torch.rand(1, 3, *SIZE, generator=dice)
    shape = model.config.latent_shape(frames, *SIZE)
    noise = torch.randn(1, *shape, generator=dice)
    text, negative = torch.randn(2, 1, 12, 24, generator=dice)

    def theirs(output: str) -> torch.Tensor:
        return stock_pipeline(model, sampler)(
            image=image,
            height=SIZE[0],
            width=SIZE[1],
            num_frames=frames,
            num_inference_steps=steps,
            guidance_scale=guidance,
            latents=noise.transpose(1, 2),
            prompt_embeds=text,
            negative_prompt_embeds=negative,
            generator=torch.Generator().manual_seed(8),
            output_type=output,
            max_sequence_length=12,
        ).frames

    # One generator for the posterior of the photo and for the steps, as the pipeline has it.
    same = torch.Generator().manual_seed(8)
    latents = model.vae.encode_image(image, same)
    contrast = Contrast(CogVideoXCondition(latents, text), CogVideoXCondition(latents, negative))
    schedule = VSchedule(steps, sampler, model.config.scheduler)
    with model.denoiser.remembering():
        ours = schedule.sample(guided(model.denoiser, guidance), noise, contrast, same)
    expected = theirs("latent")
    assert ours.shape[2] == {"1.0": 3, "1.5": 4}[layout]
    assert float(expected.std()) > 0.1
    torch.testing.assert_close(ours.transpose(1, 2), expected, atol=1e-5, rtol=1e-5)
    video = torch.cat(list(model.vae.decode(model.finished(ours, contrast.positive))), dim=2)  # type: ignore[arg-type]
    assert video.shape[2] == frames
    torch.testing.assert_close(video.transpose(1, 2), theirs("pt"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", ["1.0", "1.5"])
def test_everything_the_model_is_told_matters(layout: str) -> None:
    """So that the agreement above isn't that of two constants."""
    model = MODELS[layout]
    dice = torch.Generator().manual_seed(0)
    noise = torch.randn(1, *model.config.latent_shape(9, *SIZE), generator=dice)
    image = model.vae.encode_image(torch.rand(1, 3, *SIZE, generator=dice))
    text, negative = torch.randn(2, 1, 12, 24, generator=dice)
    one, two = CogVideoXCondition(image, text), CogVideoXCondition(image, negative)
    schedule = VSchedule(3, "ddim")

    def run(scale: float, condition: CogVideoXCondition) -> torch.Tensor:
        return schedule.sample(guided(model.denoiser, scale), noise, Contrast(condition, two))

    plain = run(1.0, one)
    for other in (run(6.0, one), run(1.0, two), run(1.0, CogVideoXCondition(image.flip(-1), text))):
        assert float((other - plain).abs().max()) > 1e-2
