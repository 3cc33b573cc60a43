"""What restored frames owe to the file they came from."""

import torch
from torch import Tensor

from unfade.core import Clip


def as_the_file(frames: Tensor, clip: Clip) -> Tensor:
    """Restored frames as `clip` can hold them: grey stays grey, and what is invisible stays what it was.

    Args:
        frames: `[T, 3, H, W]` in [0, 1], of the clip's size.
        clip: what was restored.
    """
    if clip.metadata.colour == "grey":
        luma = torch.tensor((0.299, 0.587, 0.114), device=frames.device).reshape(1, 3, 1, 1)
        frames = (frames * luma).sum(1, keepdim=True).expand_as(frames)
    if clip.alpha is not None:
        frames = torch.where(clip.alpha > 0, frames, clip.frames)
    return frames
