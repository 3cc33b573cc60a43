"""What is written is read back, to the rounding of the file's depth."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from unfade.core import Clip, Metadata, OutputError, UsageError
from unfade.media.images import probe_image, read_image, write_image

_FORMATS = {".png": {8, 16}, ".tif": {8, 16}, ".webp": {8}, ".avif": {8, 10, 12}, ".ppm": {8, 16}}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lossless_formats_keep_pixels_to_their_rounding(tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(sorted(_FORMATS)))
    depth = data.draw(st.sampled_from(sorted(_FORMATS[suffix])))
    grey = data.draw(st.booleans())
    has_alpha = suffix != ".ppm" and data.draw(st.booleans())
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    # Beyond [0, 1], so that clamping is seen too.
    frames = torch.rand(1, 1 if grey else 3, height, width, generator=generator) * 1.4 - 0.2
    alpha = torch.rand(1, 1, height, width, generator=generator) if has_alpha else None
    clip = Clip(
        frames.expand(1, 3, -1, -1),
        alpha=alpha,
        metadata=Metadata(bit_depth=depth, colour="grey" if grey else "rgb"),
    )
    path = tmp_path / f"image{suffix}"

    write_image(clip, path, lossless=True)
    back, info = read_image(path), probe_image(path)

    half = 0.5 / (2**depth - 1) + 1e-6
    assert (back.frames - clip.frames.clamp(0, 1)).abs().max() <= half
    assert (back.alpha is not None) == has_alpha
    if alpha is not None and back.alpha is not None:
        assert (back.alpha - alpha).abs().max() <= half
    assert (info.width, info.height, info.bit_depth, info.has_alpha) == (width, height, depth, has_alpha)
    assert back.metadata.bit_depth == depth
    keeps_grey = suffix in (".png", ".tif", ".ppm")
    assert back.metadata.colour == info.colour == ("grey" if grey and keeps_grey else "rgb")
    write_image(back, path, lossless=True)
    assert torch.equal(read_image(path).frames, back.frames)


def test_an_independent_reader_agrees(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    clip = Clip.of(smooth())
    expected = (smooth() * 255).round().permute(1, 2, 0).numpy()
    for suffix in (".png", ".tif", ".ppm", ".bmp"):
        if suffix == ".bmp":
            with pytest.raises(UsageError, match=r"\.png"):
                write_image(clip, tmp_path / "x.bmp")
            continue
        write_image(clip, tmp_path / f"x{suffix}")
        with Image.open(tmp_path / f"x{suffix}") as image:
            assert np.array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_lossy_formats_stay_close(tmp_path: Path, suffix: str, smooth: Callable[..., Tensor]) -> None:
    clip = Clip.of(smooth(60, 80))
    write_image(clip, tmp_path / f"x{suffix}")
    assert (read_image(tmp_path / f"x{suffix}").frames - clip.frames).abs().mean() < 1.2 / 255


@pytest.mark.parametrize("suffix", [".png", ".tif", ".avif", ".ppm"])
def test_a_deep_ramp_keeps_more_than_256_levels(tmp_path: Path, suffix: str) -> None:
    ramp = torch.linspace(0, 1, 4096).view(1, 1, 1, -1).expand(1, 3, 4, -1)
    clip = Clip(ramp, metadata=Metadata(bit_depth=16))
    write_image(clip, tmp_path / f"ramp{suffix}", lossless=True)
    back = read_image(tmp_path / f"ramp{suffix}")
    assert back.metadata.bit_depth > 8 and back.frames[0, 0, 0].unique().numel() == 4096
    write_image(clip, tmp_path / "flat.png", bit_depth=8)
    assert read_image(tmp_path / "flat.png").frames[0, 0, 0].unique().numel() == 256


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_of_zero_and_one_is_exact_and_colour_stays_under_it(
    tmp_path: Path, suffix: str, smooth: Callable[..., Tensor]
) -> None:
    alpha = (torch.arange(48 * 64).view(1, 1, 48, 64) % 3 == 0).float()
    clip = replace(Clip.of(smooth()), alpha=alpha)
    write_image(clip, tmp_path / f"a{suffix}", lossless=suffix == ".webp")
    back = read_image(tmp_path / f"a{suffix}")
    assert back.alpha is not None and torch.equal(back.alpha, alpha)
    assert (back.frames - clip.frames).abs().max() <= 0.501 / 255
    write_image(clip, tmp_path / f"b{suffix}")
    lossy = read_image(tmp_path / f"b{suffix}")
    assert lossy.alpha is not None and torch.equal(lossy.alpha, alpha)


def test_jpeg_refuses_transparency_but_not_an_opaque_alpha(tmp_path: Path) -> None:
    clip = Clip(torch.full((1, 3, 8, 8), 0.5), alpha=torch.ones(1, 1, 8, 8))
    write_image(clip, tmp_path / "opaque.jpg")
    with pytest.raises(OutputError, match="PNG, WebP, TIFF or AVIF"):
        write_image(replace(clip, alpha=torch.full((1, 1, 8, 8), 0.5)), tmp_path / "clear.jpg")
    assert not (tmp_path / "clear.jpg").exists()


def test_jpeg_has_no_chroma_subsampling(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    write_image(Clip.of(smooth()), tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as image:
        assert {(layer[1], layer[2]) for layer in image.layer} == {(1, 1)}  # type: ignore[attr-defined]


def test_gif_is_written_and_read(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    write_image(Clip.of(smooth()), tmp_path / "x.gif")
    back = read_image(tmp_path / "x.gif")
    assert back.metadata.format == "gif" and (back.frames[0] - smooth()).abs().mean() < 0.06


def test_any_frame_can_be_written(tmp_path: Path) -> None:
    clip = Clip(torch.stack([torch.full((3, 4, 5), value) for value in (0.0, 0.4, 1.0)]))
    for frame, value in ((0, 0.0), (1, 0.4), (-1, 1.0)):
        write_image(clip, tmp_path / "f.png", frame=frame)
        assert torch.allclose(read_image(tmp_path / "f.png").frames, torch.tensor(value))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    frames = torch.zeros(1, 3, 8, 8)
    frames[0, 1, 3, 3] = value
    with pytest.raises(ValueError, match="finite"):
        write_image(Clip(frames), tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_requests_that_make_no_sense(tmp_path: Path) -> None:
    clip = Clip(torch.zeros(1, 3, 8, 8))
    requests: list[tuple[str, dict[str, object], str]] = [
        ("x.heic", {}, "avif"),
        ("x", {}, "extension"),
        ("x.jpg", {"bit_depth": 16}, "16 bits"),
        ("x.jpg", {"lossless": True}, "lossless"),
        ("x.jpg", {"quality": 0}, "1 to 100"),
        ("x.png", {"format": "bmp"}, "not known"),
    ]
    for name, arguments, words in requests:
        with pytest.raises(UsageError, match=words):
            write_image(clip, tmp_path / name, **arguments)  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="16383"):
        write_image(Clip(torch.zeros(1, 3, 1, 16384)), tmp_path / "long.webp")
    write_image(clip, tmp_path / "named.dat", format="PNG")
    assert probe_image(tmp_path / "named.dat").format == "png"
