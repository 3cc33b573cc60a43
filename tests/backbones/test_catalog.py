"""Every field that the catalog declares, probed on the real thing."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch

from unfade.backbones.catalog import CATALOG, CONFIGS, find
from unfade.backbones.tiny import TinyConfig
from unfade.backbones.tiny_weights import load_tiny
from unfade.backbones.video import build_video
from unfade.backbones.wan_family import REFUSED

VIDEO = [name for name, info in CATALOG.items() if info.space == "latents"]


@pytest.mark.parametrize("name", VIDEO)
def test_a_video_models_fields_are_those_of_the_model(name: str) -> None:
    info, config = CATALOG[name], CONFIGS[name]
    model = build_video(config, "meta")
    assert info.name == name
    assert sum(parameter.numel() for parameter in model.denoiser.model.parameters()) == info.parameters
    assert info.size_multiple == config.size_multiple
    every, first = info.frame_rule
    only = getattr(config, "only", None)
    frames, height, width = only or (every + first, info.size_multiple, info.size_multiple)
    shape = config.latent_shape(frames, height, width)
    for wrong in ((frames - 1, height, width), (frames, height - 1, width), (frames, height, width - 1)):
        with pytest.raises(ValueError, match="must be"):
            config.latent_shape(*wrong)
    clip = torch.zeros(1, 3, frames, height, width, device="meta")
    encoded = model.vae.encode(clip)
    latents = torch.zeros(1, *shape, device="meta")
    text_width = config.transformer.get("text_dim", config.transformer.get("text_embed_dim"))
    text = torch.zeros(1, getattr(config, "text_tokens", 7), text_width, device="meta")
    told: Any = model.conditions(clip[:, :, 0], [text])
    assert model.denoiser(latents, 500.0, told[0]).shape == latents.shape
    assert model.finished(latents, told[0]).shape == encoded.shape


def test_tinys_fields_are_those_of_its_weights() -> None:
    info = CATALOG["tiny"]
    path = Path(str(files("unfade.backbones"))) / info.weights
    if not path.exists():
        pytest.skip("no weights of tiny in this checkout")
    weights = load_tiny(path)
    assert sum(parameter.numel() for parameter in weights.model.parameters()) == info.parameters
    assert weights.model.config.halo == TinyConfig().halo == info.halo
    assert (info.prediction, info.space, info.steps, info.frame_rule) == ("clean", "pixels", 1, (1, 1))


@pytest.mark.parametrize("name", ["vbridge", "VBridge", "wan2.2-ti2v-5b", "wan-ai/wan2.2-ti2v-5b-diffusers"])
def test_one_model_by_all_its_names(name: str) -> None:
    assert find(name) is CATALOG["wan2.2-ti2v-5b"]


def test_names_mean_one_thing() -> None:
    names = [alias for info in CATALOG.values() for alias in (info.name, *info.aliases)]
    assert len(names) == len(set(names))
    assert not set(names) & set(REFUSED)
    assert find("wan2.2-i2v-a14b") is None
    assert find("weights/tiny.safetensors") is None
