"""Peers work frame by frame on 8-bit pixels, with packages that may be missing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from unfade.core import Clip, Plan, Restoration, Trajectory, UsageError
from unfade.core.contracts import Progress
from unfade.media.resize import enlarge

PLAN = Plan()


def framewise(
    provenance: Mapping[str, str],
    clip: Clip,
    plan: Plan,
    progress: Progress | None,
    apply: Callable[[Any], Any],
    *,
    enlarges: bool = False,
) -> Restoration:
    """A restoration whose trajectory goes from the bicubically enlarged clip straight to the filtered one.

    Args:
        provenance: how it is made, as short texts.
        clip: what to restore; rounded to 8 bits first.
        plan: its `scale` and `frames` count.
        progress: called with the share of frames done.
        apply: takes and gives contiguous uint8 RGB arrays `[H, W, 3]`.
        enlarges: `apply` is given the frame as it came and enlarges it itself; else the enlarged one.
    """
    started = perf_counter()
    degraded = enlarge(clip, plan.scale)
    frames: list[Tensor] = []
    for index, frame in enumerate((clip if enlarges else degraded).frames):
        pixels = frame.detach().cpu().clamp(0, 1).mul(255).round().to(torch.uint8)
        result = torch.from_numpy(apply(pixels.permute(1, 2, 0).contiguous().numpy()))
        frames.append(result.permute(2, 0, 1).to(clip.frames) / 255)
        if progress is not None:
            progress((index + 1) / clip.num_frames)
    restored = degraded.with_frames(torch.stack(frames))
    way = Trajectory((0.0, 1.0), (degraded, restored))
    return Restoration(way, provenance, perf_counter() - started, plan.frames)


def package(name: str, peer: str) -> Any:
    """An optional package, imported when a peer first needs it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(
            f"the peer {peer} needs the Python package {name}, which is not installed here; "
            'install it with: pip install ".[evaluate]" in the clone of unfade'
        ) from error
