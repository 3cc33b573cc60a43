"""`unfade distill`: from folders of footage to clips with captions, stopped, gone on with, and in shards."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_footage import film

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_1_5, SMALL_T2V
from unfade.backbones.cogvideox_folder import save_cogvideox
from unfade.backbones.few_words import save_few_words_encoder
from unfade.cli import distill
from unfade.training.clip_captions import read_captions
from unfade.training.clip_manifest import read_manifest
from unfade.training.footage_clips import FootageClips
from unfade.training.mixed_clips import MixedClips


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("base", SMALL_T2V), ("photo", SMALL_1_5)):
        torch.manual_seed(0)
        save_cogvideox(build_cogvideox(config), folder / name)
    save_few_words_encoder(folder / "base", ["a bright scene with muted colours camera panning"], 24)
    return folder


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    for name in ("a", "b", "c"):
        film(folder / f"{name}.mp4", (48,))
    return folder


@pytest.fixture
def words(
    models: Path, footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[object, ...]]:
    """What is typed, for an output folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda output, *more: (
        "distill", "concepts", "--videos", footage, "--model", models / "base", "-o", output, "--steps", 4,
        "--guidance", 2, "--frames", 9, "--size", 48, "--device", "cpu", "--dtype", "fp32", *more,
    )  # fmt: skip


def test_the_command_makes_clips_stops_and_goes_on(
    words: Callable[..., tuple[object, ...]],
    tmp_path: Path,
    unfade: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = tmp_path / "made"
    said = distill._say

    def interrupted(line: str) -> None:
        said(line)
        if line.startswith("clip 1 of 3"):
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(distill, "_say", interrupted)
        ended = unfade(*words(made))
    assert ended.code == 130 and ended.err.count("\n") == 1 and "what was finished is kept" in ended.err
    assert "looked through 3 of 3 videos: c.mp4\n3 clips in 3 of 3 videos\n" in ended.out
    assert len(list((made / "clips").iterdir())) == 1
    ended = unfade(*words(made))
    assert (ended.code, ended.err) == (0, "")
    assert "1 of 3 clips are there already" in ended.out and "clip 3 of 3" in ended.out
    assert "clip 1 of 3" not in ended.out and ended.out.endswith(f"{made}: 3 clips\n")
    captions = read_captions(made / "captions.jsonl")
    clips = FootageClips.of(made / "manifest.jsonl", 9, captions)
    assert len(clips) == 3 and all("scene" in clips.prompt(index) for index in range(3))
    real = FootageClips.of(made / "footage.jsonl", 9, read_captions(made / "footage-captions.jsonl"))
    assert sorted(map(real.prompt, range(3))) == sorted(map(clips.prompt, range(3)))
    assert len(MixedClips(real, clips, 1.0)) == 6
    ended = unfade(*words(made, "--strength", 0.75))
    assert ended.code == 2 and "made with strength 0.5, not 0.75" in ended.err


def test_shards_of_a_manifest_are_merged(
    words: Callable[..., tuple[object, ...]], tmp_path: Path, unfade: Callable[..., Any]
) -> None:
    made = tmp_path / "made"
    for index in range(2):
        ended = unfade(*words(made, "--count", 3, "--shard", f"{index}/2"))
        assert ended.code == 0, ended.err
        assert f"unfade distill merge -o {made} --shards 2" in ended.out
    ended = unfade("distill", "merge", "-o", made, "--shards", 2)
    assert (ended.code, ended.out) == (0, f"{made / 'manifest.jsonl'}: 3 clips, 0.00 hours\n")
    rows = read_manifest(made / "manifest.jsonl")[1]
    assert {row.path for row in rows} == set((made / "clips").iterdir())
    assert len(read_captions(made / "captions.jsonl")) == 3
    # Of the manifest that was curated on the way, with captions that are there already.
    again = tmp_path / "again"
    known = made / "footage-captions.0000-of-0002.jsonl"
    given = [word for word in words(again, "--captions", known, "--shard", "0/2")]
    given[given.index("--videos") + 1] = made / "footage.jsonl"
    ended = unfade(*given)
    assert ended.code == 0 and "caption" not in ended.out.replace(str(again), "")
    some = list((again / "clips").iterdir())
    assert len(some) == 2
    assert all(path.read_bytes() == (made / "clips" / path.name).read_bytes() for path in some)


def test_what_does_not_make_sense_is_told(
    words: Callable[..., tuple[object, ...]], models: Path, tmp_path: Path, unfade: Callable[..., Any]
) -> None:
    made = tmp_path / "made"
    for more, code, said in (
        (("--frames", 10), 2, "frames must be 8k + 1, not 10"),
        (("--size", "50"), 2, "multiples of 16"),
        (("--size", "48x"), 2, "neither a side such as 1024"),
        (("--size", "x48"), 2, "neither a side such as 1024"),
        (("--shard", "8/8"), 2, "no share 8 of 8"),
        (("--shard", "eight"), 2, "is not a shard such as 0/8"),
        (("--strength", 0), 2, "above 0 and up to 1"),
        (("--strength", 0.1), 2, "take more steps"),
        (("--count", 4), 2, "there are 3 clips that can be taken, not 4"),
        (("--size", "64x64"), 2, "curated with least side 48, not 64"),
        (("--model", models / "photo"), 6, "image-to-video"),
        (("--videos", tmp_path / "none"), 3, "is not a folder of videos"),
    ):
        ended = unfade(*words(made, *more))
        assert ended.code == code and said in " ".join(ended.err.split()), (more, ended.err)
    assert not (made / "clips").exists()
    ended = unfade("distill", "merge", "-o", made, "--shards", 2)
    assert ended.code == 3 and "does not say how clips were made" in ended.err
