"""The walk is exact for a perfect denoiser, and tiles change nothing."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from unfade.core import Condition
from unfade.diffusion import bridge, tiled
from unfade.diffusion.tiled import tiles_along


@dataclass(frozen=True)
class Truth:
    """A condition that knows the answer, as a map over the canvas."""

    clean: Tensor

    def crop(self, top: int, left: int, height: int, width: int) -> "Truth":
        return Truth(self.clean[:, :, top : top + height, left : left + width])


def perfect(x: Tensor, t: float, condition: Condition) -> Tensor:
    assert isinstance(condition, Truth)
    return condition.clean


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_a_perfect_denoiser_walks_the_straight_line(steps: int) -> None:
    lq, hq = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    taus, states = bridge(perfect, lq, Truth(hq), steps)
    assert taus[0] == 0
    assert taus[-1] == 1
    assert states[0] is lq
    assert torch.equal(states[-1], hq)
    for tau, state in zip(taus, states, strict=True):
        torch.testing.assert_close(state, torch.lerp(lq, hq, tau))


def test_the_denoiser_is_called_once_a_step() -> None:
    times: list[float] = []

    def counting(x: Tensor, t: float, condition: Condition) -> Tensor:
        times.append(t)
        return x

    bridge(counting, torch.rand(1, 3, 8, 8), Truth(torch.zeros(1)), 4)
    assert times == [0, 0.25, 0.5, 0.75]


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        bridge(perfect, torch.zeros(1, 3, 8, 8), Truth(torch.zeros(1)), 0)


@given(
    length=st.integers(1, 400),
    tile=st.integers(8, 200),
    halo=st.integers(0, 10).map(lambda n: 8 * n),
)
@settings(max_examples=100, deadline=None)
def test_tiles_cover_every_pixel_once_on_the_grid(length: int, tile: int, halo: int) -> None:
    tiles = tiles_along(length, tile, halo, 8)
    assert tiles[0].start == 0
    assert tiles[-1].stop == length
    assert all(a.stop == b.start for a, b in zip(tiles, tiles[1:], strict=False))
    for one in tiles:
        assert one.start % 8 == 0
        assert one.outer_start % 8 == 0
        assert one.outer_start == max(0, one.start - halo)
        assert one.outer_stop == min(length, one.stop + halo)


@pytest.mark.parametrize("steps", [1, 3])
def test_tiling_a_pointwise_denoiser_equals_not_tiling(steps: int) -> None:
    def pointwise(x: Tensor, t: float, condition: Condition) -> Tensor:
        assert isinstance(condition, Truth)
        return torch.sin(x + t) * condition.clean

    lq, hq = torch.rand(2, 3, 45, 70), torch.rand(2, 3, 45, 70)
    whole = bridge(pointwise, lq, Truth(hq), steps)[1]
    parts = bridge(tiled(pointwise, 16, 8, 8), lq, Truth(hq), steps)[1]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_a_halo_as_wide_as_the_reach_hides_the_tiles_and_a_smaller_one_does_not() -> None:
    kernel = torch.rand(3, 1, 9, 9) / 81

    def local(x: Tensor, t: float, condition: Condition) -> Tensor:
        return functional.conv2d(x, kernel, padding=4, groups=3)

    x = torch.rand(1, 3, 64, 64)
    truth = Truth(x)
    whole = local(x, 0, truth)
    torch.testing.assert_close(tiled(local, 16, 8, 8)(x, 0, truth), whole)
    assert not torch.allclose(tiled(local, 16, 0, 8)(x, 0, truth), whole)


def test_only_the_ends_are_kept_on_request() -> None:
    lq, hq = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    whole = bridge(perfect, lq, Truth(hq), 4)[1]
    taus, states = bridge(perfect, lq, Truth(hq), 4, keep=False)
    assert taus == (0.0, 1.0)
    assert states[0] is lq
    assert torch.equal(states[1], whole[-1])
