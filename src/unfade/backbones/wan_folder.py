"""Wan models in diffusers' folder layout: checked before anything large is read, never downloaded, no pickles."""

import hashlib
import inspect
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.manifest import Manifest
from unfade.backbones.wan import Wan
from unfade.backbones.wan_config import WanConfig
from unfade.core import ModelError, OutputError
from unfade.diffusion.flow import FlowSchedule

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_CLASSES = {
    "transformer": ("config.json", "WanTransformer3DModel"),
    "vae": ("config.json", "AutoencoderKLWan"),
    "scheduler": ("scheduler_config.json", "UniPCMultistepScheduler"),
}


@dataclass(frozen=True, slots=True)
class WanFolder:
    """A folder whose files were found whole.

    Attributes:
        path: the folder, with `transformer/`, `vae/` and `scheduler/` in it.
        config: of the three.
        files: the weights, by part.
    """

    path: Path
    config: WanConfig
    files: Mapping[str, tuple[Path, ...]]

    def sha256(self) -> str:
        """Of all weights: the hash of the files' hashes in the order of their names.

        Reads every byte the first time; later only files that changed, as the folder's manifest says.

        Raises:
            ModelError: a file is not what it was when it was first used.
        """
        hashes = Manifest(self.path).hashes(path for part in self.files.values() for path in part)
        return hashlib.sha256("\n".join(hashes[name] for name in sorted(hashes)).encode()).hexdigest()

    def every_file(self) -> tuple[Path, ...]:
        """All that the model is made of and that is there: configurations, weights, text encoder, tokenizer."""
        parts = (*_CLASSES, "text_encoder", "tokenizer")
        found = [path for part in parts for path in sorted((self.path / part).glob("*")) if path.is_file()]
        index = self.path / "model_index.json"
        return tuple([index, *found] if index.is_file() else found)


def open_wan(path: Path) -> WanFolder:
    """Everything that can be known to be wrong before weights are read.

    Raises:
        ModelError: the folder is missing or not a Wan model, a file is missing, truncated or a pickle, or the
            model is of a kind that can't be conditioned by a clean first latent.
    """
    if not path.is_dir():
        raise ModelError(
            f"no model folder at {path}; name a folder in diffusers' layout (transformer/, vae/, scheduler/)"
        )
    if _read_json(path / "model_index.json", {}).get("transformer_2", (None,))[0]:
        raise ModelError(
            f"{path} is a two-stage model (transformer_2), which is not supported; use Wan2.2-TI2V-5B"
        )
    configs: dict[str, dict[str, Any]] = {}
    for part, (name, wanted) in _CLASSES.items():
        config = _read_json(path / part / name)
        found = config.get("_class_name", "nothing known")
        if found != wanted:
            raise ModelError(f"{path / part} holds {found}, not a {wanted}; check the path of the model")
        configs[part] = _completed(wanted, config)
    try:
        known = WanConfig(configs["transformer"], configs["vae"], configs["scheduler"])
        FlowSchedule(config=known.scheduler)
    except ValueError as error:
        raise ModelError(f"{path} can't restore: {error}") from error
    return WanFolder(path, known, {part: _shards(path / part) for part in ("transformer", "vae")})


def load_wan(
    folder: WanFolder,
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Wan:
    """The model of a folder, in memory.

    Args:
        folder: what `open_wan` found.
        dtype: of the transformer; norms, tables and the embedding of time stay fp32 as diffusers declares.
        vae_dtype: of the VAE; anything below fp32 costs fidelity.
        device: where to.

    Raises:
        ModelError: weights are missing, left over, of another shape or damaged.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    transformer = _loaded(WanTransformer3DModel, folder.path / "transformer", dtype)
    vae = _loaded(AutoencoderKLWan, folder.path / "vae", vae_dtype)
    notes = {"model": folder.path.resolve().name, "weights": folder.sha256()}
    return Wan.of(transformer, vae, folder.config.scheduler, notes).to(torch.device(device))


def save_wan(wan: Wan, path: Path) -> None:
    """Writes a model in diffusers' layout, whole or not at all.

    Raises:
        OutputError: the folder exists or can't be written.
    """
    if path.exists():
        raise OutputError(f"{path} exists already; choose another folder for the model")
    temporary = path.with_name(f".unfade-{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
        with _quiet_diffusers():
            wan.denoiser.model.save_pretrained(temporary / "transformer")
            wan.vae.model.save_pretrained(temporary / "vae")
        (temporary / "scheduler").mkdir()
        scheduler = {"_class_name": "UniPCMultistepScheduler", **wan.config.scheduler}
        (temporary / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler, indent=2))
        index = {
            "_class_name": "WanImageToVideoPipeline",
            "expand_timesteps": True,
            "scheduler": ["diffusers", "UniPCMultistepScheduler"],
            "transformer": ["diffusers", "WanTransformer3DModel"],
            "transformer_2": [None, None],
            "vae": ["diffusers", "AutoencoderKLWan"],
        }
        (temporary / "model_index.json").write_text(json.dumps(index, indent=2))
        os.rename(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_json(path: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    if otherwise is not None and not path.exists():
        return otherwise
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"no {path}; name a folder in diffusers' layout (transformer/, vae/, scheduler/)"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} can't be read as JSON; get the model again") from error
    if not isinstance(read, dict):
        raise ModelError(f"{path} is not the configuration of a model; get the model again")
    return read


def _completed(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with diffusers' defaults for what it leaves out (strides, in older ones), and no more."""
    import diffusers

    known = inspect.signature(getattr(diffusers, kind).__init__).parameters
    return {name: config.get(name, known[name].default) for name in known if name != "self"}


def _shards(part: Path) -> tuple[Path, ...]:
    """The weight files of one part, each with the length its own header promises."""
    from safetensors import SafetensorError, safe_open

    index = part / f"{_WEIGHTS}.index.json"
    if index.exists():
        names = sorted(set(_read_json(index).get("weight_map", {}).values()))
    else:
        names = [_WEIGHTS]
    paths = tuple(part / name for name in names)
    for path in paths:
        if not path.is_file():
            pickles = [one.name for one in sorted(part.glob("*")) if one.suffix in _PICKLES]
            if pickles:
                raise ModelError(
                    f"{part} has its weights as a pickle ({pickles[0]}), and pickles are never opened; where you "
                    "trust it, convert it by safetensors.torch.save_file(torch.load(old, weights_only=True), "
                    f"{path.name!r})"
                )
            raise ModelError(f"{path} is missing; get the model again")
        try:
            with safe_open(path, framework="pt") as opened:
                opened.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is truncated or damaged; get this file again") from error
    if not paths:
        raise ModelError(f"{index} names no files; get the model again")
    return paths


def _loaded(kind: Any, part: Path, dtype: torch.dtype) -> Any:
    from safetensors import SafetensorError

    try:
        with _quiet_diffusers():
            model, report = kind.from_pretrained(
                part, torch_dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{part} does not hold the weights its configuration speaks of; get it again"
        ) from error
    for name, told in (("missing_keys", "lacks"), ("unexpected_keys", "has no use for")):
        if keys := sorted(report[name]):
            raise ModelError(
                f"{part} {told} {len(keys)} tensors, {keys[0]} among them; its weights belong to another model"
            )
    return model


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """What diffusers would say about weights is in our errors."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(before)
