"""The second-order degradation of a clip: its parts, its order, and that a draw says all there is to it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor
from torch.nn import functional

from unfade.core import generator
from unfade.degrade.grain import Grain, poisson_noise
from unfade.degrade.jpeg import jpeg_round_trip
from unfade.degrade.kernels import BlurKernel
from unfade.degrade.second_order import (
    FIRST,
    OFF,
    SECOND,
    Footage,
    FootageSettings,
    SecondOrder,
    SecondOrderSettings,
    Stage,
)
from unfade.media.compression import compressed
from unfade.media.images import read_image

PICTURES = SecondOrderSettings(footage=FootageSettings(chance=0.0))
IDLE = Stage(None, 1.0, "area", None, None)
BLUR = BlurKernel("generalised", 9, (2.0, 1.0), 0.6, 0.8)
RING = BlurKernel("sinc", 11, cutoff=1.5)


@pytest.fixture(scope="module")
def clip(examples: Path) -> Tensor:
    """A window that wanders over a photo, `[5, 3, 48, 64]`."""
    photo = read_image(examples / "astronaut.png").frames[0]
    return torch.stack([photo[:, 80 + i : 128 + i, 200 + i : 264 + i] for i in range(5)])


def _draw(seed: int, settings: SecondOrderSettings = PICTURES, scale: float = 4.0) -> SecondOrder:
    return SecondOrder.draw(generator(seed, "clip"), scale, settings)


def _plain(scale: float = 1.0) -> SecondOrder:
    return SecondOrder.draw(generator(0), scale, OFF)


def test_with_everything_off_nothing_changes() -> None:
    """Bit for bit, also pixels that 8 bits can't hold."""
    clip = torch.rand(3, 3, 17, 23, generator=generator(1))
    for seed in range(4):
        drawn = SecondOrder.draw(generator(seed), 1.0, OFF)
        assert torch.equal(drawn(clip), clip) and torch.equal(drawn.reduced(clip), clip)


def test_with_everything_off_only_the_size_goes_there_and_back(clip: Tensor) -> None:
    drawn = _plain(4.0)
    small = functional.interpolate(clip, (12, 16), mode="area")
    drawn = replace(drawn, second=replace(drawn.second, filter="area"))
    assert torch.equal(drawn.reduced(clip), small)
    back = functional.interpolate(small, (48, 64), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(drawn(clip), back)


@pytest.mark.parametrize("size", [(48, 64), (47, 61), (9, 5), (1, 1)])
@pytest.mark.parametrize("scale", [1.0, 2.5, 4.0])
def test_every_size_comes_back(size: tuple[int, int], scale: float, clip: Tensor) -> None:
    frames = clip[:2, :, : size[0], : size[1]]
    for seed in range(3):
        drawn = _draw(seed, scale=scale)
        result, small = drawn(frames), drawn.reduced(frames)
        assert result.shape == frames.shape and result.dtype == frames.dtype
        assert small.shape[2:] == drawn.small_size(*size)
        assert small.shape[2:] == tuple(max(1, round(side / scale)) for side in size)
        for each in (result, small):
            assert bool(torch.isfinite(each).all()) and 0 <= float(each.min()) and float(each.max()) <= 1
        assert float((small * 255 - (small * 255).round()).abs().max()) < 1e-4


def test_the_same_dice_draw_the_same(clip: Tensor) -> None:
    settings = SecondOrderSettings(footage=FootageSettings(chance=1.0))
    first, again, other = (_draw(seed, settings) for seed in (3, 3, 4))
    assert first == again != other
    before = clip.clone()
    assert torch.equal(first(clip), again(clip)) and torch.equal(first(clip), first(clip))
    assert torch.equal(clip, before)


@pytest.mark.parametrize("seed", range(6))
def test_a_frame_can_be_made_alone(seed: int, clip: Tensor) -> None:
    drawn = _draw(seed)
    whole = drawn(clip)
    for index in (0, 3):
        assert torch.equal(drawn(clip[index : index + 1], index), whole[index : index + 1])
    assert torch.equal(drawn(clip[2:], 2), whole[2:])


def test_only_the_noise_changes_from_frame_to_frame(clip: Tensor) -> None:
    still = clip[:1].expand(4, -1, -1, -1)
    for kind in ("gaussian", "poisson"):
        drawn = replace(_draw(1), first=replace(IDLE, grain=Grain(kind, 2.0, False)), second=IDLE, scale=1.0)
        fresh = drawn(still)
        assert not any(torch.equal(fresh[0], frame) for frame in fresh[1:])
        frozen = replace(drawn, frozen=True)(still)
        assert torch.equal(frozen[:1].expand_as(frozen), frozen) and torch.equal(frozen[0], fresh[0])
    quiet = replace(FIRST, grain=replace(FIRST.grain, chance=0.0))
    for seed in range(3):
        result = _draw(seed, replace(PICTURES, first=quiet, second=replace(quiet, factors=SECOND.factors)))(
            still
        )
        assert torch.equal(result[:1].expand_as(result), result)


def test_frozen_grain_stays_where_it_is_when_the_scene_moves(clip: Tensor) -> None:
    drawn = replace(_plain(), first=replace(IDLE, grain=Grain("gaussian", 9.0, False)), frozen=True)
    middle = clip * 0.5 + 0.25
    noise = drawn(middle) - middle
    assert float((noise - noise[:1]).abs().max()) < 1e-6 < float(noise.std())


def test_blur_is_the_convolution(clip: Tensor) -> None:
    drawn = replace(_plain(), first=replace(IDLE, kernel=BLUR))
    weights = BLUR.weights().numpy()
    for frame, result in zip(clip, drawn(clip), strict=True):
        for plane, blurred in zip(frame, result, strict=True):
            expected = ndimage.convolve(plane.double().numpy(), weights, mode="mirror")
            assert float((blurred - torch.from_numpy(expected)).abs().max()) < 1e-5


def _blur(x: Tensor, kernel: BlurKernel) -> Tensor:
    """Independent of the product's: torch's own convolution of single planes."""
    radius, weights = kernel.side // 2, kernel.weights().flip(0, 1).to(x)[None, None]
    padded = functional.pad(x, (radius,) * 4, mode="reflect")
    return functional.conv2d(padded.transpose(0, 1), weights).transpose(0, 1)


def _jpeg(x: Tensor, quality: float) -> Tensor:
    return jpeg_round_trip(x.clamp(0, 1), torch.tensor([quality]))


@pytest.mark.parametrize("is_jpeg_last", [False, True])
def test_the_order_is_the_published_one(is_jpeg_last: bool, clip: Tensor) -> None:
    """Step by step, as sections 3.1 to 3.3 and figure 2 of the paper have it."""
    drawn = SecondOrder(
        scale=2.0,
        first=Stage(BLUR, 0.7, "bicubic", Grain("gaussian", 12.0, False), 60.0),
        second=Stage(replace(BLUR, shape="plateau"), 1.1, "bilinear", Grain("poisson", 0.5, True), 50.0),
        sinc=RING, is_jpeg_last=is_jpeg_last, filter="area", footage=None, seed=5, rounded=False,
    )  # fmt: skip
    x = functional.interpolate(_blur(clip[2:3], BLUR), (34, 45), mode="bicubic", align_corners=False)
    field = torch.randn(1, 3, 34, 45, generator=generator(5, "noise", "first", 2))
    x = _jpeg((x + field * 12 / 255).clamp(0, 1), 60.0)
    x = functional.interpolate(
        _blur(x, replace(BLUR, shape="plateau")), (26, 35), mode="bilinear", align_corners=False
    )
    grey = (x * torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
    mean = (grey.clamp(0, 1) * 255).round().double() / 255
    uniform = torch.rand(1, 1, 26, 35, generator=generator(5, "noise", "second", 2), dtype=torch.float64)
    counts = torch.from_numpy(stats.poisson.ppf(uniform.numpy(), mean.numpy() * 256).clip(0))
    x = (x + 0.5 * (counts / 256 - mean).float()).clamp(0, 1)
    if not is_jpeg_last:
        x = _jpeg(x, 50.0)
    x = _blur(functional.interpolate(x, (24, 32), mode="area"), RING)
    if is_jpeg_last:
        x = _jpeg(x, 50.0)
    difference = (drawn.reduced(clip)[2:3] - x.clamp(0, 1)).abs()
    # A rounding that falls otherwise is a level of JPEG's, here and there.
    assert float(difference.mean()) < 0.3 / 255 and float((difference > 2 / 255).float().mean()) < 0.02


def test_footage_ends_in_its_codec(clip: Tensor) -> None:
    for codec, quality in (("h264", 30.0), ("h265", 30.0), ("mpeg4", 8.0)):
        drawn = replace(_draw(2), footage=Footage(codec, quality, "fast", 24.0))
        pictures = drawn.without_footage().reduced(clip)
        assert torch.equal(drawn.reduced(clip), compressed(pictures, codec, quality, 24.0, "fast"))
        assert not torch.equal(drawn.reduced(clip), pictures)


def test_a_draw_is_told_in_plain_numbers() -> None:
    drawn = [_draw(seed, SecondOrderSettings()) for seed in range(40)]
    rows = [each.told() for each in drawn]
    assert json.loads(json.dumps(rows)) == json.loads(json.dumps(rows, allow_nan=False))
    row = json.loads(json.dumps(drawn[0].told()))
    assert row["seed"] == drawn[0].seed < 2**53 and row["scale"] == 4.0
    assert row["first"]["factor"] == drawn[0].first.factor
    assert {type(each["footage"]) for each in rows} == {dict, type(None)}
    # Whatever differs between two draws is told.
    assert len({json.dumps(each) for each in rows}) == len(set(drawn)) == 40


def test_one_parts_settings_leave_the_others_as_they_were() -> None:
    quiet = replace(FIRST, blur=0.0)
    for seed in range(10):
        before, after = _draw(seed), _draw(seed, replace(PICTURES, first=quiet, sinc=0.0))
        assert after.first == replace(before.first, kernel=None) and after.second == before.second
        assert (after.sinc, after.seed, after.is_jpeg_last) == (None, before.seed, before.is_jpeg_last)


def test_draws_have_the_published_shares_and_ranges() -> None:
    """The configuration that Real-ESRGAN's x4 network was published with, told anew."""
    count = 3000
    drawn = [_draw(seed, SecondOrderSettings()) for seed in range(count)]

    def share(what: list[bool], expected: float) -> None:
        assert (
            abs(sum(what) / len(what) - expected) < 4 * (expected * (1 - expected) / len(what)) ** 0.5 + 1e-9
        )

    stages = (
        ("first", 1.0, (0.2, 0.7, 0.1), (0.15, 1.5), (0.2, 3.0), (1, 30), (0.05, 3.0)),
        ("second", 0.8, (0.3, 0.4, 0.3), (0.3, 1.2), (0.2, 1.5), (1, 25), (0.05, 2.5)),
    )
    for name, blur, resizes, factors, sigmas, gaussian, poisson in stages:
        made: list[Stage] = [getattr(each, name) for each in drawn]
        kernels = [each.kernel for each in made if each.kernel is not None]
        share([each.kernel is not None for each in made], blur)
        share([each.factor > 1 for each in made], resizes[0])
        share([each.factor < 1 for each in made], resizes[1])
        share([each.filter == "bilinear" for each in made], 1 / 3)
        scales = [each.factor for each in made]
        assert factors[0] <= min(scales) < factors[0] + 0.02 and factors[1] - 0.02 < max(scales) <= factors[1]
        share([kernel.shape == "sinc" for kernel in kernels], 0.1)
        others = [kernel for kernel in kernels if kernel.shape != "sinc"]
        shapes = (("gaussian", 0.45, 0.25), ("generalised", 0.12, 0.03), ("plateau", 0.12, 0.03))
        for shape, round_, long in shapes:
            share([k.shape == shape and k.sigma[0] == k.sigma[1] for k in others], round_)
            share([k.shape == shape and k.sigma[0] != k.sigma[1] for k in others], long)
        assert {kernel.side for kernel in kernels} == set(range(7, 22, 2))
        spreads = [sigma for kernel in others for sigma in kernel.sigma]
        assert sigmas[0] <= min(spreads) < sigmas[0] + 0.02 and sigmas[1] - 0.02 < max(spreads) <= sigmas[1]
        betas = {shape: [k.beta for k in others if k.shape == shape] for shape, *_ in shapes}
        assert 0.5 <= min(betas["generalised"]) < 0.6 and 3.8 < max(betas["generalised"]) <= 4
        share([beta < 1 for beta in betas["generalised"]], 0.5)
        assert min(betas["plateau"]) == 1 and 1.9 < max(betas["plateau"]) <= 2
        share([beta == 1 for beta in betas["plateau"]], 0.5)
        grains = [each.grain for each in made if each.grain is not None]
        assert len(grains) == count
        share([grain.kind == "gaussian" for grain in grains], 0.5)
        share([grain.grey for grain in grains], 0.4)
        for kind, (low, high) in (("gaussian", gaussian), ("poisson", poisson)):
            strengths = [grain.strength for grain in grains if grain.kind == kind]
            assert low <= min(strengths) < low + 0.1 and high - 0.1 < max(strengths) <= high
        qualities = [each.quality for each in made if each.quality is not None]
        assert len(qualities) == count and 30 <= min(qualities) < 31 and 94 < max(qualities) <= 95
    share([each.sinc is not None for each in drawn], 0.8)
    share([each.is_jpeg_last for each in drawn], 0.5)
    share([each.footage is not None for each in drawn], 0.5)
    share([each.footage.codec == "h265" for each in drawn if each.footage is not None], 0.5)


def test_poisson_counts_are_the_quantiles_of_the_distribution() -> None:
    signal = torch.rand(4, 3, 50, 50, generator=generator(2)) * 1.2 - 0.1
    uniform = torch.rand(signal.shape, generator=generator(3), dtype=torch.float64)
    level = (signal.clamp(0, 1) * 255).round().double() / 255
    expected = stats.poisson.ppf(uniform.numpy(), level.numpy() * 256).clip(0) / 256
    noise = poisson_noise(signal, uniform)
    torch.testing.assert_close(noise, (torch.from_numpy(expected) - level).float(), rtol=0, atol=1e-6)


def test_grain_has_its_strength_and_colour() -> None:
    flat = torch.full((1, 3, 200, 200), 128 / 255)
    for kind, strength, sigma in (
        ("gaussian", 10.0, 10 / 255),
        ("poisson", 0.7, 0.7 * (128 / 255 / 256) ** 0.5),
    ):
        for grey in (False, True):
            noise = Grain(kind, strength, grey)(flat, generator(0)) - flat
            assert float(noise.std()) == pytest.approx(sigma, rel=0.02)
            assert abs(float(noise.mean())) < 4 * sigma / 200
            alike = float((noise[:, 0] - noise[:, 1]).abs().max()) < 1e-6
            assert alike is grey


@pytest.mark.parametrize("scale", [0.5, 0.0, float("nan")])
def test_a_clip_is_not_enlarged(scale: float) -> None:
    with pytest.raises(ValueError, match="reduced by 1 or more"):
        SecondOrder.draw(generator(0), scale)


def test_what_is_no_clip_or_no_setting_is_refused(clip: Tensor) -> None:
    for wrong in (clip[0], clip[:, :1], clip[:0]):
        with pytest.raises(ValueError, match=r"a clip is \[T, 3, H, W\]"):
            _draw(0)(wrong)
    with pytest.raises(ValueError, match="factors reach from above 0"):
        _draw(0, replace(PICTURES, first=replace(FIRST, factors=(1.1, 2.0))))
    with pytest.raises(ValueError, match="shares are 0 or more"):
        _draw(0, replace(PICTURES, first=replace(FIRST, resizes=(0.0, 0.0, 0.0))))
