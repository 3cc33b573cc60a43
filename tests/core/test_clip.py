"""Clips and trajectories keep their promises and refuse what does not fit."""

import pytest
import torch

from unfade.core import Clip, Pair, Plan, Trajectory, generator, subseed


def clip(value: float, size: int = 4) -> Clip:
    return Clip(torch.full((1, 3, size, size), value))


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 4, 4, 4), (0, 3, 4, 4), (1, 3, 0, 4)])
def test_a_clip_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames are"):
        Clip(torch.zeros(shape))


def test_bytes_are_no_clip() -> None:
    with pytest.raises(ValueError, match="floating point"):
        Clip(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


def test_alpha_must_fit() -> None:
    with pytest.raises(ValueError, match="alpha"):
        Clip(torch.zeros(1, 3, 4, 4), alpha=torch.zeros(1, 1, 4, 5))


def test_a_trajectory_is_exact_at_its_nodes_and_straight_between() -> None:
    way = Trajectory((0.0, 0.5, 1.0), (clip(0.0), clip(0.8), clip(1.0)))
    assert way.at(0.5) is way[1]
    assert way.at(1.0) is way[-1]
    assert way.at(0.25).frames.unique().tolist() == pytest.approx([0.4])
    assert way.at(0.75).frames.unique().tolist() == pytest.approx([0.9])


def test_a_film_begins_and_ends_with_the_clips_themselves() -> None:
    way = Trajectory((0.0, 1.0), (clip(0.0), clip(1.0)))
    film = list(way.film(9))
    assert len(film) == 9
    assert film[0] is way[0]
    assert film[-1] is way[-1]
    assert [float(frame.frames.mean()) for frame in film] == pytest.approx([i / 8 for i in range(9)])


def test_times_must_increase_and_lie_inside() -> None:
    with pytest.raises(ValueError, match="increase"):
        Trajectory((0.0, 0.0), (clip(0.0), clip(1.0)))
    with pytest.raises(ValueError, match="outside"):
        Trajectory((0.0, 1.0), (clip(0.0), clip(1.0))).at(1.5)
    with pytest.raises(ValueError, match="of a trajectory have one size"):
        Trajectory((0.0, 1.0), (clip(0.0), clip(1.0, size=8)))


def test_a_pair_has_one_size() -> None:
    with pytest.raises(ValueError, match="have one size"):
        Pair(clip(0.0), clip(0.0, size=8))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"frames": 1}, {"scale": 5}, {"tile": 3}])
def test_a_plan_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Plan(**wrong)  # type: ignore[arg-type]


def test_seeds_depend_on_every_name_and_repeat() -> None:
    assert subseed(0, "a", "b") == subseed(0, "a", "b")
    assert (
        len({subseed(0, "a"), subseed(1, "a"), subseed(0, "b"), subseed(0, "a", "b"), subseed(0, "ab")}) == 5
    )
    assert torch.equal(torch.rand(4, generator=generator(3, "x")), torch.rand(4, generator=generator(3, "x")))
