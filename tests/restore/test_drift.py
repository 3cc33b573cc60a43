"""The drift correction: a second adapter over the first result, and the gate that decides on it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL, WanConfig
from unfade.conditioning.lora import LoraSettings, attach_lora, save_adapter
from unfade.core import Clip, ModelError, Plan, UsageError, generator
from unfade.restore.adapters import Adapters
from unfade.restore.drift import gained_detail, moved_light, worth_keeping
from unfade.restore.latent import LatentRestorer, VBridgeSettings
from unfade.restore.passes import noise_seed

FP32 = Plan(dtype="fp32", device="cpu", seed=5)
QUICK = VBridgeSettings(frames=5, steps=2, guidance=1)


def sentences(prompts: Sequence[str], device: torch.device) -> list[Tensor]:
    return [torch.randn(1, 7, 24, generator=generator(0, prompt)).to(device) for prompt in prompts]


def built(config: WanConfig = SMALL) -> Wan:
    torch.manual_seed(11)
    return build_wan(config)


def trained(path: Path, role: str, size: float, config: WanConfig = SMALL, frames: int | None = None) -> Path:
    """An adapter whose second matrices are random: it changes the model, and each of them differently."""
    model = built(config).denoiser.model
    dice = torch.Generator().manual_seed(len(role))
    for parameter in attach_lora(model, LoraSettings(rank=2, alpha=2.0), 0, role):
        parameter.data = torch.randn(parameter.shape, generator=dice) * size
    notes = {} if frames is None else {"run": json.dumps({"frames": frames, "lr": 1e-4})}
    save_adapter(model, path, {"model": "small"}, notes, role=role, name=role)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    folder = tmp_path_factory.mktemp("adapters")
    return Adapters(
        trained(folder / "restore.safetensors", "restore", 0.2),
        trained(folder / "drift.safetensors", "drift-correction", 0.3),
    )


def restorer(settings: VBridgeSettings = QUICK, adapters: Adapters | None = None) -> LatentRestorer:
    wan = built()
    return LatentRestorer(
        "small", wan.config, lambda device, dtype: wan, sentences, settings, adapters or Adapters()
    )


def photo(height: int = 40, width: int = 64) -> Clip:
    return Clip(torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height)))


def test_an_adapter_changes_the_result_and_both_passes_are_the_way(adapters: Adapters) -> None:
    clip = photo(32, 64)
    alone = restorer().restore(clip, plan=FP32)
    first = restorer(adapters=replace(adapters, drift=None)).restore(clip, plan=FP32)
    both = restorer(adapters=adapters).restore(clip, plan=FP32)
    assert not torch.equal(alone.result.frames, first.result.frames)
    assert len(both.trajectory) == 1 + 4 + 4
    for index in range(5):
        assert torch.equal(both.trajectory[index].frames, first.trajectory[index].frames)
    assert both.provenance["drift_correction"] == "always"
    assert both.provenance["adapter"].startswith("restore.safetensors ")
    assert both.provenance["drift_adapter"].startswith("drift.safetensors ")
    assert first.provenance["drift_correction"] == alone.provenance["drift_correction"] == "none"


def test_the_second_pass_is_the_drift_adapter_alone_on_the_first_result(adapters: Adapters) -> None:
    clip = photo(32, 64)
    first = restorer(adapters=replace(adapters, drift=None)).restore(clip, plan=FP32).result
    both = restorer(adapters=adapters).restore(clip, plan=FP32)
    # By hand: the drift adapter as the only one, on the first result, with the second pass's noise.
    wan = built()
    Adapters(None, adapters.drift).attach(wan)
    by_hand = LatentRestorer("small", wan.config, lambda device, dtype: wan, sentences, QUICK)
    seed = noise_seed(5, clip.frames[0])
    job = by_hand._begin(32, 64, QUICK.asked(None), FP32, seed)
    noise = torch.randn(1, *job.shape, generator=generator(seed, "vbridge", "drift-correction", 0))
    frames = torch.cat(list(job.walk.frames(first.frames, noise)))
    torch.testing.assert_close(both.result.frames, frames[-1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("first", "second"), [(9, 5), (5, 9)])
def test_the_second_pass_has_as_many_frames_as_its_adapter_learnt_from(
    adapters: Adapters, tmp_path: Path, first: int, second: int
) -> None:
    drift = trained(tmp_path / "drift.safetensors", "drift-correction", 0.3, frames=second)
    clip, settings = photo(32, 64), replace(QUICK, frames=first)
    alone = restorer(settings, replace(adapters, drift=None)).restore(clip, plan=FP32)
    model = restorer(settings, replace(adapters, drift=drift))
    both = model.restore(clip, plan=FP32)
    # By hand: a restorer with that adapter alone whose only pass has the other number of frames.
    wan = built()
    Adapters(None, drift).attach(wan)
    other = replace(QUICK, frames=second)
    by_hand = LatentRestorer("small", wan.config, lambda device, dtype: wan, sentences, other)
    seed = noise_seed(5, clip.frames[0])
    job = by_hand._begin(32, 64, other.asked(None), FP32, seed)
    assert job.second is None
    noise = torch.randn(1, *job.shape, generator=generator(seed, "vbridge", "drift-correction", 0))
    frames = torch.cat(list(job.walk.frames(alone.result.frames, noise)))
    assert len(frames) == second - 1
    torch.testing.assert_close(both.result.frames, frames[-1:], atol=1e-6, rtol=0)
    assert len(both.trajectory) == 1 + (first - 1) + (second - 1)
    assert both.provenance["frames"] == str(first) and both.provenance["drift_frames"] == str(second)
    assert "drift_frames" not in alone.provenance
    # The dry run knows it before anything is loaded, and plans the memory for the longer clip.
    works = {
        count: restorer(replace(QUICK, frames=count), replace(adapters, drift=None)).work(32, 64, FP32)
        for count in (5, 9)
    }
    told = model.work(32, 64, FP32)
    assert told["evaluations"] == 2 * works[5]["evaluations"]
    assert told["petaflops"] == pytest.approx(works[5]["petaflops"] + works[9]["petaflops"], rel=0.01)
    assert told["predicted_peak_gb"] >= works[9]["predicted_peak_gb"]


def test_an_adapter_that_says_nothing_of_frames_has_those_of_the_first_pass(
    adapters: Adapters, tmp_path: Path
) -> None:
    assert adapters.drift_frames(17) == 17
    assert Adapters().drift_frames(9) == 9
    odd = trained(tmp_path / "odd.safetensors", "drift-correction", 0.3, frames=7)
    with pytest.raises(UsageError, match="frames must be 4k"):
        restorer(adapters=replace(adapters, drift=odd)).restore(photo(), plan=FP32)


def test_a_result_alone_is_the_same_result(adapters: Adapters) -> None:
    clip = photo()
    whole = restorer(adapters=adapters).restore(clip, plan=FP32)
    alone = restorer(adapters=adapters).restore(clip, plan=replace(FP32, keep=False))
    assert alone.trajectory.taus == (0, 1)
    assert torch.equal(alone.result.frames, whole.result.frames)


def test_never_is_the_first_pass(adapters: Adapters) -> None:
    clip, settings = photo(), replace(QUICK, drift="never")
    model = restorer(settings, adapters)
    first = restorer(adapters=replace(adapters, drift=None)).restore(clip, plan=FP32)
    before = model._model(torch.device("cpu"), torch.float32).denoiser.calls
    never = model.restore(clip, plan=FP32)
    assert model._model(torch.device("cpu"), torch.float32).denoiser.calls - before == 2
    assert torch.equal(never.result.frames, first.result.frames)
    assert never.provenance["drift_correction"] == "none"


@pytest.mark.parametrize("taken", [True, False])
def test_the_gate_decides(adapters: Adapters, monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    # A threshold of its own on each side of what this pair of random adapters does.
    monkeypatch.setattr("unfade.restore.drift.LIGHT", 0.0 if taken else 1.0)
    monkeypatch.setattr("unfade.restore.drift.DETAIL", 1e9)
    clip = photo()
    gated = restorer(replace(QUICK, drift="gated"), adapters).restore(clip, plan=FP32)
    wanted = restorer(replace(QUICK, drift="always" if taken else "never"), adapters).restore(clip, plan=FP32)
    assert torch.equal(gated.result.frames, wanted.result.frames)
    assert len(gated.trajectory) == len(wanted.trajectory)
    assert gated.provenance["drift_correction"] == ("gated, taken" if taken else "gated, left out")


def test_footage_asks_the_gate_once(adapters: Adapters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unfade.restore.drift.LIGHT", 1.0)
    monkeypatch.setattr("unfade.restore.drift.DETAIL", 1e9)
    model = restorer(replace(QUICK, drift="gated"), adapters)
    wan = model._model(torch.device("cpu"), torch.float32)
    before = wan.denoiser.calls
    frames = [photo().frames[0], photo().frames[0].flip(-1), photo().frames[0].flip(-2)]
    results = list(model.restore_stream(iter(frames), plan=FP32))
    # Two passes over the first frame, one over each of the others.
    assert wan.denoiser.calls - before == 2 * 2 + 2 + 2
    first = restorer(adapters=replace(adapters, drift=None))
    for expected, result in zip(first.restore_stream(iter(frames), plan=FP32), results, strict=True):
        torch.testing.assert_close(result, expected)


def test_the_gate_takes_light_and_sharpness_and_leaves_the_rest() -> None:
    dice = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 9, 9, generator=dice) * 0.5 + 0.1
    base = torch.nn.functional.interpolate(coarse, (96, 96), mode="bicubic").clamp(0, 1)
    base = (base + 0.02 * torch.randn(base.shape, generator=dice)).clamp(0, 1)
    brighter = (base * 1.3).clamp(0, 1)
    blurred = torch.nn.functional.avg_pool2d(base, 3, 1, 1, count_include_pad=False)
    sharper = (base + 0.5 * (base - blurred)).clamp(0, 1)
    textured = (base + 0.004 * torch.randn(base.shape, generator=dice)).clamp(0, 1)
    assert worth_keeping(base, brighter) and moved_light(base, brighter) > 0.05
    assert worth_keeping(base, sharper) and gained_detail(base, sharper) > 0.2
    assert not worth_keeping(base, base)
    assert not worth_keeping(base, textured)
    assert not worth_keeping(base, blurred)
    # Raising the light is not taken for sharpness.
    assert abs(gained_detail(base, brighter)) < 0.1


def test_the_wrong_adapter_is_one_sentence(adapters: Adapters, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="adapter for drift-correction, not for restore"):
        restorer(adapters=Adapters(restore=adapters.drift)).restore(photo(), plan=FP32)
    with pytest.raises(ModelError, match=r"no adapter at .*; name the .safetensors file"):
        Adapters(restore=tmp_path / "nowhere.safetensors")
    wider = WanConfig({**SMALL.transformer, "ffn_dim": 96}, SMALL.vae, SMALL.scheduler)
    other = trained(tmp_path / "other.safetensors", "restore", 0.1, wider)
    with pytest.raises(ModelError, match="was made for another base"):
        restorer(adapters=Adapters(restore=other)).restore(photo(), plan=FP32)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(other.read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated or damaged"):
        restorer(adapters=Adapters(restore=cut)).restore(photo(), plan=FP32)
