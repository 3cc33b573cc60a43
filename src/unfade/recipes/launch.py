"""What every training of a video model begins with: a device, processes, and the run as it was asked for."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from unfade.core import UsageError
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
