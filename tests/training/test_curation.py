"""Footage becomes clips and reasons: shots between cuts, kills without loss, files that are no footage."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from tests.training.small_footage import film, number_of, sound_only
from torch import Tensor

from unfade.core import InputError, OutputError, UsageError
from unfade.media.video import read_video
from unfade.training.clip_manifest import CuratedVideo, merge_shards, read_manifest, shard_path
from unfade.training.curation import CurationRules, Judge, curate, curate_video, find_footage

_RULES = CurationRules(least_side=48, least_seconds=0.5, most_seconds=4)


def _places(video: CuratedVideo) -> list[tuple[int, int]]:
    return [(clip.first, clip.count) for clip in video.clips]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three films: two shots, one shot, none that is long enough."""
    folder = tmp_path / "footage"
    (folder / "more").mkdir(parents=True)
    film(folder / "a.mp4", (20, 25))
    film(folder / "more" / "b.mkv", (30,))
    film(folder / "more" / "c.MOV", (8, 9))
    return folder


def test_the_published_rules_are_the_defaults() -> None:
    rules = CurationRules()
    assert (rules.least_side, rules.least_fps, rules.least_seconds) == (1024, 24, 2)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_shots_begin_at_the_frame_after_a_cut(tmp_path: Path, suffix: str) -> None:
    path = film(tmp_path / f"v{suffix}", (20, 37, 5, 30), options={"bf": "3"})
    video = curate_video(path, _RULES)
    assert video.reason is None and _places(video) == [(0, 20), (20, 37), (62, 30)]
    assert video.shots_left == {"short": 1} and video.probed is not None
    assert (video.probed.width, video.probed.height, video.probed.frames) == (64, 48, 92)
    assert (video.probed.fps, video.probed.codec) == ("24/1", "h264")
    times = [frame.pts for frame in read_video(path)]
    for clip in video.clips:
        assert clip.begin == pytest.approx(clip.first / 24, abs=2e-3)
        assert clip.seconds == pytest.approx(clip.count / 24, abs=2e-3)
        assert clip.marks == tuple(times[clip.first : clip.first + clip.count : 16]) and clip.quality is None
        for frame in range(clip.first, clip.first + clip.count):
            mark = clip.mark(frame)
            assert 0 <= frame - mark.index < 16 and mark.pts == times[mark.index]


def test_long_shots_become_clips_of_one_length(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", (70, 24))
    video = curate_video(path, replace(_RULES, most_seconds=1))
    assert _places(video) == [(0, 23), (23, 23), (46, 24), (70, 24)]
    with pytest.raises(UsageError, match="twice the least"):
        replace(_RULES, least_seconds=3)
    with pytest.raises(UsageError, match="at least one look"):
        replace(_RULES, looks=0)


def test_uneven_times_count_as_they_are(tmp_path: Path) -> None:
    """The second shot is shown at half the rate, so it is too slow; the first lasts as long as its times say."""
    times = [*range(30), *range(30, 110, 2)]
    path = film(tmp_path / "v.mp4", (30, 40), Fraction(48), times)
    video = curate_video(path, replace(_RULES, least_fps=30))
    assert _places(video) == [(0, 30)] and video.shots_left == {"slow": 1}
    assert video.clips[0].seconds == pytest.approx(30 / 48) and video.clips[0].marks[1] > 16
    both = curate_video(path, _RULES)
    assert _places(both) == [(0, 30), (30, 40)] and both.clips[1].seconds == pytest.approx(80 / 48, abs=0.03)


@pytest.mark.parametrize("fps", [Fraction(24), Fraction(24000, 1001)])
def test_film_is_told_from_its_slower_twin(tmp_path: Path, fps: Fraction) -> None:
    """Matroska's milliseconds don't make 24 frames a second fewer."""
    video = curate_video(film(tmp_path / "v.mkv", (48,), fps), replace(_RULES, least_seconds=2))
    assert video.reason == (None if fps == 24 else "slow")
    if fps != 24:
        assert video.told is not None and "23.976 frames a second, fewer than 24" in video.told
        assert curate_video(tmp_path / "v.mkv", replace(_RULES, least_fps=23.97)).reason is None


def test_a_turned_film_is_measured_as_shown(tmp_path: Path) -> None:
    video = curate_video(film(tmp_path / "v.mp4", (20,), rotation=90), _RULES)
    assert video.probed is not None and (video.probed.width, video.probed.height) == (48, 64)
    assert _places(video) == [(0, 20)]


def test_what_can_not_be_learnt_from_has_a_reason(tmp_path: Path) -> None:
    good = film(tmp_path / "good.mkv", (40,), options={"g": "5"})
    data = good.read_bytes()
    (tmp_path / "cut-short.mkv").write_bytes(data[: len(data) // 2])
    (tmp_path / "garbage.mp4").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "photo.mp4").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (tmp_path / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / ".hidden.mp4").write_bytes(data)
    (tmp_path / "notes.txt").write_text("nothing")
    sound_only(tmp_path / "sound.mp4")
    film(tmp_path / "slow.mp4", (20,), Fraction(12))
    film(tmp_path / "short.mp4", (9,))
    film(tmp_path / "shots.mp4", (9, 10))
    film(tmp_path / "woven.mpg", (40,), Fraction(25), codec="mpeg2video", options={"flags": "+ildct+ilme"})
    film(tmp_path / "hdr.mp4", (20,), options={"x264-params": "transfer=smpte2084"})
    totals = curate([tmp_path], tmp_path / "m.jsonl", _RULES)
    _, rows = read_manifest(tmp_path / "m.jsonl")
    assert {row.path.name: row.reason for row in rows} == {
        "good.mkv": None,
        "cut-short.mkv": "damaged",
        "garbage.mp4": "not footage",
        "empty.mp4": "not footage",
        "photo.mp4": "not footage",
        "gone.mp4": "not footage",
        "sound.mp4": "no pictures",
        "slow.mp4": "slow",
        "short.mp4": "short",
        "shots.mp4": "no clip",
        "woven.mpg": "no clip",
        "hdr.mp4": "high dynamic range",
    }
    for row in rows:
        assert row.reason is None or (row.told and str(row.path) in row.told and "\n" not in row.told)
        assert (row.probed is None) == (row.reason in ("not footage", "no pictures"))
    assert (totals.videos, totals.kept, totals.clips) == (12, 1, 1)
    assert totals.hours == pytest.approx(40 / 24 / 3600, rel=1e-3)
    assert totals.reasons["not footage"] == 4 and sum(totals.reasons.values()) == 11
    assert totals.shots_left == {"short": 2, "interlaced": 1}
    large = curate_video(good, CurationRules())
    assert large.reason == "small" and large.told and "64 x 48, under 1024 on a side" in large.told


def test_flipped_bits_never_end_a_curation(tmp_path: Path) -> None:
    data = bytearray(film(tmp_path / "v.mkv", (40,), options={"g": "5"}).read_bytes())
    dice = torch.Generator().manual_seed(0)
    reasons: set[str | None] = set()
    for _ in range(12):
        broken = data.copy()
        for place in torch.randint(len(data), (20,), generator=dice).tolist():
            broken[place] ^= 0x55
        (tmp_path / "w.mkv").write_bytes(broken)
        video = curate_video(tmp_path / "w.mkv", _RULES, Judge("mean", lambda x: float(x.mean())))
        assert (video.reason is None) == bool(video.clips)
        reasons.add(video.reason)
    assert "damaged" in reasons


def test_the_judge_sees_frames_evenly_spaced(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", (40, 30))
    seen: list[list[int]] = []

    def measure(frames: Tensor) -> float:
        assert frames.shape[1:] == (3, 48, 64) and frames.min() >= 0 and frames.max() <= 1
        seen.append([number_of(frame) for frame in frames])
        return float(seen[-1][0])

    rules = replace(_RULES, looks=4)
    kept = curate_video(path, rules, Judge("first", measure))
    assert seen == [[5, 15, 25, 35], [43, 51, 58, 66]]
    assert [clip.quality for clip in kept.clips] == [5, 43]
    rules = replace(rules, least_quality=10)
    high, low = (curate_video(path, rules, Judge("first", measure, better)) for better in (True, False))
    assert (_places(high), high.shots_left) == ([(40, 30)], {"poor": 1})
    assert (_places(low), low.shots_left) == ([(0, 40)], {"poor": 1})
    lost = curate_video(path, rules, Judge("none", lambda frames: None))
    assert lost.reason == "no clip" and lost.shots_left == {"unjudged": 2}
    with pytest.raises(UsageError, match="needs a metric that judges it"):
        curate([tmp_path], tmp_path / "m.jsonl", rules)
    assert not (tmp_path / "m.jsonl").exists()


def test_what_a_kill_left_is_gone_on_with(tmp_path: Path, folder: Path) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    totals = curate([folder], whole, _RULES)
    assert (totals.videos, totals.kept, totals.clips) == (3, 2, 3)
    lines = whole.read_bytes().splitlines(keepends=True)
    heard: list[str] = []
    for left in (lines[0], lines[0] + lines[1][:-1], lines[0] + lines[1] + lines[2][:40], b"".join(lines)):
        part.write_bytes(left)
        heard.clear()
        done = left.count(b"\n") - 1
        assert read_manifest(part)[1] == read_manifest(whole)[1][:done]
        again = curate(
            [folder], part, _RULES, heard=lambda done, of, row: heard.append(f"{done}/{of} {row.path.name}")
        )
        assert again == totals and part.read_bytes() == whole.read_bytes()
        assert heard == ["1/3 a.mp4", "2/3 b.mkv", "3/3 c.MOV"][done:]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["footage", "part.jsonl", "whole.jsonl"]


def test_a_real_kill_loses_one_video_at_most(tmp_path: Path, folder: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    code = """
import sys, time
from pathlib import Path
from unfade.training.curation import CurationRules, Judge, curate
folder, manifest = map(Path, sys.argv[1:])
def measure(frames):
    # The second video takes until the kill.
    time.sleep(600 * (manifest.read_bytes().count(b"\\n") > 1))
    return float(frames.mean())
rules = CurationRules(least_side=48, least_seconds=0.5, most_seconds=4)
curate([folder], manifest, rules, Judge("mean", measure))
"""
    running = subprocess.Popen([sys.executable, "-c", code, str(folder), str(manifest)])
    try:
        until = time.monotonic() + 240
        while not manifest.exists() or manifest.read_bytes().count(b"\n") < 2:
            assert time.monotonic() < until and running.poll() is None
            time.sleep(0.02)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    judge = Judge("mean", lambda frames: float(frames.mean()))
    assert [row.path.name for row in read_manifest(manifest)[1]] == ["a.mp4"]
    heard: list[str] = []
    curate([folder], manifest, _RULES, judge, heard=lambda done, of, row: heard.append(row.path.name))
    assert heard == ["b.mkv", "c.MOV"]
    curate([folder], tmp_path / "n.jsonl", _RULES, judge)
    assert manifest.read_bytes() == (tmp_path / "n.jsonl").read_bytes()


def test_other_rules_or_another_judge_are_refused(tmp_path: Path, folder: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    curate([folder], manifest, _RULES)
    before = manifest.read_bytes()
    with pytest.raises(
        UsageError, match=r"m\.jsonl was curated with least fps 24\.0, not 25; give that again"
    ):
        curate([folder], manifest, replace(_RULES, least_fps=25))
    judge = Judge("brightness", lambda frames: float(frames.mean()))
    with pytest.raises(UsageError, match="with the judge none, not brightness"):
        curate([folder], manifest, _RULES, judge)
    curate([folder], tmp_path / "n.jsonl", _RULES, judge)
    with pytest.raises(UsageError, match="with the judge brightness, not none"):
        curate([folder], tmp_path / "n.jsonl", _RULES)
    with pytest.raises(UsageError, match="higher_is_better True, not False"):
        curate([folder], tmp_path / "n.jsonl", _RULES, replace(judge, higher_is_better=False))
    assert manifest.read_bytes() == before


def test_changed_and_removed_files_are_curated_anew(tmp_path: Path, folder: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    curate([folder], manifest, _RULES)
    film(folder / "a.mp4", (33,))
    (folder / "more" / "b.mkv").unlink()
    film(folder / "d.mp4", (24,))
    heard: list[str] = []
    curate([folder], manifest, _RULES, heard=lambda done, of, row: heard.append(row.path.name))
    assert heard == ["a.mp4", "d.mp4"]
    rows = {row.path.name: _places(row) for row in read_manifest(manifest)[1]}
    assert rows == {"a.mp4": [(0, 33)], "d.mp4": [(0, 24)], "c.MOV": []}


def test_what_is_no_manifest_is_told(tmp_path: Path, folder: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    for content in ("", "{}\n", '{"kind": "unfade pairs 1"}\n', "words\n"):
        manifest.write_text(content)
        with pytest.raises(InputError, match="not a manifest of curated footage"):
            curate([folder], manifest, _RULES)
        assert manifest.read_text() == content
    with pytest.raises(InputError, match="not a manifest of curated footage"):
        read_manifest(tmp_path / "none.jsonl")
    manifest.unlink()
    curate([folder], manifest, _RULES)
    lines = manifest.read_text().splitlines(keepends=True)
    for broken in ('{"path": "x"}\n', lines[1][:50] + "\n"):
        manifest.write_text("".join([lines[0], broken, *lines[2:]]))
        with pytest.raises(InputError, match=r"line 2 of .*m\.jsonl is damaged"):
            curate([folder], manifest, _RULES)
    with pytest.raises(InputError, match="not a folder of videos"):
        find_footage([folder / "none"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="there is no video below"):
        find_footage([tmp_path / "bare"])
    with pytest.raises(OutputError, match="can't be written"):
        curate([folder], manifest / "m.jsonl", _RULES)


def test_every_line_is_on_the_disk_before_the_next_video(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, synced = tmp_path / "m.jsonl", []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    sizes: list[int] = []
    curate([folder], manifest, _RULES, heard=lambda *_: sizes.append(manifest.stat().st_size))
    assert len(sizes) == 3 and set(sizes) <= set(synced)


def test_shares_come_together(tmp_path: Path, folder: Path) -> None:
    for index in range(6):
        film(folder / f"{index}.mp4", (14 + index,))
    whole, manifest = tmp_path / "whole.jsonl", tmp_path / "m.jsonl"
    totals = curate([folder], whole, _RULES)
    for index in range(3):
        curate([folder], manifest, _RULES, shard=(index, 3))
    shares = [read_manifest(shard_path(manifest, (index, 3)))[1] for index in range(3)]
    assert sum(map(len, shares)) == totals.videos == 9 and sum(map(bool, shares)) > 1
    assert merge_shards(manifest, 3) == totals
    assert read_manifest(manifest) == read_manifest(whole)
    # The merged one can be gone on with by one process, which finds nothing to do.
    before = manifest.read_bytes()
    assert curate([folder], manifest, _RULES) == totals and manifest.read_bytes() == before
    with pytest.raises(UsageError, match="no share 3 of 3"):
        curate([folder], manifest, _RULES, shard=(3, 3))
    with pytest.raises(UsageError, match="no 0 shares"):
        merge_shards(manifest, 0)
    with pytest.raises(InputError, match=r"m\.0000-of-0002\.jsonl is not a manifest"):
        merge_shards(manifest, 2)
    shard_path(manifest, (2, 3)).unlink()
    curate([folder], manifest, replace(_RULES, least_fps=20), shard=(2, 3))
    with pytest.raises(UsageError, match=r"least fps 24\.0, not 20"):
        merge_shards(manifest, 3)
    assert manifest.read_bytes() == before


def test_a_share_of_another_name_is_refused(tmp_path: Path, folder: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    curate([folder], manifest, _RULES, shard=(0, 2))
    shard_path(manifest, (0, 2)).rename(shard_path(manifest, (1, 2)))
    with pytest.raises(UsageError, match="with the shard 0 of 2, not 1 of 2"):
        curate([folder], manifest, _RULES, shard=(1, 2))


def test_a_manifest_is_lines_of_json(tmp_path: Path, folder: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    curate([folder], manifest, _RULES, Judge("mean", lambda frames: float(frames.mean())))
    header, *rows = map(json.loads, manifest.read_text().splitlines())
    assert header["rules"]["least_side"] == 48 and header["judge"] == "mean"
    assert [Path(row["path"]).name for row in rows] == ["a.mp4", "b.mkv", "c.MOV"]
    assert rows[0]["clips"][1]["first"] == 20 and 0 < rows[0]["clips"][1]["quality"] < 1
    assert rows[2]["reason"] == "no clip" and rows[2]["size"] == (folder / "more" / "c.MOV").stat().st_size
