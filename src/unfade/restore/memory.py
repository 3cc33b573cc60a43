"""Work that may find too little memory: once it goes on with a smaller plan, and says so."""

from collections.abc import Callable
from dataclasses import dataclass
from traceback import walk_tb
from typing import TypeVar

import torch

from unfade.backbones.free_memory import free_bytes, out_of_memory
from unfade.backbones.memory_plan import MemoryPlan, Phase, VaeTiles, smaller_plan
from unfade.backbones.placement import Placed, apply_memory_plan, retreat
from unfade.core import UnfadeError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Advice:
    """What a user is told where there is no plan left that needs less.

    Attributes:
        device: what to choose.
        host: the same where everything is on the host, and there is nowhere to move weights to.
    """

    device: str
    host: str


OF_PHOTOS = Advice(
    "choose --memory group with --vae-tiles on, fewer frames or a smaller photo, or free some memory",
    "choose --vae-tiles on, --large tile --tile 512, --clip-frames 5 or a smaller photo, or free some memory",
)


def within_memory(
    video: Placed,
    plan: MemoryPlan,
    device: torch.device,
    work: Callable[[], T],
    say: Callable[[str], None] | None = None,
    *,
    tiles: VaeTiles = "auto",
    advice: Advice = OF_PHOTOS,
) -> tuple[T, MemoryPlan]:
    """What `work` gives under a plan that `video` follows already, or under the next one whose failed phase is smaller.

    Args:
        video: the model that `work` uses.
        plan: that was applied to it.
        device: where it computes.
        work: from its beginning; it is called a second time if memory runs out in the first.
        say: told in one line when that happens.
        tiles: whether the VAE may decode in tiles.
        advice: what is told where that isn't enough.

    Returns:
        The answer and the plan that it was found under, which `video` follows now.

    Raises:
        UnfadeError: memory ran out twice, or nothing smaller is left to try.
    """
    try:
        return work(), plan
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        phase = failed_phase(video, error)
    # Outside of the except clause, so that nothing of the first try is held by its traceback.
    return after_running_out(video, plan, device, work, phase, say, tiles=tiles, advice=advice)


def after_running_out(
    video: Placed,
    plan: MemoryPlan,
    device: torch.device,
    work: Callable[[], T],
    phase: Phase | None,
    say: Callable[[str], None] | None = None,
    *,
    tiles: VaeTiles = "auto",
    advice: Advice = OF_PHOTOS,
) -> tuple[T, MemoryPlan]:
    """The second try of `within_memory`, which takes the same and gives the same.

    Args:
        phase: in which memory ran out, if that is known.
    """
    host = device.type == "cpu"
    told = advice.host if host else advice.device
    retreat(video)
    # On the host the weights lie in what is not free any more; a plan counts them among what it needs.
    there = plan.footprint.transformer + plan.footprint.vae if host else 0
    less = smaller_plan(plan, free_bytes(device) + there, tiles, host, phase)
    if less is None:
        raise UnfadeError(
            f"memory ran out{_during(phase)} ({plan.name}), and no smaller plan is left; {told}"
        )
    if say:
        say(f"memory ran out{_during(phase)} ({plan.name}); going on with {less.name}")
    try:
        apply_memory_plan(video, less, device)
        return work(), less
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        raise UnfadeError(f"memory ran out twice ({plan.name}, then {less.name}); {told}") from None


def failed_phase(video: Placed, error: BaseException) -> Phase | None:
    """In which phase an error was raised: by the calls of the model's parts in its traceback; None outside of them."""
    for frame, _ in walk_tb(error.__traceback__):
        part = frame.f_locals.get("self")
        if part is video.denoiser:
            return "denoise"
        if part is video.vae:
            return "encode" if frame.f_code.co_name.startswith("encode") else "decode"
    return None


def _during(phase: Phase | None) -> str:
    names: dict[Phase, str] = {
        "place": "placing the weights",
        "encode": "encoding",
        "denoise": "denoising",
        "decode": "decoding",
    }
    return f" while {names[phase]}" if phase else ""
