"""Vivid-VR where it can work: loaded when it is first needed, and placed for what is asked of it."""

from collections.abc import Callable

import torch

from unfade.backbones.free_memory import out_of_memory
from unfade.restore.memory import failed_phase
from unfade.restore.placement import Placement, Room
from unfade.restore.vivid_memory import VividLoad
from unfade.restore.vivid_model import VividModel


class PlacedVivid:
    """One model at most, on one device in one precision, under the memory plan that its work needs.

    Attributes:
        room: how weights are kept.
        placement: the plan it is under.

    Args:
        load: reads the weights, given device and precision.
        room: see above.
    """

    def __init__(self, load: Callable[[torch.device, torch.dtype], VividModel], room: Room) -> None:
        self.room = room
        self.placement = Placement(room)
        self._load = load
        self._held: tuple[torch.device, torch.dtype, VividModel] | None = None
        self._settled: VividLoad | None = None

    def loaded(self, device: torch.device, dtype: torch.dtype) -> VividModel:
        """The model, wherever it lies."""
        if self._held is None or self._held[:2] != (device, dtype):
            self._held = None  # never two of them in memory
            self.placement, self._settled = Placement(self.room), None
            self._held = (device, dtype, self._load(device, dtype))
        return self._held[2]

    def placed(self, wanted: VividLoad, device: torch.device, dtype: torch.dtype) -> VividModel:
        """The model, where it can do what is wanted of it."""
        model = self.loaded(device, dtype)
        if self._settled != wanted:
            self.placement.settle(model, wanted, device)
            self._settled = wanted
        return model

    def run(
        self, wanted: VividLoad, device: torch.device, dtype: torch.dtype, work: Callable[[], None]
    ) -> None:
        """Does some work that may ask for the model; where memory runs out, once more under the next smaller plan.

        Args:
            wanted, device, dtype: with which the work asks for it.
            work: called a second time if memory runs out in the first.

        Raises:
            UnfadeError: memory ran out again, or nothing smaller is left to try.
        """
        try:
            work()
            return
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if self._held is None or not out_of_memory(error):
                raise
            phase = failed_phase(self._held[2], error)
        # Outside of the except clause, so that nothing of the first try is held by its traceback.
        self._settled = wanted
        try:
            self.placement.run_again(self._held[2], wanted, device, work, phase)
        except Exception:
            self._settled = None  # the model went back to the host
            raise
