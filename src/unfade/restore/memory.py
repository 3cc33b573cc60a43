"""Work that may find too little memory: once it goes on with a smaller plan, and says so."""

from collections.abc import Callable
from typing import TypeVar

import torch

from unfade.backbones.wan import Wan
from unfade.backbones.wan_memory import MemoryPlan, VaeTiles, free_bytes, smaller_plan
from unfade.backbones.wan_placement import apply_memory_plan, retreat
from unfade.core import UnfadeError

T = TypeVar("T")

_ADVICE = "choose --memory group with --vae-tiles on, fewer frames or a smaller photo, or free some memory"


def within_memory(
    wan: Wan,
    plan: MemoryPlan,
    device: torch.device,
    work: Callable[[], T],
    say: Callable[[str], None] | None = None,
    *,
    tiles: VaeTiles = "auto",
) -> tuple[T, MemoryPlan]:
    """What `work` gives under a plan that `wan` follows already, or under the next smaller one.

    Args:
        wan: the model that `work` uses.
        plan: that was applied to it.
        device: where it computes.
        work: from its beginning; it is called a second time if memory runs out in the first.
        say: told in one line when that happens.
        tiles: whether the VAE may decode in tiles.

    Returns:
        The answer and the plan that it was found under, which `wan` follows now.

    Raises:
        UnfadeError: memory ran out twice, or nothing smaller is left to try.
    """
    try:
        return work(), plan
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
    # Outside of the except clause, so that nothing of the first try is held by its traceback.
    retreat(wan)
    less = smaller_plan(plan, free_bytes(device), tiles, host=device.type == "cpu")
    if less is None:
        raise UnfadeError(f"memory ran out ({plan.name}), and no smaller plan is left; {_ADVICE}")
    if say:
        say(f"memory ran out ({plan.name}); going on with {less.name}")
    apply_memory_plan(wan, less, device)
    try:
        return work(), less
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UnfadeError(f"memory ran out twice ({plan.name}, then {less.name}); {_ADVICE}") from None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's or the host's memory ran out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
