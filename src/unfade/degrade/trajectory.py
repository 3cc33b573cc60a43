"""Trajectories made from clean photos: the degradation fading, or a straight blend of pixels."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from unfade.core import Clip, Trajectory
from unfade.degrade.composition import Composition


def linear_frames(lq: Tensor, hq: Tensor, num_frames: int = 9) -> Iterator[Tensor]:
    """The frames of `linear`, made one at a time: a large photo's film needs no more memory than a frame."""
    last = _last(num_frames)
    return (hq if index == last else torch.lerp(lq, hq, index / last) for index in range(num_frames))


def fade_frames(
    hq: Tensor, composition: Composition, num_frames: int = 9, power: float = 1.0
) -> Iterator[Tensor]:
    """The frames of `fade`, made one at a time."""
    last = _last(num_frames)
    return (composition(hq, (1 - index / last) ** power) for index in range(num_frames))


def linear(lq: Tensor, hq: Tensor, num_frames: int = 9) -> Trajectory:
    """V-Bridge's pixel blend: frame t is `(1 - t/T) LQ + (t/T) HQ` (arXiv 2603.13089, eq. 2).

    Args:
        lq, hq: `[T, 3, H, W]` of one size.
        num_frames: T + 1 of the paper; the last frame is `hq` bit for bit.
    """
    return _at_even_times(linear_frames(lq, hq, num_frames))


def fade(hq: Tensor, composition: Composition, num_frames: int = 9, power: float = 1.0) -> Trajectory:
    """One drawn corruption fading: frame t has severity `(1 - t/T) ** power`; the last is `hq` bit for bit.

    Progressive's `resolution`, `blur` and `lowlight` are fades of the compositions of those names.
    """
    return _at_even_times(fade_frames(hq, composition, num_frames, power))


def _at_even_times(frames: Iterable[Tensor]) -> Trajectory:
    clips = tuple(map(Clip, frames))
    last = len(clips) - 1
    return Trajectory(tuple(index / last for index in range(len(clips))), clips)


def _last(num_frames: int) -> int:
    if num_frames < 2:
        raise ValueError(f"a trajectory needs at least 2 frames, not {num_frames}")
    return num_frames - 1
