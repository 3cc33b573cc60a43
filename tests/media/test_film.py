"""Films are for viewing: they play everywhere and look like their frames."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.core import Clip, UsageError
from unfade.media.film import write_film
from unfade.media.notes import read_notes
from unfade.media.video import probe_video, read_video


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_film_looks_like_its_frames(tmp_path: Path, suffix: str, smooth: Callable[..., Tensor]) -> None:
    frames = [smooth(48, 64, index / 8) for index in range(6)]
    path = tmp_path / f"film{suffix}"
    assert write_film(iter(frames), path, fps=5, notes={"version": "1"}) == 6
    info = probe_video(path)
    assert (info.width, info.height, info.fps, info.pix_fmt) == (64, 48, 5, "yuv420p")
    assert (info.tags.matrix, info.tags.primaries, info.tags.transfer, info.tags.full_range) == (
        1,
        1,
        1,
        False,
    )
    back = list(read_video(path))
    assert [frame.pts * frame.time_base for frame in back] == [Fraction(index, 5) for index in range(6)]
    for frame, image in zip(back, frames, strict=True):
        assert (frame.image - image).abs().mean() < 2 / 255
    assert read_notes(path) == {"version": "1"}
    data = path.read_bytes()
    assert suffix == ".mkv" or data.index(b"moov") < data.index(b"mdat")


def test_clips_count_as_their_frames_and_odd_sides_are_padded(
    tmp_path: Path, smooth: Callable[..., Tensor]
) -> None:
    photo = replace(Clip.of(smooth(45, 63)), alpha=torch.zeros(1, 1, 45, 63))
    footage = Clip(smooth(45, 63).expand(3, -1, -1, -1))
    assert write_film([photo, footage], tmp_path / "f.mp4", fps=Fraction(30000, 1001)) == 4
    info, image = probe_video(tmp_path / "f.mp4"), next(read_video(tmp_path / "f.mp4")).image
    assert (info.width, info.height, info.fps) == (64, 46, Fraction(30000, 1001))
    assert (image[:, :45, :63] - smooth(45, 63)).abs().mean() < 2 / 255
    assert (image[:, 45] - image[:, 44]).abs().mean() < 2 / 255


def test_large_frames_are_reduced(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    write_film([smooth(100, 300)], tmp_path / "f.mp4", longest=90)
    info = probe_video(tmp_path / "f.mp4")
    assert (info.width, info.height) == (90, 30)


def test_requests_that_make_no_sense(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_film([], tmp_path / "f.mp4")
    with pytest.raises(ValueError, match="one size"):
        write_film([smooth(48, 64), smooth(48, 66)], tmp_path / "f.mp4")
    with pytest.raises(ValueError, match="finite"):
        write_film([smooth() / 0], tmp_path / "f.mp4")
    with pytest.raises(ValueError, match="above 0"):
        write_film([smooth()], tmp_path / "f.mp4", fps=0)
    with pytest.raises(UsageError, match=r"\.mp4"):
        write_film([smooth()], tmp_path / "f.gif")
    assert list(tmp_path.iterdir()) == []
