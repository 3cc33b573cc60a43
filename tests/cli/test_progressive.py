"""`unfade restore` and `unfade models` with a CogVideoX model: the same files, reports and refusals as with Wan."""

import json
from pathlib import Path
from typing import Any

import pytest

from unfade.media.images import read_image
from unfade.media.notes import read_notes

FAST = ("--steps", 1, "--guidance", 1, "--device", "cpu", "--dtype", "fp32")


@pytest.fixture(autouse=True)
def _no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def test_a_photo_with_its_own_words(
    unfade: Any, cogvideox_folder: Path, make_photo: Any, tmp_path: Path
) -> None:
    source = make_photo(tmp_path / "a.png", 40, 70)
    ended = unfade(
        "restore", "-n", cogvideox_folder, *FAST, source, "--prompt", "it becomes sharp", "--format", "json"
    )
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["status"] == "done"
    result = read_image(tmp_path / "a_unfaded.png")
    assert (result.height, result.width) == (40, 70)
    notes = read_notes(tmp_path / "a_unfaded.png")
    assert (notes["model"], notes["prompt"], notes["sampler"]) == (
        "small-cogvideox",
        "it becomes sharp",
        "dpm",
    )
    assert notes["method"].startswith("Progressive") and notes["frames"] == "9"


def test_what_it_can_not_do_is_one_sentence(
    unfade: Any, cogvideox_folder: Path, make_photo: Any, tmp_path: Path
) -> None:
    source = make_photo(tmp_path / "a.png", 40, 70)
    ended = unfade("restore", "-n", cogvideox_folder, *FAST, source, "--clip-frames", 13)
    assert ended.code == 2 and len(ended.err.strip().splitlines()) == 1
    assert "frames must be 8k + 1, not 13" in ended.err


def test_words_and_sampler(
    unfade: Any, cogvideox_folder: Path, wan_folder: Path, make_photo: Any, tmp_path: Path
) -> None:
    source = make_photo(tmp_path / "a.png", 40, 70)
    told = ("restore", "-n", cogvideox_folder, *FAST, source, "--overwrite")
    assert unfade(*told, "--words", "uniform", "--sampler", "ddim").code == 0
    assert read_notes(tmp_path / "a_unfaded.png")["sampler"] == "ddim"
    uniform = read_image(tmp_path / "a_unfaded.png").frames
    assert unfade(*told, "--words", "scene", "--sampler", "ddim").code == 0
    assert not (read_image(tmp_path / "a_unfaded.png").frames == uniform).all()
    ended = unfade("restore", "-n", wan_folder, *FAST, source, "--overwrite", "--sampler", "ddim")
    assert ended.code == 2 and "Wan has no use for sampler; leave it out" in ended.err


def test_models_tells_of_it(unfade: Any) -> None:
    told = json.loads(unfade("models", "info", "progressive", "--format", "json").out)
    assert (told["name"], told["parameters"]) == ("cogvideox1.5-5b-i2v", 5_571_594_880)
    assert (told["frame_rule"], told["size_multiple"], told["latent_channels"]) == ("8k + 1", 16, 16)
