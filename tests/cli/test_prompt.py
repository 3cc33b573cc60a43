"""`unfade prompt` and `unfade degrade --as progression`, as a user types them."""

import json
import math

import pytest
import torch
from torch.nn import functional

from unfade.core import Clip, generator
from unfade.media.film import write_film
from unfade.media.images import write_image
from unfade.prompts.measured import MeasuredCaptioner
from unfade.prompts.vividvr import NEGATIVE_PROMPT, SUFFIX


@pytest.fixture
def make_pan():
    """Writes a clip through whose window the world goes by: `make_pan(path, step, count, height, width)`."""

    def make(path, step, count=25, height=72, width=128):
        coarse = torch.rand((1, 1, 8, 24), generator=generator(8, "world"))
        world = functional.interpolate(coarse, (height, 4 * width), mode="bicubic")[0].clamp(0, 1)
        world = world * torch.tensor([0.9, 0.6, 0.3])[:, None, None]
        lefts = [round(1.5 * width + step * (index - count / 2)) for index in range(count)]
        write_film((world[:, :, left : left + width] for left in lefts), path, 8)
        return path

    return make


def test_a_dark_photo_is_asked_to_be_brightened(unfade, examples, tmp_path):
    photo = next(iter(sorted(examples.glob("*.jpg"))))
    assert (
        unfade("degrade", photo, "--as", "lowlight", "--strength", "strong", "-o", tmp_path / "out").code == 0
    )
    dark = tmp_path / "out" / photo.stem / "0000.png"
    ended = unfade("prompt", dark, "--format", "json")
    told = json.loads(ended.out)
    assert ended.code == 0 and told["task"] == "lowlight" and "bright" in told["prompt"].lower()
    uniform = unfade("prompt", dark, "--kind", "uniform")
    assert uniform.code == 0 and "task: lowlight" in uniform.err
    assert uniform.out.strip() != told["prompt"]


def test_the_users_own_prompt_wins(unfade, make_photo, tmp_path):
    ended = unfade("prompt", make_photo(tmp_path / "a.png"), "--prompt", "make it sharp")
    assert ended.code == 0 and ended.out.strip() == "make it sharp"


def test_the_best_captioner_here_writes_for_a_training_set(unfade, make_photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "nothing"))
    (tmp_path / "photos").mkdir()
    make_photo(tmp_path / "photos" / "a.png")
    made = tmp_path / "made"
    words = (
        "degrade",
        tmp_path / "photos",
        "--as",
        "progression",
        "--size",
        "16x16",
        "--frames",
        3,
        "-o",
        made,
    )
    ended = unfade(*words, "--captioner", "auto")
    assert ended.code == 0, ended.err
    # The rules, as nothing else is here.
    assert MeasuredCaptioner.identity in (made / "manifest.json").read_text()


def test_a_captioner_that_is_not_here_is_one_sentence(unfade, make_photo, tmp_path):
    ended = unfade("prompt", make_photo(tmp_path / "a.png"), "--captioner", "qwen3-vl-4b")
    assert ended.code == 6 and ended.err.strip().count("\n") == 0 and "qwen3-vl-4b" in ended.err.lower()


def test_footage_is_told_to_vivid_vr_with_its_suffix(unfade, make_pan, tmp_path):
    ways = {"right": make_pan(tmp_path / "right.mp4", 3), "left": make_pan(tmp_path / "left.mp4", -3)}
    for way, clip in ways.items():
        ended = unfade("prompt", clip)
        assert ended.code == 0 and ended.out.strip().endswith(SUFFIX)
        assert f"camera panning to the {way}" in ended.out and "warm colours" in ended.out
        assert f"negative prompt: {NEGATIVE_PROMPT}" in ended.err and SUFFIX in ended.err
        assert (
            "caption: rules, because it measured 4 of the first 25 frames, which needs no model" in ended.err
        )
        # 1024 x 1820 are 228 latents across once they are filled up: three tiles of 128.
        assert "captions: 3, for 1 x 3 tiles on 1820x1024 in 1 clip, each its own" in ended.err
    assert unfade("prompt", ways["left"], "--model", "vivid-vr").out == ended.out
    told = json.loads(unfade("prompt", ways["left"], "-n", "vivid-vr", "--format", "json").out)
    assert told["prompt"] == ended.out.strip() == f"{told['caption']} {told['suffix']}"
    assert told["looks"] == [0, 8, 16, 24] and told["measured"]["motion"]["camera"] == "panning"
    assert told["grid"]["captions"] == 3 and told["negative"] == NEGATIVE_PROMPT


def test_long_footage_is_counted_and_only_its_first_clip_looked_at(unfade, make_pan, tmp_path):
    for frames, clips in ((121, 1), (122, 2), (181, 2), (182, 3)):
        clip = make_pan(tmp_path / f"{frames}.mp4", 0, frames, 32, 32)
        told = json.loads(unfade("prompt", clip, "--format", "json").out)
        assert (
            told["grid"]["num_frames"] == frames
            and told["grid"]["clips"] == told["grid"]["captions"] == clips
        )
        assert told["looks"][-1] == 120


def test_tiles_are_counted_as_the_specification_says():
    from unfade.restore.footage_prompts import caption_grid

    for height, width in ((480, 640), (720, 1280), (1080, 1920), (1920, 1080), (64, 64), (100, 1000)):
        grid = caption_grid(height, width, 9)
        assert min(grid.height, grid.width) == 1024 and grid.height * width == pytest.approx(
            grid.width * height, rel=0.01
        )
        latents = [math.ceil(side / 16) * 2 for side in (grid.height, grid.width)]
        counted = [1 if side <= 128 else math.ceil((side - 128) / 64) + 1 for side in latents]
        assert [grid.rows, grid.columns] == counted
    assert (caption_grid(1080, 1920, 9).columns, caption_grid(1920, 1080, 9).rows) == (3, 3)


def test_the_users_own_prompt_wins_for_footage_too(unfade, make_pan, tmp_path):
    clip = make_pan(tmp_path / "a.mp4", 0, 3)
    ended = unfade("prompt", clip, "--prompt", "a  boat", "--captioner", "qwen3-vl-4b")
    assert ended.code == 0 and ended.out.strip() == f"a boat {SUFFIX}"
    assert (
        "caption: user, because it is your own, which always wins" in ended.err
        and "the same for all" in ended.err
    )


def test_a_photo_is_footage_of_one_frame_for_vivid_vr(unfade, make_photo, tmp_path):
    photo = make_photo(tmp_path / "a.png")
    told = json.loads(unfade("prompt", photo, "-n", "vivid-vr", "--format", "json").out)
    assert told["looks"] == [0] and told["measured"]["motion"] is None and told["grid"]["clips"] == 1
    assert (
        "camera" not in told["caption"] and told["why"] == "it measured the one frame, which needs no model"
    )
    assert SUFFIX not in unfade("prompt", photo).out


def test_what_makes_no_sense_of_footage_is_one_sentence(unfade, make_pan, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    clip = make_pan(tmp_path / "a.mp4", 0, 3)
    (tmp_path / "broken.mp4").write_text("no footage")
    for words, code, said in (
        ((clip, "-n", "progressive"), 2, "footage is told to vivid-vr"),
        ((clip, "--task", "blur"), 2, "leave out --task and --kind"),
        ((clip, "--kind", "uniform"), 2, "leave out --task and --kind"),
        ((clip, "--captioner", "qwen3-vl-4b"), 6, "qwen3-vl-4b is not on this machine"),
        ((clip, "--captioner", "cogvlm2-caption"), 6, "used by its folder only"),
        ((clip, "--max-megapixels", "0.001"), 3, "too large"),
        ((tmp_path / "broken.mp4",), 3, "broken.mp4"),
        ((tmp_path / "none.mp4",), 3, "does not exist"),
    ):
        ended = unfade("prompt", *words)
        assert (ended.code, ended.out) == (code, "") and said in ended.err, ended
        assert ended.err.strip().count("\n") == 0


def test_a_progression_set_from_the_command(unfade, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    dice = torch.Generator().manual_seed(3)
    for name, side in (("a", 96), ("b", 96), ("small", 24)):
        write_image(Clip(torch.rand(1, 3, side, side, generator=dice)), photos / f"{name}.png")
    (photos / "notes.png").write_text("no photo")
    words = ("degrade", photos, "--as", "progression", "--size", "64x64", "--frames", "9", "--workers", "1")
    ended = unfade(*words, "-o", tmp_path / "set")
    assert ended.code != 0 and "small.png" in ended.err and "notes.png" in ended.err
    assert "Traceback" not in ended.err
    before = {path: path.read_bytes() for path in sorted((tmp_path / "set").rglob("*.tar"))}
    assert before and (tmp_path / "set/manifest.json").exists() and (tmp_path / "set/preview.mp4").exists()
    list(before)[-1].unlink()
    unfade(*words, "-o", tmp_path / "set")
    assert {path: path.read_bytes() for path in before} == before


def test_a_set_has_the_papers_size_where_nothing_is_said(unfade, tmp_path):
    photo = tmp_path / "photos/a.png"
    write_image(
        Clip(
            torch.rand(1, 3, 77, 136, generator=generator(3))
            .repeat_interleave(10, 2)
            .repeat_interleave(10, 3)
        ),
        photo,
    )
    ended = unfade(
        "degrade",
        photo,
        "--as",
        "progression",
        "--task",
        "lowlight",
        "--workers",
        "1",
        "-o",
        tmp_path / "set",
    )
    assert ended.code == 0, ended.err
    manifest = json.loads((tmp_path / "set/manifest.json").read_text())
    assert (manifest["size"], manifest["frames"], manifest["fps"]) == ([768, 1360], 9, 5)
    assert (manifest["clips"], manifest["strengths"]) == (2, ["mild", "strong"])
    from unfade.training.progression import ProgressionSet

    assert ProgressionSet(tmp_path / "set").stored(0).shape == (9, 3, 768, 1360)
