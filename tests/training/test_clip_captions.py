"""Captions of training clips: made once, whoever stops them, and each captioner's apart."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.training.small_footage import film, number_of
from torch import Tensor

from unfade.core import InputError
from unfade.training.clip_captions import append_caption, caption_clips, looks_at, read_captions
from unfade.training.curation import CurationRules, curate
from unfade.training.footage_clips import FootageClips


class Counting:
    """Says which frames it was shown."""

    query = ""

    def __init__(self, name: str = "counting") -> None:
        self.name = self.identity = name
        self.asked = 0

    def describe(self, frames: Tensor, times: Sequence[float]) -> str:
        self.asked += 1
        return (
            f"{self.name} ñ: {[number_of(frame) for frame in frames]} at {[round(time, 3) for time in times]}"
        )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> FootageClips:
    folder = tmp_path_factory.mktemp("footage")
    film(folder / "a.mp4", (30, 60))
    film(folder / "b.mp4", (55,))
    curate([folder], folder / "m.jsonl", CurationRules(least_side=48, least_seconds=1.0, most_seconds=3.0))
    return FootageClips.of(folder / "m.jsonl", 9)


def test_a_frame_a_second_and_the_last_are_shown(clips: FootageClips) -> None:
    frames, times = looks_at(*clips.parts[1])
    assert [number_of(frame) for frame in frames] == [30, 54, 89]
    assert times == pytest.approx([0, 1, 59 / 24]) and frames.shape == (3, 3, 48, 64)


def test_captions_are_made_once(clips: FootageClips, tmp_path: Path) -> None:
    path, heard = tmp_path / "new" / "captions.jsonl", list[tuple[int, int]]()
    first = Counting()
    made = caption_clips(clips, first, path, lambda number, of: heard.append((number, of)))
    assert first.asked == 3 and heard == [(1, 3), (2, 3), (3, 3)]
    assert set(made) == {clips.caption_key(index) for index in range(3)}
    assert made[clips.caption_key(2)] == "counting ñ: [0, 24, 54] at [0.0, 1.0, 2.25]"
    again = Counting()
    assert caption_clips(clips, again, path) == made and again.asked == 0
    other = Counting("other")
    assert caption_clips(clips, other, path) != made and other.asked == 3
    assert caption_clips(clips, again, path) == made and again.asked == 0
    assert read_captions(path, "counting") == made and len(read_captions(path)) == 3


def test_a_kill_takes_one_caption_at_most(clips: FootageClips, tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    made = caption_clips(clips, Counting(), path)
    whole = path.read_bytes()
    # The second one is in the middle of a letter.
    last = whole.rstrip().rpartition(b"\n")[2]
    for cut in (1, len(last) - last.index("ñ".encode())):
        path.write_bytes(whole[:-cut])
        again = Counting()
        assert caption_clips(clips, again, path) == made and again.asked == 1
        assert path.read_bytes() == whole


def test_what_can_not_be_read_is_told(clips: FootageClips, tmp_path: Path) -> None:
    video, clip = clips.parts[0]
    lost = FootageClips(((replace(video, path=tmp_path / "gone.mp4"), clip), clips.parts[2]))
    told = list[str]()
    made = caption_clips(lost, Counting(), tmp_path / "captions.jsonl", unread=told.append)
    assert list(made) == [lost.caption_key(1)] and len(told) == 1 and "can't be found" in told[0]
    with pytest.raises(InputError, match="can't be found"):
        caption_clips(lost, Counting(), tmp_path / "captions.jsonl")


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    append_caption(path, "k", "a scene", "x")
    append_caption(path, "k", "a street at night, señor", "x")
    assert read_captions(path) == {"k": "a street at night, señor"}
    path.write_text(path.read_text(encoding="utf-8") + "no\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 3 of .* is no caption"):
        read_captions(path)
    assert read_captions(tmp_path / "none.jsonl") == {}
