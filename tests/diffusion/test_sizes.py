"""Every size goes onto the canvas and comes back; the published rule gives the published sizes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unfade.diffusion.sizes import Fit, padded_fit, published_fit


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    multiple=st.sampled_from([1, 8, 16, 32]),
    t=st.integers(1, 2),
)
@settings(max_examples=150, deadline=None)
def test_reflecting_is_undone_exactly_and_is_numpys(height: int, width: int, multiple: int, t: int) -> None:
    frames = torch.rand(t, 3, height, width)
    fit = padded_fit(height, width, multiple)
    canvas = fit.enter(frames)
    assert canvas.shape[-2] % multiple == canvas.shape[-1] % multiple == 0
    assert 0 <= canvas.shape[-2] - height < multiple
    assert 0 <= canvas.shape[-1] - width < multiple
    assert torch.equal(fit.leave(canvas), frames)
    rows, columns = canvas.shape[-2] - height, canvas.shape[-1] - width
    around = ((0, 0), (0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    assert np.array_equal(canvas.numpy(), np.pad(frames.numpy(), around, mode="reflect"))


@pytest.mark.parametrize(
    ("width", "height", "canvas", "resized"),
    [
        (1920, 1080, (1920, 1088), False),
        (2720, 1528, (2560, 1408), True),
        (2496, 1656, (2336, 1536), True),
        (2560, 1440, (2560, 1440), False),
        (1280, 704, (1280, 704), False),
        # Portrait: too high for the rule, though its area isn't, so it is only floored.
        (1440, 2560, (1440, 2560), True),
        (1000, 1500, (992, 1472), True),
    ],
)
def test_the_published_sizes(width: int, height: int, canvas: tuple[int, int], resized: bool) -> None:
    fit = published_fit(height, width, 32)
    assert (fit.canvas_width, fit.canvas_height) == canvas
    assert fit.resized is resized


@given(height=st.integers(1, 9000), width=st.integers(1, 9000))
@settings(max_examples=200, deadline=None)
def test_the_published_rule_keeps_area_and_multiples(height: int, width: int) -> None:
    fit = published_fit(height, width, 32)
    assert fit.canvas_height % 32 == fit.canvas_width % 32 == 0
    if fit.resized and min(fit.canvas_height, fit.canvas_width) > 32:
        assert fit.canvas_height * fit.canvas_width <= 2560 * 1440


def test_resizing_returns_to_the_photos_size_and_keeps_what_is_flat() -> None:
    fit = Fit(70, 100, 32, 64, resized=True)
    flat = torch.full((1, 3, 70, 100), 0.3)
    canvas = fit.enter(flat)
    assert canvas.shape == (1, 3, 32, 64)
    back = fit.leave(canvas)
    assert back.shape == flat.shape
    torch.testing.assert_close(back, flat)


def test_a_smooth_photo_survives_resizing() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 3, 96), torch.linspace(0, 3, 120), indexing="ij")
    photo = (0.5 + 0.4 * torch.sin(x) * torch.cos(y)).expand(1, 3, 96, 120)
    fit = Fit(96, 120, 64, 96, resized=True)
    assert float((fit.leave(fit.enter(photo)) - photo).abs().max()) < 0.01


def test_wrong_sizes_are_refused() -> None:
    fit = padded_fit(20, 30, 32)
    with pytest.raises(ValueError, match="don't fit"):
        fit.enter(torch.zeros(1, 3, 30, 20))
    with pytest.raises(ValueError, match="don't come from"):
        fit.leave(torch.zeros(1, 3, 20, 30))
    with pytest.raises(ValueError, match="smaller"):
        Fit(40, 40, 32, 32)
    with pytest.raises(ValueError, match="empty"):
        padded_fit(0, 5, 32)
