"""Where a restorer's weights wait: a memory plan chosen for each size, followed, and left for a smaller one in need."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar, get_args

import torch

from unfade.backbones.free_memory import free_bytes, out_of_memory
from unfade.backbones.memory_plan import MemoryPlan, Phase, VaeTiles, Weights
from unfade.backbones.placement import Placed, apply_memory_plan, retreat
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_memory import choose_memory_plan
from unfade.backbones.wan_speed import Rates, measure_rates, predict_seconds
from unfade.core import UsageError
from unfade.restore.memory import OF_PHOTOS, Advice, after_running_out, failed_phase, within_memory

T = TypeVar("T")

# More bytes than any Wan's VAE takes for a pixel of the canvas, and how much of what is free is small beyond doubt.
_PER_PIXEL, _SMALL = 20_000, 0.25
_ENDLESS = 1 << 60


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
        last: whether the last frame is all that is wanted.
        advice: what makes it smaller.
    """

    advice: ClassVar[Advice] = OF_PHOTOS

    config: WanConfig
    canvas: tuple[int, int]
    denoised: tuple[int, int]
    frames: int
    prompts: int
    dtype: torch.dtype
    last: bool = False

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
            last=self.last,
        )

    def within(self, other: "Load") -> bool:
        """Whether it is no larger than another in any respect."""
        areas = all(
            mine[0] * mine[1] <= theirs[0] * theirs[1]
            for mine, theirs in ((self.canvas, other.canvas), (self.denoised, other.denoised))
        )
        counts = self.frames <= other.frames and self.prompts <= other.prompts
        return areas and counts and (self.last or not other.last)

    def forecast(
        self, room: Room, device: torch.device, evaluations: int, extra: int = 0
    ) -> dict[str, object]:
        """For a dry run: the plan, its predicted peak, and seconds by what the device was just measured to do.

        Args:
            room: what is asked for.
            device: where it would be computed.
            evaluations: of the transformer, tiles, passes and samples included.
            extra: bytes of adapters beside the transformer.
        """
        plan = self.plan(room, device, free_bytes(device), extra)
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
        said: what had to be changed since the model was settled last, in a line each.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.plan: MemoryPlan | None = None
        self.said: list[str] = []
        # The plan that was found by running out of memory, and what for.
        self._fallen: tuple[Load, MemoryPlan] | None = None
        self._told = False

    @property
    def name(self) -> str:
        return self.plan.name if self.plan else "resident"

    def settle(self, video: Placed, load: Load, device: torch.device) -> None:
        """Puts a model where it can do what comes next; does nothing where it lies right already.

        Once memory ran out, the plan that was found then is kept for whatever is no larger: what was predicted to
        fit did not. Where it runs out for the weights themselves, they are put where a smaller plan wants them.

        Args:
            video: loaded, with its adapters on it.
            load: what comes next.
            device: where it computes.

        Raises:
            UnfadeError: memory ran out again, or nothing smaller is left to try.
        """
        self.said = []
        if device.type == "cpu" and self.room.memory in ("offload", "group") and not self._told:
            self._told = True
            logging.getLogger("unfade").warning(
                f"--memory {self.room.memory} changes nothing on the CPU, where weights have nowhere else to wait"
            )
        wanted = self._wanted(video, load, device)
        try:
            self._follow(video, wanted, device)
            return
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        # Outside of the except clause, so that nothing of the first try is held by its traceback.
        self.plan = wanted
        # On the host the weights lie where they were loaded, and only what comes after them can take less.
        self.run_again(video, load, device, lambda: None, None if device.type == "cpu" else "place")

    def _wanted(self, video: Placed, load: Load, device: torch.device) -> MemoryPlan | None:
        """The plan to follow for what comes next; None for what is small beyond doubt."""
        if self._fallen is not None and load.within(self._fallen[0]):
            return self._fallen[1]
        own = there = 0
        for one in _parameters(video):
            own += one.numel() * one.element_size()
            there += one.numel() * one.element_size() if one.device.type == device.type else 0
        free = free_bytes(device) + there
        small = own + _PER_PIXEL * load.canvas[0] * load.canvas[1] < _SMALL * free
        if small and self.room == Room() and self.plan is None:
            return None
        return load.plan(self.room, device, free, _adapters(video))

    def run(self, video: Placed, load: Load, device: torch.device, work: Callable[[], T]) -> T:
        """What `work` gives; where memory runs out, once more from its beginning with a smaller plan.

        Raises:
            UnfadeError: memory ran out again.
        """
        if self.plan is not None:
            before, tiles = self.plan, self.room.vae_tiles
            with self._anew_after_failure(video):
                answer, self.plan = within_memory(
                    video, before, device, work, self._say, tiles=tiles, advice=load.advice
                )
            if self.plan is not before:
                self._fallen = load, self.plan
            return answer
        try:
            return work()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            phase = failed_phase(video, error)
        # Outside of the except clause, so that nothing of the first try is held by its traceback.
        return self.run_again(video, load, device, work, phase)

    def run_again(
        self, video: Placed, load: Load, device: torch.device, work: Callable[[], T], phase: Phase | None
    ) -> T:
        """What `work` gives under a smaller plan than the one under which memory ran out.

        Args:
            video, load, device: as for `settle`.
            work: called once.
            phase: in which memory ran out, if that is known.

        Raises:
            UnfadeError: memory ran out again, or nothing smaller is left to try.
        """
        # What seemed small beyond doubt had no plan: it lay there as if there were no end of memory.
        plan = self.plan or load.plan(self.room, device, _ENDLESS, _adapters(video))
        with self._anew_after_failure(video):
            answer, self.plan = after_running_out(
                video, plan, device, work, phase, self._say, tiles=self.room.vae_tiles, advice=load.advice
            )
        self._fallen = load, self.plan
        return answer

    @contextmanager
    def _anew_after_failure(self, video: Placed) -> Iterator[None]:
        """Where the work fails, the model goes back to the host, so that what comes next is placed anew."""
        try:
            yield
        except Exception:
            self.leave(video)
            raise

    def leave(self, video: Placed) -> None:
        """Takes a model back to the host; what comes next is placed anew, and what ran out of memory is remembered."""
        self.plan = None
        retreat(video)

    def _follow(self, video: Placed, plan: MemoryPlan | None, device: torch.device) -> None:
        if plan is None:
            video.to(device)
        elif self.plan is None or (self.plan.weights, self.plan.tile) != (plan.weights, plan.tile):
            apply_memory_plan(video, plan, device)
        self.plan = plan

    def _say(self, line: str) -> None:
        self.said.append(line)
        logging.getLogger("unfade").warning(line)


def _parameters(video: Placed) -> list[torch.nn.Parameter]:
    return [*video.denoiser.model.parameters(), *video.vae.model.parameters()]


def _adapters(video: Placed) -> int:
    """Bytes of what lies beside the transformer's own weights."""
    named = video.denoiser.model.named_parameters()
    return sum(one.numel() * one.element_size() for key, one in named if ".lora_" in key)
