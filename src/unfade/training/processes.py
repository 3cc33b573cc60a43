"""The processes of a run as accelerate knows them, with nothing in them that the run does not say itself."""

import os
from typing import TYPE_CHECKING

from unfade.core import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

_OTHERS = ("DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")


def accelerated(device: str) -> "Accelerator":
    """accelerate over the processes there are; precision and accumulation are the run's, whatever the launcher sets.

    Args:
        device: "cpu" or "cuda".

    Raises:
        UsageError: `accelerate launch` was asked for something that a run's state can't be kept under: DeepSpeed,
            Megatron, compilation, or FSDP of version 1.
    """
    from accelerate import Accelerator
    from accelerate.utils.dataclasses import DynamoBackend

    for name in _OTHERS:
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("1", "true", "yes"):
            raise UsageError(
                f"accelerate is set to {name.lower().replace('_', ' ')}, which is not supported; launch with "
                "--multi_gpu, or with --use_fsdp --fsdp_version 2"
            )
    # With "no", the model isn't wrapped in a second autocast and its gradients aren't scaled.
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
    state = accelerator.state
    compiles, spreads = state.dynamo_plugin, getattr(state, "fsdp_plugin", None)
    if compiles is not None and compiles.backend != DynamoBackend.NO:
        raise UsageError(
            "accelerate is set to compile the model, which is not supported; leave out --dynamo_backend"
        )
    if spreads is not None and spreads.fsdp_version != 2:
        raise UsageError("FSDP of version 1 is not supported; launch with --fsdp_version 2")
    return accelerator
