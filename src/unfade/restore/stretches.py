"""Footage divided at its hard cuts, so that no window reaches from one shot into another."""

from dataclasses import dataclass

from unfade.media.cuts import is_cut
from unfade.media.glances import glances
from unfade.media.seek import Mark
from unfade.media.video import VideoInfo


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
    firsts: list[tuple[int, int]] = []
    count, last = 0, None
    for glance in glances(info):
        if last is None or is_cut(last, glance.thumbnail):
            firsts.append((glance.index, glance.pts))
        last, count = glance.thumbnail, glance.index + 1
    stops = [*(start for start, _ in firsts[1:]), count]
    return [Stretch(start, stop, pts) for (start, pts), stop in zip(firsts, stops, strict=True)]
