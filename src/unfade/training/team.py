"""Several training processes that act as one: one thread on each core beats two threads in one process."""

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from unfade.core import UnfadeError


@dataclass(frozen=True, slots=True)
class Team:
    """This process among its equals.

    Attributes:
        rank: 0 leads: it validates, logs and saves.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The average over the team."""
        if self.size > 1:
            distributed.all_reduce(value)
            value /= self.size
        return value

    def mean_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Averages all gradients over the team, in one message."""
        if self.size == 1:
            return
        present = [parameter for parameter in parameters if parameter.requires_grad]
        for parameter in present:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = self.mean(torch.cat([parameter.grad.flatten() for parameter in present]))  # type: ignore[union-attr]
        for parameter, part in zip(present, flat.split([p.numel() for p in present]), strict=True):
            parameter.grad.copy_(part.view_as(parameter))  # type: ignore[union-attr]

    def gather(self, value: Any) -> list[Any]:
        """Everyone's value, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values


def _member(
    rank: int, size: int, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    # Told to end, it leaves no temporary file behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        work(Team(rank, size), *arguments)
        # Whoever is done first waits: a connection that closes under another's feet ends in an abort.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
    # Now and then gloo's threads outlive the interpreter's own end, which aborts the process after all work is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def work_together(size: int, work: Callable[..., None], *arguments: Any) -> None:
    """Runs `work(team, *arguments)` in `size` processes of one thread each; `work` must be importable.

    Raises:
        UnfadeError: what the first process that failed said last; the others are ended. A single worker's
            exceptions come through as they are.
    """
    if size == 1:
        work(Team(), *arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / f"meeting-{os.getpid()}")
        team = spawn(_member, (size, meeting, work, arguments), nprocs=size, join=False)
        assert team is not None, "it was not asked to wait for them"
        try:
            while not team.join():
                pass
        except ProcessRaisedException as error:
            raise UnfadeError(f"a training worker failed: {str(error).strip().splitlines()[-1]}") from error
        except ProcessExitedException as error:
            raise UnfadeError(
                f"a training worker was ended ({error}); where memory was short, use fewer workers"
            ) from error
        except BaseException:
            # Or this process, told to end, would wait for them to finish the whole training.
            for member in team.processes:
                member.terminate()  # type: ignore[union-attr]
            raise
