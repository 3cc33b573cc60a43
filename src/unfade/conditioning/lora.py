"""Low-rank adapters for a video model's transformer: attached, saved as one safetensors file, loaded, switched."""

import hashlib
import json
import math
import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unfade.conditioning.lora_file import (
    FOR_DIFFUSERS,
    FORMAT,
    PREFIX,
    read_adapter,
    read_header,
    told_by_diffusers,
)
from unfade.core import ModelError, generator
from unfade.media.atomic import atomic_output

Role = Literal["restore", "drift-correction"]

# What is said in the place of a hash of weights that were never files.
UNKNOWN = "random"

# What has to agree for an adapter's matrices to mean the same thing: of Wan's transformers, of CogVideoX's.
_WAN = (
    "patch_size", "num_attention_heads", "attention_head_dim", "in_channels", "out_channels", "text_dim",
    "freq_dim", "ffn_dim", "num_layers", "cross_attn_norm", "qk_norm",
)  # fmt: skip
_COGVIDEOX = (
    "patch_size", "patch_size_t", "num_attention_heads", "attention_head_dim", "in_channels", "out_channels",
    "text_embed_dim", "time_embed_dim", "ofs_embed_dim", "num_layers", "use_learned_positional_embeddings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """The shape of an adapter.

    Attributes:
        rank: of each pair of matrices.
        alpha: the adapter's answer is scaled by alpha / rank.
        targets: ends of the names of the linear layers that get one.

    Raises:
        ValueError: rank or alpha are out of range, or there is no target.

    Source: Hu et al. 2021 (arXiv 2106.09685); the targets are those of DiffSynth's published Wan training.
    """

    rank: int = 32
    alpha: float = 32.0
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")

    def __post_init__(self) -> None:
        if self.rank < 1 or not self.alpha > 0:
            raise ValueError(f"rank and alpha must be above 0, not {self.rank} and {self.alpha}")
        if not self.targets:
            raise ValueError("an adapter needs at least one kind of layer to sit on")


# The shape of a progressive adapter: CogVideo's own fine-tuning, all four layers of every attention.
PROGRESSIVE = LoraSettings(rank=128, alpha=64.0, targets=("to_q", "to_k", "to_v", "to_out.0"))


def base_fingerprint(config: Mapping[str, Any]) -> str:
    """What identifies a transformer's build: a hash of the sizes in its configuration, 16 hex digits."""
    sizes = {name: config.get(name) for name in (_COGVIDEOX if "text_embed_dim" in config else _WAN)}
    text = json.dumps(sizes, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def attach_lora(
    transformer: Any, settings: LoraSettings, seed: int, name: str = "restore"
) -> list[nn.Parameter]:
    """Puts a new adapter on a transformer and makes it the active one, the only thing that learns.

    The second matrices begin at zero, so the transformer answers as before; the first ones are drawn on the CPU from
    the seed, the same on every device. They are float32 whatever the transformer is.

    Args:
        transformer: diffusers' transformer of a video model, not wrapped yet.
        settings: the adapter's shape.
        seed: of the first matrices.
        name: of the adapter; another one may be there already.

    Returns:
        The adapter's parameters, which are the only ones with `requires_grad`.

    Raises:
        ModelError: a target names no layer of this transformer, or there is an adapter of this name already.
    """
    _add(transformer, settings, name)
    trained = train_adapter(transformer, name)
    for key, parameter in _parameters(transformer, name):
        if ".lora_A." in key:
            drawn = torch.empty(parameter.shape)
            nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator(seed, "lora", name, key))
            parameter.data.copy_(drawn)
        else:
            parameter.data.zero_()
    return trained


def train_adapter(transformer: Any, name: str) -> list[nn.Parameter]:
    """Makes an adapter active, float32 and the only thing that learns; returns its parameters.

    Raises:
        ModelError: there is no adapter of this name.
    """
    use_adapter(transformer, name)
    transformer.requires_grad_(False)
    trained: list[nn.Parameter] = []
    for _, parameter in _parameters(transformer, name):
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
        trained.append(parameter)
    return trained


def save_adapter(
    transformer: Any,
    path: Path,
    base: Mapping[str, str],
    notes: Mapping[str, str],
    *,
    role: Role = "restore",
    name: str = "restore",
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes one adapter as a safetensors file, whole or not at all, in names that diffusers reads as well.

    Args:
        transformer: what carries the adapter.
        path: of the file.
        base: what is known of the model it was trained on, such as its name and the hash of its weights.
        notes: on the training.
        role: what the adapter is for.
        name: under which it was attached.
        weights: to be taken instead of the transformer's own, by the names of its parameters (where those are spread
            over several devices).

    Raises:
        ModelError: there is no such adapter.
        OutputError: the file can't be written.
    """
    from safetensors.torch import save

    adapter = _config(transformer, name)
    found = {
        key: weights[key] if weights is not None else value.detach()
        for key, value in _parameters(transformer, name)
    }
    tensors = {
        f"{PREFIX}{_public(key, name)}": value.to("cpu", torch.float32).contiguous()
        for key, value in found.items()
    }
    metadata = {
        "format": FORMAT,
        "role": role,
        "base": base_fingerprint(transformer.config),
        "rank": str(adapter.r),
        "alpha": str(adapter.lora_alpha),
        "targets": json.dumps(sorted(adapter.target_modules)),
        **{f"base.{key}": value for key, value in base.items()},
        **{f"notes.{key}": value for key, value in notes.items()},
        FOR_DIFFUSERS: json.dumps(
            {
                f"{PREFIX}r": adapter.r,
                f"{PREFIX}lora_alpha": adapter.lora_alpha,
                f"{PREFIX}target_modules": sorted(adapter.target_modules),
            }
        ),
    }
    with atomic_output(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def check_adapter(
    path: Path, config: Mapping[str, Any], base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What can be known to be wrong with an adapter from its header, before any weights are read.

    Args:
        path: of a file as for `load_adapter`.
        config: of the transformer it is meant for.
        base: what is known of that transformer's weights, as for `load_adapter`.

    Returns:
        The file's metadata, as `load_adapter` returns them.

    Raises:
        ModelError: as `load_adapter`, but for tensors that are not what the file's metadata say.
    """
    return _told(path, *read_header(path), config, base)


def load_adapter(
    transformer: Any, path: Path, name: str = "restore", base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Puts a saved adapter on a transformer and makes it the active one.

    Args:
        transformer: diffusers' transformer of the build the adapter was trained on.
        path: of a file written by `save_adapter`, or by a pipeline of diffusers together with its adapter's metadata.
        name: under which it can be switched on and off.
        base: what is known of the transformer's weights, as for `save_adapter`; where both sides know "weights" (the
            hash of the model's files, whatever precision they are loaded in), these have to be the same.

    Returns:
        The file's metadata: "rank", "alpha" and, of those written by `save_adapter`, "role", "base.*", "notes.*", ...

    Raises:
        ModelError: the file is missing, truncated, a pickle, no adapter, made for another base, or silent on its
            alpha, without which nobody knows how strong it is meant to be.
    """
    metadata, tensors = read_adapter(path)
    ours = metadata.get("format") == FORMAT
    metadata = _told(path, metadata, tensors, transformer.config, base)
    _add(transformer, settings_of(path, metadata), name)
    transformer.requires_grad_(False)
    places = {f"{PREFIX}{_public(key, name)}": parameter for key, parameter in _parameters(transformer, name)}
    wrong = sorted(
        key
        for key in places.keys() | tensors.keys()
        if key not in places or key not in tensors or places[key].shape != tensors[key].shape
    )
    if wrong:
        transformer.delete_adapters(name)
        if not ours:
            raise ModelError(
                f"{path} was made for another base ({wrong[0]} does not fit); choose the model it was trained on"
            )
        raise ModelError(f"{path} does not fit its own description ({wrong[0]}); get it again")
    for key, parameter in places.items():
        parameter.data.copy_(tensors[key])
    return metadata


def _told(
    path: Path,
    metadata: dict[str, str],
    tensors: Collection[str],
    config: Mapping[str, Any],
    base: Mapping[str, str] | None,
) -> dict[str, str]:
    """The metadata in our own words, of an adapter that may be meant for this base."""
    if metadata.get("format") != FORMAT:
        metadata = told_by_diffusers(path, metadata, tensors)
    elif metadata.get("base") != base_fingerprint(config):
        made_for = metadata.get("base.model", "a model of other sizes")
        raise ModelError(
            f"{path} was made for another base ({made_for}); choose the model it was trained on, or train it again"
        )
    made_on, here = metadata.get("base.weights", UNKNOWN), (base or {}).get("weights", UNKNOWN)
    if UNKNOWN not in (made_on, here) and made_on != here:
        named = metadata.get("base.model", "a model without a name")
        raise ModelError(
            f"{path} was made for another base ({named}, whose files have the hash {made_on[:12]} and not "
            f"{here[:12]}); choose the model it was trained on, or train it again"
        )
    settings_of(path, metadata)
    return metadata


def settings_of(path: Path, metadata: Mapping[str, str]) -> LoraSettings:
    """The shape of an adapter, as the metadata that `load_adapter` returns tells it.

    Raises:
        ModelError: it doesn't.
    """
    try:
        return LoraSettings(
            int(metadata["rank"]), float(metadata["alpha"]), tuple(json.loads(metadata["targets"]))
        )
    except (KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path} does not say what its adapter looks like; get it again") from error


def use_adapter(transformer: Any, name: str | None) -> None:
    """Makes one adapter the active one, or none of them: then the transformer is the base alone.

    Raises:
        ModelError: there is no adapter of this name.
    """
    if name is None:
        if getattr(transformer, "peft_config", None):
            transformer.disable_adapters()
        return
    _config(transformer, name)
    learning = {parameter for parameter in transformer.parameters() if parameter.requires_grad}
    transformer.enable_adapters()
    transformer.set_adapter(name)
    for parameter in transformer.parameters():
        # peft lets whatever is active learn; who learns is not decided here.
        parameter.requires_grad_(parameter in learning)


def _add(transformer: Any, settings: LoraSettings, name: str) -> None:
    from peft import LoraConfig

    if name in (getattr(transformer, "peft_config", None) or {}):
        raise ModelError(f"the model carries an adapter called {name!r} already; choose another name")
    for target in settings.targets:
        if not any(_ends(key, target) for key, module in _layers(transformer)):
            raise ModelError(
                f"no layer of the model is called {target}; leave it out of the adapter's targets"
            )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        target_modules=list(settings.targets),
        init_lora_weights=True,
    )
    if getattr(transformer, "peft_config", None):
        transformer.enable_adapters()
    with warnings.catch_warnings():
        # A second adapter beside the first is what is wanted.
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        transformer.add_adapter(config, adapter_name=name)


def _layers(transformer: Any) -> Iterable[tuple[str, nn.Module]]:
    # With an adapter on it, a layer's own weight is one level further down.
    return ((key.removesuffix(".base_layer"), module) for key, module in transformer.named_modules())


def _ends(key: str, target: str) -> bool:
    return key == target or key.endswith(f".{target}")


def _config(transformer: Any, name: str) -> Any:
    adapters = getattr(transformer, "peft_config", None) or {}
    if name not in adapters:
        there = ", ".join(adapters) or "none"
        raise ModelError(f"the model carries no adapter called {name!r}; there is {there}")
    return adapters[name]


def _parameters(transformer: Any, name: str) -> list[tuple[str, nn.Parameter]]:
    ends = tuple(f".lora_{side}.{name}.weight" for side in "AB")
    return [(key, parameter) for key, parameter in transformer.named_parameters() if key.endswith(ends)]


def _public(key: str, name: str) -> str:
    """The name without the adapter's own: as peft and diffusers write it."""
    return key.removesuffix(f".{name}.weight") + ".weight"
