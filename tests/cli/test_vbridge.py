"""`unfade restore` with a video model: the same files, reports and refusals as with tiny."""

import json
import re
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from unfade.media.images import probe_image, read_image
from unfade.media.notes import read_notes

FAST = ("--steps", 1, "--guidance", 1, "--clip-frames", 5, "--device", "cpu", "--dtype", "fp32")


@pytest.fixture
def vbridge(
    unfade: Callable[..., Any], wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Runs `unfade restore` with the small model."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda *arguments: unfade("restore", "-n", wan_folder, *FAST, *arguments)


def test_a_photo_with_everything(vbridge: Any, make_photo: Any, tmp_path: Path) -> None:
    source = make_photo(tmp_path / "a.png", 40, 70)
    ended = vbridge(
        source,
        "--film",
        "--sheet",
        "--save-frames",
        "--frames",
        7,
        "--samples",
        2,
        "--confidence",
        "--format",
        "json",
    )
    assert ended.code == 0, ended.err
    row = json.loads(ended.out)
    assert row["status"] == "done"
    assert row["settings"]["steps"] == 1 and row["settings"]["samples"] == 2
    assert row["settings"]["frames"] == 7 and row["settings"]["clip_frames"] == 5
    assert row["settings"]["tile"] == 0 and row["settings"]["dtype"] == "float32"
    result = read_image(tmp_path / "a_unfaded.png")
    assert (result.height, result.width) == (40, 70)
    assert len(list((tmp_path / "a_unfaded_frames").iterdir())) == 7
    assert (tmp_path / "a_unfaded.mp4").stat().st_size > 0 and (tmp_path / "a_unfaded_sheet.png").exists()
    # The film begins with the input, so its first frame is the photo itself.
    first = read_image(tmp_path / "a_unfaded_frames" / "0000.png").frames
    assert float((first - read_image(source).frames).abs().max()) < 1 / 250
    sure = probe_image(tmp_path / "a_unfaded_confidence.png")
    assert (sure.height, sure.width, sure.bit_depth, sure.colour) == (40, 70, 16, "grey")
    assert row["outputs"]["confidence"] == str(tmp_path / "a_unfaded_confidence.png")
    notes = read_notes(tmp_path / "a_unfaded.png")
    assert (notes["model"], notes["steps"], notes["samples"]) == ("small", "1", "2")
    assert notes["method"].startswith("V-Bridge") and len(notes["weights"]) == 64
    assert (notes["licence"], notes["guidance_begin"]) == ("unknown", "0")


def test_a_folder_goes_on_after_a_broken_photo(vbridge: Any, make_photo: Any, tmp_path: Path) -> None:
    for name in ("a.png", "c.jpg"):
        make_photo(tmp_path / "in" / name, 32, 40)
    (tmp_path / "in" / "b.png").write_bytes(b"")
    ended = vbridge(tmp_path / "in", "-o", tmp_path / "out")
    assert ended.code == 5
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "c.jpg"]
    assert "1 failed" in ended.err and "b.png is empty" in ended.err


def test_a_photo_comes_out_the_same_alone_and_in_a_folder(
    vbridge: Any, make_photo: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    for name in ("a.png", "b.png"):
        make_photo(folder / name, 32, 40)
    alone = Path(shutil.copy(folder / "b.png", tmp_path / "elsewhere.png"))
    assert vbridge(folder, "-o", tmp_path / "out", "--seed", 3).code == 0
    assert vbridge(alone, "-o", tmp_path / "alone.png", "--seed", 3).code == 0
    assert vbridge(alone, "-o", tmp_path / "other.png", "--seed", 4).code == 0
    first, other = (read_image(tmp_path / name).frames for name in ("alone.png", "other.png"))
    assert torch.equal(read_image(tmp_path / "out" / "b.png").frames, first)
    assert not torch.equal(first, other)


def test_a_png_may_hold_jpeg_data(vbridge: Any, make_photo: Any, tmp_path: Path) -> None:
    """As some of FoundIR's do."""
    plain = make_photo(tmp_path / "photo.jpg", 32, 40)
    shutil.copy(plain, tmp_path / "named.png")
    assert vbridge(plain, "-o", tmp_path / "one.png").code == 0
    ended = vbridge(tmp_path / "named.png", "-o", tmp_path / "two.png")
    assert ended.code == 0, ended.err
    assert torch.equal(*(read_image(tmp_path / name).frames for name in ("one.png", "two.png")))
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


def test_a_clip_keeps_its_frames_and_gets_its_notes(vbridge: Any, tmp_path: Path) -> None:
    source = tmp_path / "clip.mp4"
    with av.open(str(source), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt, video.time_base = 48, 32, "yuv420p", Fraction(1, 10)
        for index in range(3):
            picture = np.full((32, 48, 3), 60 + 40 * index, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(video.encode(None))
    ended = vbridge(source, "--format", "json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["footage"]["frames"] == 3
    with av.open(str(tmp_path / "clip_unfaded.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3
    refused = vbridge(source, "--confidence", "--overwrite")
    assert refused.code == 2 and "--confidence is of photos" in refused.err


def test_a_dry_run_says_what_it_would_take(vbridge: Any, make_photo: Any, tmp_path: Path) -> None:
    source = make_photo(tmp_path / "a.png", 40, 70)
    ended = vbridge(source, "--dry-run", "--steps", 7, "--guidance", 5)
    assert ended.code == 0, ended.err
    assert "70 x 40, 1 tile(s), 14 evaluations" in ended.out
    assert re.search(r"  about \d+\.\d s  70 x 40", ended.out)
    assert re.search(r" PFLOP, at most 0\.\d+ GB \(resident\)$", ended.out.strip())
    assert not (tmp_path / "a_unfaded.png").exists()
    late = vbridge(source, "--dry-run", "--steps", 7, "--guidance", 5, "--guidance-begin", 0.2)
    assert "1 tile(s), 12 evaluations" in late.out
    refused = vbridge(source, "--dry-run", "--confidence")
    assert refused.code == 2 and "add --samples 4" in refused.err
    assert vbridge(source, "--dry-run", "--confidence", "--samples", 2).code == 0
    refused = vbridge(source, "--dry-run", "--clip-frames", 6)
    assert refused.code == 2 and "frames must be 4k + 1, not 6" in refused.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--confidence",), 2, "add --samples 4"),
        (("--guidance", "0.2"), 2, "guidance must be at least 1"),
        (("--guidance", "nan"), 2, "guidance must be at least 1 (none) and finite"),
        (("--guidance", "inf"), 2, "guidance must be at least 1 (none) and finite"),
        (("--guidance-end", "2"), 2, "share of the steps"),
        (("--guidance-begin", "0.9", "--guidance-end", "0.5"), 2, "0 to where it ends (0.5), not 0.9"),
        (("--adapter", "nowhere.safetensors"), 6, "no adapter at nowhere.safetensors"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    vbridge: Any, make_photo: Any, tmp_path: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ended = vbridge(make_photo(tmp_path / "a.png"), *arguments)
    assert ended.code == code and said in ended.err and len(ended.err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.glob("a_*")) == []


def test_tiny_refuses_what_is_of_video_models(unfade: Any, make_photo: Any, tmp_path: Path) -> None:
    source = make_photo(tmp_path / "a.png")
    for option in (("--guidance", 3), ("--preset", "paper"), ("--large", "tile"), ("--drift", "gated")):
        ended = unfade("restore", source, *option)
        assert ended.code == 2 and "has no use for" in ended.err
    assert unfade("restore", source, "--confidence").code == 0
    assert probe_image(tmp_path / "a_unfaded_confidence.png").bit_depth == 16
