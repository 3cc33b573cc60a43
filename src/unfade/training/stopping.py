"""Ctrl-C while training: the step under way is finished first, so that what is saved is whole."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn


@dataclass
class Stop:
    """Whether a stop was asked for.

    Attributes:
        asked: SIGINT or SIGTERM, 0 while nobody asked this process.
        agreed: whether all processes of a run stop now.
    """

    asked: int = 0
    agreed: bool = False

    def obey(self) -> NoReturn:
        """Ends as the signal would have."""
        if self.asked == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt


@contextmanager
def stop_after_step() -> Iterator[Stop]:
    """While the block runs, the first SIGINT or SIGTERM only sets `asked`; a second one ends at once.

    Signals that are ignored stay so. Outside the main thread nothing changes. `accelerate launch` passes signals on and
    kills its processes 30 seconds later: what a longer step, with its checkpoint, learnt is done again.
    """
    stop = Stop()
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        if stop.asked:
            stop.obey()
        stop.asked = number

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
