"""Colours are those of the input, the stream gives what a whole clip would, and neither flickers nor smears."""

import weakref

import numpy as np
import pytest
import torch
from torch.nn import functional

from unfade.core import generator
from unfade.restore.colour_fix import KINDS, ColourFix, low_band

FIXES = ["adain", "wavelet"]
CAST, SHIFT = (
    torch.tensor([1.1, 0.95, 0.85]).reshape(3, 1, 1),
    torch.tensor([-0.03, 0.02, 0.05]).reshape(3, 1, 1),
)


def drawn(seed, *shape):
    return torch.randn(shape, generator=generator(7, seed))


def texture(seed, height=48, width=80):
    """A picture of soft colours with grain, well inside [0, 1]."""
    coarse = torch.rand((1, 3, 4, 6), generator=generator(5, seed))
    soft = functional.interpolate(coarse, (height, width), mode="bicubic")[0]
    return (0.3 + 0.3 * soft + 0.04 * drawn(seed, 3, height, width)).clamp(0.1, 0.8)


def still(count=24):
    return texture("still").expand(count, -1, -1, -1)


def moving(count=24):
    """A warm block crosses the picture by three pixels a frame; also where it is, `[T, 1, H, W]`."""
    where = torch.zeros(count, 1, 48, 80)
    for index in range(count):
        where[index, :, 12:36, 4 + 2 * index : 24 + 2 * index] = 1
    block = 0.5 * texture("block") + torch.tensor([0.4, 0.1, 0.0]).reshape(3, 1, 1)
    return torch.lerp(still(count), block.expand(count, -1, -1, -1), where), where


def degraded(frames):
    return functional.avg_pool2d(functional.pad(frames, (2, 2, 2, 2), mode="replicate"), 5, 1)


def flicker(count=24):
    """Light (factor) and colour (offset) of each frame that go up and down."""
    return 1 + 0.05 * drawn("gain", count, 1, 1, 1), 0.02 * drawn("shift", count, 3, 1, 1)


def streamed(kind, window, restored, source, cuts=()):
    fix = ColourFix(kind, window)
    frames = []
    for index, pair in enumerate(zip(restored, source, strict=True)):
        frames += fix.push(*pair, cut=index in cuts)
    return torch.stack(frames + fix.flush())


def error(frames, truth):
    """Of the colours of areas: root mean square in grey levels, of the frames and of their changes in time."""
    wrong = 255 * functional.avg_pool2d(frames - truth, 8)
    return float(wrong.square().mean().sqrt()), float(wrong.diff(dim=0).square().mean().sqrt())


# What a whole clip gives, from the formulas, in numpy and double precision.


def np_low(image, levels=5):
    for level in range(levels):
        step = 2**level
        for axis in (1, 2):
            wide = np.pad(
                image, [(step, step) if other == axis else (0, 0) for other in range(3)], mode="edge"
            )
            taps = (
                np.take(wide, np.arange(image.shape[axis]) + offset, axis) for offset in (0, step, 2 * step)
            )
            image = sum(weight * tap for weight, tap in zip((0.25, 0.5, 0.25), taps, strict=True))
    return image


def np_areas(image, down, across):
    height, width = image.shape[1:]
    return image.reshape(3, down, height // down, across, width // across).mean((2, 4))


def np_enlarged(field, height, width):
    for axis, length in ((1, height), (2, width)):
        share = length // field.shape[axis]
        places = (np.arange(length) + 0.5) / share - 0.5
        line = np.arange(field.shape[axis])
        field = np.apply_along_axis(lambda values: np.interp(places, line, values), axis, field)  # noqa: B023
    return field


def np_agreed(one, two):
    return np.where(np.sign(one) == np.sign(two), np.sign(one) * np.minimum(np.abs(one), np.abs(two)), 0.0)


def np_shot(kind, window, restored, source):
    count, half = len(restored), window // 2
    finished = []
    for index in range(count):
        near = slice(max(0, index - half), min(count, index + half + 1))
        if kind == "adain":
            mean_r, mean_s = (frames[near].mean((0, 2, 3)) for frames in (restored, source))
            std_r, std_s = (np.sqrt(frames[near].var((0, 2, 3)) + 1e-5) for frames in (restored, source))
            small_r, small_s = (
                np.stack([np_areas(f, 12, 16) for f in frames]) for frames in (restored, source)
            )
            part_r, part_s = (small[index] - small[near].mean(0) for small in (small_r, small_s))
            gain = (std_s / std_r)[:, None, None]
            part_r = part_r * gain
            unconfirmed = np.sort((part_r - np_agreed(part_r, part_s)).reshape(3, -1))
            # Of an even number of values the lower middle one.
            whole = unconfirmed[:, (unconfirmed.shape[1] - 1) // 2]
            frame = (restored[index] - mean_r[:, None, None]) * gain + (mean_s - whole)[:, None, None]
        else:
            lows_r, lows_s = (np.stack([np_low(f) for f in frames]) for frames in (restored, source))
            height, width = restored.shape[2:]
            thin_r, thin_s = (
                np.stack([np_areas(low, height // 8, width // 8) for low in lows])
                for lows in (lows_r, lows_s)
            )
            gain = np.sqrt((thin_s[near].var((0, 2, 3)) + 1e-5) / (thin_r[near].var((0, 2, 3)) + 1e-5))
            mean_s = thin_s[near].mean(0)
            part_r = (thin_r[index] - thin_r[near].mean(0)) * gain[:, None, None]
            wanted = mean_s + np_agreed(part_r, thin_s[index] - mean_s)
            frame = restored[index] - lows_r[index] + lows_s[index]
            frame = frame + np_enlarged(wanted - thin_s[index], height, width)
        finished.append(frame.clip(0, 1))
    return finished


def whole(kind, window, restored, source, cuts=()):
    borders = [0, *sorted(set(cuts) - {0}), len(restored)]
    frames = []
    for start, stop in zip(borders, borders[1:], strict=False):
        part = slice(start, stop)
        frames += np_shot(kind, window, restored[part].double().numpy(), source[part].double().numpy())
    return torch.from_numpy(np.stack(frames))


@pytest.mark.parametrize("kind", FIXES)
@pytest.mark.parametrize(("window", "cuts"), [(1, ()), (5, ()), (7, (0, 4, 6)), (9, (1,)), (31, ())])
def test_a_stream_gives_what_the_whole_clip_gives(kind, window, cuts):
    restored = torch.rand((11, 3, 24, 32), generator=generator(1, "restored"))
    source = torch.rand((11, 3, 24, 32), generator=generator(1, "source")) * 0.6
    result = streamed(kind, window, restored, source, cuts)
    torch.testing.assert_close(
        result.double(), whole(kind, window, restored, source, cuts), rtol=0, atol=3e-6
    )


def test_a_window_of_one_is_the_published_adain():
    restored, source = moving(3)[0] * CAST + SHIFT, degraded(moving(3)[0])
    result = streamed("adain", 1, restored, source)
    for dims in ("mean", "std"):
        one, two = (getattr(frames, dims)((2, 3)) for frames in (result, source))
        torch.testing.assert_close(one, two, rtol=0, atol=2e-4)


def test_a_window_of_one_is_the_published_wavelet():
    restored, source = texture("one")[None], texture("two")[None]
    details, low = [], restored[0]
    for levels in range(1, 6):
        lower = low_band(restored[0], levels)
        details.append(low - lower)
        low = lower
    expected = low_band(source[0]) + sum(details)
    torch.testing.assert_close(streamed("wavelet", 1, restored, source)[0], expected, rtol=0, atol=1e-6)


def test_the_low_band_is_that_of_the_kernel_with_holes():
    impulse = torch.zeros(1, 97, 97)
    impulse[0, 48, 48] = 1
    low = low_band(impulse)
    line = np.array([1.0])
    for level in range(5):
        holes = np.zeros(2 ** (level + 1) + 1)
        holes[[0, 2**level, -1]] = 0.25, 0.5, 0.25
        line = np.convolve(line, holes)
    expected = torch.from_numpy(np.outer(line, line)).float()
    radius = len(line) // 2
    assert radius == 31 and float(low.sum()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(low[0, 17:80, 17:80], expected, rtol=0, atol=1e-7)
    flat = torch.full((3, 5, 7), 0.4)
    torch.testing.assert_close(low_band(flat), flat)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", [1, 5])
@pytest.mark.parametrize("size", [(48, 80), (37, 51), (3, 5)])
def test_nothing_changes_where_nothing_differs(kind, window, size):
    frames = torch.rand((7, 3, *size), generator=generator(1, "same"))
    frames = frames * torch.linspace(0.3, 1, 7).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(streamed(kind, window, frames, frames, cuts=(4,)), frames, rtol=0, atol=2e-6)


def test_a_cast_over_everything_is_undone():
    truth = moving()[0]
    for window in (1, 9):
        assert error(streamed("adain", window, truth * CAST + SHIFT, truth), truth)[0] < 0.05
        # Of a cast in proportion to the colour the wavelet leaves what is in the high bands.
        assert error(streamed("wavelet", window, truth * CAST + SHIFT, truth), truth)[0] < 2


@pytest.mark.parametrize("kind", FIXES)
def test_shots_know_nothing_of_each_other(kind):
    one, two = torch.rand((2, 6, 3, 24, 32), generator=generator(1, "shots"))
    other = torch.rand((6, 3, 24, 32), generator=generator(2, "shots"))
    joined = streamed(kind, 5, torch.cat((one, other)), torch.cat((two, other.flip(1))), cuts=(6,))
    apart = [streamed(kind, 5, one, two), streamed(kind, 5, other, other.flip(1))]
    assert torch.equal(joined, torch.cat(apart))


def test_nothing_is_held_longer_than_the_window_asks():
    for kind, window in [("none", 9), ("adain", 1), ("adain", 9), ("wavelet", 1), ("wavelet", 9)]:
        fix, given, alive = ColourFix(kind, window), 0, []
        for index in range(30):
            frame = torch.rand((3, 24, 32), generator=generator(index, "held"))
            source = frame * 0.9
            alive += [weakref.ref(frame), weakref.ref(source)]
            given += len(fix.push(frame, source))
            del frame, source
            held = 0 if kind == "none" else window // 2
            assert given == max(0, index + 1 - held)
            assert sum(tensor() is not None for tensor in alive) <= held
            assert len(fix._known) <= window
        assert given + len(fix.flush()) == 30
        assert fix.flush() == []


def test_an_ended_stream_begins_anew():
    frames = torch.rand((5, 3, 24, 32), generator=generator(1, "anew"))
    fix = ColourFix("adain", 5)
    passes = []
    for _ in range(2):
        finished = [frame for one in frames for frame in fix.push(one, one.flip(0))]
        passes.append(torch.stack(finished + fix.flush()))
    assert torch.equal(*passes)


@pytest.mark.parametrize("kind", FIXES)
def test_what_is_given_is_not_changed(kind):
    frames = texture("kept").expand(3, -1, -1, -1).clone()
    sources = 0.8 * frames
    before = frames.clone(), sources.clone()
    result = streamed(kind, 3, frames.bfloat16(), sources)
    assert result.dtype == torch.float32
    streamed(kind, 3, frames, sources)
    assert torch.equal(frames, before[0]) and torch.equal(sources, before[1])


# Measured here and, with larger frames and parts of three real clips, while the way of smoothing was chosen.


@pytest.mark.parametrize("kind", FIXES)
@pytest.mark.parametrize("scene", [still, lambda: moving()[0]])
def test_a_flicker_of_the_input_is_averaged_away(kind, scene):
    truth = scene()
    gain, shift = flicker()
    restored, source = truth * CAST + SHIFT, degraded(truth) * gain + shift
    _, alone = error(streamed(kind, 1, restored, source), truth)
    _, steady = error(streamed(kind, 9, restored, source), truth)
    assert alone > 8 and steady < 0.2 * alone


@pytest.mark.parametrize("kind", FIXES)
def test_a_flicker_and_a_step_of_the_restored_frames_are_taken_away(kind):
    truth = moving()[0]
    gain, shift = flicker()
    step = 0.05 * (torch.arange(24) > 11).float().reshape(-1, 1, 1, 1)
    for wrong in (truth * CAST * gain + shift, truth * CAST + step):
        _, before = error(wrong / CAST, truth)
        _, after = error(streamed(kind, 9, wrong, degraded(truth)), truth)
        correction = torch.stack([low_band(frame) for frame in wrong - degraded(truth)])
        # Averaging the correction, the obvious way, leaves a flicker of the restored frames as it is.
        near = [correction[max(0, index - 4) : index + 5].mean(0) for index in range(24)]
        _, averaged = error(wrong - torch.stack(near), truth)
        assert after < 0.25 * before and after < 0.4 * averaged


def test_a_moving_edge_is_not_smeared():
    truth, where = moving()
    # A cast of its own on the block alone, which an average in place would spread along its way.
    tint = torch.tensor([-0.1, 0.05, 0.08]).reshape(3, 1, 1)
    source = degraded(truth)
    low = torch.stack([low_band(frame) for frame in source])
    near = torch.stack([low[max(0, index - 4) : index + 5].mean(0) for index in range(24)])
    for restored, share in ((truth * CAST + SHIFT, 0.02), (truth * CAST + SHIFT + tint * where, 0.4)):
        alone, steady = (streamed("wavelet", window, restored, source) for window in (1, 9))
        # Averaging low bands of the input, the plainest way, leaves a trail.
        smeared = restored - torch.stack([low_band(frame) for frame in restored]) + near
        assert error(steady, alone)[0] < share * error(smeared, alone)[0]
        assert error(steady, truth)[0] < 1.02 * error(alone, truth)[0]


def test_light_that_is_switched_on_is_on_at_once():
    light = torch.where(torch.arange(24) < 12, 0.5, 1.0).reshape(-1, 1, 1, 1)
    truth = still() * light
    for kind, tolerance in (("adain", 0.02), ("wavelet", 0.002)):
        result = streamed(kind, 9, truth * CAST, degraded(truth))
        levels = result.mean((1, 2, 3)) / truth.mean((1, 2, 3))
        assert float((levels - 1).abs().max()) < tolerance, kind


def test_a_spot_in_the_restored_frames_leaves_the_rest_of_the_picture_alone():
    truth = still()
    spot = torch.zeros(24, 1, 48, 80)
    spot[::3, :, 8:30, 52:76] = 0.3
    restored, source = truth * CAST + SHIFT + spot, degraded(truth)
    alone, steady = (
        error(streamed("adain", window, restored, source)[..., :48], truth[..., :48])[1] for window in (1, 9)
    )
    assert alone > 3 and steady < 0.15 * alone


def test_misuse_is_said_in_one_sentence():
    with pytest.raises(ValueError, match=r"one of none, adain, wavelet, not by 'lab'"):
        ColourFix("lab")  # type: ignore[arg-type]
    for window in (0, 4, -3):
        with pytest.raises(ValueError, match=f"odd number of frames above 0, not {window}"):
            ColourFix("adain", window)
    fix = ColourFix("wavelet", 3)
    with pytest.raises(ValueError, match=r"\(3, 8, 8\) and \(3, 8, 9\)"):
        fix.push(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9))
    assert fix.push(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)) == []
    with pytest.raises(ValueError, match="frames of one shot are of one size"):
        fix.push(torch.zeros(3, 8, 16), torch.zeros(3, 8, 16))
    assert len(fix.push(torch.zeros(3, 8, 16), torch.zeros(3, 8, 16), cut=True)) == 1
