"""The table of peers: every entry keeps the contract, and each denoiser and brightener does what it is known for."""

import sys
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from unfade.core import Clip, Metadata, Plan, UsageError, generator
from unfade.degrade.blur import line_kernels
from unfade.degrade.classic import CLASSIC, quantise
from unfade.evaluation.metrics.fidelity import psnr
from unfade.evaluation.peers import (
    PEERS,
    Bilateral,
    Bm3d,
    Clahe,
    Gamma,
    Identity,
    Lanczos,
    MeanGain,
    NonLocalMeans,
    peer,
)
from unfade.evaluation.peers.brightening import MIDDLE_GREY
from unfade.evaluation.peers.facts import Facts
from unfade.media.resize import enlarge

pytest.importorskip("cv2")
pytest.importorskip("scipy")

ALL_TOLD = Facts(sigma=10, kernel=line_kernels(torch.tensor([5.0]), torch.tensor([0.4]))[0], gain=0.5)
BLIND = {"identity", "bicubic", "lanczos", "nlm-default", "bilateral", "clahe", "gamma"}
DENOISERS = {"nlm": 4.0, "nlm-default": 1.0, "bilateral": 4.0, "bm3d": 8.0}


def _smooth(height: int = 41, width: int = 54) -> Tensor:
    coarse = torch.rand(1, 3, 4, 5, generator=generator(0, "smooth"))
    return quantise(torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear"))


def _footage(alpha: bool = False) -> Clip:
    frames = torch.rand(2, 3, 17, 20, generator=generator(0))
    opacity = torch.rand(2, 1, 17, 20, generator=generator(1)) if alpha else None
    return Clip(frames, Fraction(30000, 1001), opacity, Metadata("mp4", 8, notes={"title": "kept"}))


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_denoise(name: str) -> None:
    if name == "bm3d":
        pytest.importorskip("bm3d")
    truth = _smooth(40, 48)
    noisy = Clip(CLASSIC["noise-25"](truth, generator(0, "noise")))
    restorer = peer(name).make(Facts(sigma=25))
    assert restorer is not None
    assert psnr(restorer.restore(noisy).result.frames, truth) > psnr(noisy.frames, truth) + DENOISERS[name]


def test_filters_keep_colours_apart() -> None:
    red = torch.zeros(1, 3, 24, 24)
    red[:, 0] = 0.8
    red = quantise(red)
    for restorer in (NonLocalMeans(), Bilateral(), Clahe(), Gamma(), Lanczos()):
        restored = restorer.restore(Clip(red)).result.frames.mean((0, 2, 3))
        assert restored[0] > 0.6 and restored[0] > 3 * restored[1:].max(), type(restorer).__name__


def test_clahe_raises_the_contrast_of_a_dark_photo() -> None:
    dark = quantise(0.15 * _smooth(96, 96))
    bright = Clahe().restore(Clip(dark)).result.frames
    assert bright.mean() > 1.2 * dark.mean() and bright.std() > dark.std()


def test_gamma_lifts_each_frame_to_middle_grey_and_darkens_none() -> None:
    dark = quantise(torch.cat([0.2 * _smooth(), 0.5 * _smooth()]))
    lifted = Gamma().restore(Clip(dark)).result.frames
    assert (lifted.mean((1, 2, 3)) - MIDDLE_GREY).abs().max() < 1 / 255
    bright = quantise(0.5 + 0.5 * _smooth())
    assert torch.equal(Gamma().restore(Clip(bright)).result.frames, bright)
    black = torch.zeros(1, 3, 8, 8)
    assert torch.equal(Gamma().restore(Clip(black)).result.frames, black)


def test_gamma_of_a_flat_picture_is_the_ratio_of_logarithms() -> None:
    counts = torch.zeros(256)
    counts[51] = 7
    by_hand = torch.log(torch.tensor(0.5)) / torch.log(torch.tensor(0.2))
    assert Gamma(0.5).exponent(counts) == pytest.approx(float(by_hand), abs=1e-6)


@pytest.mark.parametrize("gain", [0.1, 0.2, 1.0])
def test_the_true_gain_undone_is_the_truth_within_rounding(gain: float) -> None:
    truth = _smooth()
    restored = MeanGain(gain).restore(Clip(quantise(gain * truth))).result.frames
    assert (restored - truth).abs().max() * 255 <= 0.5 / gain + 0.01


def test_a_gain_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        MeanGain(0.0)


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("name", PEERS)
def test_peers_keep_the_contract(name: str, scale: int) -> None:
    if name == "bm3d":
        pytest.importorskip("bm3d")
    restorer = peer(name).make(ALL_TOLD)
    assert restorer is not None
    clip, plan, told = _footage(), Plan(scale=scale, frames=5), list[float]()
    restoration = restorer.restore(clip, "denoise", plan, told.append)
    assert restoration.trajectory.taus == (0, 1) and restoration.frames == 5
    assert torch.equal(restoration.trajectory[0].frames, enlarge(clip, scale).frames)
    result = restoration.result
    assert result.frames.shape == (2, 3, 17 * scale, 20 * scale)
    assert result.frames.dtype == clip.frames.dtype
    assert 0 <= float(result.frames.min()) <= float(result.frames.max()) <= 1
    assert (result.fps, result.metadata) == (clip.fps, clip.metadata)
    assert told[-1] == 1 and told == sorted(told)
    assert restoration.provenance["model"].startswith(name.removesuffix("-default"))
    assert all(isinstance(text, str) for text in restoration.provenance.values())
    single = restorer.restore(replace(clip, frames=clip.frames[1:]), None, plan).result.frames
    assert torch.equal(single, result.frames[1:])


@pytest.mark.parametrize("name", sorted(BLIND | {"mean-gain", "wiener"}))
def test_alpha_comes_back_enlarged(name: str) -> None:
    clip = _footage(alpha=True)
    restorer = peer(name).make(ALL_TOLD)
    assert restorer is not None
    expected = enlarge(clip, 2).alpha
    assert expected is not None
    assert torch.equal(restorer.restore(clip, None, Plan(scale=2)).result.alpha, expected)


def test_identity_is_bit_for_bit_and_enlarges_as_bicubic_does() -> None:
    clip = _footage()
    assert Identity().restore(clip).result is clip
    enlarged = enlarge(clip, 2).frames
    for name in ("identity", "bicubic"):
        restorer = peer(name).make(Facts())
        assert restorer is not None
        assert torch.equal(restorer.restore(clip, None, Plan(scale=2)).result.frames, enlarged)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lanczos_is_the_windowed_sinc_of_four_lobes(scale: int) -> None:
    small = quantise(torch.rand(1, 3, 11, 13, generator=generator(0, "lanczos")))
    by_hand = small.to(torch.float64)
    for axis in (2, 3):
        size = by_hand.shape[axis]
        centre = (torch.arange(size * scale, dtype=torch.float64) + 0.5) / scale - 0.5
        taps = centre.floor()[:, None] + torch.arange(-3, 5)
        offset = centre[:, None] - taps
        weights = torch.sinc(offset) * torch.sinc(offset / 4)
        weights = weights / weights.sum(1, keepdim=True)
        matrix = torch.zeros(size * scale, size, dtype=torch.float64)
        matrix.scatter_add_(1, taps.clamp(0, size - 1).long(), weights)
        by_hand = torch.tensordot(by_hand, matrix, ([axis], [1])).movedim(-1, axis)
    enlarged = Lanczos().restore(Clip(small), None, Plan(scale=scale)).result.frames
    assert (enlarged - by_hand.clamp(0, 1)).abs().max() < 1.5 / 255


def test_without_enlargement_lanczos_changes_nothing() -> None:
    photo = _smooth()
    assert torch.equal(Lanczos().restore(Clip(photo)).result.frames, photo)


def test_who_is_told_something_applies_only_where_it_is_known() -> None:
    nothing = Facts()
    for name, entry in PEERS.items():
        assert entry.name == name and entry.label and entry.source
        assert (entry.make(nothing) is not None) == (name in BLIND) == (entry.told is None), name
        assert entry.make(ALL_TOLD) is not None
    assert PEERS["nlm"].make(Facts(sigma=25)) == NonLocalMeans.for_sigma(25)
    assert PEERS["bm3d"].make(Facts(sigma=25)) == Bm3d(25)
    assert PEERS["mean-gain"].make(Facts(gain=0.2)) == MeanGain(0.2)
    assert PEERS["bm3d"].make(Facts(sigma=0.0)) is None


def test_an_unknown_peer_is_told_all_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        peer("bm4d")
    assert all(name in str(caught.value) for name in (*PEERS, "bm4d", "spandrel:PATH"))


@pytest.mark.parametrize("name, missing", [("clahe", "cv2"), ("bm3d", "bm3d")])
def test_a_missing_package_is_named_with_its_extra(
    name: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"package {missing}.*\[evaluate\]"):
        peer(name)
    restorer = PEERS[name].make(ALL_TOLD)
    assert restorer is not None
    with pytest.raises(UsageError, match=rf"package {missing}.*\[evaluate\]"):
        restorer.restore(_footage())
