"""The light of a shot: averaged causally, and nothing of one shot in the next."""

import math

import pytest
import torch
from torch.nn import functional

from unfade.core import generator
from unfade.media.images import read_image
from unfade.restore.shots import Shot


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
