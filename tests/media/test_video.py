"""Footage keeps its frames, times, colours, sound and tags."""

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from unfade.core import InputError, OutputError, UsageError
from unfade.media.notes import read_notes
from unfade.media.video import VideoFrame, probe_video, read_video
from unfade.media.video_writer import VideoWriter, copy_footage

_VFR = (0, 1, 3, 4, 8, 9, 15, 16, 21)
_CHAPTER: Any = {
    "id": 1,
    "start": 0,
    "end": 500,
    "time_base": Fraction(1, 1000),
    "metadata": {"title": "One"},
}
_FAST: dict[str, Any] = {"preset": "ultrafast"}


def _times(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in read_video(path)]


def _packets(path: Path, kind: str) -> list[tuple[Any, ...]]:
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        packets = container.demux(*streams) if streams else ()
        return [
            (p.stream_index, p.pts * p.time_base, p.dts * p.time_base, p.duration * p.time_base, bytes(p))
            for p in packets
            if p.size and p.pts is not None and p.dts is not None and p.duration is not None
        ]


def test_frames_are_read_with_their_times(
    tmp_path: Path, make_video: Callable[..., Path], smooth: Callable[..., Tensor]
) -> None:
    path = make_video(tmp_path / "v.mp4", sound="aac")
    info = probe_video(path)
    assert (info.width, info.height, info.fps, info.num_frames, info.has_audio) == (64, 48, 10, 8, True)
    assert (info.codec, info.pix_fmt, info.bit_depth, info.rotation) == ("h264", "yuv420p", 8, 0)
    assert info.time_base == Fraction(1, 10) and info.duration == pytest.approx(0.8)
    frames = list(read_video(path))
    assert [(f.index, f.pts, f.duration) for f in frames] == [(i, i, 1) for i in range(8)]
    for index, frame in enumerate(frames):
        assert frame.image.dtype == torch.float32 and frame.image.shape == (3, 48, 64)
        assert (frame.image - smooth(48, 64, index / 8)).abs().mean() < 1.5 / 255


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p10le"])
def test_matrix_and_range_follow_the_tags(
    tmp_path: Path,
    make_video: Callable[..., Path],
    smooth: Callable[..., Tensor],
    pix_fmt: str,
    matrix: int,
    full: bool,
) -> None:
    path = make_video(tmp_path / "v.mp4", (0, 1), pix_fmt=pix_fmt, matrix=matrix, full=full)
    info = probe_video(path)
    assert (info.tags.matrix, info.tags.full_range) == (matrix, full)
    image = next(read_video(path)).image
    assert (image - smooth(48, 64)).abs().mean() < 1.5 / 255
    copy_footage(path, tmp_path / "w.mp4", lambda frame: frame, **_FAST)
    again = probe_video(tmp_path / "w.mp4")
    assert again.tags == info.tags and again.bit_depth == info.bit_depth
    assert again.pix_fmt.removeprefix("yuvj") == info.pix_fmt.removeprefix("yuvj")
    assert (next(read_video(tmp_path / "w.mp4")).image - image).abs().mean() < 1.5 / 255


def test_conversion_agrees_with_the_formula(tmp_path: Path) -> None:
    from unfade.media.yuv import ColourTags, picture_to_rgb, rgb_to_picture

    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    for tags, (kr, kb) in {
        ColourTags(1): (0.2126, 0.0722),
        ColourTags(6): (0.299, 0.114),
        ColourTags(9): (0.2627, 0.0593),
    }.items():
        picture = rgb_to_picture(image, "yuv444p", tags)
        y, u, v = (
            np.frombuffer(plane, np.uint8).reshape(16, -1)[:, :16].astype(np.float64)
            for plane in picture.planes
        )
        luma = (y - 16) / 219
        red, blue = luma + 2 * (1 - kr) * (v - 128) / 224, luma + 2 * (1 - kb) * (u - 128) / 224
        green = (luma - kr * red - kb * blue) / (1 - kr - kb)
        expected = np.stack([red, green, blue], -1)
        assert np.abs(expected - image.permute(1, 2, 0).numpy()).max() < 3 / 255
        assert np.abs(picture_to_rgb(picture, tags) - expected).max() < 0.1 / 255


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_baked_once(
    tmp_path: Path, make_video: Callable[..., Path], smooth: Callable[..., Tensor], rotation: int
) -> None:
    path = make_video(tmp_path / "v.mp4", (0, 1, 2), rotation=rotation)
    turned = torch.rot90(smooth(48, 64), rotation // 90, (1, 2))
    info, frame = probe_video(path), next(read_video(path))
    assert info.rotation == -rotation % 360
    assert (info.height, info.width) == turned.shape[1:]
    assert (frame.image - turned).abs().mean() < 2 / 255
    assert copy_footage(path, tmp_path / "w.mp4", lambda image: image, **_FAST) == 3
    again = probe_video(tmp_path / "w.mp4")
    assert (again.rotation, again.width, again.height) == (0, info.width, info.height)
    assert (next(read_video(tmp_path / "w.mp4")).image - turned).abs().mean() < 3 / 255


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("start", [0, 7])
def test_times_sound_and_tags_are_kept(
    tmp_path: Path, make_video: Callable[..., Path], suffix: str, start: int
) -> None:
    pts, base = [start + when for when in _VFR], Fraction(1, 8)
    source = make_video(tmp_path / f"v{suffix}", pts, base, sound="aac")
    target = tmp_path / "out" / f"w{suffix}"
    heard: list[float] = []
    count = copy_footage(
        source,
        target,
        lambda image: 1 - image,
        notes={"version": "1 é"},
        progress=heard.append,
        preset="fast",
    )
    assert count == len(pts) and heard[-1] == 1 and heard == sorted(heard)
    assert _times(source) == [when * base for when in pts]
    assert _times(target) == _times(source)
    assert probe_video(target).time_base == probe_video(source).time_base
    assert _packets(target, "audio") == _packets(source, "audio") != []
    assert (next(read_video(target)).image + next(read_video(source)).image - 1).abs().mean() < 2 / 255
    with av.open(str(target)) as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert tags["title"] == "A test" and tags["artist"] == "Nobody"
    assert read_notes(target) == {"version": "1 é"}


def test_several_tracks_and_subtitles_are_copied(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    plain = make_video(tmp_path / "plain.mkv", sound="flac")
    (tmp_path / "s.srt").write_text(
        "1\n00:00:00,100 --> 00:00:00,500\nHello\n\n2\n00:00:00,600 --> 00:00:00,700\nBye\n"
    )
    source, target = tmp_path / "v.mkv", tmp_path / "w.mkv"
    inputs = [av.open(str(plain)), av.open(str(plain)), av.open(str(tmp_path / "s.srt"))]
    with av.open(str(source), "w") as output:
        chosen = [[*inputs[0].streams], [*inputs[1].streams.audio], [*inputs[2].streams.subtitles]]
        copies = [[output.add_stream_from_template(stream) for stream in streams] for streams in chosen]
        copies[1][0].metadata["language"] = "fra"
        output.set_chapters([_CHAPTER])
        for container, streams, outs in zip(inputs, chosen, copies, strict=True):
            for packet in container.demux(*streams):
                if packet.size:
                    packet.stream = outs[streams.index(packet.stream)]
                    output.mux(packet)
            container.close()
    copy_footage(source, target, lambda image: image, **_FAST)
    for kind, tracks in (("audio", 2), ("subtitle", 1)):
        assert _packets(target, kind) == _packets(source, kind) != []
        assert len({packet[0] for packet in _packets(target, kind)}) == tracks
    with av.open(str(target)) as container:
        assert [stream.language for stream in container.streams.audio][1] == "fra"
        (chapter,) = container.chapters()
        assert chapter["end"] * chapter["time_base"] == Fraction(1, 2)
        assert chapter["metadata"] == {"title": "One"}


@pytest.mark.parametrize("suffix", [".avi", ".ts", ".mpg", ".gif"])
def test_other_containers_are_read(tmp_path: Path, make_video: Callable[..., Path], suffix: str) -> None:
    codec = {".avi": "mpeg4", ".ts": "libx264", ".mpg": "mpeg2video", ".gif": "gif"}[suffix]
    pix_fmt, options = ("rgb8", {}) if suffix == ".gif" else ("yuv420p", {"bf": "2"})
    base = Fraction(1, 25)
    sound = "aac" if suffix == ".ts" else None
    source = make_video(
        tmp_path / f"v{suffix}", range(9), base, codec=codec, pix_fmt=pix_fmt, options=options, sound=sound
    )
    assert [b - a for a, b in itertools.pairwise(_times(source))] == [base] * 8
    assert copy_footage(source, tmp_path / "w.mp4", lambda image: image, **_FAST) == 9
    assert _times(tmp_path / "w.mp4") == _times(source)
    assert probe_video(tmp_path / "w.mp4").has_audio == (sound is not None)


def test_frames_may_be_enlarged_and_odd(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    source = make_video(tmp_path / "v.mp4", (0, 1, 2))
    copy_footage(source, tmp_path / "w.mp4", lambda image: image.repeat(1, 2, 2), **_FAST)
    assert (probe_video(tmp_path / "w.mp4").width, probe_video(tmp_path / "w.mp4").height) == (128, 96)
    copy_footage(source, tmp_path / "x.mp4", lambda image: image[:, :-1, :-3], **_FAST)
    odd = probe_video(tmp_path / "x.mp4")
    assert (odd.width, odd.height, odd.pix_fmt) == (61, 47, "yuv444p")


def test_one_frame_is_in_memory_at_a_time(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    frames = read_video(make_video(tmp_path / "v.mp4", tuple(range(40))))
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    frames.close()  # type: ignore[attr-defined]


def test_what_is_no_footage_is_refused(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "photo.mp4").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    sound = make_video(tmp_path / "sound.mp4", sound="aac", pictures=False)
    none = make_video(tmp_path / "none.mkv", ())
    cases = {
        tmp_path / "missing.mp4": "does not exist",
        tmp_path: "folder",
        tmp_path / "empty.mp4": "empty",
        tmp_path / "text.mp4": "not a video",
        tmp_path / "photo.mp4": "photo",
        sound: "sound only",
        none: "no frame|not a video|no video",
    }
    for path, words in cases.items():
        for function in (probe_video, read_video):
            with pytest.raises(InputError, match=words) as caught:
                function(path)
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_truncated_video_gives_what_it_has_then_says_so(
    tmp_path: Path, make_video: Callable[..., Path], suffix: str
) -> None:
    pts = tuple(range(30))
    options = {"crf": "4", "threads": "1", "g": "5", "bf": "0"}
    whole, part = make_video(tmp_path / f"whole{suffix}", pts, options=options), tmp_path / f"part{suffix}"
    data = whole.read_bytes()
    part.write_bytes(data[: int(len(data) * 0.7)])
    count = 0
    with pytest.raises(InputError, match=r"only \d+ frames") as caught:
        for _ in read_video(part):
            count += 1
    assert 5 < count < 30 and f"only {count} frames" in str(caught.value)
    with pytest.raises(InputError, match="only"):
        copy_footage(part, tmp_path / "w.mp4", lambda image: image, **_FAST)
    assert not (tmp_path / "w.mp4").exists()
    part.write_bytes(data[:200])
    with pytest.raises(InputError):
        probe_video(part)


def test_a_recording_may_start_anywhere(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    options = {"crf": "4", "threads": "1", "g": "10", "bf": "0"}
    data = make_video(tmp_path / "whole.ts", range(40), options=options).read_bytes()
    (tmp_path / "part.ts").write_bytes(data[int(len(data) * 0.3) // 188 * 188 :])
    assert 20 <= len(list(read_video(tmp_path / "part.ts"))) < 40


def test_failures_leave_nothing(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    source = make_video(tmp_path / "v.mp4", sound="aac")
    calls = 0

    def interrupted(image: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return image

    with pytest.raises(KeyboardInterrupt):
        copy_footage(source, tmp_path / "w.mp4", interrupted, **_FAST)
    with pytest.raises(ValueError, match="finite"):
        copy_footage(source, tmp_path / "w.mp4", lambda image: image / 0, **_FAST)
    with pytest.raises(UsageError, match=r"\.mkv"):
        copy_footage(source, tmp_path / "w.avi", lambda image: image)
    with pytest.raises(OutputError, match="exists already"):
        copy_footage(source, source, lambda image: image, overwrite=False)
    with pytest.raises(InputError, match="no frame"), VideoWriter(tmp_path / "w.mp4", source):
        pass
    with pytest.raises(InputError, match="don't increase"), VideoWriter(tmp_path / "w.mp4", source) as writer:
        writer.write(torch.zeros(3, 48, 64), 5)
        writer.write(torch.zeros(3, 48, 64), 5)
    with pytest.raises(ValueError, match="one size"), VideoWriter(tmp_path / "w.mp4", source) as writer:
        writer.write(torch.zeros(3, 48, 64), 0)
        writer.write(torch.zeros(3, 48, 66), 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["v.mp4"]


def test_sound_the_container_can_not_hold_is_told(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    source = make_video(tmp_path / "v.mkv", sound="flac")
    subtitles = tmp_path / "s.srt"
    subtitles.write_text("1\n00:00:00,100 --> 00:00:00,500\nHello\n")
    with (
        av.open(str(source)) as a,
        av.open(str(subtitles)) as b,
        av.open(str(tmp_path / "x.mkv"), "w") as output,
    ):
        pairs = [(a, a.streams.video[0]), (b, b.streams.subtitles[0])]
        outs = [output.add_stream_from_template(stream) for _, stream in pairs]
        for (container, stream), out in zip(pairs, outs, strict=True):
            for packet in container.demux(stream):
                if packet.size:
                    packet.stream = out
                    output.mux(packet)
    with pytest.raises(OutputError, match=r"\.mkv"):
        copy_footage(tmp_path / "x.mkv", tmp_path / "y.mp4", lambda image: image, **_FAST)
    assert not (tmp_path / "y.mp4").exists()


def test_a_real_clip_keeps_times_and_sound(
    tmp_path: Path, shared: Path, real_clips: dict[str, list[tuple[VideoFrame, Tensor]]]
) -> None:
    for name in ("bigbuckbunny.mp4", "carphone_pristine.mp4"):
        source, target = shared / "clips" / name, tmp_path / name
        info, frames = probe_video(source), [frame for frame, _ in real_clips[name]]
        with VideoWriter(target, info, preset="ultrafast") as writer:
            for frame in frames:
                writer.write(frame.image, frame.pts, frame.duration)
        assert _times(target) == [frame.pts * frame.time_base for frame in frames]
        assert writer.num_frames == info.num_frames
        assert _packets(target, "audio") == _packets(source, "audio")
        again = probe_video(target)
        assert (again.fps, again.duration, again.num_frames) == (info.fps, info.duration, info.num_frames)
