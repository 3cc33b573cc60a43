"""Footage divided at its hard cuts, so that no window reaches from one shot into another."""

from dataclasses import dataclass
from itertools import pairwise

from unfade.media.cuts import is_cut
from unfade.media.glances import glances
from unfade.media.video import VideoInfo


@dataclass(frozen=True, slots=True)
class Stretch:
    """A shot: frames without a hard cut between them.

    Attributes:
        start, stop: its frames, `stop` excluded.
    """

    start: int
    stop: int


def stretches_of(info: VideoInfo) -> list[Stretch]:
    """The shots of a video, by looking through thumbnails of all its frames.

    Raises:
        InputError: the video is damaged.
    """
    starts, count, last = [0], 0, None
    for glance in glances(info):
        if last is not None and is_cut(last, glance.thumbnail):
            starts.append(glance.index)
        last, count = glance.thumbnail, glance.index + 1
    return [Stretch(start, stop) for start, stop in pairwise([*starts, count])]
