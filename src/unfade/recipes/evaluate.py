"""Carries an evaluation out: benchmark, data and models in; a folder with the report out."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from unfade.core import OutputError, Restorer, UsageError
from unfade.evaluation.benchmarks.benchmark import Benchmark
from unfade.evaluation.benchmarks.case import find_cases
from unfade.evaluation.benchmarks.material import prepare
from unfade.evaluation.benchmarks.table import benchmark, only, synthesized
from unfade.evaluation.contender import Contender
from unfade.evaluation.hardware import hardware
from unfade.evaluation.journal import Journal, Row
from unfade.evaluation.measure import Settings, metrics_of, shown
from unfade.evaluation.peers import PEERS, peer
from unfade.evaluation.peers.facts import Facts
from unfade.evaluation.report.exhibits import Case as Shown
from unfade.evaluation.report.exhibits import Exhibit, worst_and_best
from unfade.evaluation.report.figures import number
from unfade.evaluation.report.writer import write_report
from unfade.evaluation.run import Run, execute
from unfade.evaluation.summary import summarise, timing
from unfade.restore.latent import LatentRestorer
from unfade.restore.load import load, located
from unfade.restore.progressive import ProgressiveSettings

FILM = 9
# Settings that are no numbers even where they look like one.
_WORDS = ("adapter", "drift_adapter", "preset", "memory", "vae_tiles", "captioner")
EXHIBITS = 2
# What is happening, how much of it is done, how much there is.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What came out.

    Attributes:
        report: everything that the same run always gives again, as JSON values.
        timing: date, machine, seconds.
        rows: every case on every contender.
        page: the report's HTML page, or None where no folder was asked for.
    """

    report: dict[str, Any]
    timing: dict[str, Any]
    rows: tuple[Row, ...]
    page: Path | None


def contender(name: str, video: Mapping[str, str] | None = None) -> Contender:
    """A contender by its name: a model of the catalog, a .safetensors file of ours, a model folder, or "peer:NAME".

    Args:
        name: of the contender. That of a video model may end in settings of its own, as in
            "progressive?words=uniform&guidance=1"; an empty value takes one back ("?adapter="). Its VAE's ceiling is
            measured where it takes part without any. Progressive is told the task where the benchmark knows it;
            "?task=auto" has it measured as a user would.
        video: how to load it if it is a video model; see `Settings.video`.

    Raises:
        UsageError: a peer is unknown.
        ModelError: a model is unknown, or can't be loaded.
    """
    if name.startswith("peer:"):
        chosen = peer(name.removeprefix("peer:"))
        return Contender(
            name=chosen.name, kind="peer", make=chosen.make, weights=chosen.weights, told=chosen.told,
            source=chosen.source,
        )  # fmt: skip
    bare, _, query = name.partition("?")
    asked = {**(video or {}), **_told(query, name)}
    is_video = _is_video(name)
    if query and not is_video:
        raise UsageError(f"{bare} has no settings; leave out what follows the question mark in {name}")
    sampling: dict[str, Any] = (
        {key: _value(key, text) for key, text in asked.items() if text} if is_video else {}
    )
    restorer = load(bare, **sampling)
    latent = isinstance(restorer, LatentRestorer)
    own = restorer.settings if latent else None
    progressive = own if isinstance(own, ProgressiveSettings) else None
    knowing = partial(_knowing, restorer, progressive) if progressive and "task" not in sampling else None
    return Contender(
        name=f"{restorer.name}?{query}" if query else restorer.name,
        kind="model",
        make=knowing or (lambda facts: restorer),
        weights=restorer.weights.sha256,
        told="the task, where the benchmark is of one" if knowing else None,
        source="this project",
        round_trip=restorer.round_trip if latent and not query else None,
        film_trip=restorer.film_trip if latent and not query else None,
        words=progressive.words if progressive else "",
        tuned=bool(sampling.get("adapter")) or _trained_whole(name) if latent else None,
        captioner=progressive.captioner.identity if progressive and progressive.words == "scene" else "",
    )


def _knowing(restorer: Any, own: ProgressiveSettings, facts: Facts) -> Restorer:
    """The same restorer, whose weights are there once, told the task of what comes next."""
    restorer.settings = replace(own, task=facts.task or own.task)
    return restorer


def _trained_whole(name: str) -> bool:
    """Whether a model is a folder that our training wrote."""
    return (located(name.partition("?")[0])[1] / "training.json").is_file()


def _is_video(name: str) -> bool:
    """Whether a contender is a video model: a folder, or the name of one."""
    return not name.startswith("peer:") and located(name.partition("?")[0])[1].is_dir()


def _told(query: str, name: str) -> dict[str, str]:
    """The settings behind a contender's question mark.

    Raises:
        UsageError: they are not written as KEY=VALUE&KEY=VALUE.
    """
    pairs = [part.partition("=") for part in query.split("&")] if query else []
    if any(not key or not equals or key == "model" for key, equals, _ in pairs):
        raise UsageError(f"settings are written as NAME?words=uniform&guidance=1, not {name}")
    return {key: value for key, _, value in pairs}


def _value(name: str, text: str) -> str | int | float:
    """A setting as it was written: a whole number, a number, or a word; what names files stays as it is."""
    for kind in () if name in _WORDS else (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def evaluate(
    name: str | Benchmark,
    data: Path,
    models: Sequence[str] = ("tiny",),
    *,
    groups: Sequence[str] = (),
    synthesize: bool = False,
    limit: int | None = None,
    frames: bool = False,
    settings: Settings | None = None,
    output: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Evaluation:
    """Measures models and peers on a benchmark, and writes the report.

    Args:
        name: of the benchmark, or one of your own making.
        data: its folder, or with `synthesize` a folder of clean photos.
        models: names that `contender` understands.
        groups: only these groups; all if empty.
        synthesize: make the benchmark's inputs from the clean photos in `data`; marked in every table.
        limit: at most so many cases a group; the report says so.
        frames: judge the nine frames of the film as well.
        settings: seed, steps, prompt and so on.
        output: folder of the report and of the journal by which an interrupted run goes on; None for no files.
        workers: processes, one CPU thread each where there are several.
        progress: told what is happening, how much of it is done, and how much there is.

    Raises:
        UsageError: a benchmark, group or peer is unknown, or a model stands twice.
        InputError: files are missing, damaged, of the wrong size or number: all of them in one message.
        ModelError: a model can't be loaded.
        OutputError: the folder can't be written, or holds the report of another benchmark.
    """
    chosen = name if isinstance(name, Benchmark) else benchmark(name)
    chosen = only(chosen, groups) if groups else chosen
    chosen = synthesized(chosen) if synthesize else chosen
    settings = replace(settings or Settings(), film=FILM if frames else 0)
    if settings.steps and any("steps" in _told(model.partition("?")[2], model) for model in models):
        raise UsageError("a model has steps of its own, and --steps is for all of them; choose one")
    resolve = partial(contender, video=settings.video)
    contenders = _distinct([resolve(model) for model in models])
    if settings.video and not any(map(_is_video, models)):
        told = ", ".join(name.replace("_", "-") for name in settings.video)
        raise UsageError(f"{told} is of video models, and none takes part; leave it out")
    metrics, absent = metrics_of(chosen, settings)
    if output is not None:
        _check_folder(output, chosen)
    cases = find_cases(chosen, data, limit, progress and (lambda *done: progress("checking files", *done)))
    run = Run(benchmark=chosen, cases=cases, models=models, resolve=resolve, settings=settings)
    journal = Journal(output / "journal.jsonl" if output else None)
    rows = execute(
        run, journal, workers=workers, progress=progress and (lambda *done: progress("restoring", *done))
    )
    report = summarise(chosen, contenders, settings, metrics, absent, rows, limit)
    times = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": {**hardware(), "workers": workers},
        "models": timing(contenders, rows),
    }
    page = None
    if output is not None:
        if progress:
            progress("writing the report", 0, 1)
        chosen_cases = worst_and_best(report, each=EXHIBITS)
        exhibits = [_exhibit(one, run, contenders, report) for one in chosen_cases]
        page = write_report(output, report, times, exhibits)
    return Evaluation(report, times, tuple(rows), page)


def peer_names() -> list[str]:
    """The names of all peers, as `contender` wants them."""
    return [f"peer:{name}" for name in PEERS]


def _distinct(contenders: list[Contender]) -> list[Contender]:
    names = [one.name for one in contenders]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} takes part twice; name each model once")
    if not contenders:
        raise UsageError("nothing takes part; name a model, e.g. --model tiny")
    return contenders


def _check_folder(output: Path, chosen: Benchmark) -> None:
    """Before any work, and without making the folder: an evaluation that is refused leaves nothing behind."""
    there = output
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise OutputError(f"{output} can't be made: {there} is a file; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"{output} can't be written: {there} is read-only for you; choose another folder")
    earlier = output / "report.json"
    if earlier.is_file():
        try:
            known = json.loads(earlier.read_text(encoding="utf-8"))["benchmark"]
            same = (known["name"], known["synthetic"]) == (chosen.name, chosen.synthetic)
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise OutputError(f"{output} holds the report of another benchmark; choose another folder")


def _exhibit(shown_case: Shown, run: Run, contenders: Sequence[Contender], report: dict[str, Any]) -> Exhibit:
    """A case restored once more, for its pictures."""
    case = next(one for one in run.cases if (one.group.name, one.name) == (shown_case.group, shown_case.name))
    row = next(
        row
        for row in report["rows"]
        if all(row[key] == getattr(shown_case, key) for key in ("group", "name", "model"))
    )
    material = prepare(run.benchmark, case, run.settings.seed)
    restorer = next(one for one in contenders if one.name == shown_case.model).make(material.facts)
    if restorer is None:
        raise AssertionError("a contender that restored a case before applies to it")
    plan = replace(run.settings, film=FILM).plan(material.scale)
    restoration = restorer.restore(material.degraded, run.settings.prompt, plan)
    degraded, restored, film = shown(restoration, FILM, material.truth)
    return Exhibit(
        title=shown_case.title,
        group=shown_case.group,
        name=shown_case.name,
        model=shown_case.model,
        metric=shown_case.metric,
        input_value=number(row["input"].get(shown_case.metric)),
        output_value=number(row["output"].get(shown_case.metric)),
        degraded=degraded,
        restored=restored,
        truth=None if material.truth is None else material.truth.frames[0],
        film=film,
    )
