"""What a spectrum says of damage, and that it says the same of a part as of the whole."""

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from unfade.backbones.spectrum import BLOCK, SPECTRUM, as_evidence, spectrum_of
from unfade.core import generator
from unfade.degrade.classic import CLASSIC


def scene(size: int = 128) -> torch.Tensor:
    """Something like a photo, `[1, 3, S, S]`: energy falls with frequency as one over it."""
    made = torch.Generator().manual_seed(3)
    frequency = (torch.fft.fftfreq(size)[:, None] ** 2 + torch.fft.rfftfreq(size)[None] ** 2).sqrt()
    noise = torch.fft.rfft2(torch.randn(3, size, size, generator=made))
    picture = torch.fft.irfft2(noise / (frequency + 1 / size) ** 1.2, s=(size, size))
    picture = picture - picture.amin((1, 2), keepdim=True)
    return (picture / picture.amax((1, 2), keepdim=True))[None]


def test_it_is_the_average_over_blocks_of_scipys_dct() -> None:
    photo = torch.rand(1, 3, 24, 16)
    red, green, blue = photo[0].double().numpy()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    energy, size = np.zeros((8, 8)), np.zeros((8, 8))
    for top in range(0, 24, 8):
        for left in range(0, 16, 8):
            found = dctn(luma[top : top + 8, left : left + 8], norm="ortho")
            energy += found**2 / 6
            size += np.log(np.abs(found) + 0.25 / 255) / 6
    told = spectrum_of(photo)[0].double()
    torch.testing.assert_close(told[:64].reshape(8, 8), torch.from_numpy(energy), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(told[64:128].reshape(8, 8), torch.from_numpy(size), atol=1e-4, rtol=1e-3)


def test_noise_lifts_and_blur_takes_the_high_frequencies() -> None:
    photo = scene()
    clean = as_evidence(spectrum_of(photo))[0, :64].reshape(8, 8)
    noisy, blurred = (
        as_evidence(spectrum_of(CLASSIC[task](photo, generator(0, "x"))))[0, :64].reshape(8, 8)
        for task in ("noise-25", "defocus-3")
    )
    assert (noisy[5:, 5:] > clean[5:, 5:] + 0.5).all()
    assert blurred[5:, 5:].mean() < clean[5:, 5:].mean() - 0.3
    assert abs(blurred[0, 0] - clean[0, 0]) < 0.1


def test_jpeg_leaves_many_coefficients_at_nothing() -> None:
    photo = scene()
    clean, compressed = (
        spectrum_of(one)[0, 64:128] for one in (photo, CLASSIC["jpeg-20"](photo, generator(0)))
    )
    assert (compressed[-16:] < clean[-16:] - 0.5).all()


def test_a_large_photo_is_represented_by_some_of_its_blocks() -> None:
    tiles = scene(72).repeat(1, 1, 11, 11)
    whole, part = (as_evidence(spectrum_of(one)) for one in (tiles, tiles[:, :, :72, :72]))
    torch.testing.assert_close(whole, part, atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (9, 17), (800, 8)])
def test_any_size_has_one(size: tuple[int, int]) -> None:
    told = spectrum_of(torch.rand(2, 3, *size))
    assert told.shape == (2, SPECTRUM)
    assert torch.isfinite(as_evidence(told)).all()


def test_evidence_of_nothing_is_finite() -> None:
    assert torch.isfinite(as_evidence(spectrum_of(torch.zeros(1, 3, BLOCK, BLOCK)))).all()
