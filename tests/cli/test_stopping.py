"""Being stopped and running out of room, in processes of their own."""

import ctypes
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.util import Finalize

import pytest
from tests.forked import Command


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_half_way(number, code, start, make_photo, tmp_path, contents):
    make_photo(tmp_path / "in/a.png")
    make_photo(tmp_path / "in/b.png", 480, 640)
    arguments = ["--steps", "200", "--film", "--sheet", "--frames", "2", "--format", "json"]
    with start(tmp_path / "in", *arguments) as process:
        # The first photo is done, the second one is under way.
        assert '"status": "done"' in process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert out == ""
    assert err.count("\n") == 1 and "nothing is half-written" in err
    assert contents(tmp_path / "in_unfaded") == ["a.mp4", "a.png", "a_sheet.png"]


def test_a_stop_while_libvips_works_is_not_lost(unfade, make_photo, tmp_path):
    """libvips reports to its log after its work; whatever is raised in there is swallowed."""
    photo = make_photo(tmp_path / "a.png")
    stopped = []

    class Stopping(logging.Handler):
        def emit(self, record):
            if not stopped:
                stopped.append(record)
                signal.raise_signal(signal.SIGTERM)

    log, handler = logging.getLogger("pyvips"), Stopping()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        ended = unfade("degrade", photo, "--as", "haze", "--frames", "1000", "-o", tmp_path / "out")
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert stopped and ended.code == 143
    assert "nothing is half-written" in ended.err
    assert not (tmp_path / "out").exists()


def can_mount(folder):
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("unshare"):
        return False
    tried = ["unshare", "-m", "mount", "-t", "tmpfs", "none", str(folder)]
    return subprocess.run(tried, capture_output=True).returncode == 0


def on_a_small_disk(folder, kilobytes):
    """A file system that this process alone sees, and what is left on it in the end."""
    library = ctypes.CDLL(None, use_errno=True)
    private_mounts, recursive = 1 << 18, 1 << 14
    new_namespace = 1 << 17
    assert library.unshare(new_namespace) == 0, os.strerror(ctypes.get_errno())
    assert library.mount(b"none", b"/", None, private_mounts | recursive, None) == 0
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder], check=True, capture_output=True
    )
    Finalize(None, lambda: os.write(1, " ".join(os.listdir(folder)).encode()), exitpriority=1)


@pytest.mark.parametrize("kilobytes", [16, 300])
def test_a_full_disk_leaves_nothing_behind(kilobytes, start, examples, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("a full disk takes a small file system of its own, which needs root on Linux")
    # At 300 KB the film fits and the image does not: the film has to go again.
    arguments = [
        examples / "coffee.png",
        "-o",
        disk / "out.png",
        "--bit-depth",
        "16",
        "--film",
        "--frames",
        "2",
    ]
    with start(*arguments, first=partial(on_a_small_disk, disk, kilobytes)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert out == ""
    assert "the disk is full" in err and err.count("\n") == 1


def test_a_training_of_several_processes_ends_when_it_is_told_to(examples, tmp_path):
    words = ["train", "tiny", "--recipe", "smoke", "--steps", "100000", "--workers", "2"]
    with Command(*words, "--photos", examples, "--runs", tmp_path / "run") as process:
        end = time.monotonic() + 60
        while not (tmp_path / "run/checkpoint.pt").exists() and time.monotonic() < end:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "nothing is half-written" in err and "Traceback" not in err
