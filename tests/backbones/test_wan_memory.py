"""Memory plans: predictions against what is really allocated, choices, and the same pixels under each plan."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from unfade.backbones.footprint import Footprint
from unfade.backbones.free_memory import free_bytes, usable
from unfade.backbones.live_bytes import peak_of
from unfade.backbones.memory_plan import MemoryPlan, plans_of, smaller_plan
from unfade.backbones.placement import apply_memory_plan, retreat, stored_in_fp8
from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL, TI2V_5B, WanConfig
from unfade.backbones.wan_denoiser import WanCondition
from unfade.backbones.wan_footprint import footprint_of
from unfade.backbones.wan_memory import choose_memory_plan
from unfade.backbones.wan_speed import Rates, measure_rates, predict_seconds

CPU = torch.device("cpu")
GB = 10**9


@pytest.fixture(scope="module")
def full() -> Footprint:
    """Of the published model for nine frames at 1280x704."""
    return footprint_of(TI2V_5B, (704, 1280), 9)


class NoWorkSpace(TorchFunctionMode):
    """Convolutions that allocate their answer and nothing else: how much more they take depends on the machine."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.conv3d, torch.conv2d):
            shape = func(
                *(x.to("meta") if isinstance(x, Tensor) else x for x in args), **(kwargs or {})
            ).shape
            return args[0].new_empty(shape)
        return func(*args, **(kwargs or {}))


def measured_peak(work: Callable[[], Any]) -> int:
    """The most bytes allocated at once by the CPU's own allocator, as PyTorch's profiler hears of it."""
    with NoWorkSpace(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        answer = work()
    del answer
    alive = peak = 0
    for event in told.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]" and event.device_type() == torch.autograd.DeviceType.CPU:
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak


def test_the_peak_of_a_few_lines_is_what_it_must_be() -> None:
    x = torch.empty(1000, device="meta")

    def work() -> Tensor:
        y = x + 1
        z = y * 2
        del y
        return z.view(10, 100)[3:].add_(1)

    assert peak_of(work) == 8000
    assert peak_of(lambda: x.view(10, 100)) == 0


@pytest.mark.parametrize("phase", ["encode", "denoise", "decode"])
def test_predicted_peaks_are_those_of_the_allocator(phase: str) -> None:
    config = WanConfig(
        {**SMALL.transformer, "num_attention_heads": 4, "attention_head_dim": 32, "ffn_dim": 512},
        SMALL.vae,
        SMALL.scheduler,
    )
    size = (96, 160)
    predicted = footprint_of(config, size, 5, torch.float32, prompts=1, text_tokens=12)
    torch.manual_seed(0)
    wan = build_wan(config)
    latents = torch.randn(1, *config.latent_shape(5, *size))
    condition = WanCondition(latents[:, :, :1], torch.randn(1, 12, 24))
    image = torch.rand(1, 3, 1, *size)
    works = {
        "encode": lambda: wan.vae.encode(image),
        "denoise": lambda: wan.denoiser(latents, 500, condition),
        "decode": lambda: [chunk.shape for chunk in wan.vae.decode(latents)],
    }
    assert getattr(predicted, phase) == pytest.approx(measured_peak(works[phase]), rel=0.05)


def test_weights_are_counted_to_the_byte() -> None:
    for dtype, vae_dtype in ((torch.float32, torch.float32), (torch.bfloat16, torch.bfloat16)):
        wan = build_wan(SMALL, dtype=dtype, vae_dtype=vae_dtype)
        told = footprint_of(SMALL, (64, 64), 5, dtype, vae_dtype)
        model, vae = wan.denoiser.model, wan.vae.model
        for part, expected in ((model, told.transformer), (vae, told.vae)):
            assert sum(x.numel() * x.itemsize for x in (*part.parameters(), *part.buffers())) == expected


def test_the_published_model_takes_what_the_specification_says(full: Footprint) -> None:
    assert full.transformer / GB == pytest.approx(10.0, abs=0.05)
    assert full.vae / GB == pytest.approx(2.8, abs=0.05)
    assert full.fp8 / GB == pytest.approx(5.1, abs=0.1)
    assert full.decode_flops / 1e12 == pytest.approx(153, rel=0.01)
    assert full.encode_flops / 1e12 == pytest.approx(4.2, rel=0.01)


def test_half_the_precision_takes_half_the_memory() -> None:
    whole, half = (
        footprint_of(SMALL, (64, 96), 5, vae_dtype=dtype) for dtype in (torch.float32, torch.bfloat16)
    )
    assert half.vae * 2 == whole.vae
    assert half.decode == pytest.approx(whole.decode / 2, rel=0.1)


def test_tiles_cost_arithmetic_and_save_memory(full: Footprint) -> None:
    peaks = [full.decode_tiled[side] for side in (256, 512, 1024)]
    costs = [full.tile_flops[side] for side in (1024, 512, 256)]
    assert peaks == sorted(peaks) and peaks[-1] < full.decode
    assert costs == sorted(costs) and costs[0] > full.decode_flops


def test_tiles_that_keep_the_last_frame_alone_take_less(full: Footprint) -> None:
    last = footprint_of(TI2V_5B, (704, 1280), 9, last=True)
    assert replace(last, decode_tiled=full.decode_tiled) == full
    # Eight of nine frames of the whole canvas, in the VAE's precision and once more as they are handed on.
    for side in (256, 512):
        assert full.decode_tiled[side] - last.decode_tiled[side] >= 8 * 3 * 704 * 1280 * 8
    torch.manual_seed(0)
    vae = build_wan(SMALL).vae
    vae.tile = 256
    latents = torch.randn(1, *SMALL.latent_shape(9, 32, 1024))
    every, alone = (
        measured_peak(lambda last=last: list(vae.decode(latents, last))) for last in (False, True)
    )
    predicted = footprint_of(SMALL, (32, 1024), 9, last=True).decode_tiled[256]
    assert alone < predicted < every


def test_two_times_save_memory() -> None:
    """Against diffusers' own pass, which holds modulation for every token."""
    wan = build_wan(
        WanConfig({**TI2V_5B.transformer, "num_layers": 1}, SMALL_LATENTS, SMALL.scheduler), "meta"
    )
    x = torch.empty(1, 48, 3, 88, 160, device="meta")
    condition = WanCondition(x[:, :, :1], torch.empty(1, 512, 4096, device="meta"))
    times = torch.empty(1, 10560, device="meta")
    ours = peak_of(lambda: wan.denoiser(x, 500, condition))
    theirs = peak_of(lambda: wan.denoiser.model(x, times, condition.text))
    assert theirs - ours > 1.5 * GB


SMALL_LATENTS = {**SMALL.vae, "z_dim": 48, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}


@pytest.mark.parametrize(
    ("free", "weights", "tiled"),
    [(140, "resident", False), (26, "offload", False), (18.5, "offload", True), (10, "group", True)],
)
def test_the_choice_follows_what_is_free(free: float, weights: str, tiled: bool) -> None:
    plan = choose_memory_plan(TI2V_5B, (704, 1280), 9, int(free * GB))
    assert (plan.weights, bool(plan.tile)) == (weights, tiled)
    assert plan.fits and plan.peak <= usable(plan.free) < plan.free
    assert f"of {free:.1f} GB" in plan.why and "not enough" not in plan.why


def test_what_is_wanted_is_done_even_if_it_does_not_fit() -> None:
    asked: dict[str, Any] = {"config": SMALL, "canvas": (64, 96), "frames": 5, "free_bytes": 10**6}
    for wanted in ("resident", "offload", "group", "fp8"):
        plan = choose_memory_plan(**asked, wanted=wanted, tiles="off")
        assert (plan.weights, plan.tile, plan.fits) == (wanted, 0, False)
        assert "not enough" in plan.why
        assert choose_memory_plan(**asked, wanted=wanted, tiles="on").tile
    assert choose_memory_plan(**asked).peak == min(
        choose_memory_plan(**asked, wanted=wanted).peak for wanted in ("resident", "offload", "group")
    )
    assert choose_memory_plan(**asked, device="cpu").weights == "resident"
    with pytest.raises(ValueError, match="memory must be one of auto, resident"):
        choose_memory_plan(**asked, wanted="disk")
    with pytest.raises(ValueError, match="tiles must be one of"):
        choose_memory_plan(**asked, tiles="some")  # type: ignore[arg-type]


def test_denoising_tile_by_tile_takes_less() -> None:
    asked: dict[str, Any] = {"config": SMALL, "canvas": (256, 256), "frames": 5, "free_bytes": GB}
    whole, tiled = choose_memory_plan(**asked), choose_memory_plan(**asked, denoised=(64, 64))
    assert tiled.denoise < whole.denoise
    assert (tiled.encode, tiled.decode) == (whole.encode, whole.decode)


def test_a_smaller_plan_needs_less_in_every_phase(full: Footprint) -> None:
    for plan in plans_of(full, 140 * GB, extra=10**8):
        less = smaller_plan(plan, 140 * GB)
        while less:
            assert less.peak < plan.peak and less.encode <= plan.encode and less.denoise <= plan.denoise
            plan, less = less, smaller_plan(less, 140 * GB)
        assert plan.weights == "group" and plan.tile == 256
    first = plans_of(full, 140 * GB)[0]
    assert (first.weights, first.tile) == ("resident", 0)
    assert smaller_plan(first, 12 * GB).fits  # type: ignore[union-attr]
    assert smaller_plan(first, 12 * GB, "off").tile == 0  # type: ignore[union-attr]
    assert smaller_plan(first, 140 * GB, host=True).weights == "resident"  # type: ignore[union-attr]
    assert smaller_plan(first, 140 * GB, "off", host=True) is None


def test_a_smaller_plan_needs_less_where_memory_ran_out(full: Footprint) -> None:
    plans = {(plan.weights, plan.tile): plan for plan in plans_of(full, 140 * GB)}
    resident, offload, group = (plans[weights, 0] for weights in ("resident", "offload", "group"))
    # Of a transformer that is there alone, only keeping a part of it away is less; tiles of the VAE are not.
    assert smaller_plan(offload, 140 * GB, phase="denoise").weights == "group"  # type: ignore[union-attr]
    assert smaller_plan(resident, 140 * GB, phase="encode").weights == "offload"  # type: ignore[union-attr]
    assert smaller_plan(offload, 140 * GB, phase="encode") is None
    less = smaller_plan(offload, 140 * GB, phase="decode")
    assert less is not None and (less.weights, less.tile) == ("offload", 1024)
    assert smaller_plan(group, 140 * GB, phase="denoise") is None
    assert smaller_plan(resident, 140 * GB, host=True, phase="denoise") is None


def test_from_fp8_only_tiles_are_left(full: Footprint) -> None:
    plan = choose_memory_plan(TI2V_5B, (704, 1280), 9, 140 * GB, "fp8")
    seen = []
    while plan:
        seen.append((plan.weights, bool(plan.tile)))
        plan = smaller_plan(plan, 140 * GB)
    assert seen == [("fp8", False), *[("fp8", True)] * (len(seen) - 1)] and len(seen) > 1


def answers(wan: Wan) -> tuple[Tensor, Tensor, Tensor]:
    dice = torch.Generator().manual_seed(1)
    first = wan.vae.encode(torch.rand(1, 3, 1, 64, 96, generator=dice))
    latents = torch.randn(1, *wan.config.latent_shape(5, 64, 96), generator=dice)
    condition = WanCondition(first, torch.randn(1, 7, 24, generator=dice))
    with wan.denoiser.remembering():
        for t in (900.0, 500.0, 100.0):
            latents = latents - wan.denoiser(latents, t, condition) / 3
    return first, latents, torch.cat(list(wan.vae.decode(latents)), dim=2)


def plan_for(weights: str, tile: int = 0) -> MemoryPlan:
    plan = choose_memory_plan(SMALL, (64, 96), 5, 10**12, dtype=torch.float32)
    return replace(plan, weights=weights, tile=tile)  # type: ignore[arg-type]


def test_every_plan_but_fp8_gives_the_same_and_may_follow_any_other() -> None:
    torch.manual_seed(2)
    wan = build_wan(SMALL)
    expected = answers(wan)
    order = ("resident", "offload", "group", "offload", "resident", "group", "group", "resident")
    for weights in order:
        apply_memory_plan(wan, plan_for(weights), CPU)
        for _ in range(2):
            for one, other in zip(answers(wan), expected, strict=True):
                assert torch.equal(one, other), weights
    apply_memory_plan(wan, plan_for("group", tile=48), CPU)
    tiled = answers(wan)
    assert torch.equal(tiled[1], expected[1])
    torch.testing.assert_close(tiled[2], expected[2], atol=2e-5, rtol=0)
    retreat(wan)
    assert wan.denoiser.before is None
    assert torch.equal(answers(wan)[1], expected[1])


def test_fp8_halves_the_blocks_and_stays_close() -> None:
    torch.manual_seed(2)
    wan = build_wan(SMALL, dtype=torch.bfloat16)
    expected = answers(wan)
    apply_memory_plan(wan, plan_for("fp8"), CPU)
    assert stored_in_fp8(wan)
    model = wan.denoiser.model
    stored = {x.dtype for name, x in model.named_parameters() if "attn1.to_q" in name or "ffn" in name}
    assert stored == {torch.float8_e4m3fn}
    assert all(
        x.dtype != torch.float8_e4m3fn
        for name, x in model.named_parameters()
        if "blocks" not in name or "norm" in name or "table" in name
    )
    told = footprint_of(SMALL, (64, 96), 5, torch.bfloat16)
    held = (*model.parameters(), *model.buffers())
    assert sum(x.numel() * x.itemsize for x in held) == told.fp8
    found = answers(wan)
    assert model.dtype == torch.bfloat16
    assert not torch.equal(found[1], expected[1])
    assert float((found[1] - expected[1]).abs().mean() / expected[1].std()) < 0.05
    apply_memory_plan(wan, plan_for("fp8"), CPU)
    assert torch.equal(answers(wan)[1], found[1])
    with pytest.raises(ValueError, match="load the weights again"):
        apply_memory_plan(wan, plan_for("group"), CPU)


def test_only_whose_turn_it_is_is_there() -> None:
    """On the meta device, which has a place of its own as a GPU has."""
    wan = build_wan(SMALL, dtype=torch.bfloat16)
    apply_memory_plan(wan, plan_for("offload"), torch.device("meta"))

    def places(module: Any) -> set[str]:
        return {x.device.type for x in (*module.parameters(), *module.buffers())}

    model, vae = wan.denoiser.model, wan.vae.model
    before = [parameter.data_ptr() for parameter in model.parameters()]
    assert places(model) == places(vae) == {"cpu"}
    wan.vae.encode(torch.rand(1, 3, 1, 64, 64))
    assert (places(model), places(vae)) == ({"cpu"}, {"meta"})
    latents = torch.empty(1, *SMALL.latent_shape(5, 64, 64), device="meta")
    wan.denoiser(latents, 500, WanCondition(latents[:, :, :1], torch.empty(1, 7, 24)))
    assert (places(model), places(vae)) == ({"meta"}, {"cpu"})
    next(wan.vae.decode(latents))
    assert (places(model), places(vae)) == ({"cpu"}, {"meta"})
    assert [parameter.data_ptr() for parameter in model.parameters()] == before


def test_seconds_are_arithmetic_over_rates(full: Footprint) -> None:
    rates = Rates(matmul=400e12, convolution=100e12, copy=20e9)
    plans = {(plan.weights, plan.tile): plan for plan in plans_of(full, 140 * GB)}
    plain = predict_seconds(plans["resident", 0], 100, rates)
    forward = TI2V_5B.forward_flops(2640, times=2, remembered=True)
    assert plain == pytest.approx(
        (full.encode_flops + full.decode_flops) / 100e12 + 100 * forward / 400e12, rel=1e-6
    )
    assert 5 < plain < 12
    assert predict_seconds(plans["offload", 0], 100, rates) == pytest.approx(
        plain + (full.transformer + 2 * full.vae) / 20e9
    )
    assert predict_seconds(plans["group", 0], 100, rates) > plain
    assert predict_seconds(plans["resident", 256], 100, rates) > plain


def test_rates_are_measured_and_memory_is_asked_for() -> None:
    rates = measure_rates(CPU, torch.float32)
    assert 1e8 < rates.matmul < 1e14
    assert 1e7 < rates.convolution < 1e14
    assert 1e7 < rates.copy < 1e13
    assert 10**7 < free_bytes(CPU) < 10**15
