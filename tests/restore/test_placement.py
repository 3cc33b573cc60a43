"""Memory plans under a restorer: chosen, told, and left for a smaller one without losing the result."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL
from unfade.backbones.wan_vae import WanVae
from unfade.core import Clip, Plan, UnfadeError, UsageError, generator
from unfade.restore.latent import LatentRestorer, VBridgeSettings
from unfade.restore.outputs import plan_jobs
from unfade.restore.placement import Load, Placement, Room
from unfade.restore.report import JobReport

FP32 = Plan(dtype="fp32", device="cpu", seed=5)
QUICK = VBridgeSettings(frames=5, steps=1, guidance=1)
# Wide enough that the smallest tiles are fewer pixels than the whole.
WIDE = Clip(torch.rand(1, 3, 32, 320, generator=torch.Generator().manual_seed(1)))


def sentences(prompts: Sequence[str], device: torch.device) -> list[Tensor]:
    return [torch.randn(1, 7, 24, generator=generator(0, prompt)).to(device) for prompt in prompts]


@pytest.fixture
def wan() -> Wan:
    torch.manual_seed(11)
    return build_wan(SMALL)


def restorer(wan: Wan, room: Room | None = None) -> LatentRestorer:
    return LatentRestorer(
        "small", wan.config, lambda device, dtype: wan, sentences, QUICK, room=room or Room()
    )


def short_of_memory(forward: Callable[..., Any], times: int) -> Callable[..., Any]:
    """The real forward, which runs out of memory so many times first."""
    left = [times]

    def wrapped(*given: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB.")
        return forward(*given, **named)

    return wrapped


def test_running_out_once_is_told_and_loses_nothing(wan: Wan, caplog: pytest.LogCaptureFixture) -> None:
    expected = restorer(wan).restore(WIDE, plan=FP32)
    model: Any = wan.vae.model.decoder
    model.forward = short_of_memory(model.forward, 1)
    starved, shares = restorer(wan), []
    with caplog.at_level(logging.WARNING, "unfade"):
        found = starved.restore(WIDE, plan=FP32, progress=shares.append)
    assert len(found.trajectory) == 5
    torch.testing.assert_close(found.result.frames, expected.result.frames, atol=2e-5, rtol=0)
    assert expected.provenance["memory"] == "resident" and "memory_note" not in expected.provenance
    assert found.provenance["memory"].startswith("resident, VAE in tiles of ")
    note = f"memory ran out while decoding (resident); going on with {found.provenance['memory']}"
    assert found.provenance["memory_note"] == note
    assert [record.message for record in caplog.records] == [note]
    assert shares[-1] == 1
    # The next photo begins with what fitted, and nothing has to be said about that.
    calls = wan.denoiser.calls
    again = starved.restore(WIDE, plan=FP32).provenance
    assert again["memory"] == found.provenance["memory"] and "memory_note" not in again
    assert wan.denoiser.calls == calls + 1
    # A larger one is planned for anew.
    higher = Clip(WIDE.frames.repeat(1, 1, 2, 1))
    assert starved.restore(higher, plan=FP32).provenance["memory"] == "resident"
    assert starved.restore(WIDE, plan=FP32).provenance["memory"] == found.provenance["memory"]
    report = JobReport(plan_jobs(["a.png"]).jobs[0], "done", provenance=found.provenance)
    assert json.loads(json.dumps(report.as_dict({})))["settings"]["memory_note"] == note


def test_running_out_again_is_an_error_of_one_sentence(wan: Wan) -> None:
    model: Any = wan.vae.model.decoder.mid_block
    model.forward = short_of_memory(model.forward, 2)
    with pytest.raises(UnfadeError, match="memory ran out twice"):
        restorer(wan).restore(WIDE, plan=FP32)


def test_footage_goes_on_from_the_frame_that_did_not_fit(wan: Wan) -> None:
    frames = [WIDE.frames[0], WIDE.frames[0].flip(-1)]
    expected = list(restorer(wan).restore_stream(iter(frames), plan=FP32))
    model: Any = wan.vae.model.decoder
    model.forward = short_of_memory(model.forward, 1)
    found = list(restorer(wan).restore_stream(iter(frames), plan=FP32))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)


def counted_out(call: Callable[..., Any], *short: int) -> Callable[..., Any]:
    """The real call, which runs out of memory in some of its turns, counted from 1."""
    turns = iter(range(1, 1000))

    def wrapped(*given: Any) -> Any:
        if next(turns) in short:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB.")
        return call(*given)

    return wrapped


def test_weights_that_do_not_fit_wait_elsewhere(wan: Wan, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = Wan.to

    def to(self: Wan, device: torch.device) -> Wan:
        if device.type == "meta":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 12.00 GiB.")
        return moved(self, device)

    monkeypatch.setattr(Wan, "to", to)
    device, load = torch.device("meta"), Load(SMALL, (32, 320), (32, 320), 5, 1, torch.float32)
    for room in (Room(), Room("resident")):
        placement = Placement(room)
        placement.settle(wan, load, device)
        assert placement.said == [
            "memory ran out while placing the weights (resident); going on with offload"
        ]
        assert placement.name == "offload" and wan.vae.before is not None
        # What did not fit is not tried again.
        placement.settle(wan, load, device)
        assert placement.name == "offload" and not placement.said


def test_running_out_while_weights_are_placed_loses_nothing(
    wan: Wan, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = restorer(wan).restore(WIDE, plan=FP32)
    monkeypatch.setattr(Wan, "to", counted_out(Wan.to, 1))
    found = restorer(wan, Room("resident")).restore(WIDE, plan=FP32)
    torch.testing.assert_close(found.result.frames, expected.result.frames, atol=2e-5, rtol=0)
    assert found.provenance["memory_note"].startswith(
        "memory ran out (resident); going on with resident, VAE in"
    )


def test_after_running_out_twice_the_next_photo_finds_the_model_whole(
    wan: Wan, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = restorer(wan).restore(WIDE, plan=FP32)
    starved = restorer(wan, Room("resident"))
    # The second turn is that of going back to the host.
    monkeypatch.setattr(Wan, "to", counted_out(Wan.to, 1, 3))
    with pytest.raises(UnfadeError, match="memory ran out twice"):
        starved.restore(WIDE, plan=FP32)
    assert starved.placement.plan is None
    found = starved.restore(WIDE, plan=FP32)
    assert torch.equal(found.result.frames, expected.result.frames)
    assert found.provenance["memory"] == "resident" and "memory_note" not in found.provenance


def test_the_ceiling_is_found_with_less_memory_too(wan: Wan) -> None:
    expected = restorer(wan).round_trip(WIDE).frames
    starved, model = restorer(wan), wan.vae.model.decoder
    model.forward = short_of_memory(model.forward, 1)  # type: ignore[method-assign]
    torch.testing.assert_close(starved.round_trip(WIDE).frames, expected, atol=2e-5, rtol=0)
    assert starved.placement.name.startswith("resident, VAE in tiles of ")
    tiled = wan.vae.model.decoder.mid_block
    tiled.forward = short_of_memory(tiled.forward, 2)
    with pytest.raises(UnfadeError, match="memory ran out"):
        restorer(wan).round_trip(WIDE)


def test_tiles_keep_nothing_but_the_result_where_nothing_else_is_wanted(
    wan: Wan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small beyond doubt, so that no plan decides about the tiles.
    monkeypatch.setattr("unfade.restore.placement.free_bytes", lambda device: 10**11)
    model, given = restorer(wan), []
    wan.vae.tile, decode = 256, WanVae.decode

    def watched(self: WanVae, latents: Tensor, last: bool) -> Iterator[Tensor]:
        for chunk in decode(self, latents, last):
            given.append(chunk.shape[2])
            yield chunk

    monkeypatch.setattr(WanVae, "decode", watched)
    shares: list[float] = []
    whole = model.restore(WIDE, plan=FP32)
    alone = model.restore(WIDE, plan=FP32, keep=False, progress=shares.append)
    assert given == [5, 1] and shares[-1] == 1
    assert torch.equal(alone.result.frames, whole.result.frames)
    for keep in (True, False):
        load = model._begin(32, 320, QUICK.asked(None), replace(FP32, keep=keep), 5).load
        assert load.last is not keep
    assert torch.equal(next(model.restore_stream(WIDE.frames, plan=FP32)), alone.result.frames[0])
    assert given[2:] == [1]


def test_what_keeps_all_frames_is_not_within_what_keeps_one() -> None:
    every = Load(SMALL, (64, 64), (64, 64), 5, 1, torch.float32)
    last = replace(every, last=True)
    assert last.within(every) and last.within(last) and every.within(every) and not every.within(last)


def test_what_is_asked_for_is_done(wan: Wan) -> None:
    found = restorer(wan, Room(vae_tiles="on")).restore(WIDE, plan=FP32)
    assert found.provenance["memory"].startswith("resident, VAE in tiles of ")
    with pytest.raises(
        UsageError, match="memory must be one of auto, resident, offload, group, fp8, not 'disk'"
    ):
        Room("disk")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="vae-tiles must be one of auto, on, off"):
        Room(vae_tiles="maybe")  # type: ignore[arg-type]


def test_weights_that_have_nowhere_to_wait_are_told_of_once(
    wan: Wan, caplog: pytest.LogCaptureFixture
) -> None:
    model = restorer(wan, Room("offload"))
    for _ in range(2):
        assert model.restore(WIDE, plan=FP32).provenance["memory"] == "resident"
    assert [record.message for record in caplog.records] == [
        "--memory offload changes nothing on the CPU, where weights have nowhere else to wait"
    ]


def test_weights_that_are_there_are_not_counted_twice(wan: Wan, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they take is not free any more, and the plan counts them among what it needs."""
    # The machine's own answer swings with whatever else it does.
    monkeypatch.setattr("unfade.restore.placement.free_bytes", lambda device: 10**11)
    model = restorer(wan, Room(vae_tiles="off"))
    model.restore(WIDE, plan=FP32)
    plan = model.placement.plan
    assert plan is not None
    # Memory that nobody touched is not taken from what is free; the weights' own share has to appear all the same.
    big = torch.nn.Parameter(torch.empty(5 * 10**8), requires_grad=False)
    wan.vae.model.register_parameter("ballast", big)
    before = plan.free
    model.restore(WIDE, plan=FP32)
    assert model.placement.plan is not None
    assert model.placement.plan.free - before == 4 * big.numel()


def test_a_forecast_counts_adapters() -> None:
    load = Load(SMALL, (64, 64), (64, 64), 5, 1, torch.float32)
    plain, taught = (
        load.forecast(Room(vae_tiles="off"), torch.device("cpu"), 1, extra)["predicted_peak_gb"]
        for extra in (0, 10**9)
    )
    assert taught == pytest.approx(plain + 1, abs=0.01)  # type: ignore[operator]


def test_a_forecast_grows_with_the_photo_and_the_work() -> None:
    def told(side: int, evaluations: int) -> dict[str, Any]:
        load = Load(SMALL, (side, side), (side, side), 5, 1, torch.float32)
        return dict(load.forecast(Room(), torch.device("cpu"), evaluations))

    small, large = told(64, 1), told(256, 1)
    assert 0 < small["predicted_peak_gb"] < large["predicted_peak_gb"]
    assert small["fits"] and small["memory"] == "resident"
    assert 0 < large["predicted_seconds"] < told(256, 10_000)["predicted_seconds"]
