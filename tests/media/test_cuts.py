"""Hard cuts are found where they are, and nothing else is taken for one."""

from itertools import permutations

import pytest
import torch
from torch.nn import functional

from unfade.core import generator
from unfade.media.cuts import is_cut, is_other_scene

# Looked at: these frames begin another shot.
CUTS = {"bikes.mp4": [30, 76, 137, 187, 242], "carphone_pristine.mp4": [], "bigbuckbunny.mp4": []}


def pictures(count, seed="shot"):
    """Unlike thumbnails of smooth content."""
    coarse = torch.rand((count, 3, 5, 5), generator=generator(3, seed))
    return list(functional.interpolate(coarse, (32, 32), mode="bilinear").split(1))


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
def thumbnails(real_clips) -> dict[str, list[torch.Tensor]]:
    """What cuts are judged by: area averages."""
    return {name: [thumbnail for _, thumbnail in real_clips[name]] for name in CUTS}


def found(thumbnails):
    """Where the cuts are."""
    pairs = zip(thumbnails, thumbnails[1:], strict=False)
    return [index for index, pair in enumerate(pairs, start=1) if is_cut(*pair)]


def test_scenes_are_told_apart_whatever_the_contrast():
    scenes = pictures(6)
    for change in (lambda x: x, lambda x: 0.1 * x, lambda x: 0.05 * x + 0.9):
        for one, other in permutations([change(scene) for scene in scenes], 2):
            assert is_other_scene(one, other)
            grain = 0.002 * torch.randn(one.shape, generator=generator(1, "grain"))
            assert not is_other_scene(one, one + grain)
    flat = torch.full((1, 3, 32, 32), 0.5)
    grain = [0.002 * torch.randn(flat.shape, generator=generator(index, "grain")) for index in (0, 1)]
    assert not is_other_scene(flat + grain[0], flat + grain[1])
    assert is_other_scene(flat, 0.2 * flat)


def test_no_cut_of_a_real_clip_is_taken_for_one_scene(thumbnails):
    for name, frames in thumbnails.items():
        for haze in (1.0, 0.2):
            foggy = [haze * frame + 0.8 * (1 - haze) for frame in frames]
            pairs = zip(foggy, foggy[1:], strict=False)
            other = [index for index, pair in enumerate(pairs, start=1) if is_other_scene(*pair)]
            assert set(CUTS[name]) <= set(other), name
            # Besides, only where a car or a bicycle passes close.
            assert len(other) - len(CUTS[name]) <= 0.04 * len(frames), name


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
