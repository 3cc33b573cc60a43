"""AVI knows no times of showing: pictures come in their order and evenly all the same, wherever they are read."""

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from unfade.core import InputError
from unfade.media.excerpt import read_span, write_excerpt
from unfade.media.glances import glances
from unfade.media.seek import FrameReader, Mark
from unfade.media.times import Counted
from unfade.media.video import frame_times, probe_video, read_video
from unfade.media.video_writer import copy_footage

_COUNT, _RATE = 24, 25
_B_FRAME = 2


def _packets(codec: str, b_frames: int) -> list[Any]:
    """Pictures each brighter than the one before by 8 levels, with B-frames, in the order of decoding."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.time_base, context.framerate = Fraction(1, _RATE), Fraction(_RATE)
    context.max_b_frames, context.gop_size = b_frames, 12
    if codec == "libx264":
        context.options = {"threads": "1", "b-adapt": "0", "crf": "4"}
    packets: list[Any] = []
    for index in range(_COUNT):
        picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 16 + 8 * index, np.uint8), "rgb24")
        picture = picture.reformat(format="yuv420p")
        picture.pts, picture.time_base = index, Fraction(1, _RATE)
        packets += context.encode(picture)
    return packets + context.encode(None)


def _kind(data: bytes) -> int:
    """0 for an I-VOP of MPEG-4 part 2, 1 for P, 2 for B: the two bits after the start code (ISO/IEC 14496-2, 6.2.5)."""
    return data[data.index(b"\0\0\1\xb6") + 4] >> 6


def _packed(packets: list[bytes]) -> list[bytes]:
    """The same stream as old encoders pack it: a B-VOP with the picture before it, then a VOP that is not coded."""
    mark = b"\0\0\1\xb2DivX503b1393p"
    marked = [re.sub(rb"\x00\x00\x01\xb2Lavc[\d.]+", lambda _: mark, data) for data in packets]
    made: list[bytes] = []
    for data in marked:
        if _kind(data) == _B_FRAME:
            made[-1] += data
            made.append(b"\0\0\1\xb6\x50\x7f")
        else:
            made.append(data)
    return made


@pytest.fixture(scope="module")
def make_avi(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Footage by kind: "plain" MPEG-4 with B-frames, "packed", "h264"."""
    folder, known = tmp_path_factory.mktemp("avi"), dict[str, Path]()

    def make(kind: str) -> Path:
        if kind in known:
            return known[kind]
        codec = "libx264" if kind == "h264" else "mpeg4"
        packets = _packets(codec, 1 if kind == "packed" else 2)
        data = [bytes(packet) for packet in packets]
        keys = [packet.is_keyframe for packet in packets]
        if kind != "h264":
            assert sum(_kind(one) == _B_FRAME for one in data) > 8
            data, keys = (_packed(data) if kind == "packed" else data), []
        known[kind] = folder / f"{kind}.avi"
        with av.open(str(known[kind]), "w") as container:
            stream = container.add_stream(codec, rate=_RATE)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()
            for index, one in enumerate(data):
                packet: Any = av.Packet(one)
                packet.stream, packet.time_base = stream, Fraction(1, _RATE)
                packet.pts = packet.dts = index
                packet.is_keyframe = keys[index] if keys else _kind(one) == 0
                container.mux_one(packet)
        return known[kind]

    return make


@pytest.mark.parametrize("kind", ["plain", "packed", "h264"])
def test_pictures_of_avi_come_in_order_and_evenly(
    make_avi: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    source = make_avi(kind)
    frames = list(read_video(source))
    assert len(frames) == _COUNT == probe_video(source).num_frames == frame_times(source).count
    levels = [float(frame.image.mean()) * 255 for frame in frames]
    assert levels == pytest.approx([16 + 8 * index for index in range(_COUNT)], abs=3)
    times = [frame.pts * frame.time_base for frame in frames]
    assert {later - when for when, later in pairwise(times)} == {Fraction(1, _RATE)}
    assert 0 <= times[0] <= Fraction(2, _RATE)
    info = probe_video(source)
    assert [glance.pts for glance in glances(info)] == [frame.pts for frame in frames]
    with FrameReader(source) as reader:
        part = list(reader.read(14, 18, Mark(13, frames[13].pts)))
    assert [frame.pts for frame in part] == [frame.pts for frame in frames[14:18]]
    assert all(torch.equal(one.image, two.image) for one, two in zip(part, frames[14:18], strict=True))
    assert copy_footage(source, tmp_path / "b.mp4", lambda image: image, preset="ultrafast") == _COUNT
    assert [frame.pts * frame.time_base for frame in read_video(tmp_path / "b.mp4")] == times
    assert write_excerpt(source, read_span("0.2s@0.4"), tmp_path / "c.mp4") == 5
    found = [float(frame.image.mean()) * 255 for frame in read_video(tmp_path / "c.mp4")]
    assert all(later - level == pytest.approx(8, abs=3) for level, later in pairwise(found))


def test_only_where_the_demuxer_guesses_wrongly(
    make_avi: Callable[[str], Path], make_video: Callable[..., Path], tmp_path: Path
) -> None:
    """Other files keep the times they have, and can be sought in."""
    assert probe_video(make_avi("packed")).counted and probe_video(make_avi("h264")).counted
    for path in (make_avi("plain"), make_video(tmp_path / "a.mp4", (0, 1, 5, 6))):
        assert not probe_video(path).counted


@pytest.mark.parametrize("kind", ["packed", "h264"])
def test_what_cannot_be_decoded_is_damaged_still(
    make_avi: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    data = make_avi(kind).read_bytes()
    places = [found.start() for found in re.finditer(b"00dc", data[: data.index(b"idx1")])]
    (tmp_path / "cut.avi").write_bytes(data[: places[16]])
    count, times = 0, list[int]()
    with pytest.raises(InputError, match=r"damaged or cut short: only \d+ frames"):
        for frame in read_video(tmp_path / "cut.avi"):
            count += 1
            times.append(frame.pts)
    assert 2 < count < _COUNT and times == sorted(set(times))


def test_gaps_stay_and_what_has_no_time_follows() -> None:
    def packet(pts: int | None, dts: int | None = None, data: bytes = b"data") -> Any:
        made = av.Packet(data)
        made.pts, made.dts = pts, dts
        return made

    times, found = Counted(2), list[int]()
    heard = [packet(4), packet(10), packet(None, 6), packet(8, data=b""), packet(None), packet(6)]
    for one in heard[:3]:
        times.hear(one)
    found += [times.next(), times.next()]
    for one in heard[3:]:
        times.hear(one)
    found += [times.next() for _ in range(3)]
    # A second packet of the same time belongs to no other picture, and the last two have none.
    assert found == [4, 6, 10, 12, 14]
