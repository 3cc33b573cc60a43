"""`unfade restore` on good and bad files."""

import json
import os
import struct
import sys
import zlib
from contextlib import suppress

import pytest
import torch

from unfade.core import Clip
from unfade.media.images import probe_image, read_image, write_image
from unfade.media.notes import read_notes

KEYS = [
    "input",
    "output",
    "status",
    "seconds",
    "megapixels",
    "peak_memory_mb",
    "settings",
    "outputs",
    "error",
]
SETTINGS = [
    "model",
    "prompt",
    "steps",
    "frames",
    "scale",
    "seed",
    "device",
    "dtype",
    "tile",
    "neighbours",
    "bit_depth",
    "quality",
    "strip_metadata",
    "output_format",
]


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def huge_png(side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return (
        signature + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def bad_file(kind, folder, examples):
    """A file (or folder) that can't be restored."""
    rocket = (examples / "rocket.jpg").read_bytes()
    match kind:
        case "missing":
            return folder / "missing.png"
        case "empty":
            (folder / "bad.png").write_bytes(b"")
        case "truncated jpeg":
            (folder / "bad.jpg").write_bytes(rocket[: len(rocket) // 2])
            return folder / "bad.jpg"
        case "truncated png":
            whole = (examples / "chelsea.png").read_bytes()
            (folder / "bad.png").write_bytes(whole[: len(whole) // 2])
        case "text":
            (folder / "bad.png").write_text("not a photo at all")
        case "bomb":
            (folder / "bad.png").write_bytes(huge_png(60_000))
        case "footage":
            (folder / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 64)
            return folder / "bad.mp4"
        case "no images":
            (folder / "bad").mkdir()
            (folder / "bad/notes.txt").write_text("nothing here")
            return folder / "bad"
    return folder / "bad.png"


BAD = {
    "missing": "does not exist",
    "empty": "is empty",
    "truncated jpeg": "damaged or cut short",
    "truncated png": "damaged or cut short",
    "text": "is not an image of a known format",
    "bomb": "60000 x 60000 is 3600 megapixels, the limit is 200",
    "footage": "is not a video of a known format, or is damaged",
    "no images": "holds no images",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_input_is_one_sentence_code_3_and_nothing_written(kind, restore, examples, tmp_path, contents):
    bad = bad_file(kind, tmp_path, examples)
    before = contents(tmp_path)
    ended = restore(bad, "--film", "--sheet", "--save-frames", "--frames", "2")
    assert ended.code == 3
    assert ended.out == ""
    assert ended.err.startswith(f"error: {bad} ") and ended.err.count("\n") == 1
    assert BAD[kind] in ended.err
    assert contents(tmp_path) == before


def test_a_wrong_extension_works(restore, make_photo, tmp_path):
    make_photo(tmp_path / "really.png").rename(tmp_path / "photo.jpg")
    assert restore(tmp_path / "photo.jpg").code == 0
    assert probe_image(tmp_path / "photo_unfaded.jpg").format == "jpeg"
    make_photo(tmp_path / "really.png").rename(tmp_path / "scan")
    assert restore(tmp_path / "scan").code == 0
    assert probe_image(tmp_path / "scan_unfaded.png").format == "png"


def test_an_unwritable_output_is_code_4_before_any_work(restore, make_photo, tmp_path, contents):
    photo = make_photo(tmp_path / "a.png")
    (tmp_path / "file").write_text("in the way")
    ended = restore(photo, "-o", tmp_path / "file" / "deeper" / "a.png")
    assert ended.code == 4
    assert "is a file, not a folder" in ended.err and ended.err.count("\n") == 1
    assert contents(tmp_path) == ["a.png", "file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-t", "12"],
        ["-t", "big"],
        ["--overwrite", "--skip-existing"],
        ["--output-format", "bmp"],
        ["--bit-depth", "16", "--output-format", "jpeg"],
        ["-o", "out.heic"],
        ["-o", "out.bmp"],
    ],
)
def test_settings_that_make_no_sense_are_code_2(
    arguments, restore, make_photo, tmp_path, contents, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    make_photo(tmp_path / "a.png")
    assert restore("a.png", *arguments).code == 2
    assert contents(tmp_path) == ["a.png"]


def test_an_unknown_model_is_code_6(unfade, make_photo, tmp_path):
    photo = make_photo(tmp_path / "a.png")
    ended = unfade("restore", photo, "-n", "gigantic")
    assert ended.code == 6 and "tiny" in ended.err
    (tmp_path / "old.pth").write_bytes(b"\x80\x04.")
    assert unfade("restore", photo, "-n", tmp_path / "old.pth").code == 6


def test_one_photo_with_everything(restore, make_photo, tmp_path, contents):
    photo = make_photo(tmp_path / "a.png")
    ended = restore(
        photo, "-o", tmp_path / "out/b.png", "--film", "--sheet", "--save-frames", "--frames", "3",
        "--prompt", "remove the noise", "--scale", "2", "--steps", "2",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    frames = [f"out/b_frames/{index:04d}.png" for index in range(3)]
    extras = ["out", "out/b.mp4", "out/b.png", "out/b_frames", *frames, "out/b_sheet.png"]
    assert contents(tmp_path) == ["a.png", *sorted(extras)]
    info = probe_image(tmp_path / "out/b.png")
    assert (info.width, info.height) == (128, 96)
    last, result = read_image(tmp_path / frames[-1]), read_image(tmp_path / "out/b.png")
    assert torch.equal(last.frames, result.frames)
    for name in ("b.png", "b.mp4", "b_sheet.png", "b_frames/0000.png"):
        notes = read_notes(tmp_path / "out" / name)
        assert notes["prompt"] == "remove the noise" and notes["steps"] == "2"
        assert not any("a.png" in text for text in notes.values())


def test_stripping_leaves_no_notes(restore, make_photo, tmp_path):
    photo = make_photo(tmp_path / "a.png")
    assert restore(photo, "--film", "--strip-metadata", "--frames", "2").code == 0
    assert read_notes(tmp_path / "a_unfaded.png") == read_notes(tmp_path / "a_unfaded.mp4") == {}


def test_formats_and_depths(restore, make_photo, tmp_path):
    photo = make_photo(tmp_path / "a.png")
    assert restore(photo, "--output-format", "avif", "--quality", "50").code == 0
    assert probe_image(tmp_path / "a_unfaded.avif").format == "heif"
    assert restore(photo, "--bit-depth", "16").code == 0
    assert probe_image(tmp_path / "a_unfaded.png").bit_depth == 16


def test_existing_results_are_refused_skipped_or_replaced(restore, make_photo, tmp_path):
    photo, result = make_photo(tmp_path / "a.png"), tmp_path / "a_unfaded.png"
    result.write_bytes(b"mine")
    ended = restore(photo)
    assert ended.code == 4 and "exists already" in ended.err
    ended = restore(photo, "--skip-existing", "--format", "json")
    assert ended.code == 0 and json.loads(ended.out)["status"] == "skipped"
    assert result.read_bytes() == b"mine"
    assert restore(photo, "--overwrite").code == 0
    assert probe_image(result).format == "png"


@pytest.mark.parametrize("left", ["a_unfaded.png", "a_unfaded.mp4"])
def test_half_of_the_results_is_not_enough_to_skip(left, restore, make_photo, tmp_path, contents):
    photo = make_photo(tmp_path / "a.png")
    (tmp_path / left).write_bytes(b"old")
    arguments = [photo, "--skip-existing", "--film", "--frames", "2", "--format", "json"]
    ended = restore(*arguments)
    assert ended.code == 0 and json.loads(ended.out)["status"] == "done"
    assert contents(tmp_path) == ["a.png", "a_unfaded.mp4", "a_unfaded.png"]
    assert json.loads(restore(*arguments).out)["status"] == "skipped"


def test_a_second_run_over_a_folder_leaves_its_results_alone(restore, make_photo, tmp_path, contents):
    photo = make_photo(tmp_path / "in/a.png")
    assert restore(photo, "--sheet", "--frames", "2").code == 0
    ended = restore(tmp_path / "in")
    assert ended.code == 0 and ended.err == "1 done, 2 other files ignored\n"
    assert contents(tmp_path / "in_unfaded") == ["a.png"]


@pytest.mark.parametrize(
    ("output", "code", "told"),
    [
        ("/dev/null", 4, "is a device or a pipe"),
        ("taken", 4, "is a file, not a folder"),
        ("multi.png", 2, "names one file, but several photos"),
    ],
)
def test_an_output_that_cannot_be_is_told_before_work(
    output, code, told, restore, make_photo, tmp_path, contents, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    photos = [make_photo(tmp_path / "a.png"), make_photo(tmp_path / "b.png")]
    ended = restore(*photos, "-o", output)
    assert ended.code == code and told in ended.err and ended.err.count("\n") == 1
    assert contents(tmp_path) == ["a.png", "b.png", "taken"]


def test_help_names_the_extra_for_heic(unfade):
    text = "".join(unfade("restore", "--help").out.replace("│", " ").split())
    assert "pipinstall'.[heic]'intheclone" in text


def test_a_folder_with_a_bad_file_and_junk(restore, make_photo, tmp_path, contents):
    folder = tmp_path / "old photos"
    for name in ("b.png", "a.jpg", "c ü.png"):
        make_photo(folder / name)
    (folder / "bad.png").write_text("not a photo")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"junk")
    make_photo(folder / "below/d.png")
    ended = restore(folder)
    assert ended.code == 5
    assert contents(tmp_path / "old photos_unfaded") == ["a.jpg", "b.png", "c ü.png"]
    lines = ended.err.splitlines()
    assert lines[0].startswith(f"failed: {folder}/bad.png is not an image")
    assert lines[1:] == ["3 done, 1 failed, 2 other files ignored", "error: 1 of 4 files failed"]
    assert restore(folder, "--recursive", "--skip-existing").code == 5
    expected = ["a.jpg", "b.png", "below", "below/d.png", "c ü.png"]
    assert contents(tmp_path / "old photos_unfaded") == expected


def test_two_inputs_for_one_output_stop_before_work(restore, make_photo, tmp_path, contents):
    make_photo(tmp_path / "one/a.png")
    make_photo(tmp_path / "two/a.png")
    before = contents(tmp_path)
    ended = restore(tmp_path / "one", tmp_path / "two", "-o", tmp_path / "out")
    assert ended.code == 2 and "would both be written to" in ended.err
    assert restore(tmp_path / "one/a.png", "-o", tmp_path / "one", "--overwrite").code == 2
    assert contents(tmp_path) == before


def test_json_is_one_object_per_file(restore, make_photo, tmp_path):
    good, bad = make_photo(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(b"")
    ended = restore(good, bad, "-o", tmp_path / "out", "--film", "--frames", "2", "--format", "json")
    assert ended.code == 5
    rows = {row["status"]: row for row in map(json.loads, ended.out.splitlines())}
    assert set(rows) == {"done", "failed"}
    for row in rows.values():
        assert list(row) == KEYS
        assert list(row["outputs"]) == ["film", "sheet", "frames", "confidence"]
        assert row["settings"]["frames"] == 2 and row["settings"]["steps"] == 1
        assert list(row["settings"]) == SETTINGS
        assert row["settings"]["output_format"] == "png" and row["settings"]["strip_metadata"] is False
    done, failed = rows["done"], rows["failed"]
    assert done["input"] == str(good) and done["output"] == str(tmp_path / "out/good.png")
    films = {"film": str(tmp_path / "out/good.mp4"), "sheet": None, "frames": None, "confidence": None}
    assert done["outputs"] == films
    assert done["seconds"] > 0 and done["peak_memory_mb"] > 1 and done["megapixels"] == 0.003
    assert done["error"] is None
    assert done["settings"]["device"] in ("cpu", "cuda", "mps") and failed["settings"]["device"] == "auto"
    assert done["settings"]["dtype"] in ("float32", "bfloat16") and done["settings"]["tile"] == 0
    assert failed["error"] == {"code": 3, "message": f"{bad} is empty"}


def test_a_dry_run_checks_headers_and_writes_nothing(restore, make_photo, tmp_path, contents):
    make_photo(tmp_path / "in/a.png", 160, 130)
    (tmp_path / "in/bad.png").write_text("not a photo")
    before = contents(tmp_path)
    ended = restore(tmp_path / "in", "--dry-run", "--film", "--scale", "2", "--tile", "256")
    assert ended.code == 5
    assert "in_unfaded/a.png" in ended.out and "in_unfaded/a.mp4" in ended.out
    assert "260 x 320, 4 tile(s)" in ended.out and "about" in ended.out
    assert "bad.png is not an image" in ended.err
    assert contents(tmp_path) == before


def test_a_dry_run_of_many_steps_tries_one(restore, make_photo, tmp_path, monkeypatch):
    from unfade.restore.engine import PixelRestorer

    tried = []
    real = PixelRestorer.restore

    def watched(self, clip, prompt=None, plan=None, progress=None, **changes):
        tried.append((plan.steps, plan.tile, plan.keep, clip.megapixels < 0.2))
        return real(self, clip, prompt, plan, progress, **changes)

    monkeypatch.setattr(PixelRestorer, "restore", watched)
    make_photo(tmp_path / "a.png", 480, 640)
    times = []
    for steps in (1, 1000):
        ended = restore(tmp_path / "a.png", "--dry-run", "--steps", steps, "--tile", 64, "--format", "json")
        row = json.loads(ended.out)
        assert ended.code == 0 and row["settings"]["steps"] == steps
        times.append(row["seconds"])
    assert set(tried) == {(1, 0, False, True)}
    assert times[1] > 20 * times[0] > 0


def test_a_dry_run_refuses_the_transparency_that_the_run_would(restore, tmp_path):
    for name, level in (("seen", 0.5), ("opaque", 1.0)):
        clip = Clip(torch.rand(1, 3, 20, 30), alpha=torch.full((1, 1, 20, 30), level))
        write_image(clip, tmp_path / f"{name}.png")
    for extra in (["--dry-run"], []):
        arguments = [tmp_path / "seen.png", tmp_path / "opaque.png", "--output-format", "jpeg", *extra]
        ended = restore(*arguments, "-o", tmp_path / "out")
        assert ended.code == 5
        assert "seen.jpg can't hold transparency as JPEG" in ended.err and "1 done, 1 failed" in ended.err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that aren't UTF-8")
def test_a_name_that_is_no_text_does_not_stop_the_others(restore, make_photo, tmp_path, contents):
    make_photo(tmp_path / "in/a.png")
    make_photo(tmp_path / "b.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/in/\xff.png"))
    ended = restore(tmp_path / "in", "--format", "json")
    rows = {row["input"]: row for row in map(json.loads, ended.out.splitlines())}
    assert len(rows) == 2
    assert rows[str(tmp_path / "in/a.png")]["status"] == "done"
    assert ended.code in (0, 5)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_sees_a_bar_and_a_pipe_only_results(start, make_photo, tmp_path):
    import pty

    make_photo(tmp_path / "in/a.png")
    make_photo(tmp_path / "in/b.png")
    terminal, end = pty.openpty()
    with start(tmp_path / "in", "--format", "json", stderr=end) as process:
        os.close(end)
        shown = b""
        # Linux ends the reading of a closed terminal with an error, others with nothing.
        with suppress(OSError):
            while part := os.read(terminal, 4096):
                shown += part
        out, _ = process.communicate(timeout=30)
    os.close(terminal)
    assert process.returncode == 0
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["done", "done"]
    assert b"2/2  b.png" in shown and b"100%" in shown and b"2 done" in shown
