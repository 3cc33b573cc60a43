"""What every training of a video model begins with: a device, processes, and the run as it was asked for."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.prompt_embeddings import PromptEmbeddings
from unfade.core import ModelError, UsageError
from unfade.training.video_run import VideoRun

if TYPE_CHECKING:
    from accelerate import PartialState

_PATIENCE = timedelta(hours=12)
Run = TypeVar("Run", bound=VideoRun)


def launched(device: str) -> "tuple[str, PartialState]":
    """The device to train on, and the processes that `accelerate launch` began.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        UsageError: it is another one, or not there.
    """
    from accelerate import PartialState

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"training runs on cpu or cuda, not {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no cuda device that PyTorch can use; train with --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # One process captions and embeds for all, which takes longer than the ten minutes others wait by default.
    return device, PartialState(cpu=device == "cpu", timeout=_PATIENCE)


def check_alone(what: str) -> None:
    """Whether this is the only process of what writes its files without asking others.

    Args:
        what: it is, as the beginning of a sentence.

    Raises:
        UsageError: `accelerate launch` began several.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(f"{what} is made in one process; run it without accelerate launch")


def changed(run: Run, changes: Mapping[str, Any], processes: int) -> Run:
    """The run with those changes that are not None; a step is taken one sample at a time unless they say otherwise.

    Raises:
        UsageError: a value is out of range.
    """
    told = {name: value for name, value in changes.items() if value is not None}
    told.setdefault("accumulation", max(1, told.get("batch", run.batch) // processes))
    try:
        return replace(run, **told)
    except ValueError as error:
        raise UsageError(str(error)) from error


def on_host(
    embeddings: PromptEmbeddings, config: CogVideoXConfig
) -> Callable[[Sequence[str]], list[torch.Tensor]]:
    """Prompts' embeddings `[1, L, D]` on the host, from disk.

    Raises:
        ModelError: they are not as wide as the transformer wants them.
    """

    def embed(prompts: Sequence[str]) -> list[torch.Tensor]:
        return embeddings(prompts, torch.device("cpu"))

    width = embed([""])[0].shape[2]
    if width != config.transformer["text_embed_dim"]:
        raise ModelError(
            f"{embeddings.folder} has a text encoder of another model than its transformer; get it again"
        )
    return embed
