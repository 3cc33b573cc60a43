"""Wan's memory plans where there is a device of its own: the same pixels, and memory as predicted."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unfade.backbones.free_memory import free_bytes
from unfade.backbones.placement import apply_memory_plan, retreat
from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL, TI2V_5B, WanConfig
from unfade.backbones.wan_denoiser import WanCondition
from unfade.backbones.wan_memory import choose_memory_plan
from unfade.backbones.wan_speed import measure_rates

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
SIZE = (256, 320)
# The published VAE's and transformer's widths, two layers of the latter.
MIDDLE = WanConfig({**TI2V_5B.transformer, "num_layers": 2}, TI2V_5B.vae, SMALL.scheduler)


def answers(wan: Wan, config: WanConfig, steps: int = 3) -> tuple[Tensor, Tensor]:
    dice = torch.Generator().manual_seed(1)
    first = wan.vae.encode(torch.rand(1, 3, 1, *SIZE, generator=dice)).to(GPU)
    latents = torch.randn(1, *config.latent_shape(5, *SIZE), generator=dice).to(GPU)
    text = torch.randn(1, 64, config.transformer["text_dim"], generator=dice).to(GPU)
    condition = WanCondition(first, text)
    with wan.denoiser.remembering():
        for step in range(steps):
            latents = latents - wan.denoiser(latents, 900 - 300 * step, condition) / 3
    return latents, torch.cat(list(wan.vae.decode(condition.pinned(latents))), dim=2)


def test_plans_give_the_same_pixels() -> None:
    torch.manual_seed(0)
    wan = build_wan(MIDDLE, "cpu", torch.bfloat16)
    plan = choose_memory_plan(MIDDLE, SIZE, 5, free_bytes(GPU))
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for weights in ("resident", "offload", "group", "offload", "group", "resident"):
        apply_memory_plan(wan, replace(plan, weights=weights), GPU)  # type: ignore[arg-type]
        for one, other in zip(
            found.setdefault(weights, answers(wan, MIDDLE)), answers(wan, MIDDLE), strict=True
        ):
            assert torch.equal(one, other)
    for latents, video in found.values():
        torch.testing.assert_close(latents, found["resident"][0])
        torch.testing.assert_close(video, found["resident"][1])
    retreat(wan)
    assert not any(x.is_cuda for x in (*wan.denoiser.model.parameters(), *wan.vae.model.parameters()))


@pytest.mark.parametrize("weights", ["resident", "offload"])
def test_peaks_are_as_predicted(weights: str) -> None:
    plan = choose_memory_plan(MIDDLE, SIZE, 5, free_bytes(GPU), weights, prompts=1)  # type: ignore[arg-type]
    wan = build_wan(MIDDLE, "cpu", torch.bfloat16)
    apply_memory_plan(wan, plan, GPU)
    answers(wan, MIDDLE, steps=1)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    answers(wan, MIDDLE)
    measured = torch.cuda.max_memory_allocated()
    # Convolutions take work space besides; the plan's reserve is for that.
    assert plan.peak * 0.9 < measured < plan.peak * 1.3 + 6e8


def test_fp8_takes_half() -> None:
    wan = build_wan(MIDDLE, "cpu", torch.bfloat16)
    plan = choose_memory_plan(MIDDLE, SIZE, 5, free_bytes(GPU), "fp8")
    apply_memory_plan(wan, plan, GPU)
    latents, video = answers(wan, MIDDLE)
    assert torch.isfinite(latents).all() and torch.isfinite(video).all()
    held = sum(
        x.numel() * x.itemsize for x in (*wan.denoiser.model.parameters(), *wan.denoiser.model.buffers())
    )
    assert held == plan.footprint.fp8


def test_the_device_is_measured() -> None:
    rates = measure_rates(GPU)
    assert rates.matmul > 1e13 and rates.convolution > 1e11 and rates.copy > 1e9
