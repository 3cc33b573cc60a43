"""Restored footage and its film, from what a walk through its shots has kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, tee
from pathlib import Path

from torch import Tensor

from unfade.restore.comparison import swept
from unfade.restore.finish import finished
from unfade.restore.shot_walk import ShotWalk
from unfade.restore.stretches import Stretch
from unfade.restore.text_protection import Masks
from unfade.restore.vividvr import VividSettings


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """Which states of the restoration the film of footage shows when.

    They follow one another while the footage runs, each sweeping over the one before in an equal part of its frames.

    Attributes:
        steps: after which each state was predicted, increasing; 0 is the input, and the last is the result.
        frames: of the footage.
    """

    steps: tuple[int, ...]
    frames: int

    def at(self, index: int) -> tuple[int, int, float]:
        """The step of the state that is being replaced at a frame, that of the one that replaces it, and the share
        of the picture where it has."""
        sweeps = len(self.steps) - 1
        place = index / (self.frames - 1) * sweeps if self.frames > 1 else float(sweeps)
        sweep = min(int(place), sweeps - 1)
        return self.steps[sweep], self.steps[sweep + 1], place - sweep

    def shown(self, start: int, stop: int) -> list[int]:
        """The steps of all states that are seen in some of the frames, increasing."""
        return sorted({step for index in range(start, stop) for step in self.at(index)[:2]})


def snapshots(steps: int, frames: int) -> tuple[int, ...]:
    """After which steps a film of so many states looks: evenly, never at the last one, which is the result."""
    wanted = {round(index * steps / (frames - 1)) for index in range(1, frames - 1)}
    return tuple(sorted(step for step in wanted if 0 < step < steps))


@dataclass(frozen=True, slots=True)
class Part:
    """A shot of footage and what there is of it.

    Attributes:
        shot: its frames.
        walk: that restores it.
        end: the step its result was predicted in; None for the end, 0 where there is none and the input is shown.
        kept: after which steps there are predicted clips besides.
    """

    shot: Stretch
    walk: ShotWalk
    end: int | None
    kept: tuple[int, ...] = ()

    def state(self, step: int) -> int | None:
        """What is shown for a step: the next that is there, in the terms of `end`."""
        return 0 if step == 0 else next((one for one in self.kept if one >= step), self.end)

    def needed(self, film: FilmPlan | None) -> list[tuple[int, int | None]]:
        """Windows and their states that are shown at any time, without the input's."""
        windows = self.walk.timeline.windows
        found: dict[tuple[int, int | None], None] = {(index, self.end): None for index in range(len(windows))}
        if film is not None:
            for index, window in enumerate(windows):
                first, last = (
                    self.shot.start + number for number in (window.decoded.start, window.decoded.stop)
                )
                for step in film.shown(first, last):
                    found[index, self.state(step)] = None
        return [(index, state) for index, state in found if state != 0]

    def frames(self, film: FilmPlan | None, side: int) -> Iterator[tuple[Tensor | None, bool]]:
        """Frames of the result or, of a film, those on one side of the border (0: being replaced, 1: replacing).

        Yields:
            A frame as decoded, or None for the input's, and whether nothing before it belongs to it.
        """

        def shown(number: int) -> int | None:
            if film is None:
                return self.end
            old, new, _ = film.at(self.shot.start + number)
            return self.state(new if side else old)

        new, last = True, self.end
        for index, window in enumerate(self.walk.timeline.windows):
            for state, run in groupby(range(window.keep_start, window.keep_stop), shown):
                numbers = list(run)
                new = new or state != last
                span = (numbers[0] - window.keep_start, numbers[-1] + 1 - window.keep_start)
                made = iter(()) if state == 0 else self.walk.decode(index, state, *span)
                for _ in numbers:
                    yield (None if state == 0 else next(made)), new
                    new, last = False, state


def shown_footage(
    parts: list[Part],
    sources: Iterator[Tensor],
    film: FilmPlan | None,
    settings: VividSettings,
    masks: Path | Masks | None,
    size: tuple[int, int],
    promised: int,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Frames of the result, each with its frame of the film; of each state a window's frames are held.

    Args:
        parts: all shots in their order.
        sources: frames of the input in the size of the result, `[3, H, W]` in [0, 1].
        film: which states the film shows; None for no film.
        settings: how colours are brought back.
        masks: of where the input is to be kept: their path, what gives them, or None. It is asked once for each frame.
        size: (height, width) of the result.
        promised: how many frames the input says it has, which masks are counted against.

    Raises:
        InputError: masks can't be read.
    """

    def stream(own: Iterator[Tensor], film: FilmPlan | None, side: int = 0) -> Iterator[Tensor]:
        def pairs() -> Iterator[tuple[Tensor, Tensor, bool]]:
            for part in parts:
                for frame, new in part.frames(film, side):
                    source = next(own)
                    yield (source if frame is None else frame), source, new

        return finished(pairs(), settings, masks, size, promised)

    if masks is not None and not isinstance(masks, Path):
        masks = _once(masks)
    if film is None:
        yield from ((frame, None) for frame in stream(sources, None))
        return
    # All three are asked in turn, so what is held for those behind is a frame.
    one, two, three = tee(sources, 3)
    states = zip(stream(one, None), stream(two, film, 0), stream(three, film, 1), strict=True)
    for index, (result, old, new) in enumerate(states):
        yield result, swept(old, new, film.at(index)[2])


def _once(masks: Masks) -> Masks:
    """The same masks, found once where a frame is asked for several times in a row."""
    last: list[tuple[Tensor, Tensor]] = []

    def found(frame: Tensor) -> Tensor:
        if not last or last[0][0] is not frame:
            last[:] = [(frame, masks(frame))]
        return last[0][1]

    return found
