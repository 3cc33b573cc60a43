"""Colour and alpha are enlarged together."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from unfade.core import Clip
from unfade.media import resize
from unfade.media.resize import enlarge


def test_scale_one_is_the_same_clip(smooth: Callable[..., Tensor]) -> None:
    clip = Clip.of(smooth())
    assert enlarge(clip, 1) is clip
    for scale in (0, -1, 1.5):
        with pytest.raises(ValueError, match="whole number"):
            enlarge(clip, scale)  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 30), st.integers(1, 20), st.integers(2, 4), st.integers(1, 3))
def test_chunks_do_not_show(height: int, width: int, scale: int, frames: int) -> None:
    image = torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(height))
    whole = F.interpolate(image, scale_factor=scale, mode="bicubic", antialias=True).clamp(0, 1)
    usual = resize._CHUNK_PIXELS
    try:
        resize._CHUNK_PIXELS = 4 * width * scale**2
        parts = enlarge(Clip(image), scale)
    finally:
        resize._CHUNK_PIXELS = usual
    assert parts.frames.shape == (frames, 3, height * scale, width * scale)
    assert torch.allclose(parts.frames, whole, atol=2e-6)


def test_the_kernel_is_keys_with_minus_one_half() -> None:
    line = torch.zeros(1, 3, 9, 9)
    line[:, :, 4, :] = 0.5
    line += 0.25
    column = enlarge(Clip(line), 2).frames[0, 0, :, 8]
    # Keys' kernel at distances 0.25, 0.75, 1.25 and 1.75 of the line.
    near, far, ring, tail = 0.8671875, 0.2265625, -0.0703125, -0.0234375
    expected = torch.tensor([near, far, ring, tail]) * 0.5 + 0.25
    assert torch.allclose(column[9:13], expected, atol=1e-6)


def test_hidden_colour_does_not_bleed() -> None:
    frames = torch.zeros(1, 3, 16, 16)
    frames[:, 0], frames[:, 1, :, 8:] = 0.8, 1.0
    alpha = torch.ones(1, 1, 16, 16)
    alpha[:, :, :, 8:] = 0
    large = enlarge(Clip(frames, alpha=alpha), 3)
    assert large.alpha is not None and large.alpha.shape == (1, 1, 48, 48)
    visible = (large.alpha > 0.01).expand(1, 3, -1, -1)
    expected = torch.tensor([0.8, 0, 0]).view(1, 3, 1, 1).expand_as(large.frames)
    assert torch.allclose(large.frames[visible], expected[visible], atol=1e-3)
    plain = enlarge(Clip(frames), 3)
    assert torch.allclose(large.frames[..., 40:], plain.frames[..., 40:])
    assert 0 <= float(large.alpha.min()) and float(large.alpha.max()) <= 1
    opaque = replace(Clip(frames), alpha=torch.ones(1, 1, 16, 16))
    assert torch.allclose(enlarge(opaque, 2).frames, enlarge(Clip(frames), 2).frames, atol=1e-5)
