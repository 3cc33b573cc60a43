"""Vivid-VR's memory: what is predicted is what is held, plans give the same pixels, and blocks come one by one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.restore.small_vividvr import SETTINGS, SMALL, footage, small_model, told, walk
from torch import Tensor, nn

from unfade.backbones.block_stream import BlockStream
from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V, T2V_1_5_5B, CogVideoXConfig
from unfade.backbones.cogvideox_memory import choose_cogvideox_plan
from unfade.backbones.footprint import Footprint, bytes_of
from unfade.backbones.live_bytes import peak_of
from unfade.backbones.memory_plan import MemoryPlan, Weights
from unfade.backbones.placement import apply_memory_plan, retreat, stored_in_fp8
from unfade.conditioning.control import Control, Controlled, ControlSettings
from unfade.conditioning.control_denoiser import ControlCondition, ControlDenoiser
from unfade.core import Clip, Plan, UnfadeError
from unfade.restore.placement import Room
from unfade.restore.vivid_forecast import load_of
from unfade.restore.vivid_memory import VividLoad, vivid_footprint
from unfade.restore.vivid_model import VividModel
from unfade.restore.vivid_restorer import VividRestorer

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def published() -> Footprint:
    """121 frames at 1024x1024, as published."""
    return vivid_footprint(T2V_1_5_5B, ControlSettings(), (1024, 1024), 121)


@pytest.fixture(scope="module")
def small() -> Footprint:
    return vivid_footprint(SMALL_T2V, SMALL, (64, 96), 17, torch.float32)


def planned(footprint: Footprint, free: float, wanted: Any = "auto") -> MemoryPlan:
    return choose_cogvideox_plan(footprint, int(free), wanted, tiles="auto")


def test_the_published_size_fits_into_24_gb(published: Footprint) -> None:
    assert published.transformer / 1e9 == pytest.approx(2 * (5.570676352 + 1.373), rel=1e-3)
    card = planned(published, 24.5e9)
    assert card.fits and card.weights == "offload" and card.tile == 256
    assert 19e9 < card.denoise < 20e9 and card.decode < 19e9 and card.encode < 13e9
    # As the whole, the VAE alone would need more than a GPU of 80 GB has.
    assert published.decode > 80e9 and published.encode > 45e9
    assert planned(published, 84e9).weights == "resident" and planned(published, 84e9).tile
    streamed = planned(published, 24.5e9, "group")
    assert streamed.denoise < 7e9 and planned(published, 20e9).weights == "group"
    assert published.around + 42 * published.block < published.transformer


def test_activations_are_those_of_all_blocks() -> None:
    config = CogVideoXConfig({**SMALL_T2V.transformer, "num_layers": 5}, SMALL_T2V.vae, SMALL_T2V.scheduler)
    control = replace(SMALL, blocks=3)
    cost = vivid_footprint(config, control, (64, 64), 17, torch.float32, strips=False)
    base = build_cogvideox(config, "meta").denoiser.model
    with torch.device("meta"):
        denoiser = ControlDenoiser(Controlled(base, Control(config.transformer, control)))
    x = torch.empty(1, *config.latent_shape(17, 64, 64), device="meta")
    text = torch.empty(1, 12, 24, device="meta")
    assert cost.denoise == peak_of(lambda: denoiser(x, 500, ControlCondition(x, text)))
    assert cost.transformer == bytes_of(denoiser.model)
    blocks = sum(map(bytes_of, VividModel(config, denoiser, None).streamed))  # type: ignore[arg-type]
    assert cost.around == cost.transformer - blocks
    pair = bytes_of(base.transformer_blocks[0]) + bytes_of(denoiser.model.control.connectors[0])
    assert cost.block == pair


@pytest.fixture(scope="module")
def model() -> VividModel:
    return small_model()


@pytest.fixture(scope="module")
def expected(model: VividModel) -> tuple[Tensor, Tensor]:
    return answers(model)


def answers(model: VividModel) -> tuple[Tensor, Tensor]:
    """Frames and latents of a short walk, in two windows."""
    clip = footage(20, 48, 64)
    made = walk(model, clip, replace(SETTINGS, tile=0, steps=2))
    made.encode(clip)
    made.denoise(told)
    frames = [frame for index in range(len(made.timeline.windows)) for frame in made.decode(index)]
    return torch.stack(frames), made.low(0)


@pytest.mark.parametrize("weights", ["offload", "group"])
def test_plans_give_the_same_pixels(
    model: VividModel, expected: tuple[Tensor, Tensor], small: Footprint, weights: Weights
) -> None:
    before = {name: one.data_ptr() for name, one in model.denoiser.model.named_parameters()}
    apply_memory_plan(model, planned(small, 1e12, weights), CPU)
    found = answers(model)
    retreat(model)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    assert {name: one.data_ptr() for name, one in model.denoiser.model.named_parameters()} == before


def test_strips_give_them_too(model: VividModel, expected: tuple[Tensor, Tensor]) -> None:
    model.vae.tile = 16
    found = answers(model)
    model.vae.tile = 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=3e-3, rtol=0)
    assert float((found[0] - expected[0]).abs().mean()) < 1e-5


def test_8_bits_are_for_blocks_alone(expected: tuple[Tensor, Tensor]) -> None:
    made, half = small_model(), torch.bfloat16
    made.denoiser.model.to(half)
    cost = vivid_footprint(SMALL_T2V, SMALL, (64, 96), 17, half, strips=False)
    apply_memory_plan(made, planned(cost, 1e12, "fp8"), CPU)
    assert stored_in_fp8(made) and bytes_of(made.denoiser.model) == cost.fp8
    kinds = {name for name, one in made.denoiser.model.named_parameters() if one.dtype != half}
    assert kinds and all(".transformer_blocks." in name for name in kinds)
    assert any(name.startswith("control.controlnet") for name in kinds)


def test_blocks_come_one_by_one_and_go() -> None:
    torch.manual_seed(0)
    blocks = [nn.Linear(4, 4) for _ in range(5)]
    x, seen = torch.randn(2, 4), []
    wanted = x
    for block in blocks:
        wanted = block(wanted)
    originals = [block.weight for block in blocks]
    stream = BlockStream(blocks, CPU)
    for block in blocks:
        block.register_forward_hook(lambda *_: seen.append(stream.brought))
    for _ in range(2):
        found = x
        for index, block in enumerate(blocks):
            found = block(found)
            assert block.weight is originals[index]
        assert torch.equal(found, wanted)
    # When a block is done, the next one is on its way.
    assert seen[:5] == seen[5:] == [[1], [2], [3], [4], []]
    # Interrupted in the second, begun anew.
    found = blocks[0](x)
    with pytest.raises(RuntimeError):
        blocks[1](found[..., :1])
    assert stream.brought == [1, 2]
    found = x
    for block in blocks:
        found = block(found)
    assert torch.equal(found, wanted) and stream.brought == []
    stream.close()
    assert stream.brought == [] and all(
        block.weight is one for block, one in zip(blocks, originals, strict=True)
    )


def restorer(model: VividModel, room: Room) -> VividRestorer:
    def embed(texts: Any, device: torch.device) -> list[Tensor]:
        return [torch.zeros(1, 12, 24) for _ in texts]

    settings = replace(SETTINGS, tile=0, steps=1)
    return VividRestorer(
        "small", SMALL_T2V, SMALL, lambda device, dtype: model, embed, len, settings, room=room
    )


def test_a_restorer_follows_its_room(model: VividModel) -> None:
    clip = Clip(footage(9, 48, 64))
    plain, strips = (
        restorer(model, room).restore(clip, "a", Plan(dtype="fp32", device="cpu"), keep=False)
        for room in (Room(), Room(vae_tiles="on"))
    )
    model.vae.tile = 0
    assert plain.provenance["memory"] == "resident"
    assert strips.provenance["memory"] == "resident, VAE in tiles of 1024"
    torch.testing.assert_close(plain.result.frames, strips.result.frames, atol=3e-3, rtol=0)


def test_a_dry_run_tells_the_plan(model: VividModel, small: Footprint) -> None:
    work = restorer(model, Room()).work(64, 96, Plan(dtype="fp32", device="cpu"), 40)
    assert work["memory"] == "resident" and work["fits"]
    peak = small.transformer + small.vae + max(small.encode, small.denoise, small.decode)
    assert work["predicted_peak_gb"] == pytest.approx(peak / 1e9, rel=0.01)
    load = load_of(SMALL_T2V, SMALL, replace(SETTINGS, tile=48), (64, 96), 40, torch.float32)
    assert (load.canvas, load.denoised, load.frames, load.prompts) == ((64, 96), (48, 48), 17, 2)
    assert isinstance(load, VividLoad) and load.control == SMALL
    host = load.plan(Room("offload"), GPU, int(1e12))
    assert host.weights == "offload" and host.denoise < host.footprint.transformer + small.denoise


def test_running_out_of_memory_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second evaluation finds no memory; what has to be smaller is the model, which the host can't do."""
    made, clip = small_model(), Clip(footage(9, 48, 64))
    plan = Plan(dtype="fp32", device="cpu")
    starved = restorer(made, Room())
    starved.restore(clip, "a", plan, keep=False)
    block: Any = made.denoiser.model.transformer.transformer_blocks[0]
    forward, calls = block.forward, []

    def short(*given: Any, **named: Any) -> Any:
        calls.append(0)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*given, **named)

    monkeypatch.setattr(block, "forward", short)
    with pytest.raises(
        UnfadeError, match=r"memory ran out while denoising \(resident\), and no smaller plan"
    ):
        starved.restore(clip, "a", plan, keep=False)
