"""Adapters on CogVideoX: exchanged with the stock pipeline in both directions, at the strength they were trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import I2V_1_5_5B, SMALL_1_0, SMALL_1_5, CogVideoXConfig
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, velocity
from unfade.backbones.wan_config import SMALL as WAN
from unfade.conditioning.lora import (
    PROGRESSIVE,
    LoraSettings,
    attach_lora,
    base_fingerprint,
    load_adapter,
    save_adapter,
    use_adapter,
)
from unfade.core import ModelError

HALF = LoraSettings(rank=4, alpha=2.0, targets=PROGRESSIVE.targets)


def transformer(config: CogVideoXConfig = SMALL_1_5) -> Any:
    torch.manual_seed(3)
    return build_cogvideox(config).denoiser.model


def answer(model: Any) -> Tensor:
    dice = torch.Generator().manual_seed(9)
    x, image = torch.randn(2, 1, 4, 4, 8, 12, generator=dice)
    condition = CogVideoXCondition(image[:, :, :1], torch.randn(1, 12, 24, generator=dice))
    with torch.no_grad():
        return velocity(model, x, torch.tensor([700]), condition)


def trained(settings: LoraSettings = HALF) -> Any:
    """A transformer with an adapter that does something."""
    model = transformer()
    dice = torch.Generator().manual_seed(1)
    for parameter in attach_lora(model, settings, seed=0):
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=dice)
    return model


def stock(model: Any) -> Any:
    from diffusers import CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline

    return CogVideoXImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=build_cogvideox(SMALL_1_5).vae.model,
        transformer=model,
        scheduler=CogVideoXDPMScheduler(),
    )


def saved_by_diffusers(model: Any, folder: Path, *, alpha: bool) -> Path:
    from peft.utils import get_peft_model_state_dict

    pipeline = stock(model)
    told = model.peft_config["restore"].to_dict() if alpha else None
    pipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(model, adapter_name="restore"),
        transformer_lora_adapter_metadata=told,
    )
    return folder / "pytorch_lora_weights.safetensors"


def test_a_new_adapter_changes_nothing() -> None:
    model = transformer()
    before = answer(model)
    parameters = attach_lora(model, HALF, seed=0)
    assert torch.equal(answer(model), before)
    # Four layers of one attention, in two blocks, two matrices each.
    assert len(parameters) == 4 * 2 * 2


def test_the_published_model_gets_132_million_parameters() -> None:
    model = build_cogvideox(I2V_1_5_5B, "meta").denoiser.model
    parameters = attach_lora(model, PROGRESSIVE, seed=0)
    assert sum(parameter.numel() for parameter in parameters) == 132_120_576
    assert (PROGRESSIVE.rank, PROGRESSIVE.alpha) == (128, 64.0)


@pytest.mark.parametrize("alpha", [2.0, 8.0])
def test_ours_in_the_stock_pipeline_gives_the_same(tmp_path: Path, alpha: float) -> None:
    """Whatever alpha is: diffusers finds it in the file and doesn't take it for the rank."""
    model = trained(LoraSettings(4, alpha, PROGRESSIVE.targets))
    save_adapter(model, tmp_path / "ours.safetensors", {"model": "small"}, {})
    theirs = transformer()
    base = answer(theirs)
    stock(theirs).load_lora_weights(str(tmp_path), weight_name="ours.safetensors")
    torch.testing.assert_close(answer(theirs), answer(model), atol=1e-6, rtol=1e-5)
    assert float((answer(theirs) - base).abs().max()) > 1e-3


def test_the_stock_pipelines_comes_back_as_strong(tmp_path: Path) -> None:
    model = trained()
    path = saved_by_diffusers(model, tmp_path, alpha=True)
    fresh = transformer()
    base = answer(fresh)
    told = load_adapter(fresh, path)
    assert (told["rank"], float(told["alpha"])) == ("4", 2.0)
    torch.testing.assert_close(answer(fresh), answer(model), atol=1e-6, rtol=1e-5)
    use_adapter(fresh, None)
    assert torch.equal(answer(fresh), base)


def test_ours_says_what_it_is(tmp_path: Path) -> None:
    save_adapter(trained(), tmp_path / "a.safetensors", {"model": "small", "weights": "ab12"}, {"steps": "2"})
    told = load_adapter(transformer(), tmp_path / "a.safetensors")
    assert (told["alpha"], told["base.model"], told["base.weights"]) == ("2.0", "small", "ab12")
    assert told["base"] == base_fingerprint(transformer().config)
    assert len({base_fingerprint(config.transformer) for config in (SMALL_1_0, SMALL_1_5, WAN)}) == 3


def test_without_alpha_it_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = saved_by_diffusers(trained(), tmp_path, alpha=False)
    model = transformer()
    before = answer(model)
    with pytest.raises(
        ModelError, match=r"does not say its alpha.*transformer_lora_adapter_metadata"
    ) as told:
        load_adapter(model, path)
    assert len(str(told.value).splitlines()) == 1
    assert torch.equal(answer(model), before)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = saved_by_diffusers(trained(), tmp_path, alpha=True)
    wider = {**SMALL_1_5.transformer, "num_attention_heads": 3}
    with pytest.raises(ModelError, match="was made for another base"):
        load_adapter(transformer(CogVideoXConfig(wider, SMALL_1_5.vae, SMALL_1_5.scheduler)), path)
    save_adapter(trained(), tmp_path / "ours.safetensors", {"model": "small"}, {})
    with pytest.raises(ModelError, match=r"another base \(small\)"):
        load_adapter(transformer(SMALL_1_0), tmp_path / "ours.safetensors")
    told = json.dumps(
        {"transformer.r": 4, "transformer.lora_alpha": 2, "transformer.target_modules": ["to_q"]}
    )
    uneven = json.dumps({**json.loads(told), "transformer.rank_pattern": {"to_q": 8}})
    save_file(load_file(path), tmp_path / "uneven.safetensors", {"lora_adapter_metadata": uneven})
    with pytest.raises(ModelError, match="with rank_pattern, which is not supported"):
        load_adapter(transformer(), tmp_path / "uneven.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="is not an adapter"):
        load_adapter(transformer(), tmp_path / "other.safetensors")
