"""Vivid-VR's control on disk: a folder laid out like the released checkpoint, in safetensors."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from unfade.backbones.manifest import Manifest
from unfade.backbones.unpickled import SUFFIXES, convert_pickle
from unfade.conditioning.control import Control, ControlSettings
from unfade.conditioning.lora import base_fingerprint
from unfade.core import ModelError, OutputError

if TYPE_CHECKING:
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

FORMAT = "unfade control 1"
NOTES = "control.json"
CONTROLNET = "controlnet/diffusion_pytorch_model.safetensors"
# In the released checkpoint, what goes into the transformer lies beside the ControlNet, as pickles.
BESIDE = ("connectors", "control_feat_proj", "control_patch_embed")


def parts_of(control: Control) -> dict[str, nn.Module]:
    """The modules by their files, as the released checkpoint divides them."""
    return {
        CONTROLNET: control.controlnet,
        "connectors.safetensors": control.connectors,
        "control_feat_proj.safetensors": control.injection.control_feat_proj,
        "control_patch_embed.safetensors": control.injection.control_patch_embed,
    }


def save_control(
    control: Control, folder: Path, base: Mapping[str, Any], notes: Mapping[str, str] | None = None
) -> None:
    """Writes a control, whole or not at all; a control folder that is there already is replaced.

    Args:
        control: what is written.
        folder: to write.
        base: configuration of the transformer it was trained on.
        notes: on base and training.

    Raises:
        OutputError: something else is there, or it can't be written.
    """
    from safetensors.torch import save_file

    if folder.exists() and not (folder / NOTES).is_file():
        raise OutputError(f"{folder} exists already and is not a control; choose another folder")
    with _made(folder) as temporary:
        for name, module in parts_of(control).items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({key: one.cpu().contiguous() for key, one in module.state_dict().items()}, path)
        told = {**dict(notes or {}), "base": base_fingerprint(base)}
        _note(temporary, control.settings, told)


def read_notes(folder: Path) -> dict[str, Any]:
    """What a control folder says of itself: settings, and notes on base and training.

    Raises:
        ModelError: it is not a control folder, or one of the released layout that still is to be converted.
    """
    path = folder / NOTES
    if not path.is_file():
        if any((folder / f"{name}{suffix}").is_file() for name in BESIDE for suffix in SUFFIXES):
            raise ModelError(
                f"{folder} holds pickles, which are never opened; convert it with: unfade models convert "
                f"{folder} -o OUT"
            )
        raise ModelError(f"{folder} is not a folder of Vivid-VR's control: it has no {NOTES}; check the path")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read as JSON; get the control again") from error
    if (
        not isinstance(told, dict)
        or told.get("format") != FORMAT
        or not isinstance(told.get("settings"), dict)
    ):
        raise ModelError(f"{path} is not that of a control; get the control again")
    return told


def settings_of(folder: Path) -> ControlSettings:
    """What a control folder's control is made of.

    Raises:
        ModelError: it is not a control folder, or does not say.
    """
    try:
        return ControlSettings.of(read_notes(folder)["settings"])
    except ValueError as error:
        raise ModelError(f"{folder / NOTES} is not that of a control: {error}") from error


def load_control(
    folder: Path, transformer: "CogVideoXTransformer3DModel", dtype: torch.dtype = torch.float32
) -> Control:
    """The control of a folder, for a transformer.

    Args:
        folder: what `save_control` or `convert_control` wrote.
        transformer: the base.
        dtype: of the control.

    Raises:
        ModelError: the folder is no control, of another base, or a file is missing, damaged or has other tensors.
    """
    told = read_notes(folder)
    if told.get("base", base_fingerprint(transformer.config)) != base_fingerprint(transformer.config):
        raise ModelError(
            f"{folder} was made for another base; choose the model it was trained on, or train it again"
        )
    try:
        with torch.device("meta"):
            control = Control(transformer.config, settings_of(folder))
    except ValueError as error:
        raise ModelError(f"{folder} does not fit this model: {error}") from error
    for name, module in parts_of(control).items():
        tensors = {key: one.to(dtype) for key, one in read_tensors(folder / name).items()}
        _fill(module, tensors, folder / name)
    return control.eval().requires_grad_(False)


def convert_control(source: Path, folder: Path) -> ControlSettings:
    """Vivid-VR's released checkpoint as a control folder in safetensors; gives the settings its tensors show.

    Args:
        source: with `controlnet/` (safetensors or a pickle) and `connectors`, `control_feat_proj` and
            `control_patch_embed` beside it, pickles.
        folder: to write; must not exist.

    Raises:
        ModelError: a file is missing, damaged, would run code, or holds other tensors than it should.
        OutputError: the folder exists or can't be written.
    """
    if folder.exists():
        raise OutputError(f"{folder} exists already; choose another folder for the control")
    with _made(folder) as temporary:
        _converted(source / "controlnet" / "diffusion_pytorch_model", temporary / CONTROLNET)
        for name in BESIDE:
            _converted(source / name, temporary / f"{name}.safetensors")
        settings = _shown(temporary, source)
        _note(temporary, settings, {"source": source.resolve().name})
    return settings


def control_sha256(folder: Path, base: str) -> str:
    """What identifies a control and its base together: the hash of the base's and of the control's files' hashes.

    Raises:
        ModelError: a file is not what it was when it was first used.
    """
    files = sorted(folder.rglob("*.safetensors"))
    hashes = Manifest(folder).hashes(files)
    return hashlib.sha256("\n".join([base, *(hashes[name] for name in sorted(hashes))]).encode()).hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ModelError: it is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(f"{path} is missing; get the control again")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is truncated or damaged; get this file again") from error


def _note(folder: Path, settings: ControlSettings, notes: Mapping[str, str]) -> None:
    told = {"format": FORMAT, "settings": settings.told(), **notes}
    (folder / NOTES).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    wanted = module.state_dict()
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or extra:
        told = f"lacks {missing[0]}" if missing else f"has no use for {extra[0]}"
        raise ModelError(f"{path} {told}; it belongs to another control")
    for key, one in wanted.items():
        if one.shape != tensors[key].shape:
            raise ModelError(
                f"{path} has {key} of {tuple(tensors[key].shape)}, not {tuple(one.shape)}: it was made for another base"
            )
    module.load_state_dict(tensors, assign=True)


def _converted(source: Path, target: Path) -> None:
    """One file, whatever its kind; `source` has no suffix yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    ready = source.with_name(f"{source.name}.safetensors")
    if ready.is_file():
        from safetensors.torch import save_file

        save_file(read_tensors(ready), target)
        return
    found = [source.with_name(f"{source.name}{suffix}") for suffix in SUFFIXES]
    there = [path for path in found if path.is_file()]
    if not there:
        raise ModelError(
            f"{source.parent} has no {source.name} ({', '.join(SUFFIXES)}); name the folder of Vivid-VR's checkpoint, "
            "with controlnet/ and connectors.pt in it"
        )
    convert_pickle(there[0], target)


def _shown(folder: Path, source: Path) -> ControlSettings:
    """The settings that the tensors of a converted checkpoint show."""
    net = read_tensors(folder / CONTROLNET)
    joins = read_tensors(folder / "connectors.safetensors")
    project = read_tensors(folder / "control_feat_proj.safetensors")
    settings = ControlSettings()
    try:
        blocks = {int(key.split(".")[1]) for key in net if key.startswith("transformer_blocks.")}
        bottleneck = joins["0.c_mlp.0.weight"].shape[0]
        width = project["0.spatial_res_block.conv1.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"{source} is not Vivid-VR's checkpoint: its tensors have other names ({error})"
        ) from error
    return replace(settings, blocks=len(blocks), bottleneck=bottleneck, width=width)


@contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """A hidden folder beside, which takes the name when the block ends without an exception."""
    temporary = folder.with_name(f".unfade-{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        old = folder.with_name(f".unfade-{secrets.token_hex(6)}")
        if folder.exists():
            os.rename(folder, old)
        os.rename(temporary, folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
