"""Worker processes of a recipe: one core each, and never left behind."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context, parent_process
from typing import Any

import torch


def begin_worker() -> None:
    """A worker takes one core, and ends when the process that started it does, however that ended."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def in_workers(work: Callable[..., object], jobs: Sequence[tuple[Any, ...]], workers: int) -> None:
    """Does all jobs, so many at a time; after a failure, or when asked to stop, none is begun.

    Jobs under way are told of SIGTERM; they are expected to save what they have and to end. Ctrl-C reaches them by
    itself.

    Args:
        work: does a job, given its parts; must be importable.
        jobs: in the order in which they begin.
        workers: processes.

    Raises:
        BaseException: what a job raised.
    """
    left = list(jobs)
    pool = ProcessPoolExecutor(workers, get_context("spawn"), begin_worker)
    running: set[Future[object]] = set()
    try:
        while left or running:
            while left and len(running) < workers:
                running.add(pool.submit(work, *left.pop(0)))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
    except SystemExit:
        for worker in list(pool._processes.values()):
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
