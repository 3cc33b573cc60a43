"""Hashes that are taken once, kept with the files, and held against them."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from unfade.backbones.manifest import NAME, Manifest, Verdict
from unfade.core import ModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "vae").mkdir(parents=True)
    (tmp_path / "model" / "vae" / "a.safetensors").write_bytes(b"weights" * 1000)
    (tmp_path / "model" / "index.json").write_bytes(b"{}")
    return tmp_path / "model"


def paths(folder: Path) -> list[Path]:
    return [folder / "vae" / "a.safetensors", folder / "index.json"]


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are opened to be read as bytes from now on."""
    opened: list[str] = []
    real = Path.open

    def watched(self: Path, mode: str = "r", *rest: object, **named: object) -> object:
        if mode == "rb":
            opened.append(self.name)
        return real(self, mode, *rest, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", watched)
    return opened


def test_hashes_are_the_files_and_taken_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = reads(monkeypatch)
    first = Manifest(folder).hashes(paths(folder))
    assert first["vae/a.safetensors"] == hashlib.sha256(b"weights" * 1000).hexdigest()
    assert sorted(opened) == ["a.safetensors", "index.json"]
    opened.clear()
    assert Manifest(folder).hashes(paths(folder)) == first
    assert opened == []
    os.utime(folder / "index.json", ns=(1, 1))
    assert Manifest(folder).hashes(paths(folder)) == first
    assert opened == ["index.json"]


def test_a_file_that_changed_is_refused_until_it_is_accepted(folder: Path) -> None:
    before = Manifest(folder).hashes(paths(folder))
    (folder / "vae" / "a.safetensors").write_bytes(b"weighty" * 1000)
    with pytest.raises(ModelError, match=r"a.safetensors is not what it was .* --accept"):
        Manifest(folder).hashes(paths(folder))
    states = {verdict.name: verdict.state for verdict in Manifest(folder).verify(paths(folder))}
    assert states == {"vae/a.safetensors": "differs", "index.json": "same"}
    Manifest(folder).verify(paths(folder), accept=True)
    assert Manifest(folder).hashes(paths(folder)) != before


def test_verify_finds_what_size_and_time_hide(folder: Path) -> None:
    path = folder / "vae" / "a.safetensors"
    Manifest(folder).hashes(paths(folder))
    told, data = path.stat(), bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))
    Manifest(folder).hashes(paths(folder))
    heard: list[Verdict] = []
    verdicts = Manifest(folder).verify(paths(folder), told=heard.append)
    assert heard == verdicts
    assert [verdict.name for verdict in verdicts if verdict.state == "differs"] == ["vae/a.safetensors"]


def test_a_manifest_goes_with_its_folder(folder: Path, tmp_path: Path) -> None:
    Manifest(folder).hashes(paths(folder))
    copy = Path(shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile))
    assert {verdict.state for verdict in Manifest(copy).verify(paths(copy))} == {"same"}
    (copy / "index.json").write_bytes(b"[]")
    with pytest.raises(ModelError, match=r"index\.json is not what it was"):
        Manifest(copy).hashes(paths(copy))


def test_never_used_is_new_and_a_broken_manifest_is_none(folder: Path) -> None:
    (folder / NAME).write_text("{")
    assert {verdict.state for verdict in Manifest(folder).verify(paths(folder))} == {"new"}
    assert set(json.loads((folder / NAME).read_text())["files"]) == {"vae/a.safetensors", "index.json"}


def test_a_folder_that_can_not_be_written_has_its_manifest_in_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    Manifest(folder).hashes(paths(folder))
    assert not (folder / NAME).exists()
    opened = reads(monkeypatch)
    Manifest(folder).hashes(paths(folder))
    assert opened == []


def test_files_of_a_hub_cache_are_held_against_the_hubs_own_hashes(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    large, small = b"large", b"small"
    names = {
        "large.safetensors": (hashlib.sha256(large).hexdigest(), large),
        "small.json": (hashlib.sha1(b"blob 5\0" + small).hexdigest(), small),
    }
    for name, (blob, data) in names.items():
        (blobs / blob).write_bytes(data)
        (snapshot / name).symlink_to(blobs / blob)
    links = [snapshot / name for name in names]
    assert {verdict.state for verdict in Manifest(snapshot).verify(links)} == {"as published"}
    (snapshot / NAME).unlink()
    for blob, data in names.values():
        (blobs / blob).write_bytes(data[::-1])
    assert {verdict.state for verdict in Manifest(snapshot).verify(links)} == {"differs"}


def test_a_file_that_can_not_be_read_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def broken(self: Path, *rest: object, **named: object) -> object:
        if self.suffix == ".safetensors":
            raise OSError(5, "Input/output error")
        return real(self, *rest, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(ModelError, match="can't be read; get this file again"):
        Manifest(folder).hashes(paths(folder))
