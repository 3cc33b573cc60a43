"""From a case to what is measured: the input, the truth, and what is known about how one became the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.core import Clip, InputError, generator, subseed
from unfade.degrade import draw_composition, named
from unfade.degrade.blur import LocalBlur
from unfade.degrade.classic import CLASSIC, Blurred, quantise
from unfade.degrade.composition import Composition
from unfade.degrade.degradation import Degradation
from unfade.degrade.resample import resize
from unfade.degrade.trajectory import fade_frames, linear_frames
from unfade.degrade.view import View
from unfade.evaluation.benchmarks.benchmark import Benchmark
from unfade.evaluation.benchmarks.case import Case, frames_in
from unfade.evaluation.benchmarks.tasks import task_of
from unfade.evaluation.peers.facts import Facts
from unfade.media.images import read_image
from unfade.media.source import FOOTAGE
from unfade.media.video import probe_video, read_video

_PANNED = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a restorer is given, and what its answer is held against.

    Attributes:
        degraded: the input, at the size the restorer gets it: with the benchmark's `short_side`, brought to it
            (bicubic, a = -0.5, not rounded to 8 bits), and the truth to the same size.
        truth: at `scale` times that size; None where nobody knows it.
        scale: enlargement asked for.
        mask: weights of the error `[1, H, W]` in [0, 1], or None.
        facts: what is known about the degradation.
        target: the ideal way from input to truth as so many frames `[T, 3, H, W]`, made one at a time; None where the
            input is smaller than the truth or there is none.
    """

    degraded: Clip
    truth: Clip | None
    scale: int = 1
    mask: Tensor | None = None
    facts: Facts = field(default_factory=Facts)
    target: Callable[[int], Iterator[Tensor]] | None = None


def prepare(benchmark: Benchmark, case: Case, seed: int) -> Material:
    """Reads a case's files, and makes its input where it is made.

    A made input depends on the seed, the group's degradation and the case's name, on nothing else; with the benchmark
    `quantised` it has 8 bits, as files have.

    Raises:
        InputError: a file can't be read, or the photo is too small for the group's scale.
    """
    made = _material(benchmark, case, seed)
    return replace(made, facts=replace(made.facts, task=task_of(case.group)))


def _material(benchmark: Benchmark, case: Case, seed: int) -> Material:
    if case.degraded is not None:
        return _read(benchmark, case, case.degraded)
    if case.truth is None:
        raise InputError(f"{case.name} of {benchmark.title} has neither an input nor a truth to make it from")
    truth = read_footage(case.truth, benchmark.oriented)
    if benchmark.footage and truth.num_frames == 1:
        truth = panned(truth)
    frames = quantise(truth.frames)
    if benchmark.size:
        frames = quantise(_fitted(frames, benchmark.size))
    multiple = case.group.scale
    height, width = (side // multiple * multiple for side in frames.shape[2:])
    if min(height, width) < 16 * multiple:
        raise InputError(f"{case.truth} is too small: {width} x {height} for {benchmark.title}")
    truth = Clip(frames[:, :, :height, :width].contiguous(), truth.fps)
    if multiple > 1:
        small = _rounded(resize(truth.frames, height // multiple, width // multiple), benchmark)
        facts = Facts(scale=multiple)
        return Material(degraded=Clip(small, truth.fps), truth=truth, scale=multiple, facts=facts)
    make = case.group.make
    if make in CLASSIC:
        return _classic(benchmark, truth, make, lambda: generator(seed, make, case.name))
    return _composed(benchmark, case, truth, subseed(seed, make, case.name))


def read_footage(path: Path, oriented: bool = True) -> Clip:
    """A photo, a video file or a folder of frames as one clip, without alpha or metadata.

    Raises:
        InputError: it can't be read.
    """
    if path.is_dir():
        frames = [read_image(file, oriented=oriented).frames for file in frames_in(path)]
        if len({frame.shape for frame in frames}) != 1:
            raise InputError(f"{path} holds no frames, or frames of different sizes")
        return Clip(torch.cat(frames), Fraction(25))
    if path.suffix.lower() in FOOTAGE:
        return Clip(torch.stack([frame.image for frame in read_video(path)]), probe_video(path).fps)
    return Clip(read_image(path, oriented=oriented).frames)


def panned(photo: Clip) -> Clip:
    """Footage of nine frames from a photo: a window of nine tenths of its sides that moves evenly across it."""
    height, width = (side - side // 10 for side in (photo.height, photo.width))
    frames: list[Tensor] = []
    for index in range(_PANNED):
        top, left = ((side // 10) * index // (_PANNED - 1) for side in (photo.height, photo.width))
        frames.append(photo.frames[0, :, top : top + height, left : left + width])
    return Clip(torch.stack(frames), Fraction(25))


def _read(benchmark: Benchmark, case: Case, source: Path) -> Material:
    degraded = read_footage(source, benchmark.oriented)
    truth = read_footage(case.truth, benchmark.oriented) if case.truth else None
    mask = read_footage(case.mask, benchmark.oriented).frames[0, :1] if case.mask else None
    if benchmark.short_side is not None:
        size = benchmark.canvas(degraded.height, degraded.width)
        degraded = _brought(degraded, size)
        # A truth has 8 bits, as the files have that results are compared with at its own size.
        truth = None if truth is None else _brought(truth, size, rounded=True)
        mask = None if mask is None else resize(mask[None], *size).clamp(0, 1)[0]
    target = None
    if truth is not None and truth.frames.shape == degraded.frames.shape:
        ends = degraded.frames, truth.frames
        target = lambda count: linear_frames(*ends, count)  # noqa: E731
    return Material(degraded=degraded, truth=truth, mask=mask, target=target)


def _brought(clip: Clip, size: tuple[int, int], rounded: bool = False) -> Clip:
    """A clip resized to (height, width), frame by frame; of that size already, the same clip."""
    if (clip.height, clip.width) == size:
        return clip
    frames = clip.frames.new_empty((clip.num_frames, 3, *size))
    for index, frame in enumerate(clip.frames.split(1)):
        large = resize(frame, *size).clamp(0, 1)
        frames[index] = (quantise(large) if rounded else large)[0]
    return clip.with_frames(frames)


def _classic(benchmark: Benchmark, truth: Clip, make: str, dice: Callable[[], torch.Generator]) -> Material:
    degradation = CLASSIC[make]
    degraded = _rounded(degradation(truth.frames, dice()), benchmark)
    kind, _, amount = make.partition("-")
    facts = Facts(
        sigma=float(amount) if kind == "noise" else None,
        kernel=degradation.kernels(1, dice())[0] if isinstance(degradation, Blurred) else None,
        gain=float(amount) if kind == "dark" else None,
    )
    ends = degraded, truth.frames
    return Material(
        degraded=Clip(degraded, truth.fps),
        truth=truth,
        facts=facts,
        target=lambda count: linear_frames(*ends, count),
    )


def _composed(benchmark: Benchmark, case: Case, truth: Clip, seed: int) -> Material:
    kinds = named(case.group.make)
    dice = torch.Generator().manual_seed(seed)
    drawn = draw_composition(kinds, dice, (1, truth.height, truth.width), case.group.strength)

    def each(frames: Tensor, apply: Callable[[Tensor, Composition], Tensor]) -> Tensor:
        """Footage frame by frame: one draw for all, but noise that is new in each."""
        if len(frames) == 1:
            return apply(frames, drawn)
        fields = torch.Generator().manual_seed(subseed(seed, "fields"))
        return torch.cat([apply(frame, _with_new_noise(drawn, fields)) for frame in frames.split(1)])

    def target(count: int) -> Iterator[Tensor]:
        if truth.num_frames == 1:
            yield from fade_frames(truth.frames, drawn, count)
            return
        for index in range(count):
            severity = 1 - index / (count - 1)
            yield each(truth.frames, lambda frame, what: what(frame, severity))  # noqa: B023

    masks = [
        part.mask(truth.frames[:1], View.whole(truth.frames[:1]))
        for part in drawn.parts
        if isinstance(part, LocalBlur)
    ]
    return Material(
        degraded=Clip(_rounded(each(truth.frames, lambda frame, what: what(frame)), benchmark), truth.fps),
        truth=truth,
        mask=masks[0][0] if masks else None,
        target=target,
    )


def _with_new_noise(drawn: Composition, dice: torch.Generator) -> Composition:
    """The same parameters with other noise fields."""

    def renewed(part: Degradation) -> Degradation:
        changed: dict[str, Any] = {}
        for known in fields(part):  # type: ignore[arg-type]
            value = getattr(part, known.name)
            if known.name == "field":
                changed["field"] = torch.randn(value.shape, generator=dice)
            elif isinstance(value, Degradation):
                changed[known.name] = renewed(value)
        return replace(part, **changed)  # type: ignore[type-var]

    return Composition(tuple(map(renewed, drawn.parts)))


def _rounded(frames: Tensor, benchmark: Benchmark) -> Tensor:
    return quantise(frames) if benchmark.quantised else frames.clamp(0, 1)


def _fitted(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Cropped in the middle to the proportions of `size` (turned for upright photos) and reduced to it.

    A photo smaller than that keeps its own pixels, cropped.
    """
    width, height = size if frames.shape[3] >= frames.shape[2] else size[::-1]
    factor = min(frames.shape[3] / width, frames.shape[2] / height)
    tall, wide = (
        min(round(side * factor), have) for side, have in zip((height, width), frames.shape[2:], strict=True)
    )
    top, left = (frames.shape[2] - tall) // 2, (frames.shape[3] - wide) // 2
    cut = frames[:, :, top : top + tall, left : left + wide]
    return resize(cut, height, width).clamp(0, 1) if factor > 1 else cut
