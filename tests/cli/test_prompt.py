"""`unfade prompt` and `unfade degrade --as progression`, as a user types them."""

import json

import torch

from unfade.core import Clip
from unfade.media.images import write_image


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


def test_a_captioner_that_is_not_here_is_one_sentence(unfade, make_photo, tmp_path):
    ended = unfade("prompt", make_photo(tmp_path / "a.png"), "--captioner", "qwen3-vl-4b")
    assert ended.code == 6 and ended.err.strip().count("\n") == 0 and "qwen3-vl-4b" in ended.err.lower()


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
