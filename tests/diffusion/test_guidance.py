"""Guidance against its formula, and which steps pay for it."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from unfade.core import Condition
from unfade.diffusion import tiled
from unfade.diffusion.flow import FlowSchedule
from unfade.diffusion.guidance import (
    Contrast,
    guidance_ceiling,
    guidance_floor,
    guided,
    guided_steps,
    steps_between,
)


@dataclass(frozen=True)
class Target:
    value: Tensor

    def crop(self, top: int, left: int, height: int, width: int) -> "Target":
        return Target(self.value[..., top : top + height, left : left + width])


class Counting:
    """Velocity away from the condition's value, and how often it was asked with which."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, Condition]] = []

    def __call__(self, x: Tensor, t: float, condition: Condition) -> Tensor:
        assert isinstance(condition, Target)
        self.asked.append((t, condition))
        return x - condition.value


def test_the_formula() -> None:
    x, p, n = torch.rand(3, 1, 2, 8, 8).unbind()
    contrast = Contrast(Target(p), Target(n))
    denoiser = Counting()
    expected = (x - n) + 4.5 * ((x - p) - (x - n))
    torch.testing.assert_close(guided(denoiser, 4.5)(x, 500, contrast), expected)
    assert [asked is contrast.positive for _, asked in denoiser.asked] == [True, False]


def test_scale_one_asks_once_and_only_for_the_positive() -> None:
    x, p, n = torch.rand(3, 1, 2, 8, 8).unbind()
    denoiser = Counting()
    contrast = Contrast(Target(p), Target(n))
    assert torch.equal(guided(denoiser, 1)(x, 500, contrast), x - p)
    assert [asked for _, asked in denoiser.asked] == [contrast.positive]


@pytest.mark.parametrize(
    ("steps", "end", "count"),
    [(50, 0.85, 43), (50, 1, 50), (50, 0, 0), (20, 0.85, 17), (4, 0.85, 4), (100, 0.85, 85)],
)
def test_how_many_steps_are_guided(steps: int, end: float, count: int) -> None:
    assert guided_steps(steps, end) == count


def test_the_release_leaves_the_last_seven_of_fifty_alone() -> None:
    times = FlowSchedule(50, 5.0).times()
    floor = guidance_floor(times, 0.85)
    denoiser = Counting()
    wrapped = guided(denoiser, 6, above=floor)
    contrast = Contrast(Target(torch.zeros(1)), Target(torch.ones(1)))
    evaluations: list[int] = []
    for time in times:
        before = len(denoiser.asked)
        wrapped(torch.zeros(1), time, contrast)
        evaluations.append(len(denoiser.asked) - before)
    assert evaluations == [2] * 43 + [1] * 7
    assert guidance_floor(times, 1.0) == -float("inf")


@pytest.mark.parametrize(
    ("begin", "end", "first", "count"), [(0, 1, 0, 10), (0.2, 1, 2, 8), (0.25, 0.8, 3, 5), (0.5, 0.5, 5, 0)]
)
def test_guidance_in_an_interval(begin: float, end: float, first: int, count: int) -> None:
    times = FlowSchedule(10, 5.0).times()
    denoiser = Counting()
    wrapped = guided(denoiser, 6, above=guidance_floor(times, end), below=guidance_ceiling(times, begin))
    contrast = Contrast(Target(torch.zeros(1)), Target(torch.ones(1)))
    evaluations: list[int] = []
    for time in times:
        before = len(denoiser.asked)
        wrapped(torch.zeros(1), time, contrast)
        evaluations.append(len(denoiser.asked) - before)
    assert evaluations == [1] * first + [2] * count + [1] * (10 - first - count)
    assert steps_between(10, begin, end) == count
    assert guidance_ceiling(times, 0) == float("inf")


def test_guidance_goes_through_tiles() -> None:
    x, p, n = torch.rand(3, 1, 2, 24, 40).unbind()
    contrast = Contrast(Target(p), Target(n))
    whole = guided(Counting(), 3)(x, 500, contrast)
    assert torch.equal(tiled(guided(Counting(), 3), 8, 8, 8)(x, 500, contrast), whole)
    assert torch.equal(guided(tiled(Counting(), 8, 8, 8), 3)(x, 500, contrast), whole)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        guided(Counting(), 0.5)
    with pytest.raises(ValueError, match="share"):
        guided_steps(50, 1.2)
    for begin, end in ((0.5, 0.4), (-0.1, 1)):
        with pytest.raises(ValueError, match="guidance begins at a share of the steps, 0 to where it ends"):
            steps_between(50, begin, end)
    with pytest.raises(TypeError, match="Contrast"):
        guided(Counting(), 2)(torch.zeros(1), 1, Target(torch.zeros(1)))
