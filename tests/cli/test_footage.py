"""`unfade restore` on clips, alone and among photos."""

import json
import os
import re
import signal
import sys
import time
from contextlib import suppress

import pytest
import torch

from unfade.core import generator
from unfade.media.film import write_film
from unfade.media.images import probe_image
from unfade.media.notes import read_notes
from unfade.media.video import probe_video, read_video


@pytest.fixture
def make_clip():
    """Writes a clip without sound: `make_clip(path, count, height, width)`."""

    def make(path, count=6, height=48, width=64):
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = torch.rand((1, 3, 4, 5), generator=generator(7, path.name))
        wide = torch.nn.functional.interpolate(coarse, (height, width + count), mode="bilinear")[0]
        write_film((wide[:, :, index : index + width] for index in range(count)), path, 10)
        return path

    return make


def test_a_clip_gets_a_neighbour(restore, make_clip, tmp_path, contents):
    clip = make_clip(tmp_path / "a.mp4")
    ended = restore(clip, "--prompt", "remove the noise")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{clip} -> {tmp_path / 'a_unfaded.mp4'}  6 frames of 0.00 MP  ")
    assert contents(tmp_path) == ["a.mp4", "a_unfaded.mp4"]
    assert read_notes(tmp_path / "a_unfaded.mp4")["prompt"] == "remove the noise"
    times = [[frame.pts for frame in read_video(path)] for path in (clip, tmp_path / "a_unfaded.mp4")]
    assert times[0] == times[1]


def test_a_clip_with_everything(restore, make_clip, tmp_path, contents):
    clip = make_clip(tmp_path / "a.mov", 4)
    ended = restore(
        clip, "-o", tmp_path / "out/b.mkv", "--film", "--sheet", "--save-frames", "--frames", "2",
        "--scale", "2", "--bit-depth", "16",
    )  # fmt: skip
    assert (ended.code, ended.err) == (0, "")
    frames = [f"out/b_frames/{index:04d}.png" for index in range(4)]
    extras = ["out", "out/b.mkv", "out/b_film.mp4", "out/b_frames", *frames, "out/b_sheet.png"]
    assert contents(tmp_path) == ["a.mov", *sorted(extras)]
    for name in ("b.mkv", "b_film.mp4"):
        info = probe_video(tmp_path / "out" / name)
        assert (info.width, info.height, len(list(read_video(info.path)))) == (128, 96, 4)
    assert probe_image(tmp_path / frames[0]).bit_depth == 16


def test_clips_and_photos_of_a_folder_are_restored_and_counted(
    restore, make_clip, make_photo, tmp_path, contents
):
    make_clip(tmp_path / "in/a.mp4", 3)
    make_photo(tmp_path / "in/b.png")
    make_clip(tmp_path / "in/below/c.mkv", 2)
    (tmp_path / "in/bad.mp4").write_text("not a clip")
    (tmp_path / "in/notes.txt").write_text("hello")
    ended = restore(tmp_path / "in", "-r", "--output-format", "tiff")
    assert ended.code == 5
    assert contents(tmp_path / "in_unfaded") == ["a.mp4", "b.tif", "below", "below/c.mkv"]
    lines = ended.err.splitlines()
    assert lines[0].startswith(f"failed: {tmp_path / 'in/bad.mp4'} is not a video")
    assert lines[1:] == ["3 done, 1 failed, 1 other files ignored", "error: 1 of 4 files failed"]
    again = restore(tmp_path / "in", "-r", "--skip-existing", "--format", "json", "--output-format", "tiff")
    states = [json.loads(line)["status"] for line in again.out.splitlines()]
    assert sorted(states) == ["failed", "skipped", "skipped", "skipped"]


def test_the_report_of_a_clip_tells_frames_and_rate(restore, make_clip, make_photo, tmp_path):
    clip, photo = make_clip(tmp_path / "a.mp4", 5), make_photo(tmp_path / "b.png")
    ended = restore(clip, photo, "-o", tmp_path / "out", "--format", "json")
    first, second = map(json.loads, ended.out.splitlines())
    assert ended.code == 0
    assert first["footage"] == {"frames": 5, "fps": 10.0} and "footage" not in second
    assert first["megapixels"] == 0.003 and first["seconds"] > 0 and first["error"] is None
    assert first["settings"]["output_format"] == "mp4" and first["settings"]["tile"] == 0
    assert first["settings"]["device"] in ("cpu", "cuda", "mps")


def test_a_dry_run_estimates_from_the_number_of_frames(restore, make_clip, tmp_path, contents):
    make_clip(tmp_path / "in/a.mp4", 4)
    make_clip(tmp_path / "in/b.mp4", 40)
    before = contents(tmp_path)
    ended = restore(tmp_path / "in", "--dry-run", "--film", "--format", "json")
    short, long = map(json.loads, ended.out.splitlines())
    assert ended.code == 0 and contents(tmp_path) == before
    assert (short["footage"]["frames"], long["footage"]["frames"]) == (4, 40)
    assert long["seconds"] >= 5 * short["seconds"] > 0
    assert long["outputs"]["film"] == str(tmp_path / "in_unfaded/b_film.mp4")
    told = restore(tmp_path / "in/b.mp4", "--dry-run").out
    assert "40 frames of 0.00 MP  about " in told and "64 x 48, 1 tile(s)" in told


def test_a_truncated_clip_is_one_sentence_with_the_frames_read(restore, make_clip, tmp_path, contents):
    clip = make_clip(tmp_path / "whole.mkv", 60, 144, 192)
    data = clip.read_bytes()
    clip.unlink()
    (tmp_path / "part.mkv").write_bytes(data[: len(data) * 6 // 10])
    ended = restore(tmp_path / "part.mkv", "--film", "--sheet", "--save-frames")
    assert ended.code == 3 and ended.out == ""
    assert re.fullmatch(
        r"error: .*part\.mkv is damaged or cut short: only \d+ frames could be read\n", ended.err
    )
    assert contents(tmp_path) == ["part.mkv"]


def test_a_clip_that_was_cut_off_is_restored_with_a_note(restore, make_clip, tmp_path):
    """As far as it goes, where nothing that is left of it is broken; known before any work, too."""
    clip = make_clip(tmp_path / "a.mkv", 20)
    whole = restore(clip, "-o", tmp_path / "b.mkv")
    assert (whole.code, whole.err) == (0, "") and "damaged" not in read_notes(tmp_path / "b.mkv")
    clip.write_bytes(clip.read_bytes()[:-30])
    note = f"note: {clip} was cut off: the file is shorter than it says, so the end of the footage may be missing\n"
    for words in (("--dry-run",), ("--preview", "0.5s", "--dry-run"), ()):
        ended = restore(clip, *words)
        assert (ended.code, ended.err) == (0, note), words
    # What was torn is the last picture.
    assert len(list(read_video(tmp_path / "a_unfaded.mkv"))) == 19
    assert read_notes(tmp_path / "a_unfaded.mkv")["damaged"].startswith("the source was cut off")


def test_existing_clips_are_refused_skipped_or_replaced(restore, make_clip, tmp_path):
    clip, result = make_clip(tmp_path / "a.mp4"), tmp_path / "a_unfaded.mp4"
    result.write_bytes(b"mine")
    ended = restore(clip)
    assert ended.code == 4 and "exists already" in ended.err
    assert restore(clip, "--skip-existing").code == 0 and result.read_bytes() == b"mine"
    assert restore(clip, "--overwrite").code == 0 and probe_video(result).width == 64


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--quality", "50"], "--quality is of photos"),
        (["--bit-depth", "16"], "--bit-depth is of images"),
        (["--output-format", "png"], "png is a format of images"),
        (["-o", "b.png"], "no known video extension"),
    ],
)
def test_what_only_photos_have_is_refused_for_clips(arguments, told, restore, make_clip, tmp_path, contents):
    ended = restore(make_clip(tmp_path / "a.mp4"), *arguments)
    assert ended.code == 2 and told in ended.err
    assert contents(tmp_path) == ["a.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_stop_half_way_leaves_nothing(start, make_clip, tmp_path, contents):
    clip = make_clip(tmp_path / "a.mp4", 200, 240, 320)
    with start(clip, "--film", "--sheet", "--save-frames") as process:
        deadline = time.monotonic() + 60
        while len(contents(tmp_path)) < 6 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert any(".unfade-" in name for name in contents(tmp_path))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.count("\n") == 1 and "nothing is half-written" in err
    assert contents(tmp_path) == ["a.mp4"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_bar_moves_by_frames(start, make_clip, tmp_path):
    import pty

    make_clip(tmp_path / "a.mp4", 30, 240, 320)
    terminal, end = pty.openpty()
    with start(tmp_path / "a.mp4", stderr=end) as process:
        os.close(end)
        shown = b""
        # Linux ends the reading of a closed terminal with an error, others with nothing.
        with suppress(OSError):
            while part := os.read(terminal, 4096):
                shown += part
        process.communicate(timeout=60)
    os.close(terminal)
    shares = {int(share) for share in re.findall(rb"(\d+)%", shown)}
    assert process.returncode == 0
    assert len(shares - {0, 100}) >= 3


def test_a_preview_is_a_part_of_its_own(restore, make_clip, tmp_path, contents):
    clip = make_clip(tmp_path / "a.mp4", count=20)
    ended = restore(clip, "--preview", "0.5s@0:01", "--film")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{clip} -> {tmp_path / 'a_unfaded_preview.mp4'}, ")
    assert "  5 frames of 0.00 MP  " in ended.out
    assert contents(tmp_path) == ["a.mp4", "a_unfaded_film_preview.mp4", "a_unfaded_preview.mp4"]
    assert len(list(read_video(tmp_path / "a_unfaded_preview.mp4"))) == 5
    late = restore(clip, "--preview", "1s@9", "-o", tmp_path / "b.mp4")
    assert late.code == 3 and "has no frame at 9 s; it lasts 2 s" in late.err
    assert not (tmp_path / "b_preview.mp4").exists()


def test_a_preview_may_be_of_a_part_of_the_picture(restore, make_clip, tmp_path, contents):
    clip = make_clip(tmp_path / "a.mp4", count=20)
    planned = restore(
        clip, "--preview", "0.5s@0:01/32x20+8+4", "--dry-run", "--scale", "2", "--format", "json"
    )
    assert (planned.code, planned.err) == (0, "") and contents(tmp_path) == ["a.mp4"]
    told = json.loads(planned.out)
    assert (told["status"], told["footage"]["frames"]) == ("planned", 5)
    assert told["output"] == str(tmp_path / "a_unfaded_preview.mp4") and told["input"] == str(clip)
    assert (told["settings"]["width"], told["settings"]["height"]) == (64, 40)
    ended = restore(clip, "--preview", "0.5s@0:01/32x20+8+4", "--scale", "2")
    assert (ended.code, ended.err) == (0, "")
    found = list(read_video(tmp_path / "a_unfaded_preview.mp4"))
    assert len(found) == 5 and found[0].image.shape == (3, 40, 64)
    # Nearer to that part than to its mirror image.
    wanted = list(read_video(clip))[10].image[:, 4:24, 8:40]
    small = torch.nn.functional.interpolate(found[0].image[None], (20, 32), mode="area")[0]
    assert float((small - wanted).abs().mean()) < 0.5 * float((small.flip(2) - wanted).abs().mean())
    alone = restore(clip, "--preview", "32x20+8+4", "--dry-run", "--overwrite")
    assert (
        alone.code == 0
        and "  10 frames of 0.00 MP  about " in alone.out
        and "32 x 20, 1 tile(s)" in alone.out
    )
    for words in ((), ("--dry-run",)):
        beyond = restore(clip, "--preview", "64x20+8+4", "-o", tmp_path / "b.mp4", *words)
        assert beyond.code == 3 and "64 x 48, which 64x20+8+4 does not lie in" in beyond.err


def test_previews_are_of_clips(restore, make_clip, make_photo, tmp_path):
    clip, photo = make_clip(tmp_path / "a.mp4"), make_photo(tmp_path / "b.png")
    for words, said in (
        ((clip, "--preview", "soon"), "'soon' is no part of footage"),
        ((clip, "--preview", "1s/8x8"), "'1s/8x8' is no part of footage"),
        ((photo, "--preview", "1s"), "is a photo, and --preview is of footage"),
    ):
        ended = restore(*words)
        assert ended.code == 2 and said in ended.err, said
