"""`tiny` to and from safetensors: bf16 weights, the configuration in the file's own metadata."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from unfade.backbones.doubt import Doubt
from unfade.backbones.gather import Gather
from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.trust import Trust
from unfade.core import ModelError
from unfade.media.atomic import atomic_output

LIMIT = 16 * 2**20
_TRUST = "trust."
_DOUBT = "doubt."
_GATHER = "gather."
_Part = TypeVar("_Part", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class TinyWeights:
    """A loaded network and where it came from.

    Attributes:
        model: in fp32, ready for inference.
        sha256: of the file.
        notes: what the file says about its training.
        trust: how far its answers are followed, if that was fitted.
        doubt: how far its results are expected to be from the truth, if that was fitted.
        gather: what makes a frame of footage better by its neighbours first, if that was trained.
    """

    model: Tiny
    sha256: str
    notes: Mapping[str, str]
    trust: Trust | None = None
    doubt: Doubt | None = None
    gather: Gather | None = None


def save_tiny(
    model: Tiny,
    state: Mapping[str, Tensor],
    path: Path,
    notes: Mapping[str, str],
    trust: Trust | None = None,
    doubt: Doubt | None = None,
    gather: Gather | None = None,
) -> None:
    """Writes the network's weights in bf16, and those of what judges or helps it in fp32, atomically.

    Raises:
        OutputError: the file can't be written.
        ModelError: the file would be larger than 16 MiB.
    """
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().to(torch.bfloat16).contiguous() for name, value in state.items()}
    for prefix, part in ((_TRUST, trust), (_DOUBT, doubt), (_GATHER, gather)):
        if part is not None:
            own = part.state_dict().items()
            tensors |= {prefix + name: value.detach().cpu().contiguous() for name, value in own}
    data = save(tensors, {**notes, "config": json.dumps(model.config.as_dict())})
    if len(data) > LIMIT:
        raise ModelError(f"{path} would have {len(data)} bytes, more than the {LIMIT} that are shipped")
    with atomic_output(path) as temporary:
        temporary.write_bytes(data)


def load_tiny(path: Path) -> TinyWeights:
    """Reads what `save_tiny` wrote.

    Raises:
        ModelError: the file is missing, not safetensors, damaged, or not a `tiny`.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError(
            f"no model file at {path}; name a model of the catalog (tiny) or a .safetensors file"
        )
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path} is not a .safetensors file, and pickles are never opened; where you trust it, convert it with: "
            f"unfade models convert {path} -o {path.stem}.safetensors"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            notes = dict(opened.metadata() or {})
            state = {name: opened.get_tensor(name).float() for name in opened.keys()}
        model = Tiny(TinyConfig.of(json.loads(notes.pop("config"))))
        trust = _part(Trust(), state, _TRUST)
        doubt = _part(Doubt(model.config.context), state, _DOUBT)
        gather = _part(Gather(model.config.context), state, _GATHER)
        model.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise ModelError(
            f"{path} is damaged or not a `tiny` model; get it again or check the path"
        ) from error
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return TinyWeights(model.eval(), sha256, notes, trust, doubt, gather)


def _part(part: _Part, state: dict[str, Tensor], prefix: str) -> _Part | None:
    """The part with its weights, which are taken out of the file's; None where there are none."""
    own = {name.removeprefix(prefix): state.pop(name) for name in list(state) if name.startswith(prefix)}
    if not own:
        return None
    part.load_state_dict(own)
    return part.eval()
