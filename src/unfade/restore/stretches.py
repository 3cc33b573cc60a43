"""Footage divided at its hard cuts, so that no window reaches from one shot into another."""

from dataclasses import dataclass

import torch

from unfade.core import InputError
from unfade.media.cuts import is_cut
from unfade.media.glances import glances
from unfade.media.seek import Mark
from unfade.media.video import VideoInfo
from unfade.restore.chunks import Chunks
from unfade.restore.cut_short import CutShort

_KEPT = "shots"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A shot: frames without a hard cut between them.

    Attributes:
        start, stop: its frames, `stop` excluded.
        pts: when its first frame is shown, in ticks.
    """

    start: int
    stop: int
    pts: int

    @property
    def mark(self) -> Mark:
        """Where reading it begins."""
        return Mark(self.start, self.pts)


def stretches_of(info: VideoInfo) -> list[Stretch]:
    """The shots of a video, by looking through thumbnails of all its frames.

    Raises:
        InputError: the video is damaged.
    """
    shots, failure = readable_stretches(info)
    if failure is not None:
        raise failure
    return shots


def readable_stretches(info: VideoInfo) -> tuple[list[Stretch], CutShort | None]:
    """The shots of a video as far as it can be read, and what ends it too early.

    Raises:
        InputError: not one frame can be read.
    """
    firsts: list[tuple[int, int]] = []
    count, last, failure = 0, None, None
    try:
        for glance in glances(info):
            if last is None or is_cut(last, glance.thumbnail):
                firsts.append((glance.index, glance.pts))
            last, count = glance.thumbnail, glance.index + 1
    except InputError as error:
        if not count:
            raise
        failure = CutShort.after(count, str(error))
    stops = [*(start for start, _ in firsts[1:]), count]
    return [Stretch(start, stop, pts) for (start, pts), stop in zip(firsts, stops, strict=True)], failure


def kept_stretches(info: VideoInfo, chunks: Chunks) -> tuple[list[Stretch], CutShort | None]:
    """The same, looked for once and kept, so that all of a run's work is on the same shots.

    How many frames a damaged video gives may depend on the number of threads that decode it.

    Raises:
        InputError: not one frame can be read.
    """
    kept = chunks.get(_KEPT)
    if kept is None:
        shots, failure = readable_stretches(info)
        told = list(str(failure or "").encode())
        rows = [[shot.start, shot.stop, shot.pts] for shot in shots]
        chunks.put(_KEPT, {"shots": torch.tensor(rows), "end": torch.tensor(told, dtype=torch.uint8)})
        return shots, failure
    shots = [Stretch(*(int(value) for value in row)) for row in kept["shots"]]
    told = bytes(kept["end"].tolist()).decode()
    return shots, CutShort(told) if told else None
