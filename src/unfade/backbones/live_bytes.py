"""How much memory a computation needs at its peak, found on the meta device without computing anything."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_of(work: Callable[[], Any]) -> int:
    """The most bytes that are alive at once among all that `work` makes, its answer included.

    What exists before is not counted, nor what libraries take as work space. Attention is taken to hold its answer
    only, never a matrix of scores (flash or memory-efficient kernels).

    Args:
        work: computes on the meta device.
    """
    ledger = _Ledger()
    with torch.inference_mode(False), torch.no_grad(), _LeanAttention(), ledger:
        answer = work()
    del answer
    return ledger.peak


def peak_and_flops(work: Callable[[], Any]) -> tuple[int, float]:
    """`peak_of` what `work` does on the meta device, and its floating point operations in matrix products."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        peak = peak_of(work)
    return peak, float(counted.get_total_flops())


class _Ledger(TorchDispatchMode):
    """Books every storage when it first appears in an answer, and crosses it out when it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = 0
        self.peak = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {
            id(leaf.untyped_storage()) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)
        }
        answer = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(answer):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                if id(storage) not in before and storage not in self._known:
                    self._book(storage)
        return answer

    def _book(self, storage: Any) -> None:
        size = storage.nbytes()
        self._known.add(storage)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._cross_out, size).atexit = False

    def _cross_out(self, size: int) -> None:
        self.alive -= size


class _LeanAttention(TorchFunctionMode):
    """On the meta device attention would be written out with all its scores, as no GPU does it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            named = dict(kwargs or {})
            query, _, value = (*args, *(named[name] for name in ("query", "key", "value")[len(args) :]))[:3]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))
