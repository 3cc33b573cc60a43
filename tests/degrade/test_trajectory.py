"""Films made from clean photos: they end in the truth and nothing in them jumps."""

import pytest
import torch
from torch import Tensor

from unfade.core import Trajectory, generator
from unfade.degrade import FOUNDIR, PROGRESSIONS, SINGLE, draw_composition, fade, linear
from unfade.degrade.composition import Composition, Kinds
from unfade.degrade.trajectory import fade_frames, linear_frames

KINDS: dict[str, Kinds] = {
    **SINGLE,
    **FOUNDIR,
    **{f"progression {key}": kinds for key, kinds in PROGRESSIONS.items()},
}


def _faded(name: str, hq: Tensor, frames: int = 9, seed: int = 0, power: float = 1.0) -> Trajectory:
    shape = (hq.shape[0], hq.shape[2], hq.shape[3])
    drawn = draw_composition(KINDS[name], generator(seed, name), shape, "strong", "torch")
    return fade(hq, drawn, frames, power)


def _steps(way: Trajectory) -> list[float]:
    pairs = zip(way.clips, way.clips[1:], strict=False)
    return [float((after.frames - before.frames).abs().mean()) for before, after in pairs]


@pytest.mark.parametrize("name", KINDS)
def test_the_last_frame_is_the_truth_bit_for_bit(name: str, crops: Tensor) -> None:
    way = _faded(name, crops, frames=3)
    assert torch.equal(way[-1].frames, crops)
    assert way.taus == (0, 0.5, 1)
    assert not torch.equal(way[0].frames, crops)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_jumps_between_frames(name: str, crops: Tensor) -> None:
    """No step is longer than four average ones; a parameter drawn anew would make one of eight."""
    steps = _steps(_faded(name, crops[:1]))
    assert max(steps) <= 4 * sum(steps) / len(steps), [round(255 * step, 2) for step in steps]


@pytest.mark.parametrize("name", KINDS)
def test_every_step_leads_nearer_to_the_truth(name: str, crops: Tensor) -> None:
    truth = crops[:1]
    errors = [float((clip.frames - truth).square().mean()) for clip in _faded(name, truth, frames=5)]
    # A film never leads away; the mildest blurs reach their truth early and stay there.
    assert errors[0] > 0 and errors[-1] == 0
    assert all(after <= before * 1.02 for before, after in zip(errors, errors[1:], strict=False)), errors


def test_power_bends_the_way_but_not_its_ends(crops: Tensor) -> None:
    plain, bent = _faded("lowlight", crops), _faded("lowlight", crops, power=2.0)
    assert torch.equal(plain[0].frames, bent[0].frames) and torch.equal(plain[-1].frames, bent[-1].frames)
    assert torch.equal(bent[4].frames, _faded("lowlight", crops, frames=5)[3].frames)


def test_linear_is_the_papers_blend(crops: Tensor) -> None:
    lq = crops.flip(3)
    way = linear(lq, crops, 9)
    assert torch.equal(way[0].frames, lq) and torch.equal(way[-1].frames, crops)
    for index in range(9):
        expected = (1 - index / 8) * lq + index / 8 * crops
        assert torch.allclose(way[index].frames, expected, atol=1e-6)
    assert max(_steps(way)) == pytest.approx(min(_steps(way)), rel=1e-4)


def test_a_film_of_one_frame_is_refused(crops: Tensor) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        linear(crops, crops, 1)
    with pytest.raises(ValueError, match="at least 2"):
        _faded("jpeg", crops, frames=1)


def test_frames_are_made_one_at_a_time_and_are_those_of_the_trajectory(crops: Tensor) -> None:
    made: list[float] = []

    class Watched(Composition):
        def __call__(self, x: Tensor, severity: float | Tensor = 1.0, view: object = None) -> Tensor:
            made.append(float(severity))
            return super().__call__(x, severity)

    shape = (crops.shape[0], crops.shape[2], crops.shape[3])
    drawn = draw_composition(KINDS["lowlight"], generator(0, "lowlight"), shape, "strong")
    frames = fade_frames(crops, Watched(drawn.parts), 5)
    assert made == []
    first = next(frames)
    assert made == [1.0]
    rest = [first, *frames]
    whole = fade(crops, drawn, 5)
    assert len(rest) == 5 and torch.equal(rest[-1], crops)
    assert all(torch.equal(frame, clip.frames) for frame, clip in zip(rest, whole, strict=True))
    lazy = list(linear_frames(first, crops, 5))
    assert lazy[-1] is crops
    assert all(
        torch.equal(frame, clip.frames) for frame, clip in zip(lazy, linear(first, crops, 5), strict=True)
    )
    with pytest.raises(ValueError, match="at least 2"):
        fade_frames(crops, drawn, 1)
    with pytest.raises(ValueError, match="at least 2"):
        linear_frames(first, crops, 1)
