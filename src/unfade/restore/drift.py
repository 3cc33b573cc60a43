"""Drift correction: when a second pass over the result is worth having."""

import torch
from torch import Tensor
from torch.nn import functional

# A correction that moves the light by this much (root mean square of the change of areas of a sixteenth of the
# shorter side, in [0, 1]) is about exposure.
LIGHT = 0.02
# ... and one that raises the fine detail by this share is about sharpness.
DETAIL = 0.10


def moved_light(base: Tensor, corrected: Tensor) -> float:
    """How far the correction moved the light of large areas: root mean square over areas and colours, in [0, 1].

    Args:
        base, corrected: `[T, 3, H, W]`.
    """
    side = max(1, min(base.shape[-2:]) // 16)
    change = functional.avg_pool2d((corrected - base).float(), side, ceil_mode=True)
    return float(change.square().mean().sqrt())


def gained_detail(base: Tensor, corrected: Tensor) -> float:
    """By which share the correction raised the energy of fine detail; below 0 it took some away.

    Detail is what a 3x3 binomial blur takes from luma. A light that was raised raises detail with it, so both are
    measured relative to their mean.
    """
    before, after = _detail(base), _detail(corrected)
    return after / max(before, 1e-6) - 1


def worth_keeping(base: Tensor, corrected: Tensor) -> bool:
    """Whether a correction did one of the two things it is good at: moving the light, or sharpening.

    Published per-group results (V-Bridge, Table 1) gain 4 to 8 dB in low light and blur and lose 0.8 to 1.7 dB in
    JPEG, rain and raindrops, where the first pass leaves little to do and a second one costs another trip
    through the VAE. No truth is needed: the two answers are compared with each other. The thresholds are set by
    reasoning, not fitted.

    Args:
        base, corrected: results of the first and the second pass, `[T, 3, H, W]` in [0, 1].
    """
    return moved_light(base, corrected) > LIGHT or gained_detail(base, corrected) > DETAIL


def _detail(frames: Tensor) -> float:
    luma = frames.float().mean(1, keepdim=True)
    if min(luma.shape[-2:]) < 3:
        return 0.0
    line = torch.tensor((0.25, 0.5, 0.25), device=luma.device)
    blurred = functional.conv2d(luma, (line[:, None] * line)[None, None])
    fine = luma[..., 1:-1, 1:-1] - blurred
    return float(fine.square().mean().sqrt() / (luma.mean() + 0.02))
