"""Blocks of a model that come to the device one after the other: the current one and the next, never more."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn


class BlockStream:
    """Brings each block before it works and the next one while it does; the originals stay on the host.

    diffusers' group offloading wants the blocks of one list that the model's own `forward` walks through; this takes
    blocks of any module, in the order in which they work.

    Args:
        blocks: in their order, which is the same every time; they share no weights.
        device: where they work. On a GPU weights are copied beside the computation, from pinned memory.
    """

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        self._blocks = list(blocks)
        self._device = device
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._there: dict[int, list[tuple[dict[str, Any], str, Tensor]]] = {}
        self._arriving: dict[int, tuple[list[tuple[dict[str, Any], str, Tensor, Tensor]], Any]] = {}
        self._hooks: list[Any] = []
        for index, block in enumerate(self._blocks):
            if self._side is not None:
                _pin(block)
            self._hooks.append(block.register_forward_pre_hook(lambda *_, index=index: self._take(index)))
            self._hooks.append(block.register_forward_hook(lambda *_, index=index: self._leave(index)))

    @property
    def brought(self) -> list[int]:
        """Numbers of the blocks that are on the device now or on their way."""
        return sorted({*self._there, *self._arriving})

    def close(self) -> None:
        """The originals are in their places again, nothing of ours is on the device, and blocks work where they are."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        for index in list(self._there):
            self._leave(index)
        self._arriving.clear()

    def _take(self, index: int) -> None:
        # What an interrupted evaluation left.
        for other in [other for other in self._there if other != index]:
            self._leave(other)
        for other in [other for other in self._arriving if other != index]:
            del self._arriving[other]
        if index not in self._arriving:
            self._send(index)
        copies, event = self._arriving.pop(index)
        if event is not None:
            torch.cuda.current_stream(self._device).wait_event(event)
        originals: list[tuple[dict[str, Any], str, Tensor]] = []
        for held, name, original, copy in copies:
            originals.append((held, name, original))
            held[name] = nn.Parameter(copy, False) if isinstance(original, nn.Parameter) else copy
        self._there[index] = originals
        if index + 1 < len(self._blocks):
            self._send(index + 1)

    def _leave(self, index: int) -> None:
        for held, name, original in self._there.pop(index, ()):
            held[name] = original

    def _send(self, index: int) -> None:
        with torch.inference_mode(False), torch.no_grad():
            found = _tensors(self._blocks[index])
            # Memory of the computing stream: it is taken again only by what comes after what uses it now.
            copies = [
                (held, name, one, torch.empty_like(one, device=self._device)) for held, name, one in found
            ]
            if self._side is None:
                for _, _, original, copy in copies:
                    copy.copy_(original)
                self._arriving[index] = copies, None
                return
            self._side.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._side):
                for _, _, original, copy in copies:
                    copy.copy_(original, non_blocking=True)
            event = torch.cuda.Event()
            event.record(self._side)
            self._arriving[index] = copies, event


def _tensors(module: nn.Module) -> list[tuple[dict[str, Any], str, Tensor]]:
    """Every parameter and buffer of a module with where it is held."""
    return [
        (held, name, tensor)
        for part in module.modules()
        for held in cast(list[dict[str, Any]], [part._parameters, part._buffers])
        for name, tensor in held.items()
        if tensor is not None
    ]


def _pin(module: nn.Module) -> None:
    for held, name, tensor in _tensors(module):
        if not tensor.is_pinned():
            pinned = tensor.detach().pin_memory()
            held[name] = nn.Parameter(pinned, False) if isinstance(tensor, nn.Parameter) else pinned
