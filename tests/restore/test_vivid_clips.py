"""Real clips through Vivid-VR, whole, turned and unevenly timed; and that memory does not grow with their length."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from tests.restore.test_vivid_restorer import packets, saved

from unfade.core import Plan
from unfade.media.video import probe_video
from unfade.restore.footage import run_footage
from unfade.restore.load import load
from unfade.restore.outputs import Job

PLAN = Plan(dtype="fp32")
WORDS = "a street at night"
CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
# The real clips come out this small, so that the small model has little to do: windows, cuts and times are all theirs.
SAMPLING: dict[str, Any] = {
    "window": 33, "steps": 1, "short_side": 32, "guidance": 1.0, "colour": "none", "captioner": "rules",
}  # fmt: skip
# Frames of a copy that is turned or unevenly timed.
SHORT = 40
LONG, LEFT_OVER_MB = 500, 12.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return saved(tmp_path_factory.mktemp("vivid"))


def copied(source: Path, target: Path, way: str) -> Path:
    """The first `SHORT` pictures of a file with its sound, none of them coded anew: turned, or every third of them
    shown twice as long."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        pictures, step = given.streams.video[0], 1 / given.streams.video[0].average_rate  # type: ignore[operator]
        streams: dict[int, Any] = {
            one.index: made.add_stream_from_template(one) for one in (pictures, *given.streams.audio)
        }
        if way == "rotated":
            streams[pictures.index].set_display_rotation(90)
        ticks, count = round(step / pictures.time_base), 0  # type: ignore[operator]
        packet: Any
        for packet in given.demux(pictures, *given.streams.audio):
            if not packet.size:
                continue
            if packet.stream.index == pictures.index:
                count += 1
                if count > SHORT:
                    continue
                if way == "uneven":
                    packet.pts += packet.pts // ticks // 3 * ticks
                    packet.dts += packet.dts // ticks // 3 * ticks
            packet.stream = streams[packet.stream.index]
            made.mux(packet)
    return target


def times(path: Path) -> list[Fraction]:
    """When pictures are shown, in seconds, in their order."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sorted(one.pts * stream.time_base for one in container.demux(stream) if one.size)  # type: ignore[operator]


@pytest.mark.parametrize("way", ["plain", "rotated", "uneven"])
@pytest.mark.parametrize("name", CLIPS)
def test_sound_frames_and_times_of_real_clips(
    folders: tuple[Path, Path], shared: Path, tmp_path: Path, name: str, way: str
) -> None:
    source = shared / "clips" / name
    if not source.is_file():
        pytest.skip(f"{source} is not on this machine")
    if way != "plain":
        source = copied(source, tmp_path / name, way)
    made = load(folders[0], control=folders[1], **SAMPLING)
    made._embed.cache = tmp_path / "prompts"  # type: ignore[union-attr]
    report = run_footage(Job(source, tmp_path / "out.mp4"), made, PLAN, prompt=WORDS)
    assert report.error is None and report.footage is not None, report.error
    wanted = times(source)
    assert report.footage.frames == len(wanted) and times(tmp_path / "out.mp4") == wanted
    gaps = {later - one for one, later in zip(wanted, wanted[1:], strict=False)}
    assert max(gaps) > 1.9 * min(gaps) if way == "uneven" else len(wanted) >= SHORT
    before, after = probe_video(source), probe_video(tmp_path / "out.mp4")
    assert after.rotation == 0 and min(after.width, after.height) == 32
    assert (after.width > after.height) == (before.width > before.height) == (way != "rotated")
    assert before.has_audio == after.has_audio == (name == "bigbuckbunny.mp4")
    if before.has_audio:
        assert packets(source) == packets(tmp_path / "out.mp4")


def run_and_tell(base: Path, control: Path, cache: Path, source: Path, target: Path) -> None:
    """What a process of its own does: restores, and writes down the most memory that it held."""
    torch.set_num_threads(1)
    settings = {**SAMPLING, "window": 9, "short_side": 64}
    made = load(base, control=control, **settings)
    made._embed.cache = cache  # type: ignore[union-attr]
    report = run_footage(Job(source, target), made, replace(PLAN, tile=0), prompt=WORDS)
    assert report.error is None and report.peak_memory_mb is not None, report.error
    target.with_suffix(".txt").write_text(str(report.peak_memory_mb))


def test_memory_does_not_grow_with_the_length(
    folders: tuple[Path, Path],
    make_clip: Callable[..., Path],
    tmp_path: Path,
    forkserver: ForkServerContext,
) -> None:
    """From 5 to 500 frames. Both have windows of nine frames; held in memory, 500 results of 64 x 85 would take 16 MB
    in 16 bits and 33 in floating point, the frames they are made of 461."""
    peaks: list[float] = []
    for count in (5, LONG):
        source = make_clip(tmp_path / f"{count}.mp4", range(count), (320, 240))
        target = tmp_path / f"{count}-out.mp4"
        arguments = (*folders, tmp_path / "prompts", source, target)
        process = forkserver.Process(target=run_and_tell, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert len(times(target)) == count
        peaks.append(float(target.with_suffix(".txt").read_text()))
    assert 2 * LONG * 3 * 64 * 85 / 1e6 > LEFT_OVER_MB > peaks[1] - peaks[0], peaks
