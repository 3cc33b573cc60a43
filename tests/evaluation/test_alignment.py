"""Shifts of whole clips: found exactly, undone exactly, and none where there is none."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import generator
from unfade.degrade.resample import resize
from unfade.evaluation.alignment import Shift, find_shift, tally
from unfade.evaluation.metrics.fidelity import full_luma
from unfade.media.images import read_image

REACH = 8
SHIFTS = [(0, 0), (1, 0), (0, -1), (3, 3), (-2, 5), (-8, -8), (8, -7), (4, 8)]


@pytest.fixture(scope="module")
def photo(examples: Path) -> Tensor:
    return read_image(examples / "coffee.png").frames


def clip_at(photo: Tensor, down: int, right: int, height: int = 96, width: int = 130) -> Tensor:
    """Three frames of a window that pans over the photo, all moved by (down, right): what lies below comes up."""
    frames = [
        photo[
            0,
            :,
            60 - down + 9 * t : 60 - down + 9 * t + height,
            80 - right + 5 * t : 80 - right + 5 * t + width,
        ]
        for t in range(3)
    ]
    return torch.stack(frames)


@pytest.mark.parametrize(("down", "right"), SHIFTS)
def test_a_shifted_clip_comes_back_with_exactly_that_shift(photo: Tensor, down: int, right: int) -> None:
    truth, x = clip_at(photo, 0, 0), clip_at(photo, down, right)
    found = find_shift(x, truth, REACH)
    assert (found.down, found.right) == (down, right)
    assert (found.rest_down, found.rest_right) == (0, 0)
    assert torch.equal(found.of_clip(x), found.of_truth(truth))
    assert found.of_clip(x).shape == (3, 3, 96 - abs(down), 130 - abs(right))


@pytest.mark.parametrize(("down", "right"), SHIFTS)
def test_it_is_found_of_a_soft_dark_and_noisy_result_too(photo: Tensor, down: int, right: int) -> None:
    truth, x = clip_at(photo, 0, 0), clip_at(photo, down, right)
    x = resize(resize(x, 32, 44), 96, 130) * 0.8 + 0.05
    x = x + 0.05 * torch.randn(x.shape, generator=generator(0, down, right))
    found = find_shift(x.clamp(0, 1), truth, REACH)
    assert (found.down, found.right) == (down, right)
    assert max(abs(found.rest_down), abs(found.rest_right)) < 0.25


def test_an_aligned_clip_gets_none_and_stays_whole(photo: Tensor) -> None:
    truth = clip_at(photo, 0, 0)
    assert find_shift(truth, truth, REACH) == Shift()
    assert Shift().of_clip(truth).shape == Shift().of_truth(truth).shape == truth.shape
    flat = torch.full((2, 3, 50, 50), 0.5)
    assert find_shift(flat, flat + 0.1, REACH) == Shift()


def test_light_does_not_count_as_place(photo: Tensor) -> None:
    """A smooth slope that is darkened looks moved to a plain difference."""
    truth = resize(clip_at(photo, 0, 0, 48, 64), 96, 128).clamp(0, 1)
    for changed in (0.9 * truth, 0.6 * truth + 0.2, truth * 0.5):
        found = find_shift(changed, truth, REACH)
        assert (found.down, found.right) == (0, 0)
        assert max(abs(found.rest_down), abs(found.rest_right)) < 0.02


def test_the_error_is_smallest_there_among_all_within_reach(photo: Tensor) -> None:
    """Every place tried one by one in NumPy: what a straight line through the pixels' values does not explain."""
    truth = clip_at(photo, 0, 0)
    x = 0.9 * resize(resize(clip_at(photo, 2, -3), 40, 50), 96, 130)
    first, second = (full_luma(frames)[:, 0].numpy() for frames in (x, truth))
    height, width = second.shape[1:]
    inner = second[:, REACH : height - REACH, REACH : width - REACH]
    errors = {}
    for down in range(-REACH, REACH + 1):
        for right in range(-REACH, REACH + 1):
            moved = first[:, REACH + down : height - REACH + down, REACH + right : width - REACH + right]
            likeness = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(moved, inner, strict=True)]
            errors[down, right] = np.mean(
                [a.var() * (1 - r**2) for a, r in zip(moved, likeness, strict=True)]
            )
    found = find_shift(x, truth, REACH)
    assert (found.down, found.right) == min(errors, key=lambda place: errors[place])


def test_it_agrees_with_an_independent_implementation(photo: Tensor) -> None:
    registration = pytest.importorskip("skimage.registration")
    truth, x = clip_at(photo, 0, 0)[:1], clip_at(photo, 3, -2)[:1]
    found = find_shift(x, truth, REACH)
    planes = [full_luma(frames)[0, 0].numpy() for frames in (x, truth)]
    window = np.outer(*(np.hanning(side) for side in planes[0].shape))
    moves, *_ = registration.phase_cross_correlation(*((plane - plane.mean()) * window for plane in planes))
    assert (found.down, found.right) == tuple(moves) == (3, -2)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 3), (2, 1), (-1, -3)])
def test_what_is_less_than_a_pixel_is_estimated(photo: Tensor, down: int, right: int) -> None:
    """A window moved by quarters of a pixel, each pixel the mean of four by four finer ones."""

    def coarse(below: int, beside: int) -> Tensor:
        fine = resize(photo, 1600, 2400)[:, :, 200 + below : 680 + below, 200 + beside : 720 + beside]
        return functional.avg_pool2d(fine, 4)

    found = find_shift(coarse(-down, -right), coarse(0, 0), REACH)
    assert found.down + found.rest_down == pytest.approx(down / 4, abs=0.1)
    assert found.right + found.rest_right == pytest.approx(right / 4, abs=0.1)


@pytest.mark.parametrize("side", [512, 758])
def test_inputs_made_of_upper_left_pixels_lie_where_the_arithmetic_says(photo: Tensor, side: int) -> None:
    """As SPMCS's: of 4 x 4 pixels the first is kept, enlarging takes it for the middle, 1.5 pixels farther on."""
    truth = photo[:, :, :400, :600]
    soft = resize(resize(truth, 130, 195), 400, 600)
    width = 600 * side // 400
    x = resize(soft[:, :, ::4, ::4], side, width)
    found = find_shift(x, resize(truth, side, width), REACH)
    expected = 1.5 * side / 400
    assert (found.down, found.right) == (round(expected), round(expected))
    assert found.down + found.rest_down == pytest.approx(expected, abs=0.15)
    assert found.right + found.rest_right == pytest.approx(expected, abs=0.15)


def test_undoing_it_brings_back_what_the_shift_cost(photo: Tensor) -> None:
    truth, x = clip_at(photo, 0, 0), clip_at(photo, 3, 3)
    noisy = x + 0.02 * torch.randn(x.shape, generator=generator(5))
    found = find_shift(noisy, truth, REACH)

    def psnr(one: Tensor, other: Tensor) -> float:
        return -10 * math.log10(float((one - other).square().mean()))

    assert psnr(noisy, truth) < 25
    assert psnr(found.of_clip(noisy), found.of_truth(truth)) == pytest.approx(-20 * math.log10(0.02), abs=0.1)


def test_masks_go_with_the_truth(photo: Tensor) -> None:
    mask = torch.zeros(1, 96, 130)
    mask[:, 40:50, 60:70] = 1
    shift = Shift(3, -2)
    marked = shift.of_truth(clip_at(photo, 0, 0))[..., shift.of_truth(mask)[0] > 0.5]
    assert torch.equal(marked, shift.of_clip(clip_at(photo, 3, -2))[..., shift.of_truth(mask)[0] > 0.5])
    assert marked.shape[-1] == 100


def test_what_cannot_be_aligned_is_refused(photo: Tensor) -> None:
    truth = clip_at(photo, 0, 0)
    with pytest.raises(ValueError, match="one size"):
        find_shift(truth, truth[..., 1:], REACH)
    with pytest.raises(ValueError, match="one size"):
        find_shift(truth[0], truth[0], REACH)
    with pytest.raises(ValueError, match="can't be found"):
        find_shift(truth[..., :49], truth[..., :49], REACH)
    with pytest.raises(ValueError, match="can't be found"):
        find_shift(truth, truth, 0)


def test_places_are_counted_the_most_frequent_first() -> None:
    shifts = [Shift(3, 3, -0.2, -0.1), Shift(0, 0, 0.1, 0.0), Shift(3, 3, -0.2, -0.2)]
    found = tally(shifts)
    assert found["places"] == [{"down": 3, "right": 3, "clips": 2}, {"down": 0, "right": 0, "clips": 1}]
    assert (found["rest_down"], found["rest_right"]) == (pytest.approx(-0.1), pytest.approx(-0.1))
