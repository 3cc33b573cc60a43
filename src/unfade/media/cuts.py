"""Hard cuts: where one shot of footage ends and another begins."""

import torch
from torch import Tensor

# Measured on thumbnails of three clips with five hard cuts, clean, at a tenth of the light and under noise of
# sigma 50: two frames of one shot differ by at most 0.42 in their pattern and 0.21 in their light (a car passing
# close to the camera), the frames on either side of a cut, or of unlike clips, by at least 0.62 and 0.32.
PATTERN = 0.5
LIGHT = 0.25
# Of 800 pairs of unlike photos, plain, at an eighth of the light or behind haze that leaves a twentieth of the
# contrast, one differs by less; of frames that follow one another, under noise as well, only a few of the fastest by
# more.
SCENE = 0.3


def is_cut(before: Tensor, after: Tensor) -> bool:
    """Whether a hard cut lies between two frames, judged by their thumbnails `[B, 3, h, w]` in [0, 1].

    Two things must have changed: the pattern of light and dark (one minus the correlation of log luma, which a
    change of exposure leaves alone) and the light itself (mean absolute difference over the mean, which noise
    in a flat picture leaves alone).
    """
    return _pattern_change(before, after) > PATTERN and _light_change(before, after) > LIGHT


def is_other_scene(before: Tensor, after: Tensor) -> bool:
    """Whether two frames show so little in common that neither can help to restore the other.

    Stricter than a cut: a change of the pattern alone is enough, and so is one of the light. To take one scene for two
    costs little here, to mix two much.

    Args:
        before, after: thumbnails `[B, 3, h, w]` in [0, 1].
    """
    one, two = (_log_luma(thumbnail) for thumbnail in (before, after))
    # Flat pictures, all of whose pattern is noise, are alike.
    both = (one * one).mean() + (two * two).mean() + 4e-5
    return float(((one - two) ** 2).mean() / both) > SCENE or _light_change(before, after) > LIGHT


def _pattern_change(before: Tensor, after: Tensor) -> float:
    one, two = (_log_luma(thumbnail) for thumbnail in (before, after))
    # The last term is what rounding to 8 bits does: flat pictures are not like each other.
    return 1 - float((one * two).mean() / torch.sqrt((one * one).mean() * (two * two).mean() + 1e-6))


def _log_luma(thumbnail: Tensor) -> Tensor:
    """What is left of a thumbnail when its exposure is taken away."""
    luma = torch.log(thumbnail.double().mean(1) + 0.02)
    return luma - luma.mean()


def _light_change(before: Tensor, after: Tensor) -> float:
    both = 0.5 * (before.mean() + after.mean()) + 0.02
    return float((after - before).abs().mean() / both)
