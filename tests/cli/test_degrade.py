"""`unfade degrade`: the last frame is the truth, the same seed gives the same files, in any order."""

import json
import weakref

import numpy as np
import pytest
import torch

from unfade.core import Clip, OutputError, generator
from unfade.degrade import draw_composition, named
from unfade.media.images import probe_image, read_image, write_image


@pytest.fixture
def folder(tmp_path, make_photo):
    """Two photos and a file that is none."""
    for name in ("a.png", "b.jpg"):
        make_photo(tmp_path / "in" / name)
    (tmp_path / "in/notes.txt").write_text("junk")
    return tmp_path / "in"


def pixels(path):
    return read_image(path).frames


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize("trajectory", ["fade", "linear"])
def test_frames_end_at_the_truth(trajectory, unfade, folder, tmp_path, contents):
    out = tmp_path / "out"
    ended = unfade(
        "degrade", folder, "--as", "lowlight_noise", "--frames", "4", "--trajectory", trajectory, "-o", out
    )
    assert ended.code == 0
    assert ended.err == "2 done, 1 other files ignored\n"
    frames = [f"{stem}/{index:04d}.png" for stem in "ab" for index in range(4)]
    assert contents(out) == ["a", *frames[:4], "b", *frames[4:], "manifest.json"]
    for stem, photo in (("a", "a.png"), ("b", "b.jpg")):
        truth = pixels(folder / photo)
        ways = [float((pixels(out / f"{stem}/{index:04d}.png") - truth).abs().mean()) for index in range(4)]
        assert ways[-1] == 0
        assert ways == sorted(ways, reverse=True) and ways[0] > 0.01


def test_sixteen_bits_stay_sixteen(unfade, tmp_path):
    image = torch.rand((3, 32, 32), generator=generator(3, "deep"))
    write_image(Clip.of(image), tmp_path / "deep.png", bit_depth=16)
    assert (
        unfade("degrade", tmp_path / "deep.png", "--as", "blur", "--frames", "2", "-o", tmp_path / "out").code
        == 0
    )
    last = tmp_path / "out/deep/0001.png"
    assert probe_image(last).bit_depth == 16
    assert torch.equal(pixels(last), pixels(tmp_path / "deep.png"))


def test_linear_is_a_straight_blend(unfade, folder, tmp_path):
    out = tmp_path / "out"
    arguments = ["--as", "haze", "--frames", "3", "--trajectory", "linear", "-o", out]
    assert unfade("degrade", folder / "a.png", *arguments).code == 0
    first, middle, last = (pixels(out / f"a/000{index}.png") for index in range(3))
    assert torch.allclose(middle, (first + last) / 2, atol=1.01 / 255)


def test_pairs_and_film(unfade, folder, tmp_path, contents):
    out = tmp_path / "out"
    assert unfade("degrade", folder, "--as", "jpeg", "--write", "pairs,film", "-o", out).code == 0
    assert contents(out) == [
        "a.mp4", "b.mp4", "hq", "hq/a.png", "hq/b.png", "lq", "lq/a.png", "lq/b.png", "manifest.json",
    ]  # fmt: skip
    truth = pixels(folder / "a.png")
    assert torch.equal(pixels(out / "hq/a.png"), truth)
    drawn = draw_composition(named("jpeg"), generator(0, "degrade", "a.png"), (1, *truth.shape[2:]))
    expected = np.rint(drawn(truth).numpy() * 255)
    assert np.array_equal(np.rint(pixels(out / "lq/a.png").numpy() * 255), expected)


def test_order_company_and_repetition_change_nothing(unfade, folder, tmp_path):
    common = ["--as", "Blur_Noise_JPEG", "--frames", "2", "--write", "frames", "--write", "pairs"]
    assert unfade("degrade", folder, *common, "-o", tmp_path / "whole").code == 0
    reverse = [folder / "b.jpg", folder / "a.png"]
    assert unfade("degrade", *reverse, *common, "-o", tmp_path / "reverse").code == 0
    assert unfade("degrade", folder / "b.jpg", *common, "-o", tmp_path / "alone").code == 0
    assert unfade("degrade", folder, *common, "--seed", "1", "-o", tmp_path / "other").code == 0
    whole, alone = files(tmp_path / "whole"), files(tmp_path / "alone")
    assert whole == files(tmp_path / "reverse")
    assert alone and alone.items() <= whole.items()
    other = files(tmp_path / "other")
    changed = {path for path in whole if whole[path] != other[path]}
    assert {str(path) for path in changed} == {"a/0000.png", "b/0000.png", "lq/a.png", "lq/b.png"}
    assert (tmp_path / "whole/manifest.json").read_bytes() == (
        tmp_path / "reverse/manifest.json"
    ).read_bytes()


def test_the_manifest_tells_what_was_drawn(unfade, folder, tmp_path):
    arguments = [
        "--as",
        "Noise_JPEG",
        "--strength",
        "mild",
        "--seed",
        "5",
        "--frames",
        "2",
        "-o",
        tmp_path / "out",
    ]
    assert unfade("degrade", folder, *arguments).code == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["degradation"] == "Noise_JPEG"
    assert (manifest["strength"], manifest["seed"], manifest["frames"]) == ("mild", 5, 2)
    assert [row["photo"] for row in manifest["photos"]] == ["a.png", "b.jpg"]
    noise, jpeg = manifest["photos"][0]["degradations"]
    drawn = draw_composition(named("noise_jpeg"), generator(5, "degrade", "a.png"), (1, 48, 64), "mild")
    assert jpeg == {"name": "jpeg", "quality": float(drawn.parts[1].quality), "codec": "libjpeg"}
    assert noise["gaussian"]["sigma"] == float(drawn.parts[0].gaussian.sigma)


def test_size_crops_and_reduces_but_never_enlarges(unfade, folder, tmp_path):
    arguments = ["--as", "haze", "--frames", "2"]
    assert unfade("degrade", folder, *arguments, "--size", "20x20", "-o", tmp_path / "out").code == 0
    for index in range(2):
        info = probe_image(tmp_path / f"out/a/000{index}.png")
        assert (info.width, info.height) == (20, 20)
    ended = unfade("degrade", folder / "a.png", *arguments, "--size", "100x20", "-o", tmp_path / "large")
    assert ended.code == 3 and "fewer than the 100 x 20" in ended.err
    assert not (tmp_path / "large").exists()
    assert unfade("degrade", folder, *arguments, "--size", "20", "-o", tmp_path / "large").code == 2


def test_the_tree_is_kept(unfade, folder, make_photo, tmp_path, contents):
    make_photo(folder / "below/a.png")
    arguments = ["--as", "blur", "--write", "pairs", "--recursive", "-o", folder / "out"]
    assert unfade("degrade", folder, *arguments).code == 0
    assert unfade("degrade", folder, *arguments, "--overwrite").code == 0
    assert contents(folder / "out/lq") == ["a.png", "b.png", "below", "below/a.png"]


def test_a_bad_photo_does_not_stop_the_others(unfade, folder, tmp_path):
    (folder / "bad.png").write_bytes(b"")
    ended = unfade("degrade", folder, "--as", "rain", "--frames", "2", "-o", tmp_path / "out")
    assert ended.code == 5
    assert f"failed: {folder}/bad.png is empty" in ended.err and "2 done, 1 failed" in ended.err
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [row["photo"] for row in manifest["photos"]] == ["a.png", "b.jpg"]
    assert unfade("degrade", folder / "bad.png", "--as", "rain", "-o", tmp_path / "one").code == 3


def test_senseless_requests(unfade, folder, make_photo, tmp_path, contents):
    ended = unfade("degrade", folder, "--as", "oldness", "-o", tmp_path / "out")
    assert ended.code == 2 and "lowlight" in ended.err
    assert unfade("degrade", folder, "--as", "blur", "--write", "gif", "-o", tmp_path / "out").code == 2
    make_photo(folder / "a.jpg")
    ended = unfade("degrade", folder, "--as", "blur", "-o", tmp_path / "out")
    assert ended.code == 2 and "would both be written to" in ended.err
    assert not (tmp_path / "out").exists()


def test_frames_and_pairs_never_share_a_folder(unfade, folder, make_photo, tmp_path):
    make_photo(folder / "lq.png")
    ended = unfade("degrade", folder, "--as", "blur", "--write", "frames,pairs", "-o", tmp_path / "out")
    assert ended.code == 2 and "lq would be written for" in ended.err and "lies in it" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("output", "code", "told"),
    [
        ("taken.txt", 4, "is a file, but degrade writes a folder"),
        ("/dev/null", 4, "is a device or a pipe, but degrade writes a folder"),
        ("coffee.png", 2, "is named like a file, but degrade writes a folder; leave .png off"),
        ("coffee.mp4", 2, "leave .mp4 off"),
        ("taken.txt/out", 4, "is a file, not a folder"),
    ],
)
def test_an_output_that_is_no_folder(output, code, told, unfade, folder, tmp_path, monkeypatch, contents):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.txt").write_text("mine")
    before = contents(tmp_path)
    ended = unfade("degrade", folder, "--as", "blur", "-o", output)
    assert ended.code == code and told in ended.err and ended.err.count("\n") == 1
    assert contents(tmp_path) == before


def test_case_tells_foundirs_blur_from_the_progression(unfade, folder, tmp_path):
    for name, kinds in (("Blur", "Blur"), ("blur", "blur")):
        out = tmp_path / f"out {name == 'Blur'}"
        assert unfade("degrade", folder / "a.png", "--as", name, "--frames", "2", "-o", out).code == 0
        manifest = json.loads((out / "manifest.json").read_text())
        drawn = draw_composition(named(kinds), generator(0, "degrade", "a.png"), (1, 48, 64))
        assert manifest["degradation"] == name
        assert [row["name"] for row in manifest["photos"][0]["degradations"]] == [
            part.name for part in drawn.parts
        ]
    assert named("Blur") != named("blur")
    assert "Blur is FoundIR" in " ".join(unfade("degrade", "--help").out.replace("│", " ").split())


@pytest.mark.parametrize(
    ("stop", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (OutputError("disk full"), 4)]
)
def test_what_cannot_be_finished_is_taken_back(stop, code, unfade, folder, tmp_path, monkeypatch, contents):
    from unfade.cli import specimens

    real = specimens.write_frames

    def broken(frames, target, **options):
        if target.name == "a":
            raise stop
        return real(frames, target, **options)

    monkeypatch.setattr(specimens, "write_frames", broken)
    arguments = ["--as", "haze", "--frames", "2", "--write", "frames,pairs,film", "-o", tmp_path / "out"]
    assert unfade("degrade", folder / "a.png", *arguments).code == code
    assert not (tmp_path / "out").exists()
    assert unfade("degrade", folder / "b.jpg", folder / "a.png", *arguments).code == (
        5 if code == 4 else code
    )
    assert contents(tmp_path / "out") == [
        "b", "b.mp4", "b/0000.png", "b/0001.png", "hq", "hq/b.png", "lq", "lq/b.png", "manifest.json",
    ]  # fmt: skip


def test_frames_are_streamed_not_held(unfade, folder, tmp_path, monkeypatch):
    from unfade.cli import specimens

    real, alive = specimens.write_frames, []

    def watched(frames, target, **options):
        def passing():
            for clip in frames:
                alive.append(weakref.ref(clip.frames))
                yield clip
                del clip
                assert sum(frame() is not None for frame in alive) <= 2

        return real(passing(), target, **options)

    monkeypatch.setattr(specimens, "write_frames", watched)
    arguments = ["--as", "haze", "--frames", "6", "-o", tmp_path / "out"]
    assert unfade("degrade", folder / "a.png", *arguments).code == 0
    assert len(alive) == 6


def test_what_exists_is_kept(unfade, folder, tmp_path):
    arguments = ["degrade", folder / "a.png", "--as", "blur", "--frames", "2", "-o", tmp_path / "out"]
    assert unfade(*arguments).code == 0
    before = files(tmp_path / "out")
    assert unfade(*arguments, "--seed", "1").code == 4
    (tmp_path / "out/manifest.json").unlink()
    assert unfade(*arguments, "--seed", "1").code == 4
    assert files(tmp_path / "out") == before
    assert unfade(*arguments, "--seed", "1", "--overwrite").code == 0
    assert files(tmp_path / "out") != before
