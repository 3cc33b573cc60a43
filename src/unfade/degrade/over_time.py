"""A degradation of footage: one draw for all of it, with what changes from frame to frame drawn anew."""

import torch
from torch import Tensor

from unfade.degrade.composition import Composition, Kinds


def degraded_over_time(
    clip: Tensor, composition: Composition, generator: torch.Generator, without: Kinds = ()
) -> tuple[Tensor, Tensor]:
    """A clip under one degradation, whose noise and falling rain are others in every frame.

    Args:
        clip: `[T, 3, H, W]` in [0, 1].
        composition: drawn for one frame of this size.
        generator: of what is drawn anew.
        without: kinds that are left out of the second result.

    Returns:
        The degraded clip, and the one to which only what is not in `without` was done; where nothing was to be left
        out, the clip itself.
    """
    degraded, rest = [], []
    for frame in clip.split(1):
        degraded.append(composition(frame))
        rest.append(composition.without(without)(frame) if without else frame)
        composition = composition.anew(generator)
    return torch.cat(degraded), torch.cat(rest)
