"""Trajectories made from clean photos: the degradation fading, or a straight blend of pixels."""

import torch
from torch import Tensor

from unfade.core import Clip, Trajectory
from unfade.degrade.composition import Composition


def _at_even_times(frames: list[Tensor]) -> Trajectory:
    last = len(frames) - 1
    return Trajectory(
        tuple(index / last for index in range(last + 1)), tuple(Clip(frame) for frame in frames)
    )


def _check(num_frames: int) -> None:
    if num_frames < 2:
        raise ValueError(f"a trajectory needs at least 2 frames, not {num_frames}")


def linear(lq: Tensor, hq: Tensor, num_frames: int = 9) -> Trajectory:
    """V-Bridge's pixel blend: frame t is `(1 - t/T) LQ + (t/T) HQ` (arXiv 2603.13089, eq. 2).

    Args:
        lq, hq: `[T, 3, H, W]` of one size.
        num_frames: T + 1 of the paper; the last frame is `hq` bit for bit.
    """
    _check(num_frames)
    last = num_frames - 1
    return _at_even_times(
        [hq if index == last else torch.lerp(lq, hq, index / last) for index in range(last + 1)]
    )


def fade(hq: Tensor, composition: Composition, num_frames: int = 9, power: float = 1.0) -> Trajectory:
    """One drawn corruption fading: frame t has severity `(1 - t/T) ** power`; the last is `hq` bit for bit.

    Progressive's `resolution`, `blur` and `lowlight` are fades of the compositions of those names.
    """
    _check(num_frames)
    last = num_frames - 1
    return _at_even_times([composition(hq, (1 - index / last) ** power) for index in range(last + 1)])
