"""Parts of footage: frames bit for bit, times from nought, sound of that part."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from unfade.core import InputError, UsageError
from unfade.media.excerpt import Crop, Span, read_span, write_excerpt
from unfade.media.film import write_film
from unfade.media.video import probe_video, read_video


def made(path: Path, frames: int = 30) -> Path:
    coarse = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.interpolate(coarse[None], (48, 64 + frames), mode="bilinear")[0]
    write_film((wide[:, :, index : index + 64] for index in range(frames)), path, 10)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_are_the_sources_bit_for_bit(suffix: str, tmp_path: Path) -> None:
    source = made(tmp_path / "a.mp4")
    count = write_excerpt(source, read_span("0.5s@0:01.2"), tmp_path / f"b{suffix}")
    assert count == 5
    wanted = [frame.image for frame in read_video(source)][12:17]
    found = list(read_video(tmp_path / f"b{suffix}"))
    assert len(found) == 5
    assert all(torch.equal(frame.image, image) for frame, image in zip(found, wanted, strict=True))
    times = [float(frame.pts * frame.time_base) for frame in found]
    assert times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_sound_of_the_part_and_rotation(shared: Path, tmp_path: Path) -> None:
    source = shared / "clips" / "bigbuckbunny.mp4"
    target = tmp_path / "b.mp4"
    write_excerpt(source, Span(Fraction(1), Fraction(1, 2)), target)
    info, found = probe_video(source), probe_video(target)
    assert (found.width, found.height, found.fps, found.has_audio) == (
        info.width,
        info.height,
        info.fps,
        info.has_audio,
    )
    if info.has_audio:
        with av.open(str(target)) as container:
            packets = [one for one in container.demux(audio=0) if one.size]
            times = [float((one.pts or 0) * one.time_base) for one in packets]
            assert packets and min(times) >= -0.05 and max(times) < 0.55


def test_what_cannot_be_taken(tmp_path: Path) -> None:
    source = made(tmp_path / "a.mp4", 5)
    with pytest.raises(InputError, match=r"has no frame at 9 s; it lasts 0.5 s"):
        write_excerpt(source, read_span("1s@9"), tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()
    for text in (
        "",
        "0s",
        "ten",
        "2s@",
        "@3",
        "-1s",
        "2s/",
        "/8x8+0+0",
        "8x8",
        "0x8+0+0",
        "8x00+1+1",
        "1s/8x8-1+0",
    ):
        with pytest.raises(UsageError, match="is no part of footage"):
            read_span(text)
    assert read_span("2s@1:00:10") == Span(Fraction(3610), Fraction(2))
    assert read_span("1.5") == Span(Fraction(0), Fraction(3, 2))
    assert read_span("2s@00:10/512x300+100+50") == Span(Fraction(10), Fraction(2), Crop(512, 300, 100, 50))
    assert read_span("512x300+100+0") == Span(Fraction(0), Fraction(1), Crop(512, 300, 100, 0))


def upright(path: Path) -> torch.Tensor:
    return torch.stack([frame.image for frame in read_video(path)])


def assert_same(path: Path, wanted: torch.Tensor) -> None:
    """The same light at each pixel; colours near the border are made of those beyond it, where there are some."""
    found = upright(path)
    light = torch.tensor((0.299, 0.587, 0.114))[:, None, None]
    torch.testing.assert_close((found * light).sum(1), (wanted * light).sum(1), rtol=0, atol=1e-4)
    assert float((found - wanted).abs().max()) < 0.03


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_part_of_the_picture_is_the_sources(
    rotation: int, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    """Counted in the picture as it is displayed."""
    source = make_video(tmp_path / "a.mp4", rotation=rotation, sound="aac")
    target = tmp_path / "b.mkv"
    assert write_excerpt(source, read_span("0.3s@0.2/20x14+10+6"), target) == 3
    assert_same(target, upright(source)[2:5, :, 6:20, 10:30])
    assert probe_video(target).has_audio
    # Of pictures whose colours are subsampled, odd places grow to even ones, and the end is the end.
    write_excerpt(source, read_span("0.1s/21x19+11+13"), target)
    assert_same(target, upright(source)[:1, :, 12:32, 10:32])
    height, width = upright(source).shape[2:]
    write_excerpt(source, read_span(f"0.1s/17x17+{width - 17}+{height - 17}"), target)
    assert_same(target, upright(source)[:1, :, -18:, -18:])


def test_a_part_of_pictures_in_full_colour_begins_anywhere(
    make_video: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_video(tmp_path / "a.mkv", pix_fmt="yuv444p")
    write_excerpt(source, read_span("7x5+11+13"), tmp_path / "b.mkv")
    assert torch.equal(upright(tmp_path / "b.mkv"), upright(source)[:, :, 13:18, 11:18])


def test_a_part_that_is_not_there(make_video: Callable[..., Path], tmp_path: Path) -> None:
    source = make_video(tmp_path / "a.mp4", rotation=90)
    with pytest.raises(InputError, match=r"has pictures of 48 x 64, which 20x20\+30\+0 does not lie in"):
        write_excerpt(source, read_span("20x20+30+0"), tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()
