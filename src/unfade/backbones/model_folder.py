"""Video models in diffusers' folder layout: checked before anything large is read, never downloaded, no pickles."""

import hashlib
import inspect
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import CRITICAL
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from unfade.backbones.manifest import Manifest
from unfade.backbones.unpickled import SUFFIXES
from unfade.core import ModelError, OutputError

Config = TypeVar("Config")

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_CONFIGS = {"transformer": "config.json", "vae": "config.json", "scheduler": "scheduler_config.json"}


@dataclass(frozen=True, slots=True)
class ModelFolder(Generic[Config]):
    """A folder whose files were found whole.

    Attributes:
        path: the folder, with `transformer/`, `vae/` and `scheduler/` in it.
        config: of the three.
        files: the weights, by part.
    """

    path: Path
    config: Config
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
        parts = (*_CONFIGS, "text_encoder", "tokenizer")
        found = [path for part in parts for path in sorted((self.path / part).glob("*")) if path.is_file()]
        index = self.path / "model_index.json"
        return tuple([index, *found] if index.is_file() else found)

    def notes(self) -> dict[str, str]:
        """Name and hash of the model, for provenance."""
        return {"model": self.path.resolve().name, "weights": self.sha256()}


def check_folder(path: Path) -> None:
    """Whether there is a folder at all.

    Raises:
        ModelError: there is none.
    """
    if path.is_file():
        raise ModelError(
            f"{path.stem} is no video model but a file ({path.name}); name a folder in diffusers' layout "
            "(transformer/, vae/, scheduler/)"
        )
    if not path.is_dir():
        raise ModelError(
            f"no model folder at {path}; name a folder in diffusers' layout (transformer/, vae/, scheduler/)"
        )


def transformer_class(path: Path) -> str:
    """Which of diffusers' transformers a folder holds.

    Raises:
        ModelError: it is missing or does not say.
    """
    check_folder(path)
    return str(read_json(path / "transformer" / "config.json").get("_class_name", "nothing known"))


def read_configs(path: Path, classes: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """The configurations of a folder's parts, complete and with nothing else in them.

    Args:
        path: of the folder.
        classes: for each part, which of diffusers' classes it may be.

    Raises:
        ModelError: a configuration is missing, damaged or that of another class.
    """
    configs: dict[str, dict[str, Any]] = {}
    for part, wanted in classes.items():
        config = read_json(path / part / _CONFIGS[part])
        found = config.get("_class_name", "nothing known")
        if found not in wanted:
            raise ModelError(
                f"{path / part} holds {found}, not a {' or '.join(wanted)}; check the path of the model"
            )
        configs[part] = _completed(found, config)
    return configs


def read_json(path: Path, otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    """A configuration, or `otherwise` where there is no such file.

    Raises:
        ModelError: it is missing (and nothing else was given) or damaged.
    """
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


def weight_files(part: Path) -> tuple[Path, ...]:
    """The weight files of one part, each with the length its own header promises.

    Raises:
        ModelError: one is missing, truncated or a pickle.
    """
    from safetensors import SafetensorError, safe_open

    index = part / f"{_WEIGHTS}.index.json"
    if index.exists():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
    else:
        names = [_WEIGHTS]
    paths = tuple(part / name for name in names)
    for path in paths:
        if not path.is_file():
            pickles = [one.name for one in sorted(part.glob("*")) if one.suffix in SUFFIXES]
            if pickles:
                raise ModelError(
                    f"{part} has its weights as a pickle ({pickles[0]}), and pickles are never opened; where you "
                    f"trust it, convert it with: unfade models convert {part / pickles[0]} -o {path}"
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


def load_part(kind: Any, part: Path, dtype: torch.dtype) -> Any:
    """One part in memory.

    Args:
        kind: diffusers' class of it.
        part: its folder.
        dtype: of its weights, but for those that diffusers keeps in fp32.

    Raises:
        ModelError: weights are missing, left over, of another shape or damaged.
    """
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


def save_folder(
    path: Path, parts: Mapping[str, Any], scheduler: Mapping[str, Any], index: Mapping[str, Any]
) -> None:
    """Writes a model in diffusers' layout, whole or not at all.

    Args:
        path: of the folder, which must not exist.
        parts: models by the name of their folder.
        scheduler: its configuration, with its class.
        index: of the pipeline that the parts make.

    Raises:
        OutputError: the folder exists or can't be written.
    """
    if path.exists():
        raise OutputError(f"{path} exists already; choose another folder for the model")
    temporary = path.with_name(f".unfade-{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
        with _quiet_diffusers():
            for name, model in parts.items():
                model.save_pretrained(temporary / name)
        (temporary / "scheduler").mkdir()
        (temporary / "scheduler" / _CONFIGS["scheduler"]).write_text(json.dumps(scheduler, indent=2))
        (temporary / "model_index.json").write_text(json.dumps(index, indent=2))
        os.rename(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _completed(kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with diffusers' defaults for what it leaves out (strides, in older ones), and no more."""
    import diffusers

    known = inspect.signature(getattr(diffusers, kind).__init__).parameters
    return {name: config.get(name, known[name].default) for name in known if name != "self"}


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
