"""V-Bridge's whole way from clip to trajectory on small models of the real classes, against diffusers' pipeline."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL
from unfade.backbones.wan_folder import save_wan
from unfade.core import Clip, ModelError, Plan, UnfadeError, UsageError, generator
from unfade.core.clip import Metadata
from unfade.diffusion.sizes import padded_fit
from unfade.prompts.vbridge import NEGATIVE_PROMPT, PROMPT
from unfade.restore.latent import PAPER, RELEASE, LatentRestorer, VBridgeSettings
from unfade.restore.passes import noise_seed
from unfade.restore.walk import Walk

FP32 = Plan(dtype="fp32", device="cpu", seed=5)
QUICK = VBridgeSettings(frames=5, steps=2)


class Sentences:
    """Prompts as random vectors that depend on nothing but the prompt."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, prompts: Sequence[str], device: torch.device) -> list[Tensor]:
        self.asked.append(list(prompts))
        return [torch.randn(1, 7, 24, generator=generator(0, prompt)).to(device) for prompt in prompts]


@pytest.fixture(scope="module")
def wan() -> Wan:
    torch.manual_seed(11)
    return build_wan(SMALL)


def restorer(wan: Wan, settings: VBridgeSettings = QUICK, embed: Sentences | None = None) -> LatentRestorer:
    return LatentRestorer("small", wan.config, lambda device, dtype: wan, embed or Sentences(), settings)


def photo(height: int, width: int, frames: int = 1) -> Clip:
    return Clip(torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(height)))


def stock(pipeline: Any, image: Tensor, noise: Tensor, settings: VBridgeSettings) -> Tensor:
    """Frames `[T, 3, H, W]` of diffusers' pipeline for the same noise."""
    text, negative = Sentences()([PROMPT, NEGATIVE_PROMPT], torch.device("cpu"))
    return pipeline(
        image=image,
        height=image.shape[2],
        width=image.shape[3],
        num_frames=settings.frames,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        latents=noise,
        prompt_embeds=text,
        negative_prompt_embeds=negative,
        output_type="pt",
    ).frames[0]


@pytest.mark.parametrize("frames", [5, 9])
@pytest.mark.parametrize(("guidance", "steps"), [(1.0, 4), (5.0, 3)])
def test_the_film_is_the_pipelines(
    wan: Wan, stock_pipeline: Callable[[Wan], Any], frames: int, guidance: float, steps: int
) -> None:
    settings = VBridgeSettings(frames=frames, steps=steps, guidance=guidance)
    clip = photo(50, 90)
    way = restorer(wan, settings).restore(clip, plan=FP32).trajectory
    fit = padded_fit(50, 90, 32)
    dice = generator(noise_seed(5, clip.frames[0]), "vbridge")
    noise = torch.randn(1, *wan.config.latent_shape(frames, 64, 96), generator=dice)
    theirs = fit.leave(stock(stock_pipeline(wan), fit.enter(clip.frames), noise, settings))
    assert len(way) == frames == theirs.shape[0]
    assert float((theirs[-1] - theirs[0]).abs().mean()) > 1e-3
    for index in range(1, frames):
        torch.testing.assert_close(way[index].frames[0], theirs[index], atol=1e-5, rtol=0)


def test_the_way_begins_with_the_input_and_ends_with_the_result(wan: Wan) -> None:
    clip = photo(40, 33)
    restoration = restorer(wan).restore(clip, plan=FP32)
    way = restoration.trajectory
    assert way[0] is clip
    assert way.taus == (0, 0.25, 0.5, 0.75, 1)
    assert restoration.result is way[-1]
    for one in way:
        assert one.frames.shape == clip.frames.shape
        assert one.frames.dtype == torch.float32
        assert 0 <= float(one.frames.min()) <= float(one.frames.max()) <= 1
    assert len(list(restoration.film())) == 9


@pytest.mark.parametrize("size", [(1, 1), (7, 65), (64, 32)])
def test_any_size_comes_back_in_its_size(wan: Wan, size: tuple[int, int]) -> None:
    settings = VBridgeSettings(frames=5, steps=1, guidance=1)
    assert restorer(wan, settings).restore(photo(*size), plan=FP32).result.frames.shape == (1, 3, *size)


def test_above_2k_the_published_rule_resizes_and_the_other_does_not(wan: Wan) -> None:
    fit = restorer(wan).fit_for(1528, 2720)
    assert (fit.canvas_width, fit.canvas_height, fit.resized) == (2560, 1408, True)
    whole = restorer(wan, VBridgeSettings(large="whole")).fit_for(1528, 2720)
    assert (whole.canvas_width, whole.canvas_height, whole.resized) == (2720, 1536, False)
    settings = VBridgeSettings(frames=5, steps=1, guidance=1)
    wide = photo(20, 2600)
    restoration = restorer(wan, settings).restore(wide, plan=FP32)
    assert restoration.result.frames.shape == wide.frames.shape
    assert restoration.provenance["canvas"] == "2592x32, resized"


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        (VBridgeSettings(frames=5, steps=4, guidance=1), 4),
        (VBridgeSettings(frames=5, steps=4, guidance=5), 8),
        (VBridgeSettings(frames=5, steps=4, guidance=5, guidance_end=0.5), 6),
        (VBridgeSettings(frames=5, steps=4, guidance=5, guidance_begin=0.25, guidance_end=0.5), 5),
    ],
)
def test_work_is_counted_and_only_the_first_frame_is_encoded(
    wan: Wan, settings: VBridgeSettings, calls: int
) -> None:
    seen: list[int] = []

    def look(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].shape[2])

    before = wan.denoiser.calls, wan.vae.frames_encoded, wan.vae.frames_decoded
    hook = wan.vae.model.encoder.register_forward_pre_hook(look)
    restoration = restorer(wan, settings).restore(photo(32, 32), plan=FP32)
    hook.remove()
    after = wan.denoiser.calls, wan.vae.frames_encoded, wan.vae.frames_decoded
    assert [b - a for a, b in zip(before, after, strict=True)] == [calls, 1, 5]
    assert seen == [1]
    assert settings.evaluations == calls
    assert restoration.provenance["evaluations"] == str(calls)


def test_the_presets_are_the_published_ones() -> None:
    assert (PAPER.frames, PAPER.steps, PAPER.shift, PAPER.guidance) == (9, 50, 5.0, 5.0)
    assert PAPER.evaluations == 100
    assert replace(RELEASE, guidance=5.0, guidance_end=1.0) == PAPER
    assert RELEASE.guidance == 6.0
    assert RELEASE.evaluations == 93


def test_the_last_steps_of_the_release_run_without_the_negative_prompt(wan: Wan) -> None:
    texts: list[Tensor] = []

    def look(module: torch.nn.Module, given: tuple[object, ...], named: dict[str, Tensor]) -> None:
        texts.append(named["encoder_hidden_states"])

    hook = wan.denoiser.model.register_forward_pre_hook(look, with_kwargs=True)
    restorer(wan, replace(RELEASE, frames=5)).restore(photo(32, 32), plan=FP32)
    hook.remove()
    positive, negative = Sentences()([PROMPT, NEGATIVE_PROMPT], torch.device("cpu"))
    expected = [positive, negative] * 43 + [positive] * 7
    assert len(texts) == 93
    assert all(torch.equal(a, b) for a, b in zip(texts, expected, strict=True))


def test_guidance_may_begin_late(wan: Wan) -> None:
    texts: list[Tensor] = []

    def look(module: torch.nn.Module, given: tuple[object, ...], named: dict[str, Tensor]) -> None:
        texts.append(named["encoder_hidden_states"])

    settings = VBridgeSettings(frames=5, steps=5, guidance_begin=0.4, guidance_end=0.8)
    hook = wan.denoiser.model.register_forward_pre_hook(look, with_kwargs=True)
    told = restorer(wan, settings).restore(photo(32, 32), plan=FP32).provenance
    hook.remove()
    positive, negative = Sentences()([PROMPT, NEGATIVE_PROMPT], torch.device("cpu"))
    expected = [positive] * 2 + [positive, negative] * 2 + [positive]
    assert len(texts) == len(expected) == settings.evaluations
    assert all(torch.equal(a, b) for a, b in zip(texts, expected, strict=True))
    assert (told["guidance_begin"], told["guidance_end"]) == ("0.4", "0.8")


def test_the_licence_is_the_catalogs(wan: Wan) -> None:
    for name, licence in (("wan2.2-ti2v-5b", "Apache-2.0"), ("my-model", "unknown"), ("tiny", "unknown")):
        named = LatentRestorer(name, wan.config, lambda device, dtype: wan, Sentences(), QUICK)
        assert named.provenance(32, 32, None, FP32)["licence"] == licence


def test_a_result_alone_is_the_same_result(wan: Wan) -> None:
    clip = photo(40, 40)
    settings = VBridgeSettings(frames=9, steps=2)
    whole = restorer(wan, settings).restore(clip, plan=FP32)
    alone = restorer(wan, settings).restore(clip, plan=replace(FP32, keep=False))
    assert alone.trajectory.taus == (0, 1)
    assert alone.trajectory[0] is clip
    assert torch.equal(alone.result.frames, whole.result.frames)


def test_chunks_go_as_they_are_decoded(wan: Wan, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = type(wan.vae).decode
    alive: list[int] = []
    chunks: list[weakref.ref[Tensor]] = []

    def watched(self: object, latents: Tensor, last: bool) -> Iterator[Tensor]:
        made = decode(self, latents, last)  # type: ignore[arg-type]
        while True:
            alive.append(sum(chunk() is not None for chunk in chunks))
            held = list(islice(made, 1))
            if not held:
                return
            chunks.append(weakref.ref(held[0]))
            yield held.pop()

    monkeypatch.setattr(type(wan.vae), "decode", watched)
    restorer(wan, VBridgeSettings(frames=13, steps=1, guidance=1)).restore(
        photo(32, 32), plan=FP32, keep=False
    )
    assert len(chunks) == 4
    assert alive == [0] * 5


@pytest.mark.parametrize("keep", [True, False])
def test_a_vae_in_tiles_gives_as_many_frames(keep: bool) -> None:
    torch.manual_seed(11)
    tiled = build_wan(SMALL)
    tiled.vae.model.enable_tiling(64, 64, 32, 32)
    shares: list[float] = []
    restoration = restorer(tiled, VBridgeSettings(frames=9, steps=1, guidance=1)).restore(
        photo(96, 96), plan=FP32, keep=keep, progress=shares.append
    )
    assert len(restoration.trajectory) == (9 if keep else 2)
    assert shares[-1] == 1


def test_each_frame_of_footage_is_restored_as_it_would_be_alone_with_the_first_ones_noise(
    wan: Wan, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = photo(32, 40, frames=2)
    both = restorer(wan).restore(clip, plan=FP32)
    first = noise_seed(5, clip.frames[0])
    monkeypatch.setattr("unfade.restore.latent.noise_seed", lambda seed, photo: first)
    for index in range(2):
        alone = restorer(wan).restore(Clip(clip.frames[index : index + 1]), plan=FP32)
        for one, other in zip(both.trajectory, alone.trajectory, strict=True):
            assert torch.equal(one.frames[index], other.frames[0])


def test_the_seed_decides(wan: Wan) -> None:
    clip = photo(32, 32)
    one, two, three = (restorer(wan).restore(clip, plan=FP32, seed=seed).result.frames for seed in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_photos_of_one_size_have_noise_of_their_own(wan: Wan, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []
    frames = Walk.frames

    def watched(self: Walk, image: Tensor, noise: Tensor, dice: torch.Generator) -> Iterator[Tensor]:
        drawn.append(noise)
        return frames(self, image, noise, dice)

    monkeypatch.setattr(Walk, "frames", watched)
    one = photo(32, 40)
    other = Clip(one.frames.flip(-1))
    # One after the other by one restorer, as in a folder, and alone.
    folder, alone = restorer(wan), restorer(wan)
    for clip in (one, other, one):
        folder.restore(clip, plan=FP32)
    alone.restore(other, plan=FP32)
    list(alone.restore_stream(iter(one.frames), plan=FP32))
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[2], drawn[0]) and torch.equal(drawn[3], drawn[1])
    assert torch.equal(drawn[4], drawn[0])


def test_the_seed_of_noise_is_of_the_plans_and_of_what_the_photo_shows() -> None:
    dark = torch.full((3, 4, 6), 0.25)
    seeds = {
        noise_seed(5, dark),
        noise_seed(6, dark),
        noise_seed(5, dark + 0.1),
        noise_seed(5, dark.reshape(3, 6, 4)),
    }
    assert len(seeds) == 4
    # Decoders may differ in the last bits.
    assert noise_seed(5, dark + 1e-5) == noise_seed(5, dark)
    assert noise_seed(5, torch.zeros(3, 2, 2)) == 5516821093358945850


def test_a_wish_is_added_and_no_guidance_asks_for_no_negative(wan: Wan) -> None:
    embed = Sentences()
    plain = restorer(wan, QUICK, embed).restore(photo(32, 32), plan=FP32)
    wished = restorer(wan, QUICK, embed).restore(photo(32, 32), " keep the grain ", plan=FP32)
    restorer(wan, replace(QUICK, guidance=1.0), embed).restore(photo(32, 32), plan=FP32)
    assert embed.asked == [
        [PROMPT, NEGATIVE_PROMPT],
        [f"{PROMPT} keep the grain", NEGATIVE_PROMPT],
        [PROMPT],
    ]
    assert not torch.equal(plain.result.frames, wished.result.frames)
    assert wished.provenance["prompt"] == f"{PROMPT} keep the grain"


def test_progress_rises_to_one(wan: Wan) -> None:
    shares: list[float] = []
    restorer(wan).restore(photo(32, 32, frames=2), plan=FP32, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == 2 * (2 + 2)


def test_scale_enlarges_first(wan: Wan) -> None:
    assert restorer(wan).restore(photo(20, 30), plan=FP32, scale=2).result.frames.shape == (1, 3, 40, 60)


def test_grey_stays_grey_and_the_invisible_stays(wan: Wan) -> None:
    grey = torch.rand(1, 1, 32, 32).expand(1, 3, 32, 32)
    result = restorer(wan).restore(Clip(grey, metadata=Metadata(colour="grey")), plan=FP32).result.frames
    assert torch.equal(result[:, 0], result[:, 1])
    alpha = torch.ones(1, 1, 32, 32)
    alpha[..., :10] = 0
    clip = replace(photo(32, 32), alpha=alpha)
    result = restorer(wan).restore(clip, plan=FP32).result
    assert torch.equal(result.frames[..., :10], clip.frames[..., :10])
    assert not torch.equal(result.frames[..., 10:], clip.frames[..., 10:])


def test_provenance_says_how(wan: Wan) -> None:
    told = restorer(wan).restore(photo(50, 40), plan=FP32).provenance
    assert all(isinstance(value, str) for value in told.values())
    expected = {
        "model": "small",
        "weights": "random",
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE_PROMPT,
        "frames": "5",
        "steps": "2",
        "shift": "5",
        "guidance": "5",
        "guidance_begin": "0",
        "guidance_end": "1",
        "licence": "unknown",
        "canvas": "64x64, padded",
        "seed": "5",
        "dtype": "float32",
        "vae_dtype": "float32",
    }
    assert {name: told[name] for name in expected} == expected


def test_from_a_folder_with_its_text_encoder_once(wan: Wan, tmp_path: Path) -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    folder, cache = tmp_path / "model", tmp_path / "prompts"
    save_wan(wan, folder)
    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "restoration": 3}
    _save_tokenizer(folder / "tokenizer", words)
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=4, d_model=24, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    loaded = LatentRestorer.of_folder(folder, QUICK, cache)
    first = loaded.restore(photo(32, 32), plan=FP32)
    kept = sorted(path.name for path in cache.iterdir())
    assert len([name for name in kept if name.endswith(".safetensors")]) == 2
    (folder / "text_encoder" / "model.safetensors").unlink()
    again = LatentRestorer.of_folder(folder, QUICK, cache).restore(photo(32, 32), plan=FP32)
    assert torch.equal(first.result.frames, again.result.frames)
    assert first.provenance["model"] == "model"
    assert len(first.provenance["weights"]) == 64
    half = loaded.restore(photo(32, 32), plan=replace(FP32, dtype="bf16"))
    assert half.provenance["dtype"] == "bfloat16"
    assert float((half.result.frames - first.result.frames).abs().mean()) < 0.02


def _save_tokenizer(path: Path, words: dict[str, int]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(path)


def test_what_can_not_be_done_is_one_sentence(wan: Wan, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="frames must be 4k"):
        restorer(wan, VBridgeSettings(frames=8)).restore(photo(32, 32), plan=FP32)
    with pytest.raises(UsageError, match="dtype"):
        restorer(wan).restore(photo(32, 32), dtype="int8")
    with pytest.raises(ModelError, match="no model folder"):
        LatentRestorer.of_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", 1),
        ("steps", 0),
        ("shift", 0.0),
        ("guidance", 0.5),
        ("guidance_end", 1.5),
        ("guidance_begin", -0.1),
        ("guidance_begin", "0"),
        ("large", "floor"),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"must be|is above 0|is at least|share"):
        VBridgeSettings(**{field: value})  # type: ignore[arg-type]


def test_an_answer_that_is_no_number_is_an_error() -> None:
    torch.manual_seed(0)
    wan = build_wan(SMALL)
    torch.nn.init.constant_(wan.denoiser.model.proj_out.weight, float("nan"))
    with pytest.raises(UnfadeError, match="not a number; try --dtype fp32"):
        restorer(wan).restore(photo(32, 32), plan=FP32)
