"""A model that was trained whole as a folder that restores: weights, and what its base brings along unchanged."""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from unfade.backbones.model_folder import read_json
from unfade.backbones.video import VideoModel, build_video, save_video
from unfade.backbones.wan import Wan
from unfade.core import OutputError

# transformers' own class where the base does not say which one reads its files.
_CARRIED = {"text_encoder": "T5EncoderModel", "tokenizer": "T5TokenizerFast"}
_CARRIED_WAN = {**_CARRIED, "text_encoder": "UMT5EncoderModel"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def export_whole(
    video: VideoModel,
    weights: Mapping[str, Tensor],
    path: Path,
    notes: Mapping[str, str],
    base: Path | None = None,
) -> None:
    """Writes a model folder in diffusers' layout; one that is there already is replaced once the new one is whole.

    Args:
        video: the model; its VAE and scheduler are written as they are.
        weights: of its transformer, by name.
        path: of the folder.
        notes: on the training, written as `training.json`.
        base: the folder of the model that training began with, whose text encoder and tokenizer belong to the new
            model as well; they are linked where the file system can, else copied.

    Raises:
        OutputError: the folder can't be written.
    """
    whole: Any = build_video(video.config, "meta").denoiser.model
    whole.load_state_dict(dict(weights), assign=True)
    new: VideoModel = type(video).of(whole, video.vae.model, video.config.scheduler)  # type: ignore[arg-type]
    made, old = (path.with_name(f".unfade-{secrets.token_hex(6)}") for _ in range(2))
    try:
        save_video(new, made)
        if base is not None:
            _carry(base, made, _CARRIED_WAN if isinstance(video, Wan) else _CARRIED)
        (made / "training.json").write_text(json.dumps(dict(notes), indent=1) + "\n", encoding="utf-8")
        if path.exists():
            os.rename(path, old)
        os.rename(made, path)
    except OSError as error:
        raise OutputError(f"{path} can't be written: {(error.strerror or str(error)).lower()}") from error
    finally:
        if old.exists() and not path.exists():
            os.rename(old, path)
        for left in (made, old):
            shutil.rmtree(left, ignore_errors=True)


def _carry(base: Path, made: Path, parts: Mapping[str, str]) -> None:
    """Text encoder and tokenizer, and their entries in the index; a base without them has them in no model."""
    index: dict[str, Any] = read_json(made / "model_index.json")
    known = read_json(base / "model_index.json", {})
    for part, kind in parts.items():
        if (base / part).is_dir():
            shutil.copytree(
                base / part,
                made / part,
                copy_function=_linked,
                ignore=shutil.ignore_patterns(*_PICKLES),
            )
            index[part] = known.get(part) or ["transformers", kind]
    (made / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")


def _linked(source: str, target: str) -> str:
    """The same content under another name; a link of a hub's cache is followed to the file itself."""
    real = os.path.realpath(source)
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)
    return target
