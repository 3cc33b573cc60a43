"""Classical peers keep the contract and do what they are known for."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from unfade.core import Clip, Restorer, generator
from unfade.degrade.classic import CLASSIC, quantise
from unfade.evaluation.fidelity import psnr
from unfade.evaluation.peers import Bilateral, Bm3d, Clahe, Identity, NonLocalMeans

pytest.importorskip("cv2")

DENOISERS = {
    "nlm": NonLocalMeans.for_sigma(25),
    "bilateral": Bilateral.for_sigma(25),
}


def _smooth(height: int = 41, width: int = 54) -> Tensor:
    coarse = torch.rand(1, 3, 4, 5, generator=generator(0, "smooth"))
    return quantise(torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear"))


def _noisy(truth: Tensor) -> Clip:
    return Clip(CLASSIC["noise-25"](truth, generator(0, "noise")))


@pytest.mark.parametrize("name", DENOISERS)
def test_denoisers_denoise(name: str) -> None:
    truth = _smooth()
    noisy = _noisy(truth)
    restored = DENOISERS[name].restore(noisy).result
    assert psnr(restored.frames, truth) > psnr(noisy.frames, truth) + 4


def test_bm3d_denoises() -> None:
    pytest.importorskip("bm3d")
    truth = _smooth(40, 48)
    noisy = _noisy(truth)
    assert psnr(Bm3d(25).restore(noisy).result.frames, truth) > psnr(noisy.frames, truth) + 8


def test_filters_keep_colours_apart() -> None:
    red = torch.zeros(1, 3, 24, 24)
    red[:, 0] = 0.8
    red = quantise(red)
    for peer in (NonLocalMeans(), Bilateral(), Clahe()):
        restored = peer.restore(Clip(red)).result.frames.mean((0, 2, 3))
        assert restored[0] > 0.6 and restored[0] > 3 * restored[1:].max(), type(peer).__name__


def test_clahe_raises_the_contrast_of_a_dark_photo() -> None:
    dark = quantise(0.15 * _smooth(96, 96))
    bright = Clahe().restore(Clip(dark)).result.frames
    assert bright.mean() > 1.2 * dark.mean() and bright.std() > dark.std()


@pytest.mark.parametrize("peer", [Identity(), NonLocalMeans(), Bilateral(), Clahe()])
def test_peers_keep_the_contract(peer: Restorer) -> None:
    clip = Clip(torch.rand(2, 3, 23, 31, generator=generator(0)))
    told: list[float] = []
    restoration = peer.restore(clip, "denoise", progress=told.append)
    assert restoration.trajectory.taus == (0, 1) and restoration.trajectory[0] is clip
    assert restoration.result.frames.shape == clip.frames.shape
    assert restoration.result.frames.dtype == clip.frames.dtype
    assert 0 <= float(restoration.result.frames.min()) <= float(restoration.result.frames.max()) <= 1
    assert told[-1] == 1 and told == sorted(told)
    assert restoration.provenance["model"]
    again = peer.restore(clip).result.frames
    assert torch.equal(again, restoration.result.frames)


def test_identity_is_bit_for_bit() -> None:
    clip = Clip(torch.rand(1, 3, 5, 7, generator=generator(0)))
    assert torch.equal(Identity().restore(clip).result.frames, clip.frames)


def test_importing_peers_imports_no_filter() -> None:
    script = "import sys, unfade.evaluation.peers; sys.exit('cv2' in sys.modules or 'bm3d' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
