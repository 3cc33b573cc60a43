"""Frames that were sought are those that reading from the beginning gives."""

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.codec.codec import UnknownCodecError

from unfade.core import InputError
from unfade.media.seek import FrameReader, Mark
from unfade.media.video import VideoFrame, read_video

_OPEN = "open-gop=1:keyint=12:min-keyint=12:scenecut=0:bframes=3"
_CASES: dict[str, tuple[str, str, dict[str, str]]] = {
    "closed groups": (".mp4", "libx264", {"g": "12", "bf": "3"}),
    "open groups": (".mp4", "libx264", {"x264-params": _OPEN}),
    "open groups of H.265": (".mp4", "libx265", {"x265-params": f"{_OPEN}:log-level=none"}),
    "open groups in Matroska": (".mkv", "libx264", {"x264-params": f"{_OPEN}:b-pyramid=normal"}),
    "open groups of H.265 in Matroska": (".mkv", "libx265", {"x265-params": f"{_OPEN}:log-level=none"}),
    "open groups in a transport stream": (".ts", "libx264", {"x264-params": _OPEN}),
    "no key frames but a moving column": (".mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=12"}),
    "hidden frames": (".webm", "libvpx-vp9", {"g": "12", "lag-in-frames": "8", "deadline": "realtime"}),
    "MPEG-2": (".mpg", "mpeg2video", {"g": "12", "bf": "2"}),
    "no times": (".avi", "mpeg4", {"g": "12", "bf": "2"}),
    "key frames only": (".mov", "mjpeg", {}),
}


def _film(
    path: Path, codec: str, options: dict[str, str], times: list[int], base: Fraction = Fraction(1, 25)
) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).repeat(4, 0).repeat(4, 1)
    settings: dict[str, str] = {"crf": "10", "threads": "1"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        try:
            stream = container.add_stream(codec, rate=25, options=settings | options)
        except UnknownCodecError:
            pytest.skip(f"this PyAV has no {codec}")
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = stream.time_base = base
        container.start_encoding()
        for index, when in enumerate(times):
            moved = np.ascontiguousarray(np.roll(noise, (index, 2 * index), (0, 1)).astype(np.uint8))
            picture = av.VideoFrame.from_ndarray(moved, "rgb24").reformat(format=stream.pix_fmt)
            picture.pts, picture.time_base = when, base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def _same(one: VideoFrame, other: VideoFrame) -> bool:
    # Durations are not compared: some demuxers guess them from the frames before.
    return (one.index, one.pts) == (other.index, other.pts) and torch.equal(one.image, other.image)


def _leading(path: Path) -> int:
    """How many packets come after a key frame but are shown before it."""
    count, key = 0, None
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            if packet.is_keyframe and packet.size:
                key = packet.pts
            count += bool(packet.size and packet.pts is not None and key is not None and packet.pts < key)
    return count


@pytest.mark.parametrize("case", _CASES)
def test_any_frame_is_the_one_that_reading_gives(tmp_path: Path, case: str) -> None:
    suffix, codec, options = _CASES[case]
    path = _film(tmp_path / f"v{suffix}", codec, options, list(range(50)))
    whole = list(read_video(path))
    assert len(whole) == 50
    if "open" in case:
        assert _leading(path) >= 3
    with FrameReader(path) as reader:
        for start in range(50):
            stop = min(50, start + 3)
            for mark in (
                Mark(start, whole[start].pts),
                Mark(max(0, start - 5), whole[max(0, start - 5)].pts),
            ):
                got = list(reader.read(start, stop, mark))
                assert len(got) == stop - start and all(map(_same, got, whole[start:stop])), start
        # Without times nothing can be sought, and with frames that are hidden at the end nearly everything.
        assert reader.num_rewinds == 0 or case == "no times"


def test_frames_of_uneven_times(tmp_path: Path) -> None:
    times = np.random.default_rng(1).integers(1, 40, 60).cumsum().tolist()
    path = _film(tmp_path / "v.mp4", "libx264", {"g": "20", "bf": "3"}, times, Fraction(1, 1000))
    whole = list(read_video(path))
    with FrameReader(path) as reader:
        for start in (0, 7, 31, 59, 18):
            got = list(reader.read(start, start + 1, Mark(start, whole[start].pts)))
            assert _same(got[0], whole[start]) and got[0].pts * got[0].time_base == Fraction(
                times[start], 1000
            )
        assert reader.num_rewinds == 0


@pytest.mark.parametrize("rotation", [90, 180])
def test_frames_are_upright(tmp_path: Path, make_video: Callable[..., Path], rotation: int) -> None:
    path = make_video(tmp_path / "v.mp4", rotation=rotation)
    whole = list(read_video(path))
    with FrameReader(path) as reader:
        (frame,) = reader.read(5, 6, Mark(4, 4))
    assert _same(frame, whole[5]) and frame.image.shape == ((3, 64, 48) if rotation == 90 else (3, 48, 64))


def test_a_recording_may_start_anywhere(tmp_path: Path) -> None:
    """Its first frames lean on a key frame that is not there, and reading passes over them."""
    options = {"x264-params": "keyint=10:min-keyint=10:scenecut=0:bframes=2"}
    data = _film(tmp_path / "whole.ts", "libx264", options, list(range(60))).read_bytes()
    part = tmp_path / "part.ts"
    part.write_bytes(data[int(len(data) * 0.3) // 188 * 188 :])
    whole = list(read_video(part))
    assert 30 <= len(whole) < 60
    with FrameReader(part) as reader:
        for frame in whole:
            assert _same(next(reader.read(frame.index, frame.index + 1, Mark(frame.index, frame.pts))), frame)


def test_the_end_of_a_long_film_is_near(tmp_path: Path) -> None:
    path = _film(tmp_path / "v.mp4", "libx264", {"g": "25", "preset": "ultrafast"}, list(range(1500)))
    mark, seconds = Mark(1490, 1490 * int(1 / (25 * _base(path)))), {}
    with FrameReader(path) as reader:
        for name, where in (("sought", mark), ("read", None)):
            begun = time.process_time()
            seen = [frame.image for frame in reader.read(1492, 1495, where)]
            seconds[name] = time.process_time() - begun, seen
    assert all(map(torch.equal, seconds["sought"][1], seconds["read"][1])) and len(seconds["read"][1]) == 3
    assert seconds["sought"][0] < 0.5 * seconds["read"][0]


def _base(path: Path) -> Fraction:
    return next(read_video(path)).time_base


def test_what_can_not_be_read_is_told(tmp_path: Path) -> None:
    path = _film(tmp_path / "v.mkv", "libx264", {"g": "10"}, list(range(30)))
    times = [frame.pts for frame in read_video(path)]
    with FrameReader(path) as reader:
        with pytest.raises(InputError, match=r"v\.mkv ends after frame 29, before the 31 frames"):
            list(reader.read(28, 31, Mark(28, times[28])))
        with pytest.raises(InputError, match="does not show frame 12 at the time that was noted"):
            list(reader.read(12, 13, Mark(12, times[12] + 1)))
        wrong: list[tuple[int, int, Any]] = [(3, 3, None), (-1, 2, None), (4, 5, Mark(5, times[5]))]
        for start, stop, mark in wrong:
            with pytest.raises(ValueError, match="can't be read"):
                list(reader.read(start, stop, mark))
        assert [frame.index for frame in reader.read(28, 30)] == [28, 29]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) // 2))
    with FrameReader(path) as reader, pytest.raises(InputError, match=r"v\.mkv"):
        list(reader.read(25, 30, Mark(25, times[25])))
    with pytest.raises(InputError, match="does not exist"):
        FrameReader(tmp_path / "none.mp4")
