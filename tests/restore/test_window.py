"""Frames with their neighbours: who they are, how many are held, and footage restored with them."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from unfade.backbones.gather import Gather
from unfade.backbones.motion import Levels
from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny, TinyConfig, thumbnail_of
from unfade.backbones.tiny_weights import TinyWeights
from unfade.core import Clip, Plan, UsageError, generator
from unfade.media.cuts import is_cut
from unfade.media.images import read_image
from unfade.prompts import read_wish
from unfade.restore.engine import PixelRestorer
from unfade.restore.load import load
from unfade.restore.window import Glimpse, gathered, glimpses, windows

SMALL = TinyConfig(widths=(8, 8, 8), blocks=(1, 1, 1), context=16, buckets=64)
HEIGHT, WIDTH = 40, 56


def picture(shot: int, height: int, width: int) -> Tensor:
    coarse = torch.rand((1, 3, 5, 5), generator=generator(3, "shot", shot))
    return functional.interpolate(coarse, (height, width), mode="bilinear")[0]


def footage(*lengths: int, height: int = HEIGHT, width: int = WIDTH) -> list[Tensor]:
    """Shots of so many noisy frames each, of scenes that pan by a pixel a frame and are unlike each other."""
    frames = []
    for shot, length in enumerate(lengths):
        wide = picture(shot, height, width + length)
        for time in range(length):
            noise = torch.randn((3, height, width), generator=generator(time, "noise", shot))
            frames.append((wide[:, :, time : time + width] + 0.04 * noise).clamp(0, 1))
    return frames


def taken(frames: list[Tensor], moving: bool = True) -> Iterator[Glimpse]:
    return glimpses(frames, torch.device("cpu") if moving else None)


@pytest.fixture(scope="module")
def gather() -> Gather:
    """One whose every weight does something."""
    torch.manual_seed(5)
    made = Gather(16)
    for part in made.parameters():
        if not part.any():
            nn.init.normal_(part, std=0.05)
    return made.eval()


@pytest.fixture(scope="module")
def model() -> Tiny:
    torch.manual_seed(0)
    made = Tiny(SMALL)
    for part in made.parameters():
        if not part.any():
            nn.init.normal_(part, std=0.02)
    return made.eval()


@pytest.fixture(scope="module")
def restorer(model: Tiny, gather: Gather) -> PixelRestorer:
    return PixelRestorer("moving", TinyWeights(model, "0" * 64, {}, gather=gather))


@pytest.fixture(scope="module")
def plain(model: Tiny) -> PixelRestorer:
    return PixelRestorer("still", TinyWeights(model, "0" * 64, {}))


@pytest.mark.parametrize("lengths", [(1,), (2,), (3,), (7,), (1, 1), (3, 4), (2, 1, 3), (1, 5, 1)])
@pytest.mark.parametrize("reach", [0, 1, 2, 3])
def test_neighbours_are_those_of_a_list_cut_in_shots(lengths: tuple[int, ...], reach: int) -> None:
    frames = footage(*lengths)
    shots = [shot for shot, length in enumerate(lengths) for _ in range(length)]
    found = [
        (_place(frame.image[0], frames), [_place(other.image[0], frames) for other in others])
        for frame, others in windows(taken(frames), reach)
    ]
    expected = []
    for place, shot in enumerate(shots):
        near = range(max(0, place - reach), min(len(shots), place + reach + 1))
        expected.append((place, [other for other in near if other != place and shots[other] == shot]))
    assert found == expected


def _place(image: Tensor, frames: list[Tensor]) -> int:
    (place,) = (index for index, frame in enumerate(frames) if torch.equal(frame, image))
    return place


def test_nothing_has_no_windows() -> None:
    assert list(windows(taken([]), 2)) == []


def test_the_cuts_of_these_tests_are_cuts_and_nothing_else_is() -> None:
    thumbnails = [thumbnail_of(frame[None]) for frame in footage(3, 4)]
    assert [is_cut(*pair) for pair in zip(thumbnails, thumbnails[1:], strict=False)] == [
        False, False, True, False, False, False
    ]  # fmt: skip


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_a_frame_is_given_as_soon_as_its_neighbours_are_there(reach: int) -> None:
    count = 0

    def counted() -> Iterator[Tensor]:
        nonlocal count
        for frame in footage(7):
            count += 1
            yield frame

    when = []
    for _ in windows(glimpses(counted()), reach):
        when.append(count)
    assert when == [min(7, place + reach + 1) for place in range(7)]


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_no_more_frames_are_held_than_are_looked_at(reach: int) -> None:
    seen: list[weakref.ref[Tensor]] = []
    most = 0

    def alive() -> int:
        return sum(reference() is not None for reference in seen)

    def frames() -> Iterator[Tensor]:
        nonlocal most
        for index in range(20):
            frame = torch.full((3, 8, 8), index / 20)
            seen.append(weakref.ref(frame))
            most = max(most, alive())
            yield frame
            del frame

    for frame, others in windows(glimpses(frames(), torch.device("cpu")), reach):
        most = max(most, alive())
        assert len(others) <= 2 * reach
        del frame, others
    assert len(seen) == 20
    assert most == 2 * reach + 1


def test_glimpses_know_the_motion_where_it_is_asked_for() -> None:
    frames = footage(2, height=41, width=55)
    for glimpse, frame in zip(taken(frames), frames, strict=True):
        assert torch.equal(glimpse.image, frame[None])
        assert torch.equal(glimpse.thumbnail, thumbnail_of(frame[None]))
        padded = torch.cat((frame, frame[:, -1:]), 1)
        padded = torch.cat((padded, padded[..., -1:]), 2)
        assert glimpse.lent is not None
        assert torch.equal(glimpse.lent.image, padded[None])
        for luma, expected in zip(glimpse.lent.levels.lumas, Levels.of(padded[None]).lumas, strict=True):
            assert torch.equal(luma, expected)
    assert all(glimpse.lent is None for glimpse in taken(frames, False))


@pytest.mark.parametrize("size", [(40, 56), (41, 56), (40, 55), (33, 47), (2, 2), (1, 1)])
def test_frames_of_any_size_are_made_better(gather: Gather, size: tuple[int, int]) -> None:
    height, width = size
    frame, *others = taken(footage(3, height=height, width=width))
    context = torch.randn(1, 16, generator=generator(1))
    better = gathered(gather, frame, others, context)
    assert better.shape == (1, 3, height, width)
    assert 0 <= float(better.min()) <= float(better.max()) <= 1
    # What a repeated border adds is cut off again.
    odd = [
        functional.pad(one.image, (0, width % 2, 0, height % 2), mode="replicate") for one in (frame, *others)
    ]
    with torch.inference_mode():
        whole = gather(odd[0], odd[1:], [Levels.of(one) for one in odd], context).clamp(0, 1)
    assert torch.equal(better, whole[:, :, :height, :width])


def test_a_frame_alone_stays_as_it_is(gather: Gather) -> None:
    frame, *others = taken(footage(5))
    context = torch.randn(1, 16, generator=generator(1))
    before = frame.image.clone()
    assert gathered(gather, frame, [], context) is frame.image
    assert (gathered(gather, frame, others, context) - frame.image).abs().mean() > 0.01
    assert torch.equal(frame.image, before)
    with pytest.raises(ValueError, match="lent"):
        gathered(gather, frame, list(taken(footage(2), False)), context)


def test_no_scene_is_seen_in_another_behind_haze_or_in_the_dark() -> None:
    """A cut that changes the light too little to look at it anew still parts the neighbours."""
    for change in (lambda x: 0.2 * x + 0.7, lambda x: 0.1 * x, lambda x: x):
        frames = [change(frame) for frame in footage(3, 3)]
        told = list(windows(taken(frames), 2))
        assert [len(others) for _, others in told] == [2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("count", range(1, 7))
def test_every_frame_has_a_result_of_its_size(restorer: PixelRestorer, count: int) -> None:
    results = list(restorer.restore_stream(footage(count, height=33, width=47)))
    assert [tuple(result.shape) for result in results] == [(3, 33, 47)] * count
    assert all(0 <= float(result.min()) and float(result.max()) <= 1 for result in results)


def test_neighbours_change_what_comes_out(restorer: PixelRestorer, plain: PixelRestorer) -> None:
    frames = footage(3)
    together, alone = (list(one.restore_stream(frames)) for one in (restorer, plain))
    for one, other in zip(together, alone, strict=True):
        assert (one - other).abs().mean() > 0.003


@pytest.mark.parametrize("plan", [Plan(), Plan(steps=3), Plan(scale=2, tile=64)])
def test_footage_of_one_frame_is_a_photo(restorer: PixelRestorer, plan: Plan) -> None:
    (frame,) = footage(1, height=41, width=57)
    (result,) = restorer.restore_stream([frame], "remove the noise", plan)
    assert torch.equal(result, restorer.restore(Clip.of(frame), "remove the noise", plan).result.frames[0])


def test_photos_know_nothing_of_it(restorer: PixelRestorer, plain: PixelRestorer) -> None:
    clip = Clip(torch.stack(footage(3)))
    assert torch.equal(restorer.restore(clip).result.frames, plain.restore(clip).result.frames)


@pytest.mark.parametrize("lengths", [(3, 4), (1, 2), (2, 1, 4)])
def test_nothing_of_one_shot_is_seen_in_the_next(restorer: PixelRestorer, lengths: tuple[int, ...]) -> None:
    frames = footage(*lengths)
    together = list(restorer.restore_stream(frames))
    alone: list[Tensor] = []
    for shot, length in enumerate(lengths):
        begin = sum(lengths[:shot])
        alone += restorer.restore_stream(frames[begin : begin + length])
    assert len(together) == len(alone) == sum(lengths)
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one, other)


def test_scale_and_steps_are_those_of_the_better_frame(restorer: PixelRestorer) -> None:
    frames = footage(3, height=24, width=33)
    large = list(restorer.restore_stream(frames, scale=2))
    assert [tuple(result.shape) for result in large] == [(3, 48, 66)] * 3
    once, twice = (list(restorer.restore_stream(frames, steps=steps)) for steps in (1, 2))
    assert [result.shape for result in twice] == [result.shape for result in once]
    assert not torch.equal(once[1], twice[1])


def test_the_better_frame_is_what_is_restored(restorer: PixelRestorer, model: Tiny, gather: Gather) -> None:
    """The whole way again by hand, of the middle frame of five: average light, gather, average spectrum, network."""
    frames = footage(5)
    results = list(restorer.restore_stream(frames, "remove the noise", dtype="fp32"))
    seen: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        # The first three frames of a shot are averaged evenly, and the middle one is the third.
        for index in range(3):
            light = torch.stack([thumbnail_of(frame[None]) for frame in frames[: index + 1]]).mean(0)
            context = model.context(light, ["remove the noise"])
            near = [index, *(other for other in range(index + 3) if other != index and index - other <= 2)]
            chosen = [frames[other][None] for other in near]
            better = gather(chosen[0], chosen[1:], [Levels.of(one) for one in chosen], context).clamp(0, 1)
            seen.append((better, spectrum_of(better)))
        spectrum = torch.stack([one for _, one in seen]).mean(0)
        expected = model(better, torch.zeros(1), better, context, spectrum).clamp(0, 1)
    torch.testing.assert_close(results[2], expected[0], atol=2e-3, rtol=0)
    assert (expected[0] - frames[2]).abs().mean() > 0.01


@pytest.mark.parametrize(("word", "strength"), [("slightly ", 0.5), ("strongly ", 1.25)])
def test_a_wish_has_the_strength_it_has_for_photos(
    restorer: PixelRestorer, word: str, strength: float
) -> None:
    assert read_wish(f"{word}remove the noise").strength == strength
    frames = footage(3)
    whole, part = (
        list(restorer.restore_stream(frames, f"{one}remove the noise", dtype="fp32")) for one in ("", word)
    )
    for one, other, frame in zip(whole, part, frames, strict=True):
        torch.testing.assert_close(other, torch.lerp(frame, one, strength).clamp(0, 1), atol=1e-5, rtol=0)


def test_neighbours_can_be_left_out(restorer: PixelRestorer, plain: PixelRestorer) -> None:
    frames = footage(4)
    alone, without = (
        list(one.restore_stream(frames, neighbours=count)) for one, count in ((plain, 2), (restorer, 0))
    )
    assert all(torch.equal(one, other) for one, other in zip(alone, without, strict=True))
    assert not torch.equal(next(restorer.restore_stream(frames, neighbours=1)), alone[0])
    with pytest.raises(UsageError, match="neighbours"):
        restorer.restore_stream(frames, neighbours=3)


def test_frames_of_another_size_are_told(restorer: PixelRestorer, plain: PixelRestorer) -> None:
    frames = [torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)]
    for one in (restorer, plain):
        with pytest.raises(ValueError, match="one size"):
            list(one.restore_stream(frames))
        assert list(one.restore_stream([])) == []


def test_without_one_each_frame_is_restored_as_ever(plain: PixelRestorer) -> None:
    """The frames of a shot whose light doesn't change are so many photos."""
    frames = [picture(0, HEIGHT, WIDTH)] * 4
    photo = plain.restore(Clip.of(frames[0])).result.frames[0]
    for result in plain.restore_stream(frames):
        assert torch.equal(result, photo)


def test_footage_with_neighbours_holds_few_frames(restorer: PixelRestorer) -> None:
    seen: list[weakref.ref[Tensor]] = []
    most = 0

    def alive() -> int:
        return sum(reference() is not None for reference in seen)

    def frames() -> Iterator[Tensor]:
        nonlocal most
        for index in range(20):
            frame = torch.full((3, 16, 16), index / 20)
            seen.append(weakref.ref(frame))
            most = max(most, alive())
            yield frame
            del frame

    for result in restorer.restore_stream(frames()):
        most = max(most, alive())
        del result
    assert len(seen) == 20
    assert most == 5


def test_the_shipped_weights_know_footage(examples: Path) -> None:
    """Noise goes further than frame by frame, and the doubt and the trust of photos are there."""
    loaded = load("tiny")
    assert isinstance(loaded, PixelRestorer)
    assert None not in (loaded.weights.gather, loaded.weights.doubt, loaded.weights.trust)
    photo = read_image(examples / "coffee.png").frames[0]
    truth = [photo[:, 100 + time : 180 + time, 200 + 2 * time : 296 + 2 * time] for time in range(5)]
    noise = [torch.randn(truth[0].shape, generator=generator(time, "noise")) for time in range(5)]
    noisy = [(one + 20 / 255 * grain).clamp(0, 1) for one, grain in zip(truth, noise, strict=True)]
    together, alone = (list(loaded.restore_stream(noisy, neighbours=count))[2] for count in (2, 0))
    errors = [float((one - truth[2]).square().mean()) for one in (together, alone)]
    assert errors[0] < 0.8 * errors[1]
