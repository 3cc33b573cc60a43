"""Processes for tests, forked from a server that has imported everything: starting Python takes longer than their work.

What a process is, its signals, its exit code and its output, stays as it is; what importing costs is tested elsewhere.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any, TextIO

_IMPORTED = [
    "diffusers", "transformers", "accelerate", "torchmetrics", "scipy.stats", "scipy.signal", "scipy.ndimage", "cv2",
    "av", "unfade.cli.evaluate", "unfade.cli.restore", "unfade.restore.load", "unfade.recipes.evaluate",
    "unfade.recipes.run_tiny",
]  # fmt: skip


@cache
def forkserver() -> ForkServerContext:
    """The context whose processes are forked from the server, which begins to import in the background."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    multiprocessing.forkserver.ensure_running()
    if before is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = before
    return context


def open_pickle(source: str, target: str) -> None:
    """What `python -m unfade.backbones.unpickled` does, without a word of torch's."""
    from unfade.backbones import unpickled

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(unpickled._main(source, target))


def _command(arguments: list[str], out: Connection, error: Connection, first: Callable[[], None]) -> None:
    for number, pipe in ((1, out), (2, error)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    # Those of the server may remember a file they can seek in.
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)
    # As a shell in the foreground would start it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["TERM"] = "xterm"
    first()
    from unfade.cli import main

    sys.argv = ["unfade", *arguments]
    main()


def _nothing() -> None:
    return


class Command:
    """`unfade` in a process of its own, with as much of `subprocess.Popen` as tests need. A context manager.

    Args:
        arguments: of the command.
        stderr: a file descriptor for its errors, e.g. of a terminal; a pipe otherwise.
        first: what the process does first; must be importable.
    """

    def __init__(
        self, *arguments: object, stderr: int | None = None, first: Callable[[], None] = _nothing
    ) -> None:
        context = forkserver()
        reading, out = context.Pipe(duplex=False)
        self.stdout: TextIO = os.fdopen(os.dup(reading.fileno()), encoding="utf-8")
        self.stderr: TextIO | None = None
        if stderr is None:
            told, error = context.Pipe(duplex=False)
            self.stderr = os.fdopen(os.dup(told.fileno()), encoding="utf-8")
            told.close()
        else:
            error = Connection(os.dup(stderr))
        words = [str(argument) for argument in arguments]
        self._process: BaseProcess = context.Process(target=_command, args=(words, out, error, first))
        self._process.start()
        for pipe in (reading, out, error):
            pipe.close()

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *error: Any) -> None:
        self._process.kill()
        self._process.join()
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float = 60) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None, "it was started"
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float = 60) -> tuple[str, str]:
        """What it still says, and its end; it is killed when the time, in seconds, is over."""
        late = threading.Timer(timeout, self._process.kill)
        late.start()
        try:
            said = self.stdout.read(), "" if self.stderr is None else self.stderr.read()
            self._process.join()
        finally:
            late.cancel()
        return said
