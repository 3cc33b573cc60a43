"""Files that end before they say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from unfade.core import InputError
from unfade.media.torn import cut_off


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video")],
)  # fmt: skip
def test_one_byte_less_is_known(
    make_video: Callable[..., Path], tmp_path: Path, name: str, codec: str
) -> None:
    whole = make_video(tmp_path / name, codec=codec)
    assert not cut_off(whole)
    data = whole.read_bytes()
    for length in (len(data) - 1, len(data) * 2 // 3 + 1):
        whole.write_bytes(data[:length])
        assert cut_off(whole)


def test_what_does_not_say_is_not_accused(make_video: Callable[..., Path], tmp_path: Path) -> None:
    """A recording of Matroska that was never closed, bytes behind an MP4, and files of other kinds."""
    live = make_video(tmp_path / "a.mkv")
    data = bytearray(live.read_bytes())
    place = data.index(b"\x18\x53\x80\x67") + 4
    assert data[place] == 1
    data[place : place + 8] = b"\x01" + b"\xff" * 7
    live.write_bytes(data[:-20])
    assert not cut_off(live)
    behind = make_video(tmp_path / "b.mp4")
    for more in (b"\0" * 50, b"TAGsomething that is no box", b"\0\0"):
        data = behind.read_bytes()
        behind.write_bytes(data + more)
        assert not cut_off(behind)
        behind.write_bytes(data)
    other = tmp_path / "c.y4m"
    other.write_bytes(b"YUV4MPEG2 W4 H4 F25:1\nFRAME\n" + bytes(900))
    assert not cut_off(other)
    with pytest.raises(InputError, match="does not exist"):
        cut_off(tmp_path / "d.mp4")


def test_boxes_of_64_bits_and_of_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    head = b"\0\0\0\x10ftypisom\0\0\0\0"
    large = b"\0\0\0\x01mdat" + (1 << 33).to_bytes(8)
    path.write_bytes(head + large + bytes(100))
    assert cut_off(path)
    # A length of nothing is that of the rest of the file.
    path.write_bytes(head + b"\0\0\0\0mdat" + bytes(100))
    assert not cut_off(path)
