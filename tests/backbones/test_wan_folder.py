"""Folders in diffusers' layout: written, read back, and every way in which one can be broken."""

import json
import shutil
import socket
from pathlib import Path

import pytest
import torch

from unfade.backbones.manifest import NAME
from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL
from unfade.backbones.wan_denoiser import WanCondition
from unfade.backbones.wan_folder import load_wan, open_wan, save_wan
from unfade.core import ModelError, OutputError
from unfade.diffusion.flow import FlowSchedule


@pytest.fixture(scope="module")
def wan() -> Wan:
    torch.manual_seed(7)
    return build_wan(SMALL)


@pytest.fixture(scope="module")
def saved(wan: Wan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small"
    save_wan(wan, path)
    return path


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def answers(wan: Wan) -> torch.Tensor:
    dice = torch.Generator().manual_seed(0)
    first, text = torch.randn(1, 8, 1, 4, 4, generator=dice), torch.randn(1, 5, 24, generator=dice)
    return wan.denoiser(torch.randn(1, 8, 2, 4, 4, generator=dice), 400, WanCondition(first, text)).float()


def test_what_is_saved_comes_back_without_a_network(
    wan: Wan, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a local folder needs no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    back = load_wan(open_wan(saved), torch.float32)
    assert torch.equal(answers(back), answers(wan))
    image = torch.rand(1, 3, 1, 32, 32)
    assert torch.equal(back.vae.encode(image), wan.vae.encode(image))
    assert back.config.transformer["num_layers"] == 2
    assert back.provenance["model"] == "small"
    assert back.provenance["weights"] == open_wan(saved).sha256()


def test_half_precision_leaves_norms_and_times_in_full(wan: Wan, saved: Path) -> None:
    half = load_wan(open_wan(saved), torch.bfloat16)
    model = half.denoiser.model
    assert model.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    assert model.blocks[0].norm2.weight.dtype == torch.float32
    assert model.scale_shift_table.dtype == torch.float32
    assert model.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    assert half.vae.dtype == torch.float32
    torch.testing.assert_close(answers(half), answers(wan), atol=0.1, rtol=0.1)


def test_shards_are_read(wan: Wan, copy: Path) -> None:
    shutil.rmtree(copy / "transformer")
    wan.denoiser.model.save_pretrained(copy / "transformer", max_shard_size="60KB")
    folder = open_wan(copy)
    assert len(folder.files["transformer"]) > 2
    assert torch.equal(answers(load_wan(folder, torch.float32)), answers(wan))
    gone = folder.files["transformer"][1]
    gone.unlink()
    with pytest.raises(ModelError, match=rf"{gone.name} is missing"):
        open_wan(copy)


def test_another_weight_is_another_hash(saved: Path, copy: Path) -> None:
    assert open_wan(copy).sha256() == open_wan(saved).sha256()
    path = open_wan(copy).files["vae"][0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (copy / NAME).unlink()
    assert open_wan(copy).sha256() != open_wan(saved).sha256()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder at"):
        open_wan(tmp_path / "nowhere")
    file = tmp_path / "tiny.safetensors"
    file.touch()
    with pytest.raises(
        ModelError, match=r"^tiny is no video model but a file \(tiny.safetensors\); name a folder"
    ):
        open_wan(file)
    with pytest.raises(ModelError, match=r"no .*transformer/config.json; name a folder in diffusers' layout"):
        open_wan(tmp_path)


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_truncated_weights(copy: Path, part: str) -> None:
    path = open_wan(copy).files[part][0]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="truncated or damaged") as error:
        open_wan(copy)
    assert str(path) in str(error.value)


def test_pickles_are_never_opened(copy: Path) -> None:
    path = open_wan(copy).files["transformer"][0]
    path.rename(path.with_suffix(".bin"))
    with pytest.raises(ModelError, match="pickles are never opened"):
        open_wan(copy)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match="is missing; get the model again"):
        open_wan(copy)


def test_a_pickle_in_disguise(copy: Path) -> None:
    path = open_wan(copy).files["vae"][0]
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ModelError, match="truncated or damaged"):
        open_wan(copy)


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_what_a_configuration_leaves_out_is_diffusers_default_and_what_it_adds_is_ignored(copy: Path) -> None:
    path = copy / "vae" / "config.json"
    config = json.loads(path.read_text())
    for name in ("scale_factor_spatial", "scale_factor_temporal"):
        del config[name]
    path.write_text(json.dumps({**config, "clip_output": False}))
    change(copy / "scheduler" / "scheduler_config.json", unheard_of=1)
    known = open_wan(copy).config
    assert (known.size_multiple, known.frame_rule) == (16, (4, 1))
    assert "clip_output" not in known.vae
    assert build_wan(known, "meta").config.vae["base_dim"] == 8
    assert len(FlowSchedule(4, 5.0, known.scheduler).times()) == 4


def test_another_class(copy: Path) -> None:
    change(copy / "transformer" / "config.json", _class_name="CogVideoXTransformer3DModel")
    with pytest.raises(ModelError, match="holds CogVideoXTransformer3DModel, not a WanTransformer3DModel"):
        open_wan(copy)


def test_another_conditioning(copy: Path) -> None:
    change(copy / "transformer" / "config.json", in_channels=20)
    with pytest.raises(ModelError, match="takes 20 and gives 8 channels"):
        open_wan(copy)


def test_two_stages(copy: Path) -> None:
    change(copy / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"])
    with pytest.raises(ModelError, match="two-stage"):
        open_wan(copy)


def test_another_scheduler(copy: Path) -> None:
    change(copy / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(ModelError, match="not that of a flow"):
        open_wan(copy)


def test_a_configuration_that_is_no_json(copy: Path) -> None:
    (copy / "vae" / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"vae/config.json can't be read as JSON"):
        open_wan(copy)


@pytest.mark.parametrize(("layers", "said"), [(3, "lacks"), (1, "has no use for")])
def test_weights_of_another_model(copy: Path, layers: int, said: str) -> None:
    change(copy / "transformer" / "config.json", num_layers=layers)
    with pytest.raises(ModelError, match=rf"transformer {said} \d+ tensors"):
        load_wan(open_wan(copy), torch.float32)


def test_weights_of_another_size(copy: Path) -> None:
    change(copy / "transformer" / "config.json", ffn_dim=96)
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_wan(open_wan(copy), torch.float32)


def test_nothing_is_overwritten_and_nothing_half_written(wan: Wan, saved: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        save_wan(wan, saved)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
