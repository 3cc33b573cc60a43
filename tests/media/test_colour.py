"""Profiles: sRGB inside, the file's own colours outside."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor

from unfade.core import Clip, Metadata
from unfade.media.colour import fitting_profile, is_srgb
from unfade.media.images import read_image, write_image

_P3_TO_SRGB = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])


def _difference(first: Tensor, second: Tensor, lossy: bool = False) -> float:
    """The largest CIEDE2000 difference; of a lossy format the mean, as it has noise of its own."""
    labs = [rgb2lab(frames[0].permute(1, 2, 0).numpy().astype(np.float64)) for frames in (first, second)]
    differences = deltaE_ciede2000(*labs)
    return float(differences.mean() if lossy else differences.max())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
def test_a_wide_profile_comes_back_with_its_numbers(
    tmp_path: Path, suffix: str, smooth: Callable[..., Tensor], profile: Callable[[str], bytes]
) -> None:
    stored = (0.3 + 0.4 * smooth()).permute(1, 2, 0).numpy()
    path, copy = tmp_path / "p3.png", tmp_path / f"copy{suffix}"
    Image.fromarray((stored * 255).round().astype(np.uint8)).save(path, icc_profile=profile("p3"))
    clip = read_image(path)

    stored = (stored * 255).round() / 255
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4) @ _P3_TO_SRGB.T
    expected = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clip(1e-9) ** (1 / 2.4) - 0.055)
    assert np.abs(clip.frames[0].permute(1, 2, 0).numpy() - expected).max() < 0.5 / 255
    assert clip.metadata.icc == profile("p3")

    write_image(clip, copy, quality=100, lossless=suffix in (".webp", ".avif"))
    back = read_image(copy)
    assert back.metadata.icc == profile("p3") and _difference(clip.frames, back.frames, suffix == ".jpg") < 1
    if suffix == ".png":
        with Image.open(copy) as image:
            assert np.abs(np.asarray(image) / 255 - stored).max() < 0.6 / 255


def test_an_srgb_profile_changes_nothing(
    tmp_path: Path, smooth: Callable[..., Tensor], profile: Callable[[str], bytes]
) -> None:
    pixels = (smooth() * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "s.png", icc_profile=profile("srgb"))
    clip = read_image(tmp_path / "s.png")
    assert torch.equal(clip.frames[0], torch.from_numpy(pixels).permute(2, 0, 1) / 255)
    write_image(clip, tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as image:
        assert np.array_equal(np.asarray(image), pixels) and image.info["icc_profile"] == profile("srgb")
    assert is_srgb(profile("srgb"), "rgb") and not is_srgb(profile("p3"), "rgb")
    assert is_srgb(None, "rgb") and not is_srgb(None, "cmyk")


def test_sixteen_bits_and_alpha_pass_through_a_profile(
    tmp_path: Path, profile: Callable[[str], bytes]
) -> None:
    ramp = torch.linspace(0.1, 0.9, 2048).view(1, 1, 1, -1).expand(1, 3, 4, -1)
    alpha = (torch.arange(2048) % 2).float().view(1, 1, 1, -1).expand(1, 1, 4, -1)
    clip = Clip(ramp, alpha=alpha, metadata=Metadata(bit_depth=16, icc=profile("p3")))
    for suffix in (".png", ".tif"):
        write_image(clip, tmp_path / f"x{suffix}")
        back = read_image(tmp_path / f"x{suffix}")
        assert (back.frames - ramp).abs().max() < 4 / 65535 and back.metadata.bit_depth == 16
        assert back.alpha is not None and torch.equal(back.alpha, alpha)
    write_image(clip, tmp_path / "x.avif", lossless=True)
    back = read_image(tmp_path / "x.avif")
    assert back.metadata.bit_depth == 12 and (back.frames - ramp).abs().max() < 0.7 / 4095
    assert back.alpha is not None and torch.equal(back.alpha, alpha)


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_goes_back_to_cmyk(
    tmp_path: Path, suffix: str, embedded: bool, profile: Callable[[str], bytes]
) -> None:
    y, x = np.mgrid[0:32, 0:40]
    inks = np.stack([40 + 2 * x, 60 + 2 * y, 30 + x + y, 10 + x // 2], -1).astype(np.uint8)
    extra = {"icc_profile": profile("cmyk")} if embedded else {}
    path, copy = tmp_path / "c.tif", tmp_path / f"copy{suffix}"
    Image.frombytes("CMYK", (40, 32), inks.tobytes()).save(path, **extra)
    clip = read_image(path)
    assert clip.metadata.colour == "cmyk" and (clip.metadata.icc is not None) == embedded

    write_image(clip, copy, quality=100)
    with Image.open(copy) as image:
        assert image.mode == "CMYK" and ("icc_profile" in image.info) == embedded
    # The two directions of this profile's own tables disagree by up to 2.3, at 16 bits as well.
    assert _difference(clip.frames, read_image(copy).frames) < 4
    assert _difference(clip.frames, read_image(copy).frames, lossy=True) < 1.5
    write_image(clip, tmp_path / "rgb.png")
    back = read_image(tmp_path / "rgb.png")
    assert back.metadata.colour == "rgb" and back.metadata.icc is None
    assert (back.frames - clip.frames).abs().max() <= 0.501 / 255


def test_a_grey_profile(tmp_path: Path, profile: Callable[[str], bytes]) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    Image.fromarray(ramp).save(tmp_path / "g.png", icc_profile=profile("grey"))
    clip = read_image(tmp_path / "g.png")
    assert clip.metadata.colour == "grey" and torch.equal(clip.frames[:, 0], clip.frames[:, 2])
    linear = (np.arange(256) / 255) ** 1.8
    expected = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(clip.frames[0, 0, 0].numpy() - expected)[16:].max() < 1 / 255
    for suffix in (".png", ".tif"):
        write_image(clip, tmp_path / f"h{suffix}")
        with Image.open(tmp_path / f"h{suffix}") as image:
            assert image.mode == "L" and np.abs(np.asarray(image).astype(int) - ramp)[:, 16:].max() <= 1
            assert image.info["icc_profile"] == profile("grey")


def test_a_format_without_profiles_gets_srgb(
    tmp_path: Path, smooth: Callable[..., Tensor], profile: Callable[[str], bytes]
) -> None:
    clip = Clip(smooth().unsqueeze(0), metadata=Metadata(icc=profile("p3")))
    write_image(clip, tmp_path / "x.ppm")
    assert (read_image(tmp_path / "x.ppm").frames - clip.frames).abs().max() <= 0.501 / 255
    flat = Clip(torch.tensor([0.8, 0.3, 0.2]).view(1, 3, 1, 1).expand(1, 3, 9, 9), metadata=clip.metadata)
    write_image(flat, tmp_path / "x.gif")
    assert (read_image(tmp_path / "x.gif").frames - flat.frames).abs().max() < 2.5 / 255


def test_profiles_that_can_not_be_used_count_as_absent(
    tmp_path: Path, smooth: Callable[..., Tensor], profile: Callable[[str], bytes]
) -> None:
    assert fitting_profile(profile("p3"), "rgb") == profile("p3")
    assert fitting_profile(profile("p3"), "grey") is None
    assert fitting_profile(b"nonsense" * 40, "rgb") is None
    pixels = (smooth() * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    damaged = bytearray(profile("p3"))
    damaged[128:132] = b"\xff\xff\xff\xff"
    for icc in (bytes(damaged), profile("cmyk"), b"nonsense" * 40):
        Image.fromarray(pixels).save(tmp_path / "d.tif", icc_profile=icc)
        clip = read_image(tmp_path / "d.tif")
        assert (clip.frames[0] * 255).round().permute(1, 2, 0).numpy().astype(
            np.uint8
        ).tolist() == pixels.tolist()
        write_image(clip, tmp_path / "e.png")
