"""Carries out a memory plan on a loaded model: what stays on the device, what waits on the host."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import nn

from unfade.backbones.block_stream import BlockStream
from unfade.backbones.footprint import FP8_SKIPPED
from unfade.backbones.memory_plan import MemoryPlan

_HOOKS = ("layer_execution_tracker", "lazy_prefetch_group_offloading", "group_offloading")
_HOST = torch.device("cpu")


class Denoising(Protocol):
    """What denoises: a module behind a call that first calls `before`."""

    before: Callable[[], None] | None

    @property
    def model(self) -> Any: ...


class Coding(Protocol):
    """What encodes and decodes, whole or in tiles."""

    before: Callable[[], None] | None
    tile: int

    @property
    def model(self) -> Any: ...


class Placed(Protocol):
    """A model of two parts that can take turns on a device."""

    @property
    def denoiser(self) -> Denoising: ...

    @property
    def vae(self) -> Coding: ...

    def to(self, device: torch.device) -> object: ...


@runtime_checkable
class InBlocks(Protocol):
    """A model whose blocks lie in several modules, so that it has to say which are streamed."""

    @property
    def streamed(self) -> Sequence[nn.Module]:
        """In the order in which one evaluation takes them."""
        ...

    @property
    def stored_in_8_bits(self) -> Sequence[nn.Module]:
        """The modules whose blocks' matrices may be stored so."""
        ...


def apply_memory_plan(video: Placed, plan: MemoryPlan, device: torch.device) -> None:
    """Puts a model where a plan wants it, whatever plan it followed before.

    Adapters are to be attached before, since weights that come later don't follow the plan.

    Args:
        video: loaded, best on the host: then nothing that isn't wanted ever reaches the device.
        plan: what to do.
        device: where it computes.

    Raises:
        ValueError: the weights are stored in fp8 already and the plan wants the real ones, which have to be loaded
            again.
    """
    if stored_in_fp8(video) and plan.weights != "fp8":
        raise ValueError("fp8 can't be undone; load the weights again for another memory plan")
    _unhook(video)
    video.vae.tile = plan.tile
    transformer: Any = video.denoiser.model
    if plan.weights == "resident":
        video.to(device)
        return
    video.to(_HOST)
    if plan.weights == "fp8" and not stored_in_fp8(video):
        for part in video.stored_in_8_bits if isinstance(video, InBlocks) else [transformer]:
            _store_in_fp8(part)
    turns = _Turns(device, [transformer, video.vae.model])
    stream: BlockStream | None = None
    if plan.weights == "group" and isinstance(video, InBlocks):
        stream = BlockStream(video.streamed, device)
        turns = _Turns(device, [transformer, video.vae.model], list(video.streamed))
    elif plan.weights == "group":
        _group(transformer, device)
        turns = _Turns(device, [video.vae.model])
    video.denoiser.before = _Turn(turns, transformer, stream)
    video.vae.before = _Turn(turns, video.vae.model)


def retreat(video: Placed) -> None:
    """Takes a model back to the host, drops what an interrupted pass left, and gives PyTorch's unused memory back."""
    _unhook(video)
    # CogVideoX's VAE remembers nothing between chunks.
    if clear := getattr(video.vae.model, "clear_cache", None):
        clear()
    video.to(_HOST)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def stored_in_fp8(video: Placed) -> bool:
    """Whether some of the transformer's weights are in 8 bits."""
    return any(one.dtype == torch.float8_e4m3fn for one in video.denoiser.model.parameters())


class _Turns:
    """Modules of which one at a time is on the device. Their weights don't change, so the host keeps the originals.

    Parts of them that come by themselves are left out.
    """

    def __init__(
        self, device: torch.device, modules: list[nn.Module], left_out: Sequence[nn.Module] = ()
    ) -> None:
        self.device = device
        self.modules = modules
        self._left_out = {part for one in left_out for part in one.modules()}
        self._there: nn.Module | None = None
        self._originals: list[tuple[dict[str, Any], str, torch.Tensor]] = []

    def take(self, module: nn.Module) -> None:
        """Brings a module to the device after the others have left it; one that isn't among them comes by itself."""
        if self._there is module:
            return
        self.leave()
        self._there = module
        if module in self.modules:
            self._bring(module)

    def leave(self) -> None:
        """The originals are in their places again, and nothing of ours is on the device."""
        for held, name, tensor in self._originals:
            held[name] = tensor
        self._originals.clear()
        self._there = None

    def _bring(self, module: nn.Module) -> None:
        with torch.inference_mode(False), torch.no_grad():
            for part in module.modules():
                if part in self._left_out:
                    continue
                for held in cast(list[dict[str, Any]], [part._parameters, part._buffers]):
                    for name, tensor in held.items():
                        if tensor is None:
                            continue
                        self._originals.append((held, name, tensor))
                        moved = tensor.detach().to(self.device)
                        held[name] = nn.Parameter(moved, False) if isinstance(tensor, nn.Parameter) else moved


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a part calls before it works.

    Attributes:
        turns: of the parts.
        module: of the part.
        stream: of its blocks, to be closed with the plan.
    """

    turns: _Turns
    module: nn.Module
    stream: BlockStream | None = field(default=None)

    def __call__(self) -> None:
        self.turns.take(self.module)


def _group(transformer: Any, device: torch.device) -> None:
    from diffusers.hooks.group_offloading import apply_group_offloading

    apply_group_offloading(
        transformer,
        onload_device=device,
        offload_device=_HOST,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )


def _store_in_fp8(transformer: Any) -> None:
    from diffusers.hooks.layerwise_casting import apply_layerwise_casting

    apply_layerwise_casting(
        transformer,
        storage_dtype=torch.float8_e4m3fn,
        # diffusers' models say it; some keep a few parameters in more.
        compute_dtype=getattr(transformer, "dtype", None) or next(transformer.parameters()).dtype,
        skip_modules_pattern=FP8_SKIPPED,
    )


def _unhook(video: Placed) -> None:
    """Lets go of what moves weights, wherever they are."""
    from diffusers.hooks.hooks import HookRegistry

    for part in (video.denoiser, video.vae):
        if isinstance(part.before, _Turn):
            part.before.turns.leave()
            if part.before.stream is not None:
                part.before.stream.close()
        part.before = None
    registry = HookRegistry.check_if_exists_or_initialize(video.denoiser.model)
    for name in _HOOKS:
        registry.remove_hook(name, recurse=True)
