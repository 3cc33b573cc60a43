"""The light of a shot: averaged causally, and nothing of one shot in the next."""

import math
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from unfade.backbones.tiny import thumbnail_of
from unfade.core import generator
from unfade.media.images import read_image
from unfade.media.video import read_video
from unfade.restore.shots import Shot, is_cut

# Looked at: these frames begin another shot.
CUTS = {"bikes.mp4": [30, 76, 137, 187, 242], "carphone_pristine.mp4": [], "bigbuckbunny.mp4": []}


def pictures(count, seed="shot"):
    """Unlike thumbnails of smooth content."""
    coarse = torch.rand((count, 3, 5, 5), generator=generator(3, seed))
    return list(functional.interpolate(coarse, (32, 32), mode="bilinear").split(1))


def test_the_first_frames_are_averaged_evenly_then_exponentially():
    scene = pictures(1)[0]
    noise = [0.02 * torch.randn(scene.shape, generator=generator(index, "n")) for index in range(20)]
    frames = [scene + part for part in noise]
    shot = Shot(memory=4)
    seen = [shot.add(frame) for frame in frames]
    assert torch.equal(seen[0], frames[0])
    for count in (2, 3, 4):
        torch.testing.assert_close(seen[count - 1], torch.stack(frames[:count]).mean(0))
    expected = torch.stack(frames[:4]).mean(0)
    for frame, average in zip(frames[4:], seen[4:], strict=True):
        expected = 0.75 * expected + 0.25 * frame
        torch.testing.assert_close(average, expected)
    assert shot.num_cuts == 0


def test_nothing_is_left_after_a_cut():
    first, second = pictures(2)
    one, two = Shot(), Shot()
    for index in range(5):
        one.add(first * (1 + 0.01 * index))
    later = [second * (1 - 0.01 * index) for index in range(5)]
    for frame in later:
        assert torch.equal(one.add(frame), two.add(frame))
    assert (one.num_cuts, two.num_cuts) == (1, 0)


def test_a_memory_of_one_frame_is_no_memory():
    shot = Shot(memory=1)
    for frame in pictures(4):
        assert torch.equal(shot.add(frame), frame)
    with pytest.raises(ValueError, match="at least 1 frame"):
        Shot(memory=0)


def test_neither_light_nor_noise_nor_a_still_is_a_cut():
    scene, other = pictures(2)
    flat = torch.full((1, 3, 32, 32), 0.5)
    grain = [0.04 * torch.randn(flat.shape, generator=generator(index, "grain")) for index in (0, 1)]
    assert not is_cut(scene, scene)
    assert not is_cut(scene, 0.4 * scene)
    assert not is_cut(flat + grain[0], flat + grain[1])
    assert is_cut(scene, other) and is_cut(other, scene)
    assert is_cut(0.1 * scene, 0.1 * other)
    assert is_cut(scene, torch.zeros_like(scene))
    assert not is_cut(torch.zeros_like(scene), torch.zeros_like(scene))


@pytest.fixture(scope="module")
def thumbnails(shared: Path) -> dict[str, list[torch.Tensor]]:
    clips = shared / "clips"
    if not clips.is_dir():
        pytest.skip(f"no {clips}: the sample clips are not on this machine")
    return {name: [thumbnail_of(frame.image[None]) for frame in read_video(clips / name)] for name in CUTS}


def found(thumbnails):
    """Where the cuts are."""
    pairs = zip(thumbnails, thumbnails[1:], strict=False)
    return [index for index, pair in enumerate(pairs, start=1) if is_cut(*pair)]


@pytest.mark.parametrize("gain", [1.0, 0.15])
def test_real_clips_are_cut_where_they_are_cut(gain, thumbnails):
    for name, frames in thumbnails.items():
        assert found([gain * frame for frame in frames]) == CUTS[name], name


def test_the_joint_of_two_clips_is_found(thumbnails):
    for one, two in permutations(CUTS, 2):
        joined = thumbnails[one][-3:] + thumbnails[two][:3]
        assert found(joined) == [3], (one, two)
        noisy = [
            (frame + 0.03 * torch.randn(frame.shape, generator=generator(index, "joint"))).clamp(0, 1)
            for index, frame in enumerate(joined)
        ]
        assert found(noisy) == [3], (one, two)


def test_a_dark_static_scene_flickers_less_than_frame_by_frame(examples):
    """Mean-luma second difference, the shipped model, noise and a slow wobble of the light."""
    from unfade import load

    restorer = load("tiny")
    scene = functional.interpolate(read_image(examples / "coffee.png").frames, (72, 96), mode="area")[0]
    frames = [
        (0.2 * scene * (1 + 0.05 * math.sin(index / 4)) + 10 / 255 * noise).clamp(0, 1)
        for index in range(14)
        for noise in [torch.randn(scene.shape, generator=generator(index, "flicker"))]
    ]
    streamed = list(restorer.restore_stream(frames, dtype="fp32"))
    alone = [next(restorer.restore_stream([frame], dtype="fp32")) for frame in frames]

    def flicker(images):
        luma = torch.stack([image.double().mean() for image in images])
        return float((luma[2:] - 2 * luma[1:-1] + luma[:-2]).abs().mean())

    assert flicker(streamed) < 0.7 * flicker(alone)
