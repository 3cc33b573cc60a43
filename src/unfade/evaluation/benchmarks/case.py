"""One picture or clip of a benchmark, and finding them all on disk."""

import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from unfade.core import InputError, UnfadeError
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group, Layout
from unfade.evaluation.metrics.footage import timing_equal
from unfade.media.image_formats import SUFFIXES
from unfade.media.images import probe_image, read_image
from unfade.media.source import FOOTAGE
from unfade.media.video import probe_video, read_video

# Names that promise a picture, of formats that can be read and of some that can't: those are told, not passed over.
_PICTURES = {*SUFFIXES, ".jfif", ".heic", ".heif", ".hif", ".bmp", ".jp2", ".jxl", ".exr", ".dng", ".tga"}


@dataclass(frozen=True, slots=True)
class Case:
    """What is needed to make one input and judge its restoration.

    Attributes:
        group: it belongs to.
        name: of the pair, unique in its group.
        truth: the clean photo or clip (a file, or a folder of frames); None where the benchmark has none.
        degraded: the input; None where it is made from the truth.
        mask: weights of the error, or None.
    """

    group: Group
    name: str
    truth: Path | None
    degraded: Path | None = None
    mask: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files it is made of, frames of folders one by one, in a fixed order."""
        parts = [path for path in (self.degraded, self.truth, self.mask) if path is not None]
        return tuple(file for part in parts for file in (frames_in(part) if part.is_dir() else [part]))


def find_cases(
    benchmark: Benchmark,
    data: Path,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Case]:
    """Every case of a benchmark below the folder `data`, sorted by name within its group, each file decoded once.

    Args:
        benchmark: whose layout is looked for.
        data: its root on disk.
        limit: at most so many cases a group; of the others only names and number are looked at.
        progress: told (cases decoded, cases in all).

    Raises:
        InputError: a folder or partner is missing, a name stands twice, the count is wrong, a file is damaged or the
            sizes within a case differ: all that was found, in one message.
    """
    if not data.is_dir():
        raise InputError(f"{data} is not a folder; {benchmark.title} needs {benchmark.needs()}")
    layout = _layout(benchmark, data)
    cases: list[Case] = []
    problems: list[str] = []
    for group in benchmark.groups:
        found, lacks = _paired(benchmark, group, layout, data)
        problems += [lack for lack in lacks if lack not in problems]
        if found and group.count is not None and len(found) != group.count:
            problems.append(
                f"{data / layout.truth.format(group=group.folder)}: group {group.name} has {len(found)} where "
                f"{benchmark.title} has {group.count}"
            )
        cases += found[:limit]
    with ThreadPoolExecutor(2) as pool:
        for done, faults in enumerate(pool.map(lambda case: _faults(benchmark, case), cases)):
            problems += [fault for fault in faults if fault not in problems]
            if progress:
                progress(done + 1, len(cases))
    if problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise InputError(f"{data} can't be evaluated as {benchmark.title}; nothing was measured:{lines}")
    return cases


def frames_in(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names."""
    return sorted(path for path in folder.iterdir() if _is_picture(path))


def _layout(benchmark: Benchmark, data: Path) -> Layout:
    def missing(layout: Layout) -> list[Path]:
        places = (layout.truth, layout.degraded, layout.masks)
        folders = [
            data / place.format(group=group.folder) for group in benchmark.groups for place in places if place
        ]
        return [folder for folder in dict.fromkeys(folders) if not folder.is_dir()]

    lacks = [(layout, missing(layout)) for layout in benchmark.layouts]
    layout, gaps = min(lacks, key=lambda pair: len(pair[1]))
    if gaps:
        raise InputError(
            f"{data} is not {benchmark.title}: no folder {', '.join(map(str, gaps[:5]))}"
            f"{f' and {len(gaps) - 5} more' if len(gaps) > 5 else ''}; it needs {benchmark.needs()}"
        )
    return layout


def _paired(benchmark: Benchmark, group: Group, layout: Layout, data: Path) -> tuple[list[Case], list[str]]:
    """The cases of a group, and what is wrong with its names."""
    problems: list[str] = []
    roles = (
        (layout.truth, layout.truth_name),
        (layout.degraded, layout.degraded_name),
        (layout.masks, layout.truth_name),
    )

    def others(place: str) -> list[str]:
        """The patterns of everything that lies in one folder."""
        return [pattern for where, pattern in roles if where == place]

    def entries(place: str, pattern: str) -> dict[str, Path]:
        folder = data / place.format(group=group.folder)
        named, wrong = _named(folder, pattern, others(place), benchmark)
        problems.extend(wrong)
        if not named:
            problems.append(f"{folder} holds no {'clip' if benchmark.footage else 'photo'} of this benchmark")
        return named

    if benchmark.holds == "clips without truth":
        inputs = entries(layout.degraded, layout.degraded_name)
        return [Case(group, name, None, path) for name, path in sorted(inputs.items())], problems
    truths = entries(layout.truth, layout.truth_name)
    if benchmark.synthetic or benchmark.holds == "clean photos":
        return [Case(group, name, path) for name, path in sorted(truths.items())], problems
    inputs = entries(layout.degraded, layout.degraded_name)
    masks = entries(layout.masks, layout.truth_name) if layout.masks else {}
    problems += [f"{path} has no truth" for name, path in sorted(inputs.items()) if name not in truths]
    problems += [
        f"{path} has no degraded partner" for name, path in sorted(truths.items()) if name not in inputs
    ]
    if layout.masks:
        problems += [f"{path} has no mask" for name, path in sorted(inputs.items()) if name not in masks]
    whole = sorted(set(truths) & set(inputs))
    return [Case(group, name, truths[name], inputs[name], masks.get(name)) for name in whole], problems


def _named(
    folder: Path, pattern: str, patterns: Sequence[str], benchmark: Benchmark
) -> tuple[dict[str, Path], list[str]]:
    """The files by what the pattern catches of their names, and complaints: names that stand twice, and files that look
    like cases but fit none of the patterns of their folder."""
    found: dict[str, Path] = {}
    wrong: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not _may_be_case(path, benchmark):
            continue
        name = path.name if path.is_dir() else path.stem
        caught = re.fullmatch(pattern, name)
        if caught is None:
            if not any(re.fullmatch(other, name) for other in patterns):
                wrong.append(f"{path} is not named as {benchmark.title}'s files are: {' or '.join(patterns)}")
            continue
        if caught[1] in found:
            wrong.append(f"{found[caught[1]]} and {path} would be the same case; keep one of them")
        found[caught[1]] = path
    return found, wrong


def _may_be_case(path: Path, benchmark: Benchmark) -> bool:
    """Whether a file (for footage: a video, a folder of frames or, to synthesise from, a photo) is meant as a case."""
    if not benchmark.footage:
        return _is_picture(path)
    return path.suffix.lower() in FOOTAGE or path.is_dir() or (benchmark.synthetic and _is_picture(path))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURES and not path.name.startswith(".") and path.is_file()


def _faults(benchmark: Benchmark, case: Case) -> list[str]:
    parts = [path for path in (case.degraded, case.truth, case.mask) if path is not None]
    faults: list[str] = []
    sizes: list[tuple[Path, tuple[int, ...]]] = []
    for part in parts:
        try:
            sizes.append((part, _size(part, benchmark.oriented)))
        except UnfadeError as error:
            faults.append(str(error))
    shapes = dict(sizes)
    if case.degraded in shapes:
        for part in parts:
            if part in shapes and _compared(shapes[part], benchmark) != _compared(
                shapes[case.degraded], benchmark
            ):
                first, second = (_shown(shapes[path]) for path in (case.degraded, part))
                faults.append(f"{part} is {second}, but {case.degraded} is {first}")
    if benchmark.short_side and case.degraded in shapes and case.truth in shapes:
        first, second = shapes[case.degraded], shapes[case.truth]
        if not _same_form(first[-2:], second[-2:]):
            faults.append(
                f"{case.truth} is {_shown(second[-2:])}, but {case.degraded} is {_shown(first[-2:])}: other "
                f"proportions, so that they don't fit at a short side of {benchmark.short_side}"
            )
    videos = [part for part in parts if part.suffix.lower() in FOOTAGE and part.is_file()]
    if len(videos) == 2 and not faults:
        timing = timing_equal(*videos)
        if not timing.equal:
            faults.append(f"{videos[0]} and {videos[1]} don't run alike: {timing.difference}")
    return faults


def _compared(shape: tuple[int, ...], benchmark: Benchmark) -> tuple[int, ...]:
    """What must be equal within a case: all, or the number of frames alone where sizes may differ."""
    return shape[:-2] if benchmark.resized else shape


def _same_form(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether two sizes have the same proportions but for less than a pixel of the smaller one."""
    small, large = sorted((first, second), key=min)
    scale = min(large) / min(small)
    return all(abs(own - scale * other) < scale for own, other in zip(large, small, strict=True))


def _size(path: Path, oriented: bool) -> tuple[int, ...]:
    """(frames, height, width) of what decodes; width and height only of a picture."""
    if path.is_dir():
        files = frames_in(path)
        if not files:
            raise InputError(f"{path} holds no frame")
        shapes = {_size(file, oriented) for file in files}
        if len(shapes) > 1:
            raise InputError(f"{path} holds frames of different sizes")
        return len(files), *shapes.pop()
    if path.suffix.lower() in FOOTAGE:
        info = probe_video(path)
        return sum(1 for _ in read_video(path)), info.height, info.width
    probe_image(path)
    return tuple(read_image(path, oriented=oriented).frames.shape[2:])


def _shown(shape: Iterable[int]) -> str:
    *frames, height, width = shape
    return f"{width} x {height}" + (f" with {frames[0]} frames" if frames else "")
