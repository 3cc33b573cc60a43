"""Steps, samples, footage, the VAE's ceiling and loading: what a caller can ask of a video model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL, WanConfig
from unfade.backbones.wan_family import T2V_1_3B
from unfade.core import Clip, ModelError, Plan, UsageError, generator
from unfade.diffusion.sizes import padded_fit
from unfade.restore.latent import PAPER, RELEASE, LatentRestorer, VBridgeSettings
from unfade.restore.load import load
from unfade.restore.passes import noise_seed
from unfade.restore.vbridge import vbridge_settings

FP32 = Plan(dtype="fp32", device="cpu", seed=5)
QUICK = VBridgeSettings(frames=5, steps=2, guidance=1)


def sentences(prompts: Sequence[str], device: torch.device) -> list[Tensor]:
    return [torch.randn(1, 7, 24, generator=generator(0, prompt)).to(device) for prompt in prompts]


@pytest.fixture(scope="module")
def wan() -> Wan:
    torch.manual_seed(11)
    return build_wan(SMALL)


def restorer(wan: Wan, settings: VBridgeSettings = QUICK) -> LatentRestorer:
    return LatentRestorer("small", wan.config, lambda device, dtype: wan, sentences, settings)


def photo(height: int = 40, width: int = 64, frames: int = 1) -> Clip:
    return Clip(torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(height)))


def test_a_plan_names_the_steps_or_the_model_does(wan: Wan) -> None:
    model = restorer(wan)
    assert model.restore(photo(), plan=FP32).provenance["steps"] == "2"
    told = model.restore(photo(), plan=FP32, steps=3)
    assert (told.provenance["steps"], told.provenance["evaluations"]) == ("3", "3")
    assert torch.equal(
        told.result.frames, restorer(wan, replace(QUICK, steps=3)).restore(photo(), plan=FP32).result.frames
    )


def test_samples_are_averaged_and_their_spread_is_the_confidence(wan: Wan) -> None:
    model = restorer(wan, replace(QUICK, samples=3))
    seen: list[Tensor] = []
    hook = wan.denoiser.model.register_forward_pre_hook(
        lambda module, given, named: seen.append(named["hidden_states"][:, :, 1:]), with_kwargs=True
    )
    together = model.restore(photo(), plan=FP32, confidence=True)
    hook.remove()
    single = restorer(wan).restore(photo(), plan=FP32)
    draws = [single.result.frames]
    # The other two by hand, from the noise that each sample names.
    seed = noise_seed(5, photo().frames[0])
    job = restorer(wan)._begin(40, 64, PAPER.asked(None), FP32, seed)
    for index in (1, 2):
        noise = torch.randn(1, *job.shape, generator=generator(seed, "vbridge", "restore", index))
        frames = torch.cat(list(job.walk.frames(job.fit.enter(photo().frames), noise)))
        draws.append(job.fit.leave(frames[-1:]))
    every = torch.stack(draws)
    torch.testing.assert_close(together.result.frames, every.mean(0))
    assert together.confidence is not None and together.confidence.shape == (1, 1, 40, 64)
    deviation = every.var(0, unbiased=False).mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(together.confidence, 1 - 2 * deviation, atol=1e-5, rtol=0)
    assert 0 < float(together.confidence.min()) < float(together.confidence.max()) <= 1
    assert single.confidence is None
    assert together.provenance["samples"] == "3"
    firsts = seen[::2]
    assert (
        len(firsts) == 3 and not torch.equal(firsts[0], firsts[1]) and not torch.equal(firsts[1], firsts[2])
    )


def test_one_sample_has_no_confidence(wan: Wan) -> None:
    with pytest.raises(UsageError, match="add --samples 4"):
        restorer(wan).restore(photo(), plan=FP32, confidence=True)


def test_footage_is_restored_frame_by_frame(wan: Wan) -> None:
    clip = photo(frames=3)
    taken: list[int] = []

    def frames() -> object:
        for index, frame in enumerate(clip.frames):
            taken.append(index)
            yield frame

    whole = restorer(wan).restore(clip, plan=FP32, scale=2).result.frames
    stream = restorer(wan).restore_stream(frames(), plan=FP32, scale=2)  # type: ignore[arg-type]
    for index, result in enumerate(stream):
        assert taken == list(range(index + 1))
        assert torch.equal(result, whole[index])
        assert result.shape == (3, 80, 128)
    told = restorer(wan).provenance(40, 64, None, replace(FP32, scale=2))
    assert told == restorer(wan).restore(Clip.of(clip.frames[0]), plan=FP32, scale=2).provenance


def test_footage_of_two_sizes_is_refused(wan: Wan) -> None:
    frames = iter([torch.zeros(3, 32, 32), torch.zeros(3, 32, 64)])
    with pytest.raises(ValueError, match="one size"):
        list(restorer(wan).restore_stream(frames, plan=FP32))
    with pytest.raises(UsageError, match="dtype"):
        restorer(wan).restore_stream(iter([]), dtype="int8")


@pytest.mark.parametrize("frames", [1, 5])
def test_the_round_trip_is_the_vaes_own(wan: Wan, frames: int) -> None:
    clip = photo(33, 50, frames=2)
    ceiling = restorer(wan).round_trip(clip, frames)
    assert ceiling.frames.shape == clip.frames.shape
    fit = padded_fit(33, 50, 32)
    for index in range(2):
        still = fit.enter(clip.frames[index : index + 1])[:, :, None].expand(-1, -1, frames, -1, -1) * 2 - 1
        with torch.inference_mode():
            z = wan.vae.model.encode(still).latent_dist.mode()
            decoded = wan.vae.model.decode(z).sample[0, :, -1]
        expected = fit.leave(decoded * 0.5 + 0.5)
        torch.testing.assert_close(ceiling.frames[index], expected, atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match="frames must be 4k"):
        restorer(wan).round_trip(clip, 4)


def test_a_wan_of_the_older_kind_restores_too() -> None:
    vae = {**T2V_1_3B.vae, "base_dim": 8, "z_dim": 4, "num_res_blocks": 1}
    vae |= {"latents_mean": [0.1] * 4, "latents_std": [0.9] * 4}
    transformer = {**SMALL.transformer, "in_channels": 4, "out_channels": 4}
    torch.manual_seed(1)
    wan = build_wan(WanConfig(transformer, vae, SMALL.scheduler))
    assert wan.config.size_multiple == 16
    result = restorer(wan).restore(photo(20, 40), plan=FP32)
    assert result.provenance["canvas"] == "48x32, padded"
    assert result.result.frames.shape == (1, 3, 20, 40)
    assert len(result.trajectory) == 5


def test_presets_by_name_and_changes_to_them() -> None:
    assert vbridge_settings() is not None and vbridge_settings("paper") == PAPER
    assert vbridge_settings("release", {"frames": 5}) == replace(RELEASE, frames=5)
    for preset, changes, said in (
        ("fast", {}, "no preset is called 'fast'; there is paper, release"),
        ("paper", {"guidance": 0.5}, "guidance must be at least 1"),
        ("paper", {"colour": 1}, "colour"),
        ("paper", {"drift": "often"}, "drift must be one of always, gated, never"),
        ("paper", {"samples": 0}, "samples must be 1 to 1000"),
    ):
        with pytest.raises(UsageError, match=said):
            vbridge_settings(preset, changes)


def test_a_folder_is_loaded_with_its_settings(
    wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = load(wan_folder, preset="release", frames=5, steps=1, guidance=1)
    assert isinstance(model, LatentRestorer)
    assert model.settings == replace(RELEASE, frames=5, steps=1, guidance=1)
    assert model.name == "small"
    restored = model.restore(photo(32, 32), plan=FP32)
    assert restored.provenance["weights"] == model.weights.sha256
    assert len(model.weights.sha256) == 64


def test_what_can_not_be_loaded_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        ModelError, match=r"vbridge is not on this machine; get it with unfade models download vbridge"
    ):
        load("vbridge")
    with pytest.raises(ModelError, match="somebody/model is not on this machine"):
        load("somebody/model")
    with pytest.raises(ModelError, match=r"can't restore: it is two transformers .*; use wan2.2-ti2v-5b"):
        load("Wan-AI/Wan2.2-T2V-A14B-Diffusers")
    with pytest.raises(ModelError, match=r"no .*transformer/config.json"):
        load(tmp_path)
    with pytest.raises(UsageError, match="'mood' is no setting of any model"):
        load("tiny", mood="blue")
    with pytest.raises(UsageError, match="tiny has no use for preset, clip-frames, which is of video models"):
        load("tiny", preset="paper", frames=5)
