"""Models of the Hugging Face hub: found in its cache without a network, downloaded only when that is asked for."""

import os
import re
from pathlib import Path

from unfade.backbones.model_folder import read_json
from unfade.backbones.prompt_embeddings import PromptEmbeddings
from unfade.core import ModelError

# What a model folder is made of; pickles are never fetched.
_WANTED = ["model_index.json", *(f"{part}/*" for part in ("transformer", "vae", "scheduler"))]
_WORDS = ["text_encoder/*", "tokenizer/*"]
_NEVER = ["*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5"]
_CONFIG = "config.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_hub_id(name: str) -> bool:
    """Whether a name has the form "owner/model"."""
    return _HUB_ID.fullmatch(name) is not None


def cached(hub_id: str, revision: str | None = None) -> Path | None:
    """The folder of a model that was downloaded before, or None; never asks the network.

    Args:
        hub_id: "owner/model".
        revision: a branch, tag or commit; `main` by default.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                cache_dir=_cache(),
                allow_patterns=_WANTED,
                ignore_patterns=_NEVER,
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, OSError):
        return None


def lacking(folder: Path) -> Path | None:
    """The first file or folder that a half download has not brought yet; None where the model is whole.

    A text encoder that was deleted on purpose, once all prompts were kept, is not missed.
    """
    for part, name in (("transformer", _CONFIG), ("vae", _CONFIG), ("scheduler", "scheduler_config.json")):
        if not (folder / part / name).is_file():
            return folder / part / name
    for part in ("transformer", "vae"):
        if missing := missing_weights(folder / part, "diffusion_pytorch_model"):
            return missing
    encoder, tokenizer = folder / "text_encoder", folder / "tokenizer"
    if not encoder.is_dir() and PromptEmbeddings(folder).knows_its_encoder:
        return None
    if not any((tokenizer / name).is_file() for name in ("tokenizer.json", "spiece.model")):
        return tokenizer
    return None if not (missing := missing_weights(encoder, "model")) else missing


def missing_weights(part: Path, stem: str) -> Path | None:
    """The first file of weights that a folder lacks, of a single one or of those its index names; None if it is whole.

    Args:
        part: the folder.
        stem: of the files' names.
    """
    index = part / f"{stem}.safetensors.index.json"
    names = [f"{stem}.safetensors"]
    if index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
    return next((part / name for name in names if not (part / name).is_file()), None)


def download(hub_id: str, revision: str | None = None) -> Path:
    """Fetches a model into the hub's cache (`HF_HOME`) and gives its folder; goes on where it was interrupted.

    Raises:
        ModelError: there is no such model or revision, no network, or no room.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                cache_dir=_cache(),
                allow_patterns=[*_WANTED, *_WORDS],
                ignore_patterns=_NEVER,
                endpoint=os.environ.get("HF_ENDPOINT") or None,
            )
        )
    except GatedRepoError as error:
        raise ModelError(
            f"{hub_id} must be applied for on its page; do so, then log in with hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"the hub has no model {hub_id} that you may see; check its name") from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{hub_id} has no revision {revision!r}; check its name") from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{hub_id} can't be downloaded: the hub can't be reached; check the network, or copy the model's folder "
            "here and name that"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise ModelError(
            f"{hub_id} can't be downloaded: the hub answered {status}; try again later"
        ) from error
    except OSError as error:
        told = (error.strerror or str(error) or type(error).__name__).lower()
        raise ModelError(
            f"{hub_id} can't be downloaded: {told}; started again, it goes on where it stopped"
        ) from error


def _cache() -> Path:
    """Where the hub's own tools keep models, asked each time so that the environment decides."""
    if named := os.environ.get("HF_HUB_CACHE"):
        return Path(named).expanduser()
    if home := os.environ.get("HF_HOME"):
        return Path(home).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface" / "hub"
