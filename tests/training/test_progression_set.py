"""The built set against the photos it comes from, killed and resumed, read back, and streamed instead."""

import gc
import json
import os
import signal
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unfade.core import Clip, InputError, OutputError, UnfadeError, UsageError, generator
from unfade.degrade.progression import dice_of
from unfade.media.images import write_image
from unfade.media.png import picture_of
from unfade.media.remote import read_bytes
from unfade.prompts.measured import MeasuredCaptioner
from unfade.prompts.progressive import uniform_prompt
from unfade.recipes import progression_set
from unfade.recipes.progression_set import build_set
from unfade.recipes.progression_shard import Photo, SetSettings, Shard, build_shard
from unfade.training.progression import PhotoFiles, ProgressionSequences, ProgressionSet, scene_prompts

SETTINGS = SetSettings(size=(32, 48), frames=3, photos_per_shard=1)


def _photo(path: Path, height: int = 40, width: int = 50) -> Photo:
    pixels: Tensor = torch.rand(1, 3, height // 2, width // 2, generator=generator(0, path.name))
    smooth = torch.nn.functional.interpolate(pixels, (height, width), mode="bilinear")
    write_image(Clip(smooth.mul(255).round().div(255)), path)
    return Photo(path, path.name)


@pytest.fixture
def photos(tmp_path: Path) -> list[Photo]:
    return [_photo(tmp_path / "in" / "a.png"), _photo(tmp_path / "in" / "b.png", 60, 40)]


def _bytes(folder: Path) -> dict[str, bytes]:
    """Of all but the preview, which H.264 doesn't encode alike twice."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".mp4"
    }


def test_a_killed_build_goes_on_to_the_same_bytes(photos, tmp_path: Path, monkeypatch) -> None:
    whole = build_set(photos, tmp_path / "whole", SETTINGS, workers=1)
    assert (whole["clips"], len(whole["shards"]), whole["failed"]) == (12, 6, [])
    real, count = progression_set.build_shard, 0

    def killed(*arguments):
        nonlocal count
        count += 1
        if count > 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(progression_set, "build_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        build_set(photos, tmp_path / "half", SETTINGS, workers=1)
    (tmp_path / "half/shards/.unfade-0123.tar").write_bytes(b"left by a kill")
    os.remove(tmp_path / "half/shards/resolution-00001.json")
    monkeypatch.setattr(progression_set, "build_shard", real)
    heard: list[int] = []
    build_set(photos, tmp_path / "half", SETTINGS, workers=1, told=lambda done, total, _: heard.append(done))
    assert heard[0] == 4 and heard[-1] == 12
    assert _bytes(tmp_path / "half") == _bytes(tmp_path / "whole")
    with pytest.raises(OutputError, match="other photos or settings"):
        build_set(photos, tmp_path / "half", SetSettings(size=(32, 48), frames=3, photos_per_shard=1, seed=1))


def _dying(shard: Shard, *told: Any) -> dict[str, Any]:
    """Builds a shard, or dies as a process does that the system kills for want of memory."""
    if shard.name == "lowlight-00000":
        # Not before the others are there.
        while len(list(told[1].glob("*.json"))) < 4:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    return build_shard(shard, *told)


def test_a_worker_that_dies_is_one_sentence_and_what_was_done_is_kept(
    photos, tmp_path: Path, monkeypatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(progression_set, "build_shard", _dying)
        with pytest.raises(UnfadeError) as told:
            build_set(photos, tmp_path / "out", SETTINGS, workers=2)
    assert type(told.value) is UnfadeError and "\n" not in str(told.value)
    assert str(told.value).startswith(
        "a worker process died, perhaps for want of memory; what was finished is kept"
    )
    assert len(list((tmp_path / "out/shards").glob("*.json"))) >= 4
    heard: list[int] = []
    manifest = build_set(
        photos, tmp_path / "out", SETTINGS, workers=1, told=lambda done, *_: heard.append(done)
    )
    assert heard[0] >= 8 and manifest["clips"] == heard[-1] == 12


def test_what_is_held_does_not_grow_with_the_clips(photos, tmp_path: Path, monkeypatch) -> None:
    """Of a finished shard a few numbers are held, and the preview reads the first shards alone."""
    kept, real = [], progression_set._kept

    def keep(index: dict[str, Any]) -> dict[str, Any]:
        kept.append(real(index))
        return kept[-1]

    monkeypatch.setattr(progression_set, "_kept", keep)
    monkeypatch.setattr(progression_set, "_PREVIEWED", 1)
    read: list[int] = []
    monkeypatch.setattr(
        progression_set,
        "ProgressionSet",
        lambda *told, **named: read.append(len(found := ProgressionSet(*told, **named))) or found,
    )
    build_set(photos, tmp_path / "out", SETTINGS, workers=1)
    assert len(kept) == 6 and all(len(json.dumps(index)) < 200 for index in kept) and read == [6]
    again = ProgressionSet(tmp_path / "out", tasks=("lowlight", "blur"), shards=1)
    assert {(row["task"], row["photo"]) for row in again.rows} == {("blur", "a.png"), ("lowlight", "a.png")}


def test_what_was_built_is_what_is_streamed(photos, tmp_path: Path) -> None:
    build_set(photos, tmp_path / "out", SETTINGS, workers=1)
    built = ProgressionSet(tmp_path / "out", prompts="scene")
    streamed = ProgressionSequences(PhotoFiles([photo.path for photo in photos]), centred=True)
    assert len(built) == len(streamed) == len(set(built.names)) == len(set(streamed.names)) == 12
    for index, row in enumerate(built.rows):
        number = next(
            i for i in range(12)
            if (streamed.task(i), streamed.strength(i), photos[i // 6].name)
            == (row["task"], row["strength"], row["photo"])
        )  # fmt: skip
        dice = dice_of(0, row["photo"], row["task"], row["strength"])
        expected = streamed.draw(number, (32, 48), 3, dice)
        clip = built.stored(index)
        assert torch.equal(clip[[0, -1]], expected[[0, -1]])
        torch.testing.assert_close(clip, expected, atol=0.5 / 255 + 1e-6, rtol=0)
        assert built.prompt(index) == row["prompts"]["scene"] == MeasuredCaptioner()(clip[0], row["task"])
        assert streamed.prompt(number) == row["prompts"]["uniform"] == uniform_prompt(row["task"])
        crop = built.draw(index, 16, 3, generator(1))
        assert crop.shape == (3, 3, 16, 16) and not built.enlarged(index, 32) and built.enlarged(index, 33)
    with pytest.raises(InputError, match="holds 3 frames of 48 x 32, not 9 of"):
        built.draw(0, 16, 9, generator(0))
    chosen = scene_prompts(streamed, (32, 48), MeasuredCaptioner())
    told = ProgressionSequences(streamed.photos, prompts={name: it.text for name, it in chosen.items()})
    assert told.prompt(0) == chosen[told.names[0]].text != uniform_prompt("resolution")
    assert told.identity(0) != told.identity(1)


def test_shards_are_webdatasets_and_any_address_is_read(photos, tmp_path: Path) -> None:
    build_set(photos, tmp_path / "out", SETTINGS, workers=1)
    with tarfile.open(tmp_path / "out/shards/blur-00000.tar") as tar:
        names = tar.getnames()
        row = json.loads(tar.extractfile("a_png-mild.json").read())  # pyright: ignore[reportOptionalMemberAccess]
    assert names[:4] == [f"a_png-mild.{kind}" for kind in ("0000.png", "0001.png", "0002.png", "json")]
    assert row["degradations"][0]["name"] == "directional-blur" and row["strength"] == "mild"
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "out"), "/set", recursive=True)
    here, there = ProgressionSet(tmp_path / "out"), ProgressionSet("memory://set")
    assert torch.equal(here.stored(5), there.stored(5))
    assert here.rows == there.rows
    with pytest.raises(InputError, match="Protocol not known"):
        read_bytes("nonsuch://x")
    with pytest.raises(InputError, match="cut short"):
        read_bytes(tmp_path / "out/manifest.json", 10, 10**9)
    with pytest.raises(InputError, match="damaged"):
        picture_of(b"\x89PNG", "it")


# The package leaves closing files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_webdataset_package_reads_our_shards(photos, tmp_path: Path) -> None:
    """From files, and from any address of fsspec; a sample is a clip, its frames by number."""
    wds = pytest.importorskip("webdataset")
    fsspec = pytest.importorskip("fsspec")
    build_set(photos, tmp_path / "out", SETTINGS, workers=1)
    built = ProgressionSet(tmp_path / "out")
    fsspec.filesystem("memory").put(str(tmp_path / "out"), "/read", recursive=True)
    shards = sorted((tmp_path / "out/shards").glob("*.tar"))
    assert len(shards) == 6
    from_files = list(wds.WebDataset([str(path) for path in shards], shardshuffle=False, empty_check=False))
    streams = (
        {"url": path.name, "stream": fsspec.open(f"memory://read/shards/{path.name}").open()}
        for path in shards
    )
    expanded = wds.tariterators.tar_file_expander(streams)
    from_memory = list(wds.tariterators.group_by_keys(expanded))
    assert len(from_files) == len(from_memory) == len(built) == 12
    for samples in (from_files, from_memory):
        for sample in samples:
            row = json.loads(sample["json"])
            index = built.names.index(f"{row['task']}/{sample['__key__']}")
            kinds = sorted(name for name in sample if name.endswith(".png"))
            assert kinds == ["0000.png", "0001.png", "0002.png"]
            frames = torch.stack([picture_of(sample[kind], kind) for kind in kinds])
            assert torch.equal(frames, built.stored(index))
            assert row["prompts"] == built.rows[index]["prompts"]
    gc.collect()


def test_bad_photos_are_told_and_the_rest_goes_on(photos, tmp_path: Path) -> None:
    small = _photo(tmp_path / "in" / "small.png", 20, 60)
    (tmp_path / "in/none.jpg").write_text("no photo")
    bad = [small, Photo(tmp_path / "in/none.jpg", "none.jpg")]
    heard: list[str] = []
    manifest = build_set(
        [*photos, *bad], tmp_path / "out", SETTINGS, workers=1, told=lambda *row: heard.extend(row[2])
    )
    assert manifest["clips"] == 12 and [row["photo"] for row in manifest["failed"]] == [
        "none.jpg",
        "small.png",
    ]
    assert len(heard) == 2
    assert "none.jpg is not an image of a known format" in heard[0]
    assert "small.png has 60 x 20 pixels, fewer than the 48 x 32 asked for" in heard[1]
    with pytest.raises(UnfadeError, match="none of 2 photos can be used; the first:"):
        build_set(bad, tmp_path / "none", SETTINGS, workers=1)
    with pytest.raises(UsageError, match="share a name"):
        build_set([photos[0], Photo(photos[1].path, "a_png")], tmp_path / "none", SETTINGS, workers=1)
