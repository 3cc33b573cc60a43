"""Where a restorer's weights wait: a memory plan chosen for each size, followed, and left for a smaller one in need."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import torch

from unfade.backbones.wan import Wan
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_memory import MemoryPlan, VaeTiles, Weights, choose_memory_plan, free_bytes
from unfade.backbones.wan_placement import apply_memory_plan
from unfade.backbones.wan_speed import Rates, measure_rates, predict_seconds
from unfade.core import UsageError
from unfade.restore.memory import out_of_memory, within_memory

T = TypeVar("T")

# More bytes than any Wan's VAE takes for a pixel of the canvas, and how much of what is free is small beyond doubt.
_PER_PIXEL, _SMALL = 20_000, 0.25


@dataclass(frozen=True, slots=True)
class Room:
    """How weights are to be kept, and whether the VAE may decode in tiles.

    Attributes:
        memory: "auto" chooses from what is free.
        vae_tiles: "auto" only where the whole does not fit; the same pixels, more slowly.

    Raises:
        UsageError: a value is unknown.
    """

    memory: Literal["auto"] | Weights = "auto"
    vae_tiles: VaeTiles = "auto"

    def __post_init__(self) -> None:
        legal = {"memory": ("auto", *get_args(Weights)), "vae_tiles": get_args(VaeTiles)}
        for name, values in legal.items():
            if getattr(self, name) not in values:
                given = getattr(self, name)
                raise UsageError(
                    f"{name.replace('_', '-')} must be one of {', '.join(values)}, not {given!r}"
                )


@dataclass(frozen=True, slots=True)
class Load:
    """What has to fit.

    Attributes:
        config: of the model.
        canvas: (height, width) of what is encoded and decoded.
        denoised: (height, width) of what is denoised at once.
        frames: of the generated clip.
        prompts: in use; 2 with guidance.
        dtype: of the transformer.
    """

    config: WanConfig
    canvas: tuple[int, int]
    denoised: tuple[int, int]
    frames: int
    prompts: int
    dtype: torch.dtype

    def plan(self, room: Room, device: torch.device, free: int, extra: int = 0) -> MemoryPlan:
        """The memory plan for this on a device with so many free bytes; takes seconds for large models."""
        return choose_memory_plan(
            self.config,
            self.canvas,
            self.frames,
            free,
            room.memory,
            tiles=room.vae_tiles,
            device=device.type,
            dtype=self.dtype,
            prompts=self.prompts,
            denoised=self.denoised,
            extra=extra,
        )

    def forecast(self, room: Room, device: torch.device, evaluations: int) -> dict[str, object]:
        """For a dry run: the plan, its predicted peak, and seconds by what the device was just measured to do.

        Args:
            room: what is asked for.
            device: where it would be computed.
            evaluations: of the transformer, tiles, passes and samples included.
        """
        plan = self.plan(room, device, free_bytes(device))
        rates: Rates = measure_rates(device, self.dtype)
        return {
            "memory": plan.name,
            "predicted_peak_gb": float(f"{plan.peak / 1e9:.3g}"),
            "fits": plan.fits,
            "predicted_seconds": float(f"{predict_seconds(plan, evaluations, rates):.3g}"),
        }


class Placement:
    """The memory plan that a loaded model follows.

    Attributes:
        room: what is asked for.
        plan: followed now; None where the model is small beyond doubt and simply lies on the device.
        said: what had to be changed on the way, in a line each.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.plan: MemoryPlan | None = None
        self.said: list[str] = []

    @property
    def name(self) -> str:
        return self.plan.name if self.plan else "resident"

    def settle(self, wan: Wan, load: Load, device: torch.device) -> None:
        """Puts a model where it can do what comes next; does nothing where it lies right already.

        Once memory ran out, the plan that was found then is kept: what was predicted to fit did not.

        Args:
            wan: loaded, with its adapters on it.
            load: what comes next.
            device: where it computes.
        """
        if self.said:
            return
        own = sum(one.numel() * one.element_size() for one in _parameters(wan))
        there = sum(
            one.numel() * one.element_size() for one in _parameters(wan) if one.device.type == device.type
        )
        free = free_bytes(device) + (there if device.type != "cpu" else 0)
        small = own + _PER_PIXEL * load.canvas[0] * load.canvas[1] < _SMALL * free
        if small and self.room == Room() and self.plan is None:
            wan.to(device)
            return
        extra = sum(
            one.numel() * one.element_size()
            for key, one in wan.denoiser.model.named_parameters()
            if ".lora_" in key
        )
        plan = load.plan(self.room, device, free, extra)
        if self.plan is None or (self.plan.weights, self.plan.tile) != (plan.weights, plan.tile):
            apply_memory_plan(wan, plan, device)
        self.plan = plan

    def run(self, wan: Wan, load: Load, device: torch.device, work: Callable[[], T]) -> T:
        """What `work` gives; where memory runs out, once more from its beginning with a smaller plan.

        Raises:
            UnfadeError: memory ran out again.
        """
        failed = False
        if self.plan is None:
            try:
                return work()
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                failed = True
            self.plan = load.plan(Room("resident", "off"), device, free_bytes(device))

        def once_more() -> T:
            nonlocal failed
            if failed:
                failed = False
                raise MemoryError
            return work()

        tiles = self.room.vae_tiles
        answer, self.plan = within_memory(wan, self.plan, device, once_more, self._say, tiles=tiles)
        return answer

    def _say(self, line: str) -> None:
        self.said.append(line)
        logging.getLogger("unfade").warning(line)


def _parameters(wan: Wan) -> list[torch.nn.Parameter]:
    return [*wan.denoiser.model.parameters(), *wan.vae.model.parameters()]  # type: ignore[union-attr]
