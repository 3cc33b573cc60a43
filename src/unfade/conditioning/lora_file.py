"""Files of low-rank adapters: ours, and those that diffusers' pipelines write."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.core import ModelError

FORMAT = "unfade lora 1"
PREFIX = "transformer."
# The entry of a file's metadata in which diffusers keeps rank, alpha and targets.
FOR_DIFFUSERS = "lora_adapter_metadata"


def told_by_diffusers(path: Path, metadata: Mapping[str, str], tensors: Collection[str]) -> dict[str, str]:
    """Rank, alpha and targets of an adapter that diffusers saved, as `conditioning.lora.save_adapter` writes them.

    Args:
        path: of the file.
        metadata: of the file.
        tensors: their names.

    Raises:
        ModelError: the file holds something else, an adapter of another kind, or one without its alpha.
    """
    if not all(key.startswith(PREFIX) and ".lora_" in key for key in tensors) or not tensors:
        raise ModelError(f"{path} is not an adapter; train one with unfade train")
    try:
        told = json.loads(metadata.get(FOR_DIFFUSERS, "{}"))
        rank, alpha, targets = (told.get(f"{PREFIX}{name}") for name in ("r", "lora_alpha", "target_modules"))
    except (ValueError, AttributeError):
        rank = alpha = targets = None
        told = {}
    if not rank or not alpha or not targets:
        raise ModelError(
            f"{path} is a LoRA that does not say its alpha, so how strong it is meant to be is unknown; save it again "
            "with its adapter's metadata (transformer_lora_adapter_metadata)"
        )
    uneven = [
        name
        for name in ("rank_pattern", "alpha_pattern", "use_dora", "use_rslora")
        if told.get(f"{PREFIX}{name}")
    ]
    if uneven or isinstance(targets, str):
        what = ", ".join(uneven) or "a pattern of target_modules"
        raise ModelError(f"{path} is a LoRA with {what}, which is not supported; train a plain one")
    return {
        **metadata,
        "rank": str(rank),
        "alpha": str(alpha),
        "targets": json.dumps(sorted(targets)),
    }


def read_adapter(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of an adapter's file.

    Raises:
        ModelError: it is missing, truncated or a pickle.
    """
    with _opened(path) as opened:
        return dict(opened.metadata() or {}), {key: opened.get_tensor(key) for key in opened.keys()}


def read_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Metadata and the tensors' shapes; the tensors themselves are not read.

    Raises:
        ModelError: it is missing, truncated or a pickle.
    """
    with _opened(path) as opened:
        shapes = {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}
        return dict(opened.metadata() or {}), shapes


def read_notes(path: Path) -> dict[str, str]:
    """The metadata alone of an adapter's file; its tensors are not read.

    Raises:
        ModelError: it is missing, truncated or a pickle.
    """
    return read_header(path)[0]


def weights_hash(path: Path) -> str:
    """What identifies an adapter's weights, 64 hex digits: notes on the training, and their order, don't change it.

    Raises:
        ModelError: the file is missing, truncated or a pickle.
    """
    metadata, tensors = read_adapter(path)
    taken = hashlib.sha256(json.dumps([metadata.get(name) for name in ("role", "rank", "alpha")]).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        taken.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        taken.update(tensor.flatten().view(torch.uint8).numpy().data)
    return taken.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise ModelError(f"{path} can't be opened; name an adapter's .safetensors file") from error
    if head in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise ModelError(
            f"{path} is a pickle, and pickles are never opened; where you trust it, convert it with: "
            f"unfade models convert {path} -o NEW.safetensors"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            yield opened
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is truncated or damaged; get this file again") from error
