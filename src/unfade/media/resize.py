"""Enlarging colour and alpha together."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unfade.core import Clip

_CHUNK_PIXELS = 1 << 21
# Rows on either side that bicubic enlargement looks at, and one to spare.
_MARGIN = 3
_INVISIBLE = 1 / 512


def enlarge(clip: Clip, scale: int) -> Clip:
    """A clip enlarged by a whole factor, bicubic with a = -0.5, clamped to [0, 1]; factor 1 is the same clip.

    Where there is alpha, colours are weighted by it, so that the colour under transparent pixels does not
    bleed into visible ones; where nothing is visible, the colour is that of the plain enlargement. Besides
    the result about two megapixels are held at a time.

    Raises:
        ValueError: the factor is not a whole number above 0.
    """
    if scale < 1 or scale != int(scale):
        raise ValueError(f"an image is enlarged by a whole number above 0, not {scale}")
    if scale == 1:
        return clip
    size = (clip.height * scale, clip.width * scale)
    frames = clip.frames.new_empty((clip.num_frames, 3, *size))
    alpha = None if clip.alpha is None else clip.alpha.new_empty((clip.num_frames, 1, *size))
    step = max(1, _CHUNK_PIXELS // (clip.width * scale * scale))
    for index in range(clip.num_frames):
        for top in range(0, clip.height, step):
            bottom = min(clip.height, top + step)
            first, last = max(0, top - _MARGIN), min(clip.height, bottom + _MARGIN)
            strip = clip.frames[index : index + 1, :, first:last]
            cover = None if clip.alpha is None else clip.alpha[index : index + 1, :, first:last]
            colour, opacity = _enlarge_strip(strip, cover, scale)
            inside = slice((top - first) * scale, (bottom - first) * scale)
            rows = slice(top * scale, bottom * scale)
            frames[index, :, rows] = colour[0, :, inside]
            if alpha is not None and opacity is not None:
                alpha[index, :, rows] = opacity[0, :, inside]
    return replace(clip, frames=frames, alpha=alpha)


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """An image `[C, H, W]` in [0, 1] of another size, bicubic with a = -0.5 and antialiased, clamped to [0, 1]."""
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(image[None], (height, width), mode="bicubic", antialias=True)[0].clamp_(0, 1)


def _enlarge_strip(colour: Tensor, alpha: Tensor | None, scale: int) -> tuple[Tensor, Tensor | None]:
    plain = _bicubic(colour, scale)
    if alpha is None:
        return plain.clamp_(0, 1), None
    opacity = _bicubic(alpha, scale)
    weighted = _bicubic(colour * alpha, scale)
    visible = opacity > _INVISIBLE
    mixed = torch.where(visible, weighted / opacity.clamp(min=_INVISIBLE), plain)
    return mixed.clamp_(0, 1), opacity.clamp_(0, 1)


def _bicubic(image: Tensor, scale: int) -> Tensor:
    # With antialiasing torch uses Keys' a = -0.5; without it -0.75, which rings more.
    size = (image.shape[-2] * scale, image.shape[-1] * scale)
    return F.interpolate(image, size=size, mode="bicubic", antialias=True)
