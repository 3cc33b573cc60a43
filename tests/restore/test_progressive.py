"""Progressive restoration's whole way on a small CogVideoX of the real classes, against diffusers' pipeline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unfade.backbones.cogvideox import CogVideoX, build_cogvideox
from unfade.backbones.cogvideox_config import I2V_5B, SMALL_1_0, SMALL_1_5
from unfade.backbones.cogvideox_memory import cogvideox_footprint
from unfade.conditioning.lora import PROGRESSIVE, LoraSettings, attach_lora, save_adapter
from unfade.core import Clip, ModelError, Plan, UsageError, generator
from unfade.diffusion.sizes import bounded_fit
from unfade.prompts.captions import KeptCaptions
from unfade.prompts.progressive import uniform_prompt
from unfade.restore import placement
from unfade.restore.latent import LatentRestorer
from unfade.restore.load import load
from unfade.restore.passes import noise_seed
from unfade.restore.progressive import ProgressiveSettings

FP32 = Plan(dtype="fp32", device="cpu", seed=5)
QUICK = ProgressiveSettings(steps=2, guidance=1)


class Sentences:
    """Prompts as random vectors that depend on nothing but the prompt."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, prompts: Sequence[str], device: torch.device) -> list[Tensor]:
        self.asked.append(list(prompts))
        return [torch.randn(1, 12, 24, generator=generator(0, prompt)).to(device) for prompt in prompts]


@pytest.fixture(scope="module")
def model() -> CogVideoX:
    torch.manual_seed(13)
    return build_cogvideox(SMALL_1_5)


def restorer(
    model: CogVideoX, settings: ProgressiveSettings = QUICK, embed: Sentences | None = None
) -> LatentRestorer:
    return LatentRestorer("small", model.config, lambda device, dtype: model, embed or Sentences(), settings)


def photo(height: int, width: int, frames: int = 1) -> Clip:
    return Clip(torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(height)))


@pytest.mark.parametrize(("guidance", "sampler"), [(1.0, "ddim"), (3.0, "dpm")])
def test_the_film_is_the_pipelines(
    model: CogVideoX, guidance: float, sampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

    # The pipeline draws the photo's latents from their posterior; a restoration takes its mode.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    settings = ProgressiveSettings(steps=3, guidance=guidance, sampler=sampler)
    clip = photo(50, 90)
    way = restorer(model, settings).restore(clip, "it becomes sharp", FP32).trajectory
    fit = settings.fit(model.config, 50, 90)
    assert (fit.canvas_height, fit.canvas_width) == (64, 96)
    seed = noise_seed(5, clip.frames[0])
    noise = torch.randn(1, *model.config.latent_shape(9, 64, 96), generator=generator(seed, "progressive"))
    kind = {"dpm": "CogVideoXDPMScheduler", "ddim": "CogVideoXDDIMScheduler"}[sampler]
    stock = diffusers.CogVideoXImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=model.vae.model,
        transformer=model.denoiser.model,
        scheduler=getattr(diffusers, kind).from_config(dict(model.config.scheduler)),
    )
    stock.set_progress_bar_config(disable=True)
    text, negative = Sentences()(["it becomes sharp", ""], torch.device("cpu"))
    theirs = stock(
        image=fit.enter(clip.frames),
        height=64,
        width=96,
        num_frames=9,
        num_inference_steps=3,
        guidance_scale=guidance,
        latents=noise.transpose(1, 2),
        prompt_embeds=text,
        negative_prompt_embeds=negative,
        generator=generator(seed, "progressive", "steps"),
        output_type="pt",
    ).frames[0]
    assert len(way) == 9 and way[0] is clip
    for index in range(1, 9):
        torch.testing.assert_close(way[index].frames[0], fit.leave(theirs[index]), atol=1e-5, rtol=0)


def test_the_users_words_win_and_otherwise_the_photo_is_measured(model: CogVideoX) -> None:
    embed = Sentences()
    plain = ProgressiveSettings(steps=1, guidance=6, words="uniform")
    dark = Clip(photo(64, 96).frames * 0.1)
    told = restorer(model, plain, embed).restore(dark, plan=FP32).provenance
    assert told["prompt"] == uniform_prompt("lowlight") and told["negative_prompt"] == ""
    restorer(model, plain, embed).restore(dark, "  my own   words ", FP32)
    restorer(model, QUICK, embed).restore(dark, plan=FP32)
    assert embed.asked[:2] == [[uniform_prompt("lowlight"), ""], ["my own words", ""]]
    scene = embed.asked[2][0]
    assert (
        scene != uniform_prompt("lowlight")
        and "dark" in scene
        and scene.endswith("Nothing moves. Static image.")
    )
    assert QUICK.asked(None) == [uniform_prompt("resolution")]


def test_the_seed_decides_and_the_film_does_not(model: CogVideoX) -> None:
    clip = photo(40, 33)
    one = restorer(model).restore(clip, "sharp", FP32)
    same = restorer(model).restore(clip, "sharp", FP32, keep=False)
    other = restorer(model).restore(clip, "sharp", FP32, seed=6)
    assert torch.equal(one.result.frames, same.result.frames)
    assert not torch.allclose(one.result.frames, other.result.frames, atol=1e-3)
    assert one.provenance["method"].startswith("Progressive") and one.provenance["sampler"] == "dpm"
    told: list[float] = []
    restorer(model).restore(clip, "sharp", FP32, told.append)
    assert told[-1] == 1.0 and told == sorted(told)


def test_footage_and_samples_and_tiles_go_the_same_way(model: CogVideoX) -> None:
    clip = photo(48, 64, frames=2)
    settings = ProgressiveSettings(steps=1, guidance=1, samples=2)
    sure = restorer(model, settings).restore(clip, "sharp", FP32, confidence=True)
    assert sure.confidence is not None and sure.confidence.shape == (2, 1, 48, 64)
    streamed = list(restorer(model, settings).restore_stream(iter(clip.frames), "sharp", FP32))
    torch.testing.assert_close(torch.stack(streamed), sure.result.frames, atol=1e-6, rtol=0)
    wide = photo(32, 400)
    assert restorer(model, settings).num_tiles(32, 400, Plan(tile=64)) == 7
    tiled = restorer(model, settings).restore(wide, "sharp", FP32, tile=64)
    assert tiled.result.frames.shape == wide.frames.shape and tiled.provenance["tile"] == "64"


def test_sizes() -> None:
    settings = ProgressiveSettings()
    for size, canvas in (
        ((1436, 2152), (768, 1152)),
        ((768, 1360), (768, 1360)),
        ((1360, 768), (1360, 768)),
        ((300, 401), (304, 416)),
        ((2000, 2000), (768, 768)),
    ):
        fit = settings.fit(SMALL_1_5, *size)
        assert (fit.canvas_height, fit.canvas_width) == canvas
        assert fit.resized == (min(size) > 768 or max(size) > 1360)
    assert bounded_fit(1, 5000, 16, (768, 1360)).canvas_height == 16
    whole = ProgressiveSettings(large="whole").fit(SMALL_1_5, 1436, 2152)
    assert (whole.canvas_height, whole.canvas_width, whole.resized) == (1440, 2160, False)


def test_large_photos_in_tiles_keep_their_pixels(model: CogVideoX) -> None:
    tiles = restorer(model, ProgressiveSettings(large="tile"))
    assert tiles.num_tiles(3000, 4000, Plan()) == 6 * 8
    work = tiles.work(3000, 4000, Plan(device="cpu"))
    assert (work["canvas"], work["tiles"]) == ("4000x3008", 48)
    whole = restorer(model, ProgressiveSettings(large="whole"))
    with pytest.raises(UsageError, match="small can't do this: at most 2400x2400 can be seen at once"):
        whole.work(3000, 4000, Plan(device="cpu"))


def test_the_first_version_has_one_size(model: CogVideoX) -> None:
    torch.manual_seed(13)
    one = build_cogvideox(SMALL_1_0)
    small = restorer(one)
    assert small.restore(photo(50, 90), "sharp", FP32).result.frames.shape == (1, 3, 50, 90)
    with pytest.raises(UsageError, match="photos up to 96x64, not 96x65; make it smaller"):
        small.restore(photo(65, 96), "sharp", FP32)
    full = LatentRestorer(
        "full", I2V_5B, lambda device, dtype: one, Sentences(), ProgressiveSettings(frames=49)
    )
    with pytest.raises(UsageError, match="full can't do this: sides must be 720x480"):
        full.work(480, 720, Plan(tile=64, device="cpu"))


def test_the_vae_alone_is_the_ceiling(model: CogVideoX) -> None:
    clip = photo(64, 96)
    alone, company = (restorer(model).round_trip(clip, frames) for frames in (1, 9))
    assert alone.frames.shape == company.frames.shape == clip.frames.shape
    with pytest.raises(UsageError, match=r"8k . 1, not 5"):
        restorer(model).round_trip(clip, 5)


def test_a_film_goes_through_the_vae_as_one_clip(model: CogVideoX) -> None:
    film = photo(60, 90, frames=9).frames
    through = restorer(model).film_trip(film)
    fit = QUICK.fit(model.config, 60, 90)
    clip = fit.enter(film).transpose(0, 1)[None]
    expected = torch.cat(list(model.vae.decode(model.vae.encode(clip))), dim=2)[0].transpose(0, 1)
    assert through.shape == film.shape and expected.shape[0] == 9
    torch.testing.assert_close(through, fit.leave(expected), atol=1e-6, rtol=0)
    # Company counts: a frame of a film that changes is not what it is by itself.
    alone = restorer(model).round_trip(Clip(film[4:5])).frames
    assert float((alone - through[4:5]).abs().max()) > 1e-3
    with pytest.raises(UsageError, match=r"8k . 1, not 5"):
        restorer(model).film_trip(film[:5])


class Describing:
    """Sees a garden, always."""

    name = identity = "gardener"
    instructed = False

    def __call__(self, picture: Tensor, task: str) -> str:
        return "a garden with a white bench"


class Dancing(Describing):
    def __call__(self, picture: Tensor, task: str) -> str:
        return "a white bench that dances"


def test_task_and_captioner_can_be_chosen_and_are_told(model: CogVideoX) -> None:
    dark = Clip(photo(64, 96).frames * 0.1)
    for task in ("resolution", "blur", "lowlight"):
        settings = ProgressiveSettings(steps=1, guidance=1, words="uniform", task=task)
        assert settings.asked(None, dark.frames[0]) == settings.asked(None) == [uniform_prompt(task)]
    seeing = ProgressiveSettings(steps=1, guidance=1, task="blur", captioner=Describing())
    told = restorer(model, seeing).restore(dark, plan=FP32).provenance
    assert told["prompt"].startswith(
        "A garden with a white bench: the scene gradually becomes sharp as the blur"
    )
    assert told["prompt_source"] == "scene" and told["prompt_why"].startswith("gardener looked at the photo")
    assert "prompt_note" not in told
    own = restorer(model, seeing).restore(dark, "my own", FP32).provenance
    assert (own["prompt"], own["prompt_source"]) == ("my own", "user")
    fallen = ProgressiveSettings(steps=1, guidance=1, captioner=Dancing())
    told = restorer(model, fallen).restore(dark, plan=FP32).provenance
    assert told["prompt"] == uniform_prompt("lowlight") and "motion (“dances”)" in told["prompt_note"]
    with pytest.raises(ValueError, match="task must be one of auto, resolution, blur, lowlight, not 'rain'"):
        ProgressiveSettings(task="rain")  # type: ignore[arg-type]


def test_a_captioners_model_has_the_device_for_itself(
    model: CogVideoX, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device with its own memory the video model steps aside while a photo is looked at, and only then."""
    kept = KeptCaptions(Describing(), tmp_path)
    aside: list[object] = []
    monkeypatch.setattr(placement, "retreat", aside.append)
    settings = ProgressiveSettings(steps=1, guidance=1, task="blur", captioner=kept)
    one, dark = restorer(model, settings), photo(64, 96)
    one.restore(dark, plan=FP32)
    assert one._held is not None and aside == [] and kept.made == 1
    one._held = (torch.device("meta"), *one._held[1:])
    one.restore(dark, plan=FP32)
    assert aside == [] and kept.made == 1
    one._held, known = (torch.device("meta"), *one._held[1:]), one.placement
    one.restore(photo(65, 96), plan=FP32)
    assert aside == [model] and kept.made == 2
    # Stepping aside does not forget what ran out of memory.
    known._fallen = fallen = (object(), object())  # type: ignore[assignment]
    known.leave(model)
    assert known._fallen is fallen and known.plan is None


def test_from_a_folder_with_an_adapter(
    cogvideox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = load(cogvideox_folder, guidance=1.0)
    assert isinstance(base, LatentRestorer) and isinstance(base.settings, ProgressiveSettings)
    clip, plan = photo(48, 64), Plan(steps=1, dtype="fp32", device="cpu")
    plain = base.restore(clip, "it becomes sharp", plan).result.frames
    torch.manual_seed(1)
    trained = base._model(torch.device("cpu"), torch.float32).denoiser.model
    parameters = attach_lora(trained, LoraSettings(4, 2.0, PROGRESSIVE.targets), seed=0)
    save_adapter(trained, tmp_path / "zero.safetensors", {"model": "small"}, {})
    for parameter in parameters:
        parameter.data += 0.1 * torch.randn_like(parameter)
    save_adapter(trained, tmp_path / "some.safetensors", {"model": "small"}, {})
    zero, some = (
        load(cogvideox_folder, guidance=1.0, adapter=tmp_path / f"{name}.safetensors")
        for name in ("zero", "some")
    )
    assert torch.equal(zero.restore(clip, "it becomes sharp", plan).result.frames, plain)
    changed = some.restore(clip, "it becomes sharp", plan)
    assert float((changed.result.frames - plain).abs().max()) > 1e-3
    assert changed.provenance["adapter"].startswith("some.safetensors ")
    assert some.weights.sha256 != zero.weights.sha256 != base.weights.sha256


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"preset": "release"}, "no preset called 'release'; there is paper"),
        ({"shift": 5.0}, "no use for shift"),
        ({"drift": "gated"}, "no use for drift"),
        ({"guidance": 0.5}, "guidance must be at least 1"),
        ({"sampler": "euler"}, "sampler must be one of dpm, ddim"),
        ({"drift_adapter": "a.safetensors"}, "has no drift correction; leave --drift-adapter out"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    cogvideox_folder: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        load(cogvideox_folder, **settings)


def test_memory_is_planned_with_and_without_strips(cogvideox_folder: Path) -> None:
    clip, plan = photo(48, 64), Plan(steps=1, dtype="fp32", device="cpu")
    strips = load(cogvideox_folder, guidance=1.0, vae_tiles="on").work(clip.height, clip.width, plan)
    assert strips["memory"] == "resident, VAE in tiles of 1024"
    work = load(cogvideox_folder, steps=2).work(48, 64, Plan(device="cpu", dtype="fp32"))
    assert (work["memory"], work["evaluations"], work["canvas"]) == ("resident", 4, "64x48")
    peak = cogvideox_footprint(SMALL_1_5, (48, 64), 9, torch.float32)
    assert 0 < work["predicted_peak_gb"] <= 1e-8 * (peak.transformer + peak.vae + peak.decode + peak.denoise)


def test_a_lora_without_alpha_is_refused(
    cogvideox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = "transformer.transformer_blocks.0.attn1.to_q"
    save_file(
        {f"{name}.lora_A.weight": torch.zeros(4, 32), f"{name}.lora_B.weight": torch.zeros(32, 4)},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(ModelError, match="does not say its alpha"):
        load(cogvideox_folder, guidance=1.0, adapter=tmp_path / "a.safetensors")
