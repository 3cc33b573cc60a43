"""Outputs exist whole or not at all, and every failure is one clear sentence."""

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from unfade.core import Clip, OutputError
from unfade.media.atomic import atomic_output


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_success_moves_the_temporary_into_place(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "photo.png"
    with atomic_output(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".png"
        assert temporary.name.startswith(".") and not target.exists()
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new" and _names(target.parent) == ["photo.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit, GeneratorExit])
def test_failure_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "photo.png"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic_output(target) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old" and _names(tmp_path) == ["photo.png"]


def test_permissions_follow_the_umask_or_the_replaced_file(tmp_path: Path) -> None:
    target, old = tmp_path / "new.txt", os.umask(0o027)
    try:
        with atomic_output(target) as temporary:
            temporary.write_text("x")
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        target.chmod(0o604)
        with atomic_output(target) as temporary:
            temporary.write_text("y")
        assert stat.S_IMODE(target.stat().st_mode) == 0o604
    finally:
        os.umask(old)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with atomic_output(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "new"


def test_existing_file_is_kept_when_not_to_be_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "photo.png"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"), atomic_output(target, overwrite=False):
        raise AssertionError("the block must not run")
    target.unlink()
    with pytest.raises(OutputError, match="exists already"):
        with atomic_output(target, overwrite=False) as temporary:
            temporary.write_bytes(b"mine")
            target.write_bytes(b"somebody else's")
    assert target.read_bytes() == b"somebody else's" and _names(tmp_path) == ["photo.png"]
    target.unlink()
    with atomic_output(target, overwrite=False) as temporary:
        temporary.write_bytes(b"mine")
    assert target.read_bytes() == b"mine" and _names(tmp_path) == ["photo.png"]


def test_impossible_places_are_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    places = {
        tmp_path / "file" / "photo.png": "not a folder",
        tmp_path: "is a folder",
        Path("/dev/null"): "a device or a pipe",
        tmp_path / ("n" * 300 + ".png"): "too long",
        tmp_path / "nul\0.png": "not a possible file name",
        Path("/proc/unfade/photo.png"): "can't be written",
        Path("/proc/photo.png"): "can't be written",
    }
    for place, words in places.items():
        with pytest.raises(OutputError, match=words) as caught, atomic_output(place):
            raise AssertionError("the block must not run")
        assert str(place) in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_whoever_writes(
    tiny_disk: Path, tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    from unfade.media.film import write_film
    from unfade.media.images import write_image
    from unfade.media.video_writer import copy_footage

    noise = torch.rand(1, 3, 400, 400, generator=torch.Generator().manual_seed(0))
    with pytest.raises(OutputError, match="disk is full"):
        with atomic_output(tiny_disk / "x.bin") as temporary:
            temporary.write_bytes(bytes(1 << 20))
    for name in ("x.png", "x.jpg", "x.tif", "x.webp", "x.ppm"):
        with pytest.raises(OutputError, match="disk is full"):
            write_image(Clip(noise), tiny_disk / name)
    with pytest.raises(OutputError, match="disk is full"):
        write_film(noise.expand(6, -1, -1, -1), tiny_disk / "x.mp4")
    source = make_video(tmp_path / "v.mp4", range(6), size=(400, 400))
    with pytest.raises(OutputError, match="disk is full"):
        copy_footage(source, tiny_disk / "x.mp4", lambda image: (image + noise[0]) / 2, crf=0)
    assert _names(tiny_disk) == []
