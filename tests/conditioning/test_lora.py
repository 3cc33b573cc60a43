"""Adapters on small Wan transformers of the real class."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.backbones.wan import build_wan
from unfade.backbones.wan_config import SMALL, TI2V_5B, WanConfig
from unfade.backbones.wan_denoiser import token_times
from unfade.conditioning.lora import (
    LoraSettings,
    attach_lora,
    load_adapter,
    save_adapter,
    settings_of,
    use_adapter,
)
from unfade.core import ModelError

RANK4 = LoraSettings(rank=4, alpha=2.0)


def transformer(config: WanConfig = SMALL, seed: int = 3):
    torch.manual_seed(seed)
    return build_wan(config).denoiser.model


def answer(model) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    latents = torch.randn(1, 8, 2, 4, 4, generator=generator)
    text = torch.randn(1, 5, 24, generator=generator)
    with torch.no_grad():
        return model(latents, token_times(latents, (1, 2, 2), 700.0), text, return_dict=False)[0]


def stirred(parameters: list[torch.nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in parameters:
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def test_a_new_adapter_changes_nothing_and_is_all_that_learns() -> None:
    model = transformer()
    before = answer(model)
    trained = attach_lora(model, RANK4, seed=0)
    assert torch.equal(answer(model), before)
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in trained}
    # Two attentions of four layers each and a feed-forward of two, in two blocks, two matrices each.
    assert len(trained) == (2 * 4 + 2) * 2 * 2


def test_the_seed_decides_and_the_dtype_does_not() -> None:
    one, same, other = (attach_lora(transformer(), RANK4, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])
    half = attach_lora(transformer().to(torch.bfloat16), RANK4, 0)
    assert all(a.dtype == torch.float32 and torch.equal(a, b) for a, b in zip(half, one, strict=True))


def test_a_saved_adapter_comes_back_and_can_be_switched(tmp_path: Path) -> None:
    model = transformer()
    base = answer(model)
    stirred(attach_lora(model, RANK4, seed=0))
    adapted = answer(model)
    assert not torch.allclose(adapted, base, atol=1e-4)
    path = tmp_path / "adapter.safetensors"
    save_adapter(model, path, {"model": "small"}, {"steps": "2"}, role="drift-correction")

    fresh = transformer()
    told = load_adapter(fresh, path, "second")
    assert (told["role"], told["base.model"], told["notes.steps"]) == ("drift-correction", "small", "2")
    assert torch.equal(answer(fresh), adapted)
    assert not any(parameter.requires_grad for parameter in fresh.parameters())
    load_adapter(fresh, path, "third")
    use_adapter(fresh, None)
    assert torch.equal(answer(fresh), base)
    use_adapter(fresh, "second")
    assert torch.equal(answer(fresh), adapted)
    assert not any(parameter.requires_grad for parameter in fresh.parameters())


def test_a_second_adapter_learns_alone(tmp_path: Path) -> None:
    model = transformer()
    first = attach_lora(model, RANK4, seed=0)
    second = attach_lora(model, RANK4, seed=0, name="drift-correction")
    assert not any(parameter.requires_grad for parameter in first)
    assert all(parameter.requires_grad for parameter in second)


def test_diffusers_reads_our_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = transformer()
    stirred(attach_lora(model, LoraSettings(rank=4, alpha=4.0), seed=0))
    save_adapter(model, tmp_path / "a.safetensors", {}, {})
    theirs = transformer()
    theirs.load_lora_adapter(load_file(tmp_path / "a.safetensors"), prefix="transformer")
    torch.testing.assert_close(answer(theirs), answer(model), atol=1e-6, rtol=1e-5)


def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    model = transformer()
    attach_lora(model, RANK4, seed=0)
    path = tmp_path / "adapter.safetensors"
    save_adapter(model, path, {"model": "small"}, {})

    wider = WanConfig({**SMALL.transformer, "ffn_dim": 32}, SMALL.vae, SMALL.scheduler)
    with pytest.raises(ModelError, match=r"another base \(small\)"):
        load_adapter(transformer(wider), path)
    short = tmp_path / "short.safetensors"
    short.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="truncated"):
        load_adapter(transformer(), short)
    pickle = tmp_path / "old.pt"
    torch.save({"a": torch.zeros(1)}, pickle)
    with pytest.raises(ModelError, match="pickles are never opened"):
        load_adapter(transformer(), pickle)
    with pytest.raises(ModelError, match="can't be opened"):
        load_adapter(transformer(), tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match="no layer of the model is called to_x"):
        attach_lora(transformer(), LoraSettings(targets=("to_q", "to_x")), 0)
    with pytest.raises(ModelError, match="carries no adapter called 'other'; there is restore"):
        use_adapter(model, "other")
    use_adapter(transformer(), None)


def test_the_same_sizes_with_other_weights_are_another_base(tmp_path: Path) -> None:
    model = transformer()
    attach_lora(model, RANK4, seed=0)
    path = tmp_path / "adapter.safetensors"
    save_adapter(model, path, {"model": "small", "weights": "a" * 64}, {})
    with pytest.raises(
        ModelError, match=r"another base \(small, whose files have the hash a{12} and not b{12}\)"
    ):
        load_adapter(transformer(seed=4), path, base={"weights": "b" * 64})
    # The same files in another precision are the same base, and so is what nobody knows the files of.
    half = transformer().to(torch.bfloat16)
    told = load_adapter(half, path, base={"weights": "a" * 64})
    assert settings_of(path, told) == LoraSettings(4, 2.0, tuple(sorted(RANK4.targets)))
    load_adapter(transformer(), path, base={"weights": "random"})
    load_adapter(transformer(), path)


def test_the_full_model_has_every_target() -> None:
    model = build_wan(TI2V_5B, "meta").denoiser.model
    trained = attach_lora(model, LoraSettings(), seed=0)
    assert len(trained) == 30 * (2 * 4 + 2) * 2
    # Each layer of m inputs and n outputs gets 32 (m + n): eight of 3072 to 3072, two between 3072 and 14336.
    assert sum(parameter.numel() for parameter in trained) == 30 * 32 * (8 * 2 * 3072 + 2 * (3072 + 14336))
