"""A run's state in one file, the same for one device, several copies, and a model spread over several."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from unfade.conditioning.lora import UNKNOWN
from unfade.core import InputError
from unfade.media.atomic import atomic_output

KIND = "unfade video run 1"


def learnt(model: nn.Module) -> dict[str, Tensor]:
    """What learns, whole, on the CPU, by the names of the bare model's parameters.

    All processes have to call it together; where the model is spread, the first one gets it all and others nothing.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    state = get_model_state_dict(model, options=options)
    trained = {
        name.removeprefix("module.") for name, value in model.named_parameters() if value.requires_grad
    }
    return {name: cast(Tensor, value) for name, value in state.items() if name in trained}


def save_state(
    path: Path, model: nn.Module, optimizer: Optimizer, notes: dict[str, Any], leads: bool
) -> None:
    """Writes weights that learn, AdamW's moments and `notes`, whole or not at all; called by all processes.

    Raises:
        OutputError: the file can't be written.
    """
    weights = learnt(model)
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    moments = get_optimizer_state_dict(model, optimizer, options=options)
    if leads:
        with atomic_output(path) as temporary:
            torch.save({"kind": KIND, **notes, "weights": weights, "moments": moments}, temporary)


def read_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote.

    Raises:
        InputError: the file is damaged or something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} is damaged; delete it to begin again, or bring a copy back") from error
    if not isinstance(state, dict) or state.get("kind") != KIND:
        raise InputError(f"{path} is not the state of a video model's run; choose another folder with --runs")
    return state


def changed_settings(state: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Which settings of a run differ from those its state was saved with: [before, now] by name.

    Args:
        state: as read.
        now: the notes that would be saved with the run's state now.
        folder: of the run.

    Raises:
        InputError: the state is of another build or other weights of the base, another role or shape of adapter,
            or another control.
    """
    before, run = (json.loads(one["run"]) for one in (state, now))
    shapes = [
        one["lora"] and {**one["lora"], "targets": sorted(one["lora"]["targets"])} for one in (before, run)
    ]
    control = before.get("control"), run.get("control")
    if (state["base"], state["role"], shapes[0], control[0]) != (
        now["base"],
        now["role"],
        shapes[1],
        control[1],
    ):
        raise InputError(
            f"the checkpoint in {folder} is of another model, adapter or control; choose another folder with --runs"
        )
    weights = (state.get("base_weights", UNKNOWN), now["base_weights"])
    if UNKNOWN not in weights and weights[0] != weights[1]:
        raise InputError(
            f"the checkpoint in {folder} was begun on other weights than this model's; name the model it was begun "
            "on, or choose another folder with --runs"
        )
    return {name: [before.get(name), value] for name, value in run.items() if before.get(name) != value}


def take_up(model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Puts a read state in place; called by all processes, each with the whole state."""
    options = StateDictOptions(
        full_state_dict=True, cpu_offload=True, strict=False, ignore_frozen_params=True
    )
    set_model_state_dict(model, state["weights"], options=options)
    set_optimizer_state_dict(model, optimizer, state["moments"], options=options)
