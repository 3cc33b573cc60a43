"""Every case on every contender, alone or in several processes, going on where an earlier run stopped."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass

import torch

from unfade.core import UnfadeError
from unfade.core.memory import reuse_large_blocks
from unfade.evaluation.benchmarks.benchmark import Benchmark
from unfade.evaluation.benchmarks.case import Case
from unfade.evaluation.benchmarks.material import prepare
from unfade.evaluation.contender import Contender
from unfade.evaluation.journal import Fingerprints, Journal, Row, key_of, software
from unfade.evaluation.measure import (
    ROUND_TRIP,
    TARGET,
    Settings,
    measure,
    measure_input,
    measure_round_trip,
    measure_target,
    metrics_of,
    warm_up,
)

Resolve = Callable[[str], Contender]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is measured.

    Attributes:
        benchmark: the protocol.
        cases: its material, in the order of the tables.
        models: what takes part, as names that `resolve` understands.
        resolve: from a name to a contender; importable where there are several workers.
        settings: what else a result depends on.
    """

    benchmark: Benchmark
    cases: Sequence[Case]
    models: Sequence[str]
    resolve: Resolve
    settings: Settings


def execute(
    run: Run,
    journal: Journal,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """All rows in the order of cases and models, the target trajectory's and round trips' last in each case.

    Args:
        run: what to do.
        journal: results it holds are not computed again; new ones are added as they come.
        workers: processes, one CPU thread each where there are several.
        progress: told (cases done, cases in all).

    Raises:
        UnfadeError: a restorer failed on a case; what was finished is in the journal.
    """
    contenders = [run.resolve(name) for name in run.models]
    keys = _keys(run, contenders)
    todo = {
        index: [name for name, key in wanted.items() if journal.get(key) is None]
        for index, wanted in enumerate(keys)
    }
    todo = {index: names for index, names in todo.items() if names}
    done = len(keys) - len(todo)
    if progress:
        progress(done, len(keys))
    for index, row in _results(run, contenders, todo, workers):
        if row is None:
            done += 1
            if progress:
                progress(done, len(keys))
        else:
            journal.put(keys[index][row.model], row)
    kept = (journal.get(key) for wanted in keys for key in wanted.values())
    return [row for row in kept if row is not None]


def _keys(run: Run, contenders: Sequence[Contender]) -> list[dict[str, str]]:
    """For each case the journal's key of every row it will have."""
    files = Fingerprints()
    settings = asdict(run.settings)
    keys: list[dict[str, str]] = []
    for case in run.cases:
        group = case.group
        metrics, _ = metrics_of(run.benchmark, run.settings, group.scale)
        judged = [[metric.name, metric.convention, metric.source, metric.weights] for metric in metrics]
        common = {
            "software": software(),
            "gpu": torch.cuda.is_available(),
            "settings": settings,
            "metrics": judged,
            "group": [group.name, group.make, group.strength, group.scale],
            "name": case.name,
            "made": case.degraded is None,
            "files": [files.of(path) for path in case.files],
            "rules": [
                run.benchmark.size,
                run.benchmark.oriented,
                run.benchmark.quantised,
                run.benchmark.resized,
                run.benchmark.short_side,
                run.benchmark.aligned,
            ],
        }
        wanted = {
            one.name: key_of(**common, model=one.name, weights=one.weights, captioner=one.captioner)
            for one in contenders
        }
        if run.settings.film:
            wanted[TARGET] = key_of(**common, model=TARGET, weights=None)
        for one in contenders:
            if one.round_trip is not None:
                name = f"{ROUND_TRIP} ({one.name})"
                wanted[name] = key_of(**common, model=name, weights=one.weights)
        keys.append(wanted)
    return keys


def _rows(run: Run, contenders: Sequence[Contender], index: int, names: Sequence[str]) -> Iterator[Row]:
    """The rows of one case that are asked for."""
    case, settings, benchmark = run.cases[index], run.settings, run.benchmark
    material = prepare(benchmark, case, settings.seed)
    given = measure_input(benchmark, case, material, settings)
    for one in contenders:
        if one.name in names:
            try:
                if one.name not in _warm:
                    warm_up(material, one, settings)
                    _warm.add(one.name)
                yield measure(benchmark, case, material, one, settings, given)
            except UnfadeError as error:
                where = f"{one.name} failed on {case.name} of {case.group.name}"
                raise type(error)(f"{where}: {error}") from error
        if f"{ROUND_TRIP} ({one.name})" in names:
            yield measure_round_trip(benchmark, case, material, one, settings)
    if TARGET in names:
        yield measure_target(benchmark, case, material, settings)


def _results(
    run: Run, contenders: Sequence[Contender], todo: dict[int, list[str]], workers: int
) -> Iterator[tuple[int, Row | None]]:
    """(case, row) as they come, and (case, None) behind the last of a case."""
    if workers <= 1 or len(todo) <= 1:
        for index, names in todo.items():
            for row in _rows(run, contenders, index, names):
                yield index, row
            yield index, None
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _begin_work, (run,))
    waiting: dict[Future[list[Row]], int] = {}
    left = iter(todo.items())
    try:
        while True:
            # Twice as many as there are workers: enough that none waits, few enough that Ctrl-C loses little.
            while len(waiting) < 2 * workers and (item := next(left, None)):
                waiting[pool.submit(_work, *item)] = item[0]
            if not waiting:
                pool.shutdown()
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                index = waiting.pop(future)
                for row in future.result():
                    yield index, row
                yield index, None
    except BrokenProcessPool as error:
        raise UnfadeError(
            "an evaluation worker was killed, perhaps for want of memory; use fewer --workers"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()


_run: Run | None = None
_warm: set[str] = set()
_contenders: list[Contender] = []


def _begin_work(run: Run) -> None:
    global _run
    # Ctrl-C reaches the whole process group; the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    reuse_large_blocks()
    _run = run
    _contenders[:] = [run.resolve(name) for name in run.models]


def _work(index: int, names: Sequence[str]) -> list[Row]:
    if _run is None:
        raise AssertionError("a worker was given work before it began")
    return list(_rows(_run, _contenders, index, names))
