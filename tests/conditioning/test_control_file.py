"""Control on disk: there and back, from the released layout, and what is refused."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V, T2V_1_5_5B, CogVideoXConfig
from unfade.backbones.unpickled import convert_pickle
from unfade.conditioning import control_file
from unfade.conditioning.control import Control, ControlSettings
from unfade.conditioning.control_file import (
    CONTROLNET,
    NOTES,
    convert_control,
    load_control,
    parts_of,
    read_notes,
    read_tensors,
    save_control,
)
from unfade.core import ModelError, OutputError

SMALL = ControlSettings(blocks=1, bottleneck=8, width=8, groups=2)


def random_control(settings: ControlSettings = SMALL) -> tuple[Any, Control]:
    torch.manual_seed(0)
    transformer: Any = build_cogvideox(SMALL_T2V).denoiser.model
    control = Control.beginning(transformer, settings)
    with torch.no_grad():
        for parameter in control.parameters():
            parameter.normal_(std=0.1)
    return transformer, control


def released(control: Control, folder: Path, wrapped: bool = False) -> Path:
    """The layout of the released checkpoint: a ControlNet in safetensors and three pickles."""
    from safetensors.torch import save_file

    for name, module in parts_of(control).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name == CONTROLNET:
            save_file(module.state_dict(), path)
        else:
            state = module.state_dict()
            torch.save({"state_dict": state} if wrapped else state, path.with_suffix(".pt"))
    return folder


def same(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


def test_there_and_back(tmp_path: Path) -> None:
    transformer, control = random_control()
    folder = tmp_path / "control"
    save_control(control, folder, transformer.config, {"step": "7"})
    loaded = load_control(folder, transformer)
    assert same(control, loaded) and loaded.settings == SMALL
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert read_notes(folder)["step"] == "7"
    save_control(control, folder, transformer.config, {"step": "8"})
    assert read_notes(folder)["step"] == "8"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["control"]


@pytest.mark.usefixtures("forked_pickles")
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_released_layout_is_converted(wrapped: bool, tmp_path: Path) -> None:
    settings = ControlSettings(blocks=1, bottleneck=8, width=64)
    model = CogVideoXConfig(
        {**SMALL_T2V.transformer, "in_channels": 16, "out_channels": 16},
        {**SMALL_T2V.vae, "latent_channels": 16},
        SMALL_T2V.scheduler,
    )
    transformer: Any = build_cogvideox(model).denoiser.model
    control = Control.beginning(transformer, settings)
    folder = released(control, tmp_path / "released", wrapped)
    with pytest.raises(ModelError, match="never opened; convert it with: unfade models convert"):
        load_control(folder, transformer)
    assert convert_control(folder, tmp_path / "ours") == settings
    assert same(control, load_control(tmp_path / "ours", transformer))
    with pytest.raises(OutputError, match="exists already"):
        convert_control(folder, tmp_path / "ours")


@pytest.fixture
def checkpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, dict[str, torch.Tensor]]]:
    """Lays a checkpoint out that has the names and shapes of the released code's own modules, of tensors that take no
    memory; gives its files, which are read as they stand then."""
    listed = json.loads(Path(__file__).with_name("released_control.json").read_text())["files"]
    files: dict[str, dict[str, torch.Tensor]] = {}

    def laid() -> dict[str, dict[str, torch.Tensor]]:
        for name, shapes in listed.items():
            tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
            files[f"{name}.safetensors"] = tensors
        return files

    def read(path: Path) -> dict[str, torch.Tensor]:
        return dict(files[CONTROLNET if path.parent.name == "controlnet" else path.name])

    monkeypatch.setattr(control_file, "read_tensors", read)
    monkeypatch.setattr(control_file, "_converted", lambda source, target: None)
    return laid


def test_the_released_code_s_names_and_shapes_load_by_strict_match(
    checkpoint: Callable[[], dict[str, dict[str, torch.Tensor]]], tmp_path: Path
) -> None:
    """All four files at full size, and a sentence for each where a tensor is missing, too many or of another size."""
    transformer = build_cogvideox(T2V_1_5_5B, "meta").denoiser.model
    files = checkpoint()
    assert {name: len(tensors) for name, tensors in files.items()} == {
        CONTROLNET: 223,
        "connectors.safetensors": 840,
        "control_feat_proj.safetensors": 67,
        "control_patch_embed.safetensors": 4,
    }
    counts = [sum(one.numel() for one in tensors.values()) for tensors in files.values()]
    assert counts[1] == 42 * 12_597_504 and round(sum(counts) / 1e9, 3) == 1.373
    assert convert_control(tmp_path, tmp_path / "control") == ControlSettings()
    loaded = load_control(tmp_path / "control", transformer)
    assert sum(one.numel() for one in loaded.parameters()) == sum(counts)
    for name in files:
        tensors, where = checkpoint()[name], re.escape(name)
        key = sorted(tensors)[-1]
        kept = tensors.pop(key)
        with pytest.raises(
            ModelError, match=rf"{where} lacks {re.escape(key)}; it belongs to another control$"
        ):
            load_control(tmp_path / "control", transformer)
        files[name] |= {key: kept, "zz.weight": kept}
        with pytest.raises(
            ModelError, match=rf"{where} has no use for zz\.weight; it belongs to another control$"
        ):
            load_control(tmp_path / "control", transformer)
        del files[name]["zz.weight"]
        files[name][key] = torch.empty(7, device="meta")
        with pytest.raises(
            ModelError, match=rf"{where} has {re.escape(key)} of \(7,\), not .* another base$"
        ):
            load_control(tmp_path / "control", transformer)
        checkpoint()
    del files["connectors.safetensors"]["0.c_mlp.0.weight"]
    with pytest.raises(ModelError, match="is not Vivid-VR's checkpoint: its tensors have other names"):
        convert_control(tmp_path, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("forked_pickles")
def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    mark = tmp_path / "was here"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (mark,))

    source = tmp_path / "connectors.pt"
    source.write_bytes(pickle.dumps({"weight": Evil()}))
    with pytest.raises(ModelError, match="would run code when opened"):
        convert_pickle(source, tmp_path / "out.safetensors")
    torch.save({"weight": torch.zeros(2), "step": 3}, source)
    with pytest.raises(ModelError, match="does not hold tensors by name"):
        convert_pickle(source, tmp_path / "out.safetensors")
    source.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="was refused: it is damaged"):
        convert_pickle(source, tmp_path / "out.safetensors")
    with pytest.raises(ModelError, match="no file at"):
        convert_pickle(tmp_path / "nowhere.pt", tmp_path / "out.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["connectors.pt"]
    assert not mark.exists()


def test_nothing_is_imported_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import pathlib; pathlib.Path('was here').touch()")
    torch.save({"weight": torch.ones(2)}, tmp_path / "x.pt")
    monkeypatch.chdir(tmp_path)
    convert_pickle(Path("x.pt"), Path("x.safetensors"))
    assert read_tensors(tmp_path / "x.safetensors")["weight"].tolist() == [1, 1]
    assert not (tmp_path / "was here").exists()


def test_shared_tensors_are_kept_apart(tmp_path: Path) -> None:
    one = torch.arange(6.0)
    torch.save({"a": one, "b": one.view(2, 3), "c": one[2:4]}, tmp_path / "x.pt")
    convert_pickle(tmp_path / "x.pt", tmp_path / "x.safetensors")
    found = read_tensors(tmp_path / "x.safetensors")
    assert torch.equal(found["b"], one.view(2, 3)) and torch.equal(found["c"], one[2:4])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    transformer, control = random_control()
    folder = tmp_path / "control"
    save_control(control, folder, transformer.config)
    other: Any = build_cogvideox(
        CogVideoXConfig({**SMALL_T2V.transformer, "num_layers": 3}, SMALL_T2V.vae, SMALL_T2V.scheduler)
    ).denoiser.model
    with pytest.raises(ModelError, match="was made for another base"):
        load_control(folder, other)
    (folder / "connectors.safetensors").rename(folder / "kept")
    with pytest.raises(ModelError, match=r"connectors.safetensors is missing"):
        load_control(folder, transformer)
    (folder / "connectors.safetensors").write_bytes((folder / "kept").read_bytes()[:-9])
    with pytest.raises(ModelError, match="truncated or damaged"):
        load_control(folder, transformer)
    (folder / "control_patch_embed.safetensors").rename(folder / "connectors.safetensors")
    with pytest.raises(ModelError, match=r"connectors\.safetensors lacks 0"):
        load_control(folder, transformer)
    (folder / NOTES).write_text("{")
    with pytest.raises(ModelError, match="can't be read as JSON"):
        load_control(folder, transformer)
    (folder / NOTES).unlink()
    with pytest.raises(ModelError, match=r"it has no control\.json"):
        load_control(folder, transformer)
    with pytest.raises(OutputError, match="is not a control"):
        save_control(control, folder, transformer.config)
    with pytest.raises(ModelError, match="has no diffusion_pytorch_model"):
        convert_control(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
