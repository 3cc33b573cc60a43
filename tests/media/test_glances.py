"""What is seen in passing is what reading gives, in little."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from torch import Tensor
from torch.nn import functional

from unfade.core import InputError
from unfade.media.cuts import is_cut
from unfade.media.glances import glances
from unfade.media.video import probe_video, read_video

_CODECS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mpeg4", ".mpg": "mpeg2video"}


def _thumbnail(image: Tensor) -> Tensor:
    return functional.interpolate(image[None], (32, 32), mode="area")


@pytest.mark.parametrize("suffix", _CODECS)
def test_every_frame_is_seen_at_its_time(
    tmp_path: Path, make_video: Callable[..., Path], suffix: str
) -> None:
    pts = (0, 1, 3, 4, 8, 9, 15, 16) if suffix in (".mp4", ".mkv") else range(9)
    path = make_video(tmp_path / f"v{suffix}", pts, Fraction(1, 25), codec=_CODECS[suffix])
    whole, seen = list(read_video(path)), list(glances(probe_video(path)))
    assert [(one.index, one.pts) for one in seen] == [(one.index, one.pts) for one in whole]
    assert len(seen) == len(pts) and all(one.end > one.pts for one in seen)
    for one, other in zip(seen, whole, strict=True):
        assert not one.interlaced and one.thumbnail.shape == (1, 3, 32, 32)
        assert (one.thumbnail - _thumbnail(other.image)).abs().mean() < 3 / 255


def test_real_footage_has_the_cuts_that_its_frames_have(shared: Path) -> None:
    path = shared / "clips" / "bikes.mp4"
    seen = [one.thumbnail for one in glances(probe_video(path))]
    found = [index for index in range(1, len(seen)) if is_cut(seen[index - 1], seen[index])]
    assert found == [30, 76, 137, 187, 242]
    whole = [_thumbnail(frame.image) for frame, _ in zip(read_video(path), range(80), strict=False)]
    assert [index for index in range(1, 80) if is_cut(whole[index - 1], whole[index])] == [30, 76]
    assert max((one - other).abs().mean() for one, other in zip(seen, whole, strict=False)) < 2 / 255


def test_damage_and_wrong_times_are_told(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    data = make_video(
        tmp_path / "v.mkv", range(40), options={"crf": "4", "threads": "1", "g": "5"}
    ).read_bytes()
    (tmp_path / "v.mkv").write_bytes(data[: int(len(data) * 0.6)])
    with pytest.raises(InputError, match=r"v\.mkv is damaged or cut short after frame \d+"):
        list(glances(probe_video(tmp_path / "v.mkv")))
    once = make_video(tmp_path / "once.ts", range(12), Fraction(1, 25)).read_bytes()
    (tmp_path / "twice.ts").write_bytes(2 * once)
    with pytest.raises(InputError, match=r"twice\.ts has times that don't increase at frame \d+"):
        list(glances(probe_video(tmp_path / "twice.ts")))


def test_a_change_of_size_is_told(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """Two transport streams one after the other, as a broadcast has them."""
    one = make_video(tmp_path / "one.ts", range(10), Fraction(1, 25))
    other = make_video(tmp_path / "other.ts", range(10, 20), Fraction(1, 25), size=(96, 64))
    (tmp_path / "both.ts").write_bytes(one.read_bytes() + other.read_bytes())
    with pytest.raises(InputError, match=r"both\.ts changes its size at frame \d+; split it there"):
        list(glances(probe_video(tmp_path / "both.ts")))


def test_woven_fields_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "v.mpg"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(6):
            picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * index, np.uint8), "rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    assert all(one.interlaced for one in glances(probe_video(path)))
