"""One case on one contender: restore, compare at the 8 bits that files have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from time import perf_counter
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import Clip, Plan, Restoration, UnfadeError, UsageError
from unfade.core.contracts import Device, Dtype
from unfade.degrade.classic import quantise
from unfade.evaluation.alignment import Shift, find_shift
from unfade.evaluation.benchmarks.benchmark import Benchmark
from unfade.evaluation.benchmarks.case import Case
from unfade.evaluation.benchmarks.material import Material
from unfade.evaluation.contender import Contender
from unfade.evaluation.journal import Row
from unfade.evaluation.metrics.choice import metrics_for
from unfade.evaluation.metrics.convention import Convention
from unfade.evaluation.metrics.metric import Absence, Metric
from unfade.media.resize import enlarge

Along = Literal["every", "cheap", "first"]
TARGET = "target trajectory"
ROUND_TRIP = "VAE round trip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a result depends on besides input and model.

    Attributes:
        seed: of made inputs and of the restorer's draws.
        steps, prompt, dtype, device: handed to every restorer; with `steps` None each takes its own number.
        film: frames of the film that are judged one by one; 0 for none.
        along: which metrics are taken of them: "every" one, the "cheap" ones, or the "first" only.
        learned: metrics that need weights, by name.
        video: how video models are loaded, as `load` takes it: preset, adapter, drift_adapter, words, task, captioner.
    """

    seed: int = 0
    steps: int | None = None
    prompt: str | None = None
    dtype: Dtype = "auto"
    device: Device = "auto"
    film: int = 0
    along: Along = "every"
    learned: tuple[str, ...] = ()
    video: Mapping[str, str] = field(default_factory=dict[str, str])

    def plan(self, scale: int) -> Plan:
        frames = max(2, self.film)
        return Plan(
            steps=self.steps, frames=frames, scale=scale, seed=self.seed, device=self.device, dtype=self.dtype,
            keep=self.film > 0,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a clip.

    Attributes:
        values: metric to value.
        shift: how the clip lay beside its truth, where the benchmark aligns them: what is compared with the truth
            was measured of what is left of both after shifting it back, what judges the clip alone of the whole clip.
    """

    values: Mapping[str, float]
    shift: Shift | None = None


def metrics_of(
    benchmark: Benchmark, settings: Settings, scale: int = 1
) -> tuple[tuple[Metric, ...], tuple[Absence, ...]]:
    """The metrics a benchmark is judged by, and those that can't be had; networks are loaded once."""
    more = tuple(name for name in settings.learned if name not in benchmark.learned)
    learned = (*benchmark.learned, *more)
    return _metrics(benchmark.conventions, scale, benchmark.footage, benchmark.masked, learned)


@cache
def _metrics(
    conventions: tuple[Convention, ...], scale: int, footage: bool, masked: bool, learned: tuple[str, ...]
) -> tuple[tuple[Metric, ...], tuple[Absence, ...]]:
    return metrics_for(conventions, scale=scale, footage=footage, masked=masked, learned=learned)


def measure_input(benchmark: Benchmark, case: Case, material: Material, settings: Settings) -> Figures:
    """The input's own figures, enlarged to the truth's size as restorers do first."""
    metrics, _ = metrics_of(benchmark, settings, material.scale)
    return _figures(metrics, enlarge(material.degraded, material.scale).frames, benchmark, case, material)


def measure(
    benchmark: Benchmark,
    case: Case,
    material: Material,
    contender: Contender,
    settings: Settings,
    given: Figures,
) -> Row:
    """A contender's row on a case.

    Args:
        given: the input's own figures.

    Raises:
        UnfadeError: the restorer failed, or its result has another size than the truth and may not be resized.
    """
    restorer = contender.make(material.facts)
    if restorer is None:
        return Row(group=case.group.name, name=case.name, model=contender.name, applies=False)
    metrics, _ = metrics_of(benchmark, settings, material.scale)
    started = perf_counter()
    restoration = restorer.restore(material.degraded, settings.prompt, settings.plan(material.scale))
    seconds = perf_counter() - started
    last = restoration.result
    compared = material.truth or last
    _check_footage(case, contender, material, last)
    film: dict[str, tuple[float, ...]] = {}
    found = _figures(metrics, last.frames, benchmark, case, material)
    shifts = {"input": given.shift, "output": found.shift}
    if settings.film:
        frames = (clip.frames for clip in restoration.trajectory.film(settings.film))
        film = _along(metrics, frames, benchmark, case, material, settings)
    return Row(
        group=case.group.name,
        name=case.name,
        model=contender.name,
        width=compared.width,
        height=compared.height,
        frames=last.num_frames,
        input=given.values,
        output=found.values,
        film=film,
        shift={side: shift for side, shift in shifts.items() if shift is not None},
        seconds=seconds,
        threads=torch.get_num_threads(),
    )


def warm_up(material: Material, contender: Contender, settings: Settings) -> None:
    """A small crop restored before anything is timed, as the first call also loads and compiles."""
    restorer = contender.make(material.facts)
    if restorer is not None:
        patch = Clip(material.degraded.frames[:1, :, :64, :64].contiguous(), material.degraded.fps)
        restorer.restore(patch, settings.prompt, replace(settings.plan(material.scale), keep=False))


def measure_target(benchmark: Benchmark, case: Case, material: Material, settings: Settings) -> Row:
    """The ideal way from input to truth, judged like a film: what a perfect restorer's curve looks like."""
    empty = Row(group=case.group.name, name=case.name, model=TARGET, applies=False)
    if material.target is None or not settings.film:
        return empty
    metrics, _ = metrics_of(benchmark, settings, material.scale)
    film = _along(metrics, material.target(settings.film), benchmark, case, material, settings)
    return Row(group=case.group.name, name=case.name, model=TARGET, film=film)


def measure_round_trip(
    benchmark: Benchmark, case: Case, material: Material, contender: Contender, settings: Settings
) -> Row:
    """What a latent backbone's VAE alone leaves of the truth, and of the ideal way to it: the practical ceiling."""
    name = f"{ROUND_TRIP} ({contender.name})"
    if contender.round_trip is None or material.truth is None:
        return Row(group=case.group.name, name=case.name, model=name, applies=False)
    metrics, _ = metrics_of(benchmark, settings, material.scale)
    frames = contender.round_trip(material.truth).frames
    output = _figures(metrics, frames, benchmark, case, material).values
    film = _film_trip(metrics, benchmark, case, material, contender, settings)
    return Row(group=case.group.name, name=case.name, model=name, output=output, film=film)


def _film_trip(
    metrics: Iterable[Metric],
    benchmark: Benchmark,
    case: Case,
    material: Material,
    contender: Contender,
    settings: Settings,
) -> dict[str, tuple[float, ...]]:
    """Metrics along the ideal way after it went through the VAE as one clip; none where a model can't have it."""
    way, trip = material.target, contender.film_trip
    if way is None or trip is None or not settings.film or material.degraded.num_frames > 1:
        return {}
    try:
        through = trip(torch.cat(list(way(settings.film))))
    except UsageError:
        return {}
    return _along(metrics, through.split(1), benchmark, case, material, settings)


def shown(restoration: Restoration, frames: int, truth: Clip | None) -> tuple[Tensor, Tensor, list[Tensor]]:
    """First frames `[3, H, W]` of input, result and film, at 8 bits, for a report's pictures.

    Those of another size than the truth are brought to its size, as they are for comparing.
    """
    film: list[Tensor] = []
    for clip in restoration.trajectory.film(frames):
        frame = clip.frames[:1].detach().to("cpu", torch.float32)
        if truth is not None and frame.shape[2:] != truth.frames.shape[2:]:
            size = (truth.height, truth.width)
            frame = functional.interpolate(frame, size, mode="bicubic", antialias=True)
        film.append(quantise(frame)[0])
    return film[0], film[-1], film


def _along(
    metrics: Iterable[Metric],
    frames: Iterable[Tensor],
    benchmark: Benchmark,
    case: Case,
    material: Material,
    settings: Settings,
) -> dict[str, tuple[float, ...]]:
    chosen = [metric for metric in metrics if settings.along == "every" or metric.cheap]
    if settings.along == "first":
        chosen = chosen[:1]
    values = [_figures(chosen, state, benchmark, case, material).values for state in frames]
    known = [metric.name for metric in chosen if all(metric.name in row for row in values)]
    return {name: tuple(row[name] for row in values) for name in known}


def _figures(
    metrics: Iterable[Metric], frames: Tensor, benchmark: Benchmark, case: Case, material: Material
) -> Figures:
    frames = _eight_bits(frames)
    truth, mask = material.truth.frames if material.truth is not None else None, material.mask
    # Without a truth, a benchmark with a short side wants results of that size still.
    wanted = material.degraded.frames if truth is None and benchmark.short_side else truth
    if wanted is not None and frames.shape[2:] != wanted.shape[2:]:
        if not benchmark.resized:
            raise UnfadeError(
                f"the result for {case.name} is {frames.shape[3]} x {frames.shape[2]}, but its "
                f"{'input' if truth is None else 'truth'} {wanted.shape[3]} x {wanted.shape[2]}"
            )
        size = (wanted.shape[2], wanted.shape[3])
        frames = quantise(functional.interpolate(frames, size, mode="bicubic", antialias=True))
    given = {"pair": truth is not None, "mask": truth is not None and mask is not None}
    compared, shift = frames, None
    if truth is not None and benchmark.aligned:
        shift = find_shift(frames, truth, benchmark.aligned)
        compared, truth = shift.of_clip(frames), shift.of_truth(truth)
        mask = None if mask is None else shift.of_truth(mask)
    values: dict[str, float] = {}
    for metric in metrics:
        if not given.get(metric.of, True):
            continue
        guide = (
            enlarge(material.degraded, material.scale).frames if metric.guided and truth is None else truth
        )
        value = metric.measure(frames if metric.of == "picture" else compared, guide, mask)
        if value is not None:
            values[metric.name] = value
    return Figures(values, shift)


def _eight_bits(frames: Tensor) -> Tensor:
    """Rounded to 8 bits on the CPU, one frame at a time, as several copies of a large clip take much memory."""
    rounded = torch.empty_like(frames, device="cpu", dtype=torch.float32)
    for index, frame in enumerate(frames.detach()):
        rounded[index] = quantise(frame.to("cpu", torch.float32))
    return rounded


def _check_footage(case: Case, contender: Contender, material: Material, result: Clip) -> None:
    given = material.degraded
    if result.num_frames != given.num_frames or result.fps != given.fps:
        raise UnfadeError(
            f"{contender.name} gave {result.num_frames} frames at {result.fps} a second for the {given.num_frames} "
            f"at {given.fps} of {case.name}"
        )
