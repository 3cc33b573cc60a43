"""Progressive's physics over a thousand draws, and clips that are drawn once."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from unfade.core import InputError, generator
from unfade.degrade.blur import DirectionalBlur, gaussian_kernels, line_kernels
from unfade.degrade.composition import PROGRESSIONS, draw_composition
from unfade.degrade.framing import check_fits, framed, is_turned, turned
from unfade.degrade.light import LowLight
from unfade.degrade.progression import STRENGTHS, Progression, described, dice_of
from unfade.degrade.resample import resize
from unfade.degrade.view import View

DRAWS = 1000


@pytest.mark.parametrize("strength", STRENGTHS)
def test_kernels_are_centred_and_normalised_over_a_thousand_draws(strength) -> None:
    (drawn,) = draw_composition(PROGRESSIONS["blur"], generator(1, strength), (DRAWS, 8, 8), strength).parts
    assert isinstance(drawn, DirectionalBlur)
    for severity in (1.0, 0.5, 0.125):
        kernels = line_kernels(1 + (drawn.length - 1) * severity, drawn.angle)
        torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(DRAWS), atol=1e-5, rtol=0)
        assert (kernels >= 0).all()
        radius = kernels.shape[-1] // 2
        line = torch.arange(-radius, radius + 1.0)
        for axis in (1, 2):
            centre = (kernels.sum(3 - axis) * line).sum(1)
            torch.testing.assert_close(centre, torch.zeros(DRAWS), atol=1e-4, rtol=0)
        # A line is its own point reflection, so nothing drifts.
        torch.testing.assert_close(kernels, kernels.flip(1, 2), atol=1e-6, rtol=0)
    low, high = (9, 21) if strength == "mild" else (25, 51)
    assert (drawn.length >= low).all() and (drawn.length <= high).all()
    assert (drawn.angle >= 0).all() and (drawn.angle <= math.pi).all()
    torch.testing.assert_close(
        gaussian_kernels(drawn.spread).sum((1, 2)), torch.ones(DRAWS), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(("length", "spread"), [(200.0, 0.0), (1.0, 40.0), (200.0, 40.0)])
def test_a_photo_and_a_smaller_copy_are_blurred_alike(length: float, spread: float, photo: Tensor) -> None:
    drawn = DirectionalBlur(*(torch.tensor([value]) for value in (length, 0.7, spread)))
    small = resize(photo, 50, 75).clamp(0, 1)
    for severity in (0.5, 1.0):
        expected, made = resize(drawn(photo, severity), 50, 75), drawn(small, severity)
        assert float((made - expected).abs().mean()) < 0.15 * float((expected - small).abs().mean())
        # A thumbnail of a photo is the photo's smaller copy.
        torch.testing.assert_close(drawn(small, severity, View.whole(photo)), made, atol=1e-5, rtol=0)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_brightness_rises_with_every_frame_over_a_thousand_draws(strength) -> None:
    truth = torch.rand(1, 3, 6, 8, generator=generator(2)) * 0.8 + 0.15
    truth = truth.expand(DRAWS, -1, -1, -1)
    composition = draw_composition(PROGRESSIONS["lowlight"], generator(3, strength), (DRAWS, 6, 8), strength)
    (drawn,) = composition.parts
    assert isinstance(drawn, LowLight)
    # The light alone, without the noise that rides on it.
    calm = LowLight(
        drawn.stops, drawn.falloff, drawn.balance, drawn.contrast, drawn.shot, drawn.read, drawn.field * 0
    )
    light = torch.stack([calm(truth, 1 - step / 8).mean((1, 2, 3)) for step in range(9)])
    assert (light.diff(dim=0) > 0).all()
    assert torch.equal(calm(truth, 0.0), truth)


@pytest.mark.parametrize("task", PROGRESSIONS)
def test_a_clip_has_one_draw_and_ends_in_the_truth(task: str) -> None:
    truth = torch.rand(1, 3, 24, 40, generator=generator(4)).mul(255).round().div(255)
    for number in range(333):
        strength = STRENGTHS[number % 2]
        dice = generator(number)
        one = Progression.draw(task, truth, strength, dice)
        after = dice.get_state()
        if number < 20:
            frames = list(one.frames(9))
            # No dice are thrown once the frames begin, and making them again makes the same.
            assert torch.equal(dice.get_state(), after)
            assert len(frames) == 9 and torch.equal(frames[-1], truth)
            assert torch.equal(frames[0], frames[0].mul(255).round().div(255))
            assert all(torch.equal(a, b) for a, b in zip(frames, one.frames(9), strict=True))
        else:
            assert torch.equal(one.composition(truth, 0.0), truth)
        twin = Progression.draw(task, truth, strength, generator(number))
        assert one.parameters() == twin.parameters() == [described(part) for part in twin.composition.parts]


def test_a_thousand_clips_keep_the_physics_noise_and_all() -> None:
    """Each clip whole, as a set or a training run gets it: every law on every draw, none averaged over draws."""
    # Smooth, as photos are, and 8 bits, as files are; bright enough that something can darken.
    smooth = torch.nn.functional.interpolate(
        torch.rand(1, 3, 4, 6, generator=generator(6)), (32, 48), mode="bicubic"
    )
    truth = smooth.clamp(0.1, 0.9).mul(255).round().div(255)
    tasks = tuple(PROGRESSIONS)
    fields: set[float] = set()
    for number in range(DRAWS):
        task, strength = tasks[number % 3], STRENGTHS[number // 3 % 2]
        dice = generator(number, "physics")
        one = Progression.draw(task, truth, strength, dice)
        drawn, after = one.parameters(), dice.get_state()
        frames = list(one.frames(9))
        assert len(frames) == 9 and torch.equal(frames[-1], truth), number
        # One draw: no dice are thrown on the way, and what was drawn is as it was.
        assert torch.equal(dice.get_state(), after) and one.parameters() == drawn
        assert all(bool(((frame >= 0) & (frame <= 1)).all()) for frame in frames)
        # Before the first frame is rounded as a file is.
        errors = [float((one.composition(truth, severity) - truth).abs().mean()) for severity in (1.0, 0.5)]
        assert errors[0] > errors[1] > 0, (number, task, strength)
        (part,) = one.composition.parts
        if isinstance(part, DirectionalBlur):
            # A point stays where it is, and its light is all there, at every severity.
            for step in (0, 4, 7):
                severity = 1 - step / 8
                kernel = line_kernels(1 + (part.length - 1) * severity, part.angle)[0]
                line = torch.arange(kernel.shape[0]) - kernel.shape[0] // 2.0
                centre = torch.stack([(kernel.sum(1 - axis) * line).sum() for axis in (0, 1)])
                assert float(centre.abs().max()) < 1e-3 and float(kernel.sum()) == pytest.approx(1, abs=1e-5)
        if isinstance(part, LowLight):
            # With the noise that rides on it, and clipped: each frame is brighter than the one before.
            levels = torch.stack([frame.mean() for frame in frames])
            assert bool((levels.diff() > 0).all()), (number, strength, levels.tolist())
            assert bool(part.field.any()) and float(part.shot) > 0 and float(part.read) > 0
            fields.add(round(float(part.field.flatten()[0]), 6))
            # The noise is frozen: what it adds in one frame it adds, less, in the next.
            calm = replace(part, field=part.field * 0)
            noises = [(part(truth, s) - calm(truth, s)).flatten() for s in (1.0, 0.75)]
            assert float(torch.corrcoef(torch.stack(noises))[0, 1]) > 0.5, number
    # Another clip has other noise.
    assert len(fields) == sum(tasks[number % 3] == "lowlight" for number in range(DRAWS))


def test_dice_know_photo_task_and_strength_and_nothing_else() -> None:
    states = {
        tuple(dice_of(seed, photo, task, strength).get_state()[:64].tolist())
        for seed in (0, 1) for photo in ("a.png", "b.png") for task in PROGRESSIONS for strength in STRENGTHS
    }  # fmt: skip
    assert len(states) == 2 * 2 * 3 * 2
    assert torch.equal(
        dice_of(0, "a", "blur", "mild").get_state(), dice_of(0, "a", "blur", "mild").get_state()
    )


def _ramp(height: int, width: int) -> Tensor:
    return torch.arange(width, dtype=torch.float32).expand(1, 3, height, width) / width


def test_frames_keep_the_aspect_and_turn_what_stands() -> None:
    assert torch.equal(framed(_ramp(10, 20), (10, 10)), _ramp(10, 20)[..., 5:15])
    assert torch.equal(framed(_ramp(10, 20), (10, 10), (0, 1)), _ramp(10, 20)[..., 10:])
    assert framed(_ramp(31, 47), (12, 20)).shape == (1, 3, 12, 20)
    standing = _ramp(10, 20).rot90(1, (2, 3))
    assert is_turned(20, 10, (5, 9)) and not is_turned(10, 20, (5, 9)) and not is_turned(10, 10, (5, 9))
    assert turned(standing, (10, 20)).shape == (1, 3, 10, 20)
    check_fits(768, 1360, (768, 1360), "a.png")
    with pytest.raises(InputError, match=r"a\.png has 1360 x 767 pixels, fewer than the 1360 x 768"):
        check_fits(767, 1360, (768, 1360), "a.png")
