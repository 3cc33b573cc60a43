"""Parts of footage: frames bit for bit, times from nought, sound of that part."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from unfade.core import InputError, UsageError
from unfade.media.excerpt import Span, read_span, write_excerpt
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
    for text in ("", "0s", "ten", "2s@", "@3", "-1s"):
        with pytest.raises(UsageError, match="is no part of footage"):
            read_span(text)
    assert read_span("2s@1:00:10") == Span(Fraction(3610), Fraction(2))
    assert read_span("1.5") == Span(Fraction(0), Fraction(3, 2))
