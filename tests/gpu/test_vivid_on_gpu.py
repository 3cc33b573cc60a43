"""Vivid-VR where there is a device of its own: control, precision, memory plans and the peaks they predict."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import T2V_1_5_5B, CogVideoXConfig
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, padded_in_front
from unfade.backbones.cogvideox_memory import choose_cogvideox_plan
from unfade.backbones.footprint import bytes_of
from unfade.backbones.memory_plan import MemoryPlan
from unfade.backbones.placement import apply_memory_plan, retreat
from unfade.conditioning.control import Control, Controlled, ControlSettings
from unfade.conditioning.control_denoiser import ControlCondition, ControlDenoiser
from unfade.restore.vivid_memory import vivid_footprint
from unfade.restore.vivid_model import VividModel

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda")
SIZE, FRAMES = (256, 320), 17
# The published widths, four layers of the transformer.
MIDDLE = CogVideoXConfig({**T2V_1_5_5B.transformer, "num_layers": 4}, T2V_1_5_5B.vae, T2V_1_5_5B.scheduler)
CONTROL = ControlSettings(blocks=2)


def made(dtype: torch.dtype, zero: bool = False) -> VividModel:
    """On the host; a control at its beginning, or one that says something."""
    torch.manual_seed(0)
    base = build_cogvideox(MIDDLE, "cpu", dtype)
    control = Control.beginning(base.denoiser.model, CONTROL)
    if not zero:
        with torch.no_grad():
            for parameter in control.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, dtype=dtype))
    return VividModel(MIDDLE, ControlDenoiser(Controlled(base.denoiser.model, control)), base.vae)


@pytest.fixture(scope="module")
def model() -> VividModel:
    return made(torch.bfloat16)


def inputs(size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor, Tensor]:
    """State, degraded latents and a prompt, on the host."""
    dice = torch.Generator().manual_seed(1)
    x, low = (torch.randn(1, *MIDDLE.latent_shape(FRAMES, *size), generator=dice) for _ in range(2))
    words = (1, MIDDLE.text_tokens, MIDDLE.transformer["text_embed_dim"])
    return x, low, torch.randn(words, generator=dice)


def answers(model: VividModel, size: tuple[int, int] = SIZE) -> list[Tensor]:
    """Latents of footage, a denoised state and frames: what a walk does, step by step, with states on the host."""
    x, _, text = inputs(size)
    dice = torch.Generator().manual_seed(2)
    low = model.vae.encode_frames(torch.rand(3, *size, generator=dice) for _ in range(FRAMES))
    condition = ControlCondition(padded_in_front(low, x.shape[2] - low.shape[2]), text)
    for step in range(2):
        x = x - model.denoiser(x, 900 - 400 * step, condition).float() / 3
    frames = torch.cat(
        [chunk.cpu() for chunk in model.vae.decode(x[:, :, x.shape[2] - low.shape[2] :])], dim=2
    )
    return [low, x, frames]


def planned(weights: str, tile: int) -> MemoryPlan:
    cost = vivid_footprint(MIDDLE, CONTROL, SIZE, FRAMES)
    plan = choose_cogvideox_plan(cost, 10**12, weights, tiles="auto")  # type: ignore[arg-type]
    decode, encode = (
        (cost.decode_tiled[tile], cost.encode_tiled[tile]) if tile else (cost.decode, cost.encode)
    )
    own = plan.decode - cost.vae - cost.decode
    return replace(plan, tile=tile, decode=own + cost.vae + decode, encode=own + cost.vae + encode)


def test_control_at_its_beginning_is_the_base() -> None:
    model = made(torch.float32, zero=True).to(GPU)
    x, low, text = inputs()
    base = build_cogvideox(MIDDLE, "meta").denoiser
    base.model = model.denoiser.model.transformer
    expected = base(x.to(GPU), 500, CogVideoXCondition(low[:, :, :1].to(GPU), text.to(GPU)))
    assert torch.equal(model.denoiser(x.to(GPU), 500, ControlCondition(low, text)), expected)


def test_both_devices_agree_in_full_precision() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        model = made(torch.float32)
        expected = answers(model, (64, 96))
        found = answers(model.to(GPU), (64, 96))
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) < 2e-3 * max(1.0, float(other.abs().max()))


def test_plans_give_the_same_pixels(model: VividModel) -> None:
    found: dict[str, list[Tensor]] = {}
    for weights in ("resident", "offload", "group", "group", "offload", "resident"):
        apply_memory_plan(model, planned(weights, 0), GPU)
        for one, other in zip(found.setdefault(weights, answers(model)), answers(model), strict=True):
            assert torch.equal(one, other)
    for weights in ("offload", "group"):
        for one, other in zip(found[weights], found["resident"], strict=True):
            torch.testing.assert_close(one, other)
    retreat(model)
    assert not any(one.is_cuda for part in (model.denoiser, model.vae) for one in part.model.parameters())


@pytest.mark.parametrize("tile", [512, 64])
def test_strips_give_the_same_pixels(model: VividModel, tile: int) -> None:
    """512 leaves what one chunk hands to the next on the device, 64 on the host."""
    apply_memory_plan(model, planned("resident", 0), GPU)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        expected = answers(model)
        model.vae.tile = tile
        found = answers(model)
    finally:
        torch.backends.cudnn.allow_tf32 = before
        retreat(model)
        model.vae.tile = 0
    torch.testing.assert_close(found[0], expected[0], atol=1e-3, rtol=1e-3)
    assert float((found[2] - expected[2]).abs().mean()) < 1e-2


@pytest.mark.parametrize(("weights", "tile"), [("resident", 0), ("offload", 256), ("group", 256)])
def test_peaks_are_as_predicted(model: VividModel, weights: str, tile: int) -> None:
    plan = planned(weights, tile)
    retreat(model)
    apply_memory_plan(model, plan, GPU)
    answers(model)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    answers(model)
    measured = torch.cuda.max_memory_allocated()
    # Convolutions take work space besides; the plan's reserve is for that.
    assert plan.peak * 0.85 < measured < plan.peak * 1.3 + 6e8
    retreat(model)


def test_a_stream_holds_two_blocks_at_most(model: VividModel) -> None:
    apply_memory_plan(model, planned("group", 0), GPU)
    x, low, text = inputs()
    held: list[int] = []
    hooks = [
        block.register_forward_pre_hook(
            lambda *_: held.append(
                sum(one.numel() * one.itemsize for one in model.denoiser.model.parameters() if one.is_cuda)
            )
        )
        for block in model.streamed
    ]
    model.denoiser(x, 500, ControlCondition(low, text))
    for hook in hooks:
        hook.remove()
    cost = planned("group", 0).footprint
    assert len(held) == len(model.streamed) and max(held) <= cost.around + 2 * cost.block
    assert max(held) < bytes_of(model.denoiser.model) / 2
    retreat(model)
