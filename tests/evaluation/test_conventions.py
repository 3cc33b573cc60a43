"""PSNR and SSIM by convention and by mask, against formulas in numpy, scikit-image, torchmetrics and by hand."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from unfade.core import generator
from unfade.evaluation.metrics.convention import FOUNDIR, RGB, VBRIDGE_RGB, VBRIDGE_Y, Convention, Y
from unfade.evaluation.metrics.fidelity import (
    border_of,
    full_luma,
    masked_psnr,
    psnr,
    psnr_by,
    ssim,
    ssim_by,
    weighted_psnr,
    weighted_ssim,
)
from unfade.media.images import read_image

CONVENTIONS = (RGB, Y, FOUNDIR, VBRIDGE_RGB, VBRIDGE_Y)


def _pair(height: int = 37, width: int = 53) -> tuple[torch.Tensor, torch.Tensor]:
    dice = generator(0, "pair", height, width)
    truth = torch.rand(3, height, width, generator=dice)
    return (truth + 0.1 * torch.randn(truth.shape, generator=dice)).clamp(0, 1), truth


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.permute(1, 2, 0).double().numpy()


def _random_pairs() -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Forty-four pairs: odd and smallest sizes, 8 and 16 bits and neither, constants, unlike and equal ones."""
    sizes = [
        (11, 11),
        (12, 17),
        (19, 11),
        (31, 45),
        (40, 27),
        (64, 33),
        (23, 23),
        (37, 52),
        (16, 61),
        (49, 50),
    ]
    for index, (height, width) in enumerate(sizes):
        dice = generator(2, "random", index)
        truth = torch.rand(3, height, width, generator=dice, dtype=torch.float64)
        noise = torch.randn(truth.shape, generator=dice, dtype=torch.float64)
        yield f"float {height}x{width}", (truth + 0.02 * index * noise).clamp(0, 1), truth
        for levels in (255, 65535):
            pair = [
                (x.clamp(0, 1) * levels).round() / levels for x in (truth + 0.03 * (index + 1) * noise, truth)
            ]
            yield f"{levels} levels {height}x{width}", pair[0].float(), pair[1].float()
        yield f"unlike {height}x{width}", 1 - truth, truth
    flat = torch.full((3, 15, 21), 0.25)
    yield "constants", flat + 0.5, flat
    yield "equal constants", flat, flat
    yield "constant against picture", flat, torch.rand(3, 15, 21, generator=generator(3))
    red = torch.zeros(3, 15, 21)
    red[0] = 1
    yield "red against black", red, torch.zeros(3, 15, 21)


def _real_pairs(folder: Path) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Fifteen crops of each of the example photos, noisy, blurred or dark, at 8 bits."""
    for path in sorted(folder.glob("*.[pj][np]g")):
        photo = read_image(path).frames[0]
        for index in range(5):
            dice = generator(4, path.name, index)
            top, left = (int(torch.randint(0, side - 72, (), generator=dice)) for side in photo.shape[1:])
            truth = photo[:, top : top + 40 + 5 * index, left : left + 71 - 6 * index]
            noisy = truth + 25 / 255 * torch.randn(truth.shape, generator=dice)
            blurred = torch.nn.functional.avg_pool2d(truth, 3, 1, 1)
            for name, x in (("noisy", noisy), ("blurred", blurred), ("dark", 0.4 * truth)):
                yield f"{path.name} {name} {index}", (x.clamp(0, 1) * 255).round() / 255, truth


def _planes_in_numpy(x: np.ndarray, planes: str) -> list[np.ndarray]:
    if planes in ("rgb", "channels"):
        return [255 * x[..., channel] for channel in range(3)]
    if planes == "y":
        return [rgb2ycbcr(x)[..., 0]]
    return [np.rint(255 * (0.299 * x[..., 0] + 0.587 * x[..., 1] + 0.114 * x[..., 2]))]


def _psnr_in_numpy(convention: Convention, a: np.ndarray, b: np.ndarray) -> float:
    errors = [
        np.mean((first - second) ** 2) / 255**2 + convention.epsilon
        for first, second in zip(
            _planes_in_numpy(a, convention.psnr), _planes_in_numpy(b, convention.psnr), strict=True
        )
    ]
    with np.errstate(divide="ignore"):
        if convention.psnr == "channels":
            return float(np.mean(-10 * np.log10(errors)))
        return float(-10 * np.log10(np.mean(errors)))


def _ssim_in_numpy(convention: Convention, a: np.ndarray, b: np.ndarray) -> float:
    """SSIM from its formula, with scipy's filter over the whole picture and the edge cut afterwards."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def smooth(plane: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(plane, window, 0), window, 1)[5:-5, 5:-5]

    values = []
    for x, y in zip(_planes_in_numpy(a, convention.ssim), _planes_in_numpy(b, convention.ssim), strict=True):
        mx, my = smooth(x), smooth(y)
        vx, vy, vxy = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
        structure = (2 * vxy + 58.5225) / (vx + vy + 58.5225)
        if convention.clamped:
            structure = np.maximum(structure, 0)
        values.append(np.mean((2 * mx * my + 6.5025) / (mx * mx + my * my + 6.5025) * structure))
    return float(np.mean(values))


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.name)
@pytest.mark.parametrize("scale", [1, 3])
def test_conventions_agree_with_the_formulas_on_a_hundred_pairs(
    convention: Convention, scale: int, examples: Path
) -> None:
    border = scale if convention.border == "scale" and scale > 1 else 0
    count = 0
    for name, x, truth in (*_random_pairs(), *_real_pairs(examples)):
        height, width = x.shape[1:]
        a, b = (_numpy(picture)[border : height - border, border : width - border] for picture in (x, truth))
        assert psnr_by(convention, x, truth, scale) == pytest.approx(
            _psnr_in_numpy(convention, a, b), abs=1e-6
        ), name
        if min(a.shape[:2]) >= 11:
            expected = _ssim_in_numpy(convention, a, b)
            assert ssim_by(convention, x, truth, scale) == pytest.approx(expected, abs=1e-8), name
        count += 1
    assert count >= 100


def test_conventions_agree_with_scikit_image_and_torchmetrics_on_a_hundred_pairs(examples: Path) -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    for name, x, truth in (*_random_pairs(), *_real_pairs(examples)):
        a, b = _numpy(x), _numpy(truth)
        equal = torch.equal(x, truth)
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        expected = structural_similarity(b, a, data_range=1, channel_axis=2, **options)
        assert ssim_by(RGB, x, truth) == pytest.approx(expected, abs=1e-6), name
        assert ssim_by(VBRIDGE_RGB, x, truth) == pytest.approx(expected, abs=1e-6), name
        batch = x[None].double(), truth[None].double()
        # torchmetrics averages over the reflected edge too, so its map is cut here.
        _, likeness = image.structural_similarity_index_measure(
            *batch, data_range=1.0, return_full_image=True
        )
        theirs = float(likeness[..., 5:-5, 5:-5].mean())
        assert ssim_by(RGB, x, truth) == pytest.approx(theirs, abs=1e-6), name
        first, second = rgb2ycbcr(a)[..., 0], rgb2ycbcr(b)[..., 0]
        expected = structural_similarity(first, second, data_range=255, **options)
        assert ssim_by(Y, x, truth) == pytest.approx(expected, abs=1e-6), name
        if equal:
            assert (
                psnr_by(RGB, x, truth) == psnr_by(Y, x, truth) == psnr_by(VBRIDGE_RGB, x, truth) == math.inf
            )
            continue
        assert psnr_by(RGB, x, truth) == pytest.approx(
            peak_signal_noise_ratio(b, a, data_range=1), abs=1e-6
        ), name
        theirs = float(image.peak_signal_noise_ratio(*batch, data_range=1.0))
        assert psnr_by(RGB, x, truth) == pytest.approx(theirs, abs=1e-4), name
        if not np.allclose(first, second):
            expected = peak_signal_noise_ratio(second, first, data_range=255)
            assert psnr_by(Y, x, truth) == pytest.approx(expected, abs=1e-6), name


def test_benchmark_photos_agree_too(shared: Path) -> None:
    paths = sorted((shared / "bench" / "set5").glob("*.png"))
    assert len(paths) >= 5
    for path in paths:
        truth = read_image(path).frames[0]
        x = (0.9 * truth + 0.05).mul(255).round() / 255
        a, b = _numpy(x), _numpy(truth)
        for convention in CONVENTIONS:
            assert psnr_by(convention, x, truth) == pytest.approx(_psnr_in_numpy(convention, a, b), abs=1e-6)
            assert ssim_by(convention, x, truth) == pytest.approx(_ssim_in_numpy(convention, a, b), abs=1e-8)


def test_channels_are_averaged_in_decibels_by_hand() -> None:
    black, coloured = torch.zeros(3, 12, 12), torch.zeros(3, 12, 12)
    coloured[0], coloured[1], coloured[2] = 0.1, 0.01, 0.001
    assert psnr_by(VBRIDGE_RGB, coloured, black) == pytest.approx((20 + 40 + 60) / 3, abs=1e-5)
    assert psnr_by(RGB, coloured, black) == pytest.approx(-10 * math.log10(0.010101 / 3), abs=1e-5)


def test_foundir_stops_at_eighty_decibels_and_never_goes_below_zero() -> None:
    x, _ = _pair()
    assert psnr_by(FOUNDIR, x, x) == pytest.approx(80)
    step = x.clone()
    step[:, 0, 0] += 1e-5
    assert psnr_by(FOUNDIR, step, x) == pytest.approx(80, abs=1e-3)
    assert ssim_by(RGB, 1 - x, x) < 0 <= ssim_by(FOUNDIR, 1 - x, x)


def test_full_luma_is_the_weights_of_rec_601() -> None:
    colours = torch.tensor([[0.0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).T[:, None, :]
    assert full_luma(colours).flatten().tolist() == pytest.approx([0, 255, 76.245, 149.685, 29.07])


def test_the_border_of_a_convention_follows_the_scale() -> None:
    assert [border_of(Y, scale) for scale in (1, 2, 3, 4)] == [0, 2, 3, 4]
    assert [border_of(RGB, scale) for scale in (1, 4)] == [0, 0]
    assert border_of(Convention(name="cut", psnr="rgb", ssim="rgb", border=5), 2) == 5
    _, truth = _pair()
    spoilt = truth.clone()
    spoilt[:, :4] = 1 - spoilt[:, :4]
    assert psnr_by(Y, spoilt, truth, 4) == math.inf > psnr_by(Y, spoilt, truth, 3)


@pytest.mark.parametrize("convention", CONVENTIONS, ids=lambda convention: convention.name)
def test_footage_averages_its_frames(convention: Convention) -> None:
    pairs = [_pair(20, 26), _pair(26, 20)]
    clips = [torch.stack([pairs[0][side], pairs[1][side].transpose(1, 2)]) for side in (0, 1)]
    for measure in (psnr_by, ssim_by):
        each = [measure(convention, x, truth) for x, truth in zip(*clips, strict=True)]
        assert measure(convention, *clips) == pytest.approx(sum(each) / 2, abs=1e-12)
        one = [clip[:1] for clip in clips]
        assert measure(convention, *one) == each[0]


def test_conventions_refuse_impossible_comparisons() -> None:
    x = torch.zeros(2, 3, 12, 12)
    with pytest.raises(ValueError, match="one size"):
        psnr_by(RGB, x, x[:1])
    with pytest.raises(ValueError, match="one size"):
        ssim_by(RGB, x, torch.zeros(2, 3, 12, 13))
    with pytest.raises(ValueError, match="11x11"):
        ssim_by(Y, x, x, scale=2)


def test_masked_and_weighted_psnr_by_hand() -> None:
    truth = torch.zeros(3, 16, 16)
    x, mask = torch.zeros(3, 16, 16), torch.zeros(1, 16, 16)
    x[:, :8], x[:, 8:] = 0.1, 0.01
    mask[:, :8], mask[:, 8:] = 0.75, 0.25
    assert masked_psnr(x, truth, mask) == pytest.approx(20, abs=1e-5)
    assert weighted_psnr(x, truth, mask) == pytest.approx(
        -10 * math.log10(0.75 * 0.01 + 0.25 * 0.0001), abs=1e-5
    )
    assert masked_psnr(x, truth, 1 - mask) == pytest.approx(40, abs=1e-5)


def test_a_full_mask_changes_nothing_and_half_a_mask_is_half_the_picture() -> None:
    x, truth = _pair(30, 41)
    full = torch.ones(1, 30, 41)
    assert masked_psnr(x, truth, full) == pytest.approx(psnr(x, truth), abs=1e-9)
    assert weighted_psnr(x, truth, 0.3 * full) == pytest.approx(psnr(x, truth), abs=1e-9)
    assert weighted_ssim(x, truth, 0.3 * full) == pytest.approx(ssim(x, truth), abs=1e-9)
    half = full.clone()
    half[..., 15:] = 0
    assert masked_psnr(x, truth, half) == pytest.approx(psnr(x[..., :15], truth[..., :15]), abs=1e-9)
    # Windows centred in columns 5 to 14 reach columns 0 to 19.
    assert weighted_ssim(x, truth, half) == pytest.approx(ssim(x[..., :20], truth[..., :20]), abs=1e-9)


def test_weighted_ssim_agrees_with_scikit_images_map() -> None:
    x, truth = _pair(27, 33)
    mask = torch.rand(1, 27, 33, generator=generator(7))
    _, likeness = structural_similarity(
        _numpy(truth), _numpy(x), data_range=1, channel_axis=2, full=True,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    inner = mask[0, 5:-5, 5:-5].double().numpy()
    expected = (likeness[5:-5, 5:-5].mean(2) * inner).sum() / inner.sum()
    assert weighted_ssim(x, truth, mask) == pytest.approx(expected, abs=1e-8)


def test_masks_of_footage_are_one_for_all_or_one_each() -> None:
    pairs = _pair(20, 26), _pair(21, 26)
    x, truth = (torch.stack([pairs[0][side], pairs[1][side][:, :20]]) for side in (0, 1))
    mask = torch.rand(1, 20, 26, generator=generator(8))
    both = torch.stack([mask, mask])
    for measure in (masked_psnr, weighted_psnr, weighted_ssim):
        expected = sum(measure(x[at], truth[at], mask) for at in (0, 1)) / 2
        assert measure(x, truth, mask) == measure(x, truth, both) == pytest.approx(expected, abs=1e-12)


def test_masks_that_mark_nothing_or_do_not_fit_are_refused() -> None:
    x, truth = _pair(20, 20)
    for measure in (masked_psnr, weighted_psnr, weighted_ssim):
        with pytest.raises(ValueError, match="no pixel"):
            measure(x, truth, torch.zeros(1, 20, 20))
        with pytest.raises(ValueError, match="does not fit"):
            measure(x, truth, torch.ones(1, 20, 19))
    with pytest.raises(ValueError, match="no pixel"):
        masked_psnr(x, truth, torch.full((1, 20, 20), 0.5))
    rim = torch.ones(1, 20, 20)
    rim[:, 5:-5, 5:-5] = 0
    with pytest.raises(ValueError, match="no pixel"):
        weighted_ssim(x, truth, rim)
