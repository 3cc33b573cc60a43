"""The way from degraded to restored, along restoration time tau in [0, 1]."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from unfade.core.clip import Clip


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Clips at increasing restoration time; the last one is the result.

    Between two neighbours the way is a straight line in pixels (V-Bridge, eq. 2), so a one-step restoration
    stores two clips and still plays as a film of any length.

    Attributes:
        taus: strictly increasing, from 0 (as degraded) to 1 (restored).
        clips: one clip of the same size for each tau.
    """

    taus: tuple[float, ...]
    clips: tuple[Clip, ...]

    def __post_init__(self) -> None:
        if len(self.taus) != len(self.clips) or not self.taus:
            raise ValueError(f"{len(self.clips)} clips can't stand at {len(self.taus)} times")
        if any(b <= a for a, b in zip(self.taus, self.taus[1:], strict=False)):
            raise ValueError(f"restoration times must increase, not {self.taus}")
        if len({tuple(clip.frames.shape) for clip in self.clips}) != 1:
            raise ValueError("all clips of a trajectory have one size")

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[index]

    def __iter__(self) -> Iterator[Clip]:
        return iter(self.clips)

    def at(self, tau: float) -> Clip:
        """The clip at any time between the first and the last, exact at the stored ones.

        Raises:
            ValueError: tau lies outside the trajectory.
        """
        if not self.taus[0] <= tau <= self.taus[-1]:
            raise ValueError(f"tau {tau} lies outside {self.taus[0]}..{self.taus[-1]}")
        for index, known in enumerate(self.taus):
            if tau == known:
                return self.clips[index]
            if tau < known:
                before = self.taus[index - 1]
                weight = (tau - before) / (known - before)
                left, right = self.clips[index - 1], self.clips[index]
                return right.with_frames(torch.lerp(left.frames, right.frames, weight))
        raise AssertionError("unreachable: tau was checked above")

    def film(self, num_frames: int) -> Iterator[Clip]:
        """`num_frames` clips at evenly spaced times, made one at a time so that a large photo's film fits.

        Raises:
            ValueError: fewer than two frames were asked for.
        """
        if num_frames < 2:
            raise ValueError(f"a film needs at least 2 frames, not {num_frames}")
        first, last = self.taus[0], self.taus[-1]
        for index in range(num_frames):
            share = index / (num_frames - 1)
            yield self.at(last if index == num_frames - 1 else first + share * (last - first))
