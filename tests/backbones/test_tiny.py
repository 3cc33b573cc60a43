"""The network at its real shape but small: contracts, reach, prompts, files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unfade.backbones.catalog import CATALOG
from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny, TinyConfig, thumbnail_of
from unfade.backbones.tiny_denoiser import TinyCondition, TinyDenoiser
from unfade.backbones.tiny_weights import LIMIT, load_tiny, save_tiny
from unfade.backbones.words import WordEncoder, hashed, read_words
from unfade.core import ModelError, UnfadeError
from unfade.diffusion import tiled

SMALL = TinyConfig(widths=(8, 16, 24), blocks=(1, 1, 1), skills=(3, 2, 2), context=16, buckets=64)


def awake(config: TinyConfig = SMALL, seed: int = 0) -> Tiny:
    """A network whose zero-initialised layers have something to say."""
    torch.manual_seed(seed)
    model = Tiny(config)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def predict(model: Tiny, degraded: torch.Tensor, prompt: str | None = None, tau: float = 0.0) -> torch.Tensor:
    with torch.inference_mode():
        context = model.context(thumbnail_of(degraded), [prompt] * len(degraded))
        return model(degraded, torch.full((len(degraded),), tau), degraded, context, spectrum_of(degraded))


def test_an_untrained_network_changes_nothing() -> None:
    x = torch.rand(2, 3, 32, 40)
    torch.testing.assert_close(predict(Tiny(SMALL).eval(), x), x)


def test_the_catalog_tells_the_truth() -> None:
    model = Tiny()
    info = CATALOG["tiny"]
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count <= 8_000_000
    assert info.parameters == pytest.approx(count, rel=0.001)
    assert info.halo == model.config.halo


def test_a_pixel_reaches_no_farther_than_declared() -> None:
    model = awake()
    size = 4 * SMALL.reach
    x = torch.rand(1, 3, size, size, requires_grad=True)
    context = model.context(torch.rand(1, 3, 32, 32), [None]).detach()
    row = size // 2
    spectrum = spectrum_of(torch.rand(1, 3, 64, 64))
    model(x, torch.zeros(1), x, context, spectrum)[0, :, row, row].sum().backward()
    assert x.grad is not None
    touched = x.grad[0].abs().amax(0).nonzero()
    reach = int((touched - row).abs().max())
    assert SMALL.reach // 2 <= reach <= SMALL.reach


@pytest.mark.parametrize("halo", [0, SMALL.reach], ids=["computed whole", "only what is wanted"])
@pytest.mark.parametrize("size", [(200, 264), (203, 261)])
def test_tiles_equal_the_whole(size: tuple[int, int], halo: int) -> None:
    model = awake()
    denoiser = TinyDenoiser(model, torch.device("cpu"), torch.float32)
    degraded = torch.rand(1, 3, *size)
    context = model.context(thumbnail_of(degraded), ["brighten it"]).detach()
    condition = TinyCondition(degraded, context, spectrum_of(degraded), halo)
    whole = denoiser(degraded, 0.0, condition)
    parts = tiled(denoiser, 64, SMALL.reach, 8)(degraded, 0.0, condition)
    torch.testing.assert_close(parts, whole, atol=2e-5, rtol=0)


def test_prompt_time_and_thumbnail_all_matter() -> None:
    model = awake()
    x = torch.rand(1, 3, 32, 32)
    blind = predict(model, x)
    assert not torch.equal(predict(model, x, "remove the noise"), blind)
    assert not torch.equal(predict(model, x, tau=0.5), blind)
    with torch.inference_mode():
        other = model.context(torch.zeros(1, 3, 32, 32), [None])
        assert not torch.equal(model(x, torch.zeros(1), x, other, spectrum_of(x)), blind)


@pytest.mark.parametrize("prompt", ["", "   ", "!?…", None])
def test_a_prompt_without_words_is_no_prompt(prompt: str | None) -> None:
    encoder = WordEncoder(64, 16)
    assert not encoder([prompt]).any()


@pytest.mark.parametrize("prompt", ["brighten " * 10_000, "去除噪声", "Удали шум", "\x00\ud83d\ude00 noise"])
def test_any_prompt_is_read_without_a_crash(prompt: str) -> None:
    assert len(hashed(prompt, 64)) <= 128
    assert torch.isfinite(WordEncoder(64, 16)([prompt])).all()


def test_word_order_and_neighbours_count() -> None:
    assert set(hashed("keep the noise", 2048)) != set(hashed("the noise keep", 2048))


def test_what_is_to_stay_is_read_apart_from_what_is_to_go() -> None:
    assert read_words("Remove the noise, keep the haze.") == [
        "remove",
        "the",
        "noise",
        "~keep",
        "~the",
        "~haze",
    ]
    assert read_words("without touching the grain: brighten it")[-2:] == ["brighten", "it"]
    assert read_words("don't remove the rain")[0].startswith("~")
    one, other = ("remove the noise, keep the haze", "remove the haze, keep the noise")
    assert len(set(hashed(one, 2048)) & set(hashed(other, 2048))) < 0.6 * len(set(hashed(one, 2048)))


def test_batched_equals_one_by_one() -> None:
    model = awake()
    x = torch.rand(3, 3, 32, 32)
    together = predict(model, x)
    apart = torch.cat([predict(model, one) for one in x.split(1)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_bf16_stays_close_to_fp32() -> None:
    degraded = torch.rand(1, 3, 64, 64)
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        model = awake()
        context = model.context(thumbnail_of(degraded), [None]).detach()
        denoiser = TinyDenoiser(model, torch.device("cpu"), dtype)
        answers.append(denoiser(degraded, 0.0, TinyCondition(degraded, context, spectrum_of(degraded))))
    assert float((answers[0] - answers[1]).abs().mean()) < 2e-3


def test_a_network_gone_mad_is_an_error_not_a_picture() -> None:
    model = awake()
    torch.nn.init.constant_(model.leave.weight, float("nan"))
    denoiser = TinyDenoiser(model, torch.device("cpu"), torch.float32)
    degraded = torch.rand(1, 3, 16, 16)
    context = model.context(thumbnail_of(degraded), [None]).detach()
    with pytest.raises(UnfadeError, match="not a number"):
        denoiser(degraded, 0.0, TinyCondition(degraded, context, spectrum_of(degraded)))


def test_weights_come_back_as_bf16_and_fit(tmp_path: Path) -> None:
    model = awake()
    path = tmp_path / "some.safetensors"
    save_tiny(model, model.state_dict(), path, {"steps": "7"})
    loaded = load_tiny(path)
    assert loaded.notes == {"steps": "7"}
    assert loaded.model.config == SMALL
    assert path.stat().st_size < LIMIT
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].bfloat16().float())


def damaged(path: Path, how: str) -> Path:
    model = awake()
    save_tiny(model, model.state_dict(), path, {})
    data = bytearray(path.read_bytes())
    if how == "cut":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = bytearray()
    elif how == "header":
        data[3] ^= 0xFF
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("how", ["cut", "empty", "header"])
def test_damaged_weights_are_refused_by_name(tmp_path: Path, how: str) -> None:
    with pytest.raises(ModelError, match=r"broken\.safetensors is damaged"):
        load_tiny(damaged(tmp_path / "broken.safetensors", how))


def test_pickles_and_missing_files_are_refused(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="never opened"):
        load_tiny(tmp_path / "weights.pt")
    with pytest.raises(ModelError, match="no model file"):
        load_tiny(tmp_path / "absent.safetensors")


def test_the_network_needs_only_bare_pytorch() -> None:
    import subprocess
    import sys

    code = (
        "import sys; import unfade.recipes.tiny_gpu, unfade.training.tiny, unfade.backbones.tiny_denoiser; "
        "bad = {'diffusers', 'av', 'pyvips', 'typer', 'rich'} & set(sys.modules); "
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_later_answer_follows_a_share_of_its_correction(tmp_path: Path) -> None:
    whole = awake()
    part = awake(replace(SMALL, later=0.25))
    x = torch.rand(1, 3, 32, 40)
    torch.testing.assert_close(predict(part, x), predict(whole, x))
    # Where state and degraded photo are one, so is the earlier answer.
    torch.testing.assert_close(predict(part, x, tau=0.5) - x, 0.25 * (predict(whole, x, tau=0.5) - x))
    save_tiny(part, part.state_dict(), tmp_path / "part.safetensors", {})
    assert load_tiny(tmp_path / "part.safetensors").model.config.later == 0.25
