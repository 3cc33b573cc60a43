"""CogVideoX's parts: layouts, scales, sizes and costs as data, folders, prompts, and the published models on meta."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unfade.backbones.cogvideox import CogVideoX, build_cogvideox
from unfade.backbones.cogvideox_config import (
    I2V_1_5_5B,
    I2V_5B,
    SMALL_1_0,
    SMALL_1_5,
    SMALL_T2V,
    CogVideoXConfig,
)
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, padded_in_front, velocity
from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox, save_cogvideox
from unfade.backbones.cogvideox_memory import choose_cogvideox_plan, cogvideox_footprint
from unfade.backbones.placement import apply_memory_plan
from unfade.backbones.prompt_embeddings import T5, PromptEmbeddings
from unfade.core import ModelError


@pytest.fixture(scope="module")
def small() -> CogVideoX:
    torch.manual_seed(2)
    return build_cogvideox(SMALL_1_5)


def told(dice: torch.Generator) -> CogVideoXCondition:
    return CogVideoXCondition(
        torch.randn(1, 4, 1, 8, 12, generator=dice), torch.randn(1, 12, 24, generator=dice)
    )


def test_counts_of_the_published_model_are_those_of_the_specification() -> None:
    model = build_cogvideox(I2V_1_5_5B, "meta").denoiser.model
    assert I2V_1_5_5B.latent_shape(9, 768, 1360) == (16, 4, 96, 170)
    assert (I2V_1_5_5B.tokens(9, 768, 1360), I2V_1_5_5B.tokens(81, 768, 1360)) == (8160, 44_880)
    assert sum(one.numel() for one in model.parameters()) / 1e9 == pytest.approx(5.57, abs=0.005)
    assert (I2V_1_5_5B.frame_rule, I2V_1_5_5B.size_multiple, I2V_1_5_5B.text_tokens) == ((8, 1), 16, 226)
    assert (I2V_5B.only, I2V_5B.tokens(49, 480, 720)) == ((49, 480, 720), 13 * 30 * 45)


def test_the_photos_scale_is_one_number_and_not_the_clips() -> None:
    assert I2V_1_5_5B.latent_scale == I2V_5B.latent_scale == I2V_5B.image_scale == 0.7
    assert I2V_1_5_5B.image_scale == pytest.approx(1 / 0.7)
    assert I2V_1_5_5B.image_scale / I2V_1_5_5B.latent_scale == pytest.approx(2.04, abs=0.005)


def test_what_is_encoded_has_the_declared_scale(small: CogVideoX) -> None:
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    clip = image.unsqueeze(2)
    torch.testing.assert_close(
        small.vae.encode_image(image) / small.config.image_scale,
        small.vae.encode(clip) / small.config.latent_scale,
    )
    assert small.vae.frames_encoded == 2


def test_the_first_latent_goes_in_front_and_comes_off_there(small: CogVideoX) -> None:
    latents = torch.randn(1, 4, 3, 8, 12)
    padded = padded_in_front(latents, small.config.padding(9))
    assert padded.shape == (1, *small.config.latent_shape(9, 64, 96))
    assert torch.equal(padded[:, :, 0], latents[:, :, 0]) and torch.equal(padded[:, :, 1:], latents)
    condition = told(torch.Generator().manual_seed(0))
    assert torch.equal(small.finished(padded, condition), latents)
    one = build_cogvideox(SMALL_1_0)
    assert one.config.padding(9) == 0 and torch.equal(one.finished(latents, condition), latents)


@pytest.mark.parametrize("config", [SMALL_1_0, SMALL_1_5])
def test_photo_and_offset_reach_the_transformer_where_they_belong(config: CogVideoXConfig) -> None:
    model = build_cogvideox(config)
    seen: list[dict[str, Any]] = []
    model.denoiser.model.register_forward_pre_hook(
        lambda module, given, named: seen.append(named), with_kwargs=True
    )
    dice = torch.Generator().manual_seed(0)
    condition = told(dice)
    x = torch.randn(1, *config.latent_shape(9, 64, 96), generator=dice)
    model.denoiser(x, 321.0, condition)
    given = seen[0]["hidden_states"]
    assert torch.equal(given[:, :, :4], x.transpose(1, 2))
    assert torch.equal(given[:, 0, 4:], condition.image[:, :, 0]) and not given[:, 1:, 4:].any()
    assert seen[0]["timestep"].tolist() == [321.0]
    if config is SMALL_1_5:
        assert seen[0]["ofs"].tolist() == [2.0]
    else:
        assert seen[0]["ofs"] is None


def test_the_condition_speaks_of_a_window() -> None:
    condition = told(torch.Generator().manual_seed(0))
    window = condition.crop(2, 4, 3, 2)
    assert torch.equal(window.image, condition.image[..., 2:5, 4:6]) and window.text is condition.text


def test_remembered_positions_change_nothing(small: CogVideoX) -> None:
    dice = torch.Generator().manual_seed(0)
    condition, x = told(dice), torch.randn(1, 4, 4, 8, 12, generator=dice)
    plain = small.denoiser(x, 500, condition)
    with small.denoiser.remembering():
        assert all(torch.equal(small.denoiser(x, 500, condition), plain) for _ in range(2))


def test_training_goes_through_the_same_prediction(small: CogVideoX) -> None:
    dice = torch.Generator().manual_seed(0)
    condition, x = told(dice), torch.randn(1, 4, 4, 8, 12, generator=dice)
    model = build_cogvideox(SMALL_1_5).denoiser.model.requires_grad_(True)
    velocity(model, x, torch.tensor([500]), condition).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    learning = small.denoiser.model
    torch.testing.assert_close(
        velocity(learning, x, torch.tensor([500]), condition), small.denoiser(x, 500, condition)
    )


def test_decoding_chunk_by_chunk_is_decoding(small: CogVideoX) -> None:
    latents = torch.randn(1, 4, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    chunks = list(small.vae.decode(latents))
    assert [chunk.shape[2] for chunk in chunks] == [9, 8]
    with torch.no_grad():
        whole = small.vae.model.decode(latents / small.config.latent_scale).sample
    expected = (whole * 0.5 + 0.5).clamp(0, 1)
    torch.testing.assert_close(torch.cat(chunks, dim=2), expected, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="odd number"):
        next(small.vae.decode(latents[:, :, :4]))


@pytest.mark.parametrize(
    ("config", "size", "said"),
    [
        (I2V_1_5_5B, (8, 768, 1360), "8k . 1, not 8"),
        (I2V_1_5_5B, (13, 768, 1360), "8k . 1, not 13"),
        (I2V_1_5_5B, (9, 768, 1352), "multiples of 16"),
        (I2V_1_5_5B, (9, 2416, 2416), "at most 2400x2400 can be seen at once"),
        (I2V_5B, (9, 480, 720), "frames must be 49"),
        (I2V_5B, (49, 720, 480), "sides must be 720x480, not 480x720"),
    ],
)
def test_other_sizes_are_refused(config: CogVideoXConfig, size: tuple[int, int, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config.tokens(*size)


@pytest.mark.parametrize("config", [SMALL_1_0, SMALL_1_5, I2V_1_5_5B])
def test_arithmetic_is_what_is_counted(config: CogVideoXConfig) -> None:
    size = config.only or (9, 64, 96)
    model = build_cogvideox(config, "meta")
    x = torch.empty(1, *config.latent_shape(*size), device="meta")
    text = torch.empty(1, config.text_tokens, config.transformer["text_embed_dim"], device="meta")
    condition = CogVideoXCondition(x[:, :, :1], text)
    with FlopCounterMode(display=False) as counted:
        model.denoiser(x, 500, condition)
    assert counted.get_total_flops() == config.forward_flops(config.tokens(*size))


def test_models_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"takes 48 and gives 16 channels.*image-to-video"):
        CogVideoXConfig({**I2V_1_5_5B.transformer, "in_channels": 48}, I2V_1_5_5B.vae, {})
    save_cogvideox(build_cogvideox(SMALL_T2V), tmp_path / "text")
    save_cogvideox(build_cogvideox(SMALL_1_5), tmp_path / "photo")
    with pytest.raises(ModelError, match=r"sees no photo.*\(CogVideoX1.5-5B-I2V\)"):
        open_cogvideox(tmp_path / "text")
    with pytest.raises(ModelError, match="can't be controlled: it is an image-to-video model"):
        open_cogvideox(tmp_path / "photo", sees_photo=False)
    for name in ("text", "photo"):
        assert open_cogvideox(tmp_path / name, None).config.sees_photo == (name == "photo")
    with pytest.raises(ValueError, match="positions"):
        no_rotary = {**I2V_1_5_5B.transformer, "use_rotary_positional_embeddings": False}
        CogVideoXConfig(no_rotary, I2V_1_5_5B.vae, {})


@pytest.mark.parametrize("config", [SMALL_1_0, SMALL_1_5])
def test_a_folder_is_written_and_read_back(config: CogVideoXConfig, tmp_path: Path) -> None:
    torch.manual_seed(4)
    model = build_cogvideox(config)
    save_cogvideox(model, tmp_path / "small")
    folder = open_cogvideox(tmp_path / "small")
    back = load_cogvideox(folder, torch.float32)
    dice = torch.Generator().manual_seed(0)
    condition, x = told(dice), torch.randn(1, *config.latent_shape(9, 64, 96), generator=dice)
    torch.testing.assert_close(back.denoiser(x, 500, condition), model.denoiser(x, 500, condition))
    assert torch.equal(
        back.vae.encode(torch.ones(1, 3, 1, 16, 16)), model.vae.encode(torch.ones(1, 3, 1, 16, 16))
    )
    assert back.provenance == {"model": "small", "weights": folder.sha256()}


def test_a_broken_folder_is_one_sentence(cogvideox_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(cogvideox_folder, tmp_path / "copy"))
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match="truncated or damaged"):
        open_cogvideox(copy)
    text = (copy / "transformer" / "config.json").read_text()
    (copy / "transformer" / "config.json").write_text(text.replace('"in_channels": 8', '"in_channels": 4'))
    with pytest.raises(ModelError, match="can't restore: it is a text-to-video model"):
        open_cogvideox(copy)


def test_prompts_are_embedded_as_the_pipeline_does(cogvideox_folder: Path, tmp_path: Path) -> None:
    from diffusers import CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline
    from transformers import AutoTokenizer, T5EncoderModel

    model = load_cogvideox(open_cogvideox(cogvideox_folder), torch.float32)
    stock = CogVideoXImageToVideoPipeline(
        tokenizer=AutoTokenizer.from_pretrained(cogvideox_folder / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(cogvideox_folder / "text_encoder").eval(),
        vae=model.vae.model,
        transformer=model.denoiser.model,
        scheduler=CogVideoXDPMScheduler(),
    )
    prompt = "The  dark image becomes bright. Nothing moves. Static image."
    embed = PromptEmbeddings(cogvideox_folder, tmp_path, 12, torch.float32, T5)
    with torch.no_grad():
        theirs = stock.encode_prompt(prompt, max_sequence_length=12)
    ours = embed([prompt, ""], torch.device("cpu"))
    again = embed([prompt, ""], torch.device("cpu"))
    for one, kept, expected in zip(ours, again, theirs, strict=True):
        torch.testing.assert_close(one, expected)
        assert torch.equal(kept, one)
    assert embed.loads == 1


def test_memory_plans_of_the_published_model() -> None:
    cost = cogvideox_footprint(I2V_1_5_5B, (768, 1360), 9)
    assert cost.transformer == cost.around + 42 * cost.block
    assert cost.transformer / 1e9 == pytest.approx(11.14, abs=0.02)
    plenty, scarce = (choose_cogvideox_plan(cost, free) for free in (int(140e9), int(14e9)))
    assert (plenty.weights, plenty.fits) == ("resident", True)
    # The VAE decodes the whole, which decides; so bringing block after block would gain nothing.
    assert (scarce.weights, scarce.phase) == ("offload", "decode") and scarce.peak < plenty.peak
    group = choose_cogvideox_plan(cost, int(14e9), "group")
    assert group.weights == "group" and group.denoise < scarce.denoise < plenty.denoise
    assert choose_cogvideox_plan(cost, int(140e9), "offload").weights == "offload"
    fp8 = choose_cogvideox_plan(cost, int(140e9), "fp8")
    assert fp8.weights == "fp8" and cost.fp8 / 1e9 == pytest.approx(6.4, abs=0.1)
    assert group.denoise < fp8.denoise < scarce.denoise
    # It changes results, so it is never chosen unasked.
    assert all(choose_cogvideox_plan(cost, int(free)).weights != "fp8" for free in (140e9, 14e9, 1e9))


def test_fp8_halves_the_blocks_and_stays_close() -> None:
    torch.manual_seed(6)
    model = build_cogvideox(SMALL_1_5, dtype=torch.bfloat16)
    dice = torch.Generator().manual_seed(0)
    condition, x = told(dice), torch.randn(1, 4, 4, 8, 12, generator=dice)
    expected = model.denoiser(x, 500, condition).float()
    cost = cogvideox_footprint(SMALL_1_5, (64, 96), 9)
    apply_memory_plan(model, choose_cogvideox_plan(cost, int(1e12), "fp8"), torch.device("cpu"))  # type: ignore[arg-type]
    transformer = model.denoiser.model
    stored = {
        name.partition("blocks.0.")[2]
        for name, one in transformer.named_parameters()
        if one.dtype == torch.float8_e4m3fn
    }
    layers = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2")
    assert {name.rpartition(".")[0] for name in stored} - {""} == set(layers)
    held = (*transformer.parameters(), *transformer.buffers())
    assert sum(one.numel() * one.itemsize for one in held) == cost.fp8
    found = model.denoiser(x, 500, condition).float()
    assert not torch.equal(found, expected)
    assert float((found - expected).abs().mean() / expected.std()) < 0.05


@pytest.mark.parametrize("weights", ["resident", "offload", "group"])
def test_wherever_weights_wait_the_answer_is_the_same(weights: Any) -> None:
    torch.manual_seed(6)
    model = build_cogvideox(SMALL_1_5)
    dice = torch.Generator().manual_seed(0)
    condition, x = told(dice), torch.randn(1, 4, 4, 8, 12, generator=dice)
    image = torch.rand(1, 3, 64, 96, generator=dice)
    before = model.denoiser(x, 500, condition), model.vae.encode_image(image)
    cost = cogvideox_footprint(SMALL_1_5, (64, 96), 9, torch.float32)
    plan = choose_cogvideox_plan(cost, int(1e12), weights)
    apply_memory_plan(model, plan, torch.device("cpu"))  # type: ignore[arg-type]
    assert torch.equal(model.denoiser(x, 500, condition), before[0])
    assert torch.equal(model.vae.encode_image(image), before[1])
