"""Clips made of photos move as their paths say, seen in photos whose every value is known."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from unfade.core import generator
from unfade.training.moving import (
    MotionPath,
    MovingRule,
    PathLimits,
    Scene,
    draw_blob,
    draw_path,
    draw_scene,
    filmed,
    moving_clip,
    with_object,
)
from unfade.training.photos import Photos

SMALL = MovingRule(frames=5, size=32)
PLAIN = replace(SMALL, parallax=0, moving=0, light=0)


def photos_of(*images: Tensor) -> Photos:
    counts = torch.tensor([image.numel() for image in images])
    heights, widths = (torch.tensor([image.shape[axis] for image in images]) for axis in (1, 2))
    flat = torch.cat([image.reshape(-1) for image in images])
    return Photos(flat, counts.cumsum(0) - counts, heights, widths, torch.zeros(len(images), 3, 32, 32))


def grainy(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, height, width), generator=generator(seed, "grain")).to(torch.uint8)


def wave(across: Tensor, down: Tensor) -> Tensor:
    return 0.5 + 0.25 * torch.sin(across / 5) + 0.2 * torch.cos(down / 6 + across / 9)


def wavy(height: int, width: int) -> Tensor:
    down, across = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return wave(across, down).mul(255).round().to(torch.uint8).expand(3, -1, -1)


def rest(frames: int, size: int) -> MotionPath:
    none = torch.zeros(frames, dtype=torch.float64)
    return MotionPath(none[:, None].expand(-1, 2), none, none, none, none[:, None].expand(-1, 2), size)


def whole_steps(across: int, down: int, frames: int, size: int) -> MotionPath:
    times = torch.arange(frames, dtype=torch.float64)[:, None]
    return replace(rest(frames, size), translation=times * torch.tensor([across, down]))


@pytest.fixture(scope="module")
def photos() -> Photos:
    return photos_of(grainy(90, 130), grainy(64, 50, 1), wavy(150, 120), grainy(20, 24, 2))


def test_the_same_dice_make_the_same_clip_of_the_size_asked_for(photos: Photos) -> None:
    rule = replace(SMALL, parallax=0.6, moving=0.6, light=0.5)
    for seed in range(12):
        one, again, other = (
            moving_clip(photos, rule, random.Random(s), generator(s, "fields"))
            for s in (seed, seed, seed + 99)
        )
        assert one.shape == (5, 3, 32, 32)
        assert one.dtype == torch.float32
        assert one.min() >= 0
        assert one.max() <= 1
        assert torch.equal(one, again)
        assert not torch.equal(one, other)


def test_shapes_come_from_the_generator_alone(photos: Photos) -> None:
    rule = replace(SMALL, still=1, parallax=1, moving=0, light=0)
    one, other = (moving_clip(photos, rule, random.Random(3), generator(s, "fields")) for s in (0, 1))
    changed = (one != other).float().mean()
    assert 0 < changed < 1


@pytest.mark.parametrize(("frames", "size"), [(1, 16), (2, 17), (9, 24)])
def test_any_length_and_size(photos: Photos, frames: int, size: int) -> None:
    rule = replace(SMALL, frames=frames, size=size, parallax=1, moving=1, light=1)
    clip = moving_clip(photos, rule, random.Random(0), generator(0))
    assert clip.shape == (frames, 3, size, size)


def test_a_camera_at_rest_shows_the_photos_own_pixels_one_of_eight_ways_round() -> None:
    rows, columns = torch.meshgrid(torch.arange(70), torch.arange(80), indexing="ij")
    places = torch.stack([rows, columns, 0 * rows]).to(torch.uint8)
    rule = replace(PLAIN, still=1, reduced=0)
    ways: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    for seed in range(40):
        clip = moving_clip(photos_of(places), rule, random.Random(seed), generator(0))
        assert torch.equal(clip, clip[:1].expand_as(clip))
        shown = clip[0, :2] * 255
        assert (shown - shown.round()).abs().max() < 0.01
        steps = [shown.round().diff(dim=axis).flatten(1).unique(dim=1) for axis in (1, 2)]
        assert [step.shape for step in steps] == [(2, 1), (2, 1)]
        down, across = (tuple(int(v) for v in step[:, 0]) for step in steps)
        ways.add((down, across))
    quarter = {((a, 0), (0, b)) for a in (-1, 1) for b in (-1, 1)}
    assert ways == quarter | {(across, down) for down, across in quarter}


def test_whole_pixels_shift_the_frames_exactly() -> None:
    photo = grainy(60, 70)
    clip = filmed(Scene(photo, 1.0, (20, 10), (0.0, 0.0)), whole_steps(3, -2, 5, 32), generator(0))
    for time, frame in enumerate(clip):
        row, column = 20 - 2 * time, 10 + 3 * time
        expected = photo[:, row : row + 32, column : column + 32] / 255
        torch.testing.assert_close(frame, expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(clip[1, :, 2:, :-3], clip[0, :, :-2, 3:], atol=2e-4, rtol=0)


def test_every_frame_looks_where_turning_zoom_shear_and_tilt_say() -> None:
    size, turn, zoom, shear, tilt, shift = 32, 0.1, 1.05, 0.02, (0.03, -0.02), (0.3, -0.2)
    none = torch.zeros(1, dtype=torch.float64)
    path = MotionPath(
        torch.tensor([[2.5, -1.25]]).double(),
        none + turn,
        none + math.log(zoom),
        none + shear,
        torch.tensor([tilt]).double(),
        size,
    )
    seen = filmed(Scene(wavy(100, 110), 1.0, (30, 40), shift), path, generator(0))[0, 0]
    down, across = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(32) - 15.5, indexing="ij")
    # The published form of a projective map, one step after the other: perspective, shear, similarity.
    distance = 1 + (across * tilt[0] + down * tilt[1]) / (size / 2)
    x, y = (across + shear * down) / distance, down / distance
    x, y = (
        zoom * (math.cos(turn) * x - math.sin(turn) * y) + 2.5,
        zoom * (math.sin(turn) * x + math.cos(turn) * y) - 1.25,
    )
    expected = wave(x + 15.5 + 40 + shift[0], y + 15.5 + 30 + shift[1])
    # Two thousandths for 8 bits, the rest for a filter that is off by a twentieth of a pixel on a slope.
    torch.testing.assert_close(seen, expected, atol=0.008, rtol=0)


def test_a_reduced_photo_shows_the_same_scene_smaller() -> None:
    seen = filmed(Scene(wavy(160, 150), 2.0, (12, 9), (0.0, 0.0)), rest(1, 32), generator(0))[0, 0]
    down, across = torch.meshgrid(torch.arange(32).double(), torch.arange(32).double(), indexing="ij")
    expected = wave(2 * (across + 9) + 0.5, 2 * (down + 12) + 0.5).float()
    torch.testing.assert_close(seen, expected, atol=0.02, rtol=0)


def test_what_leaves_a_small_photo_is_mirrored() -> None:
    photo = grainy(20, 14)
    clip = filmed(Scene(photo, 1.0, (-6, -5), (0.0, 0.0)), rest(2, 32), generator(0))
    mirrored = np.pad(photo.numpy(), ((0, 0), (6, 6), (5, 13)), mode="symmetric")
    torch.testing.assert_close(clip[1], torch.from_numpy(mirrored) / 255, atol=2e-4, rtol=0)
    whole = moving_clip(photos_of(photo), replace(SMALL, moving=1), random.Random(0), generator(0))
    assert whole.shape == (5, 3, 32, 32)


def test_a_box_lies_within_the_photo_where_it_can(photos: Photos) -> None:
    for seed in range(40):
        scene = draw_scene(photos, PLAIN, (-3, -4, 40, 44), True, random.Random(seed))
        height, width = (side / scene.reduction for side in scene.photo.shape[1:])
        assert 1 <= scene.reduction <= PLAIN.reduction
        if height >= 44 and width >= 44:
            assert 3 <= scene.corner[0] <= height - 37
            assert 4 <= scene.corner[1] <= width - 40


def test_a_mask_moves_with_its_layer_and_hides_what_is_farther() -> None:
    near, path = Scene(grainy(80, 80), 1.0, (20, 20), (0.0, 0.0)), whole_steps(2, 4, 5, 32)
    layer = filmed(near, path, generator(4), (12.0, 1.5, 0.0))
    opacity = layer[:, 3:]
    assert (opacity == 0).float().mean() > 0.1
    assert (opacity == 1).float().mean() > 0.1
    torch.testing.assert_close(layer[1, :, :-4, :-2], layer[0, :, 4:, 2:], atol=1e-3, rtol=0)
    far = filmed(near, path.slower(0.5), generator(4))
    torch.testing.assert_close(far[1, :, :-2, :-1], far[0, :, 2:, 1:], atol=2e-4, rtol=0)


def test_what_is_farther_moves_and_grows_less_but_turns_alike() -> None:
    path = draw_path(PathLimits(zoom=0.05), 7, 32, 0, random.Random(8))
    path = replace(path, zoom=torch.linspace(-0.1, 0.1, 7).double(), shear=0 * path.shear, tilt=0 * path.tilt)
    near, far = path.homographies(), path.slower(0.5).homographies()
    torch.testing.assert_close(far[:, :2, 2], near[:, :2, 2] / 2)
    torch.testing.assert_close(far[:, :2, :2].det() ** 2, near[:, :2, :2].det())
    torch.testing.assert_close(far[:, 1, 0] / far[:, 0, 0], near[:, 1, 0] / near[:, 0, 0])


def test_a_blob_is_solid_within_soft_at_its_edge_and_never_cut_off() -> None:
    blobs = torch.cat([draw_blob(40, 2.0, generator(seed, "blob")) for seed in range(200)])[:, 0]
    border = torch.cat([blobs[:, 0], blobs[:, -1], blobs[:, :, 0], blobs[:, :, -1]])
    assert not border.any()
    assert (blobs[:, 20, 20] == 1).float().mean() > 0.9
    soft = ((blobs > 0) & (blobs < 1)).float().mean((1, 2))
    assert 0.04 < soft.mean() < 0.25
    assert 0.1 < blobs.mean() < 0.6


def test_an_object_hides_the_scene_and_leaves_the_rest_alone(photos: Photos) -> None:
    rule = replace(SMALL, frames=7, still=0)
    scenes = torch.rand(2, 1, 3, 32, 32, generator=generator(5)).expand(-1, 7, -1, -1, -1)
    shares, moved = [], 0
    for seed in range(8):
        one, other = (with_object(s, photos, rule, random.Random(seed), generator(seed)) for s in scenes)
        # What two scenes come to differ by is the share of them that still shows through.
        through = (one - other) / (scenes[0] - scenes[1])
        sure = (scenes[0] - scenes[1]).abs() > 0.2
        hidden, open_ = (through.abs() < 1e-4) & sure, (one == scenes[0]) & (other == scenes[1])
        assert through[sure].min() > -1e-4
        assert through[sure].max() < 1 + 1e-4
        assert open_.any()
        shares.append((hidden.sum() / sure.sum()).item())
        moved += int((hidden[0] != hidden[-1]).any())
        hard = (hidden | (open_ & sure)).sum() / sure.sum()
        assert hard > 0.5
    assert 0.02 < sum(shares) / len(shares) < 0.4
    assert moved >= 4


def test_paths_keep_to_their_limits_and_often_go_slowly() -> None:
    limits = PathLimits(tremor=0)
    dice = random.Random(0)
    speeds: list[float] = []
    rested = 0
    for _ in range(300):
        path = draw_path(limits, 7, 128, 0.1, dice)
        for positions, limit in (
            (path.translation, limits.translation),
            (path.angle[:, None], math.radians(limits.rotation)),
            (path.zoom[:, None], math.log1p(limits.zoom)),
            (path.shear[:, None], limits.shear),
            (path.tilt[:, :1], limits.tilt),
            (path.tilt[:, 1:], limits.tilt),
        ):
            assert not positions[3].any()
            assert positions.diff(dim=0).norm(dim=1).max() <= limit + 1e-12
        steps = path.translation.diff(dim=0)
        # Smooth: from step to step the speed changes by little of what it may be.
        assert steps.diff(dim=0).norm(dim=1).max() < 0.5 * limits.translation
        speeds.append(steps.norm(dim=1).mean().item())
        rested += not path.translation.any()
    assert 10 <= rested <= 60
    assert sorted(speeds)[200] < 2
    assert max(speeds) > 4


def test_a_hand_trembles_about_the_path() -> None:
    limits = PathLimits(0, 0, 0, 0, 0, tremor=0.4)
    paths = [draw_path(limits, 50, 64, 0, random.Random(seed)) for seed in range(20)]
    spreads = torch.stack([path.translation.std() for path in paths])
    assert (spreads == 0).any()
    assert 0.1 < spreads.max() < 0.6
    assert max(path.angle.abs().max().item() for path in paths) < math.radians(0.3)


def test_the_light_changes_smoothly_and_by_a_few_per_cent() -> None:
    grey = photos_of(torch.full((3, 60, 60), 128, dtype=torch.uint8))
    rule = replace(PLAIN, frames=9, light=1)
    changes: list[float] = []
    for seed in range(10):
        clip = moving_clip(grey, rule, random.Random(seed), generator(0)) / (128 / 255)
        means = clip.mean((2, 3))
        torch.testing.assert_close(clip, means[..., None, None].expand_as(clip), atol=1e-4, rtol=0)
        assert (means - 1).abs().max() <= rule.light_change / 2 + 1e-4
        assert means.diff(dim=0).abs().max() < rule.light_change / 3
        changes.append((means.amax(0) - means.amin(0)).max().item())
    assert max(changes) > rule.light_change / 4
