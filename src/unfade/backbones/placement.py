"""Carries out a memory plan on a loaded model: what stays on the device, what waits on the host."""

import gc
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from unfade.backbones.footprint import FP8_SKIPPED
from unfade.backbones.memory_plan import MemoryPlan
from unfade.backbones.video import VideoModel

_HOOKS = ("layer_execution_tracker", "lazy_prefetch_group_offloading", "group_offloading")
_HOST = torch.device("cpu")


def apply_memory_plan(video: VideoModel, plan: MemoryPlan, device: torch.device) -> None:
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
        _store_in_fp8(transformer)
    turns = _Turns(device, [transformer, video.vae.model])  # type: ignore[list-item]
    if plan.weights == "group":
        _group(transformer, device)
        turns = _Turns(device, [video.vae.model])  # type: ignore[list-item]
    video.denoiser.before = _Turn(turns, transformer)
    video.vae.before = _Turn(turns, video.vae.model)  # type: ignore[arg-type]


def retreat(video: VideoModel) -> None:
    """Takes a model back to the host, drops what an interrupted pass left, and gives PyTorch's unused memory back."""
    _unhook(video)
    # CogVideoX's VAE remembers nothing between chunks.
    if clear := getattr(video.vae.model, "clear_cache", None):
        clear()
    video.to(_HOST)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def stored_in_fp8(video: VideoModel) -> bool:
    """Whether some of the transformer's weights are in 8 bits."""
    return any(one.dtype == torch.float8_e4m3fn for one in video.denoiser.model.parameters())


class _Turns:
    """Modules of which one at a time is on the device. Their weights don't change, so the host keeps the originals."""

    def __init__(self, device: torch.device, modules: list[nn.Module]) -> None:
        self.device = device
        self.modules = modules
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
                for held in cast(list[dict[str, Any]], [part._parameters, part._buffers]):
                    for name, tensor in held.items():
                        if tensor is None:
                            continue
                        self._originals.append((held, name, tensor))
                        moved = tensor.detach().to(self.device)
                        held[name] = nn.Parameter(moved, False) if isinstance(tensor, nn.Parameter) else moved


@dataclass(frozen=True, slots=True)
class _Turn:
    """What a part calls before it works."""

    turns: _Turns
    module: nn.Module

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
        compute_dtype=transformer.dtype,
        skip_modules_pattern=FP8_SKIPPED,
    )


def _unhook(video: VideoModel) -> None:
    """Lets go of what moves weights, wherever they are."""
    from diffusers.hooks.hooks import HookRegistry

    for part in (video.denoiser, video.vae):
        if isinstance(part.before, _Turn):
            part.before.turns.leave()
        part.before = None
    registry = HookRegistry.check_if_exists_or_initialize(video.denoiser.model)  # type: ignore[arg-type]
    for name in _HOOKS:
        registry.remove_hook(name, recurse=True)
