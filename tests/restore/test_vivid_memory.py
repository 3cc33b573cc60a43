"""Vivid-VR's memory: what is predicted is what is held, plans give the same pixels, and blocks come one by one."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
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
from unfade.media.video import probe_video
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


def restorer(model: VividModel, room: Room = Room(), window: int = 9) -> VividRestorer:
    def embed(texts: Any, device: torch.device) -> list[Tensor]:
        return [torch.zeros(1, 12, 24) for _ in texts]

    settings = replace(SETTINGS, tile=0, steps=1, window=window)
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
    work = restorer(model, Room(), SETTINGS.window).work(64, 96, Plan(dtype="fp32", device="cpu"), 40)
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


HERE = Plan(dtype="fp32", device="cpu")


def from_file(made: VividRestorer, source: Path, work: Path) -> Tensor:
    return torch.stack(list(made.restore_footage(probe_video(source), "a", HERE, work)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., Path]) -> Path:
    """Footage of two windows."""
    return make_clip(tmp_path_factory.mktemp("footage") / "a.mp4", range(13), (64, 48))


@pytest.fixture(scope="module")
def undisturbed(
    model: VividModel, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tensor, list[int]]:
    """Its result, and how many frames, evaluations and frames again that takes."""
    begun = counted(model)
    found = from_file(restorer(model), source, tmp_path_factory.mktemp("work") / "once")
    return found, [later - before for before, later in zip(begun, counted(model), strict=True)]


def counted(model: VividModel) -> list[int]:
    return [model.vae.frames_encoded, model.denoiser.calls, model.vae.frames_decoded]


def starved(monkeypatch: pytest.MonkeyPatch, part: Any, *calls: int) -> None:
    """Lets a real part of a model find no memory in some of its calls, counted from 1."""
    forward, made = part.forward, []

    def short(*given: Any, **named: Any) -> Any:
        made.append(0)
        if len(made) in calls:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(*given, **named)

    monkeypatch.setattr(part, "forward", short)


@pytest.mark.parametrize("doing", ["encoding", "decoding"])
def test_the_vae_goes_on_in_strips_and_says_so(
    model: VividModel,
    source: Path,
    undisturbed: tuple[Tensor, list[int]],
    doing: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """In the middle of the second window: what was done before stays, and nothing of the result is missing."""
    vae: Any = model.vae.model
    starved(monkeypatch, vae.encoder if doing == "encoding" else vae.decoder, 2)
    made, begun = restorer(model), counted(model)
    found = from_file(made, source, tmp_path / "work")
    followed, model.vae.tile = f"resident, VAE in tiles of {model.vae.tile}", 0
    assert [one.getMessage() for one in caplog.records if one.name == "unfade"] == [
        f"memory ran out while {doing} (resident); going on with {followed}"
    ]
    assert made.told["memory"] == followed != "resident"
    expected, each = undisturbed
    torch.testing.assert_close(found, expected, atol=3e-3, rtol=0)
    taken = [later - before for before, later in zip(begun, counted(model), strict=True)]
    # No more than the window under way is done again, and no step.
    again = [taken[0] - each[0], taken[1] - each[1], taken[2] - each[2]]
    assert again[1] == 0 and 0 <= again[0] <= 9 * (doing == "encoding")
    assert 0 <= again[2] <= 9 * (doing == "decoding")


def test_twice_is_told_with_what_this_model_knows(
    model: VividModel,
    source: Path,
    undisturbed: tuple[Tensor, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Once more in strips it runs out again; another day the same command goes on from there."""
    with monkeypatch.context() as patch:
        vae: Any = model.vae.model
        starved(patch, vae.decoder.norm_out.conv_y.conv, 1, 2)
        with pytest.raises(
            UnfadeError,
            match=r"ran out twice \(resident, then resident, VAE in tiles of \d+\); choose --vae-tiles on",
        ):
            from_file(restorer(model), source, tmp_path / "work")
    model.vae.tile, begun = 0, model.denoiser.calls
    assert torch.equal(from_file(restorer(model), source, tmp_path / "work"), undisturbed[0])
    assert model.denoiser.calls == begun


def test_a_clip_in_memory_goes_on_too(model: VividModel, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip(footage(9, 48, 64))
    whole = restorer(model).restore(clip, "a", HERE, keep=False)
    decoder: Any = model.vae.model.decoder
    starved(monkeypatch, decoder, 1)
    found = restorer(model).restore(clip, "a", HERE, keep=False)
    model.vae.tile = 0
    assert whole.provenance["memory"] == "resident" and "VAE in tiles" in found.provenance["memory"]
    torch.testing.assert_close(found.result.frames, whole.result.frames, atol=3e-3, rtol=0)


def test_advice_names_what_there_is() -> None:
    from typer.main import get_command

    from unfade.cli.app import app

    options = get_command(app).commands["restore"].params  # type: ignore[attr-defined]
    known = {name for option in options for name in option.opts}
    for text in (VividLoad.advice.device, VividLoad.advice.host):
        named = set(re.findall(r"--[a-z-]+", text))
        assert {"--vae-tiles", "--short-side", "--scale"} <= named <= known
    assert "--memory" in VividLoad.advice.device and "--memory" not in VividLoad.advice.host
