"""`unfade restore` and `unfade models` with a CogVideoX model: the same files, reports and refusals as with Wan."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.small_captioner import save_llava

from unfade.media.images import read_image
from unfade.media.notes import read_notes
from unfade.prompts.progressive import uniform_prompt

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


def test_task_and_captioner(
    unfade: Any, cogvideox_folder: Path, wan_folder: Path, make_photo: Any, tmp_path: Path
) -> None:
    source, told = make_photo(tmp_path / "a.png", 40, 70), ("restore", "-n", cogvideox_folder, *FAST)
    for task in ("blur", "lowlight"):
        ended = unfade(*told, source, "--overwrite", "--words", "uniform", "--task", task)
        assert ended.code == 0 and read_notes(tmp_path / "a_unfaded.png")["prompt"] == uniform_prompt(task)
    captioner = save_llava(tmp_path / "llava")
    ended = unfade(*told, source, "--overwrite", "--task", "blur", "--captioner", captioner)
    notes = read_notes(tmp_path / "a_unfaded.png")
    # Random weights say nothing that keeps the rules.
    assert ended.code == 0 and notes["prompt"] == uniform_prompt("blur")
    assert f"note: {source}: the text of {captioner} breaks a rule: " in ended.err
    assert len(list((tmp_path / "cache/unfade/captions").iterdir())) == 1
    assert unfade(*told, source, "--overwrite", "--task", "blur").code == 0
    notes = read_notes(tmp_path / "a_unfaded.png")
    assert notes["prompt_source"] == "scene" and notes["prompt_why"].startswith("rules looked at the photo")
    assert unfade("prompt", source, "--task", "blur").out.strip() == notes["prompt"]
    for model, words, code, said in (
        (cogvideox_folder, ("--captioner", "qwen3-vl-4b"), 6, "qwen3-vl-4b is not on this machine"),
        (wan_folder, ("--captioner", "rules"), 2, "Wan has no use for captioner; leave it out"),
        (wan_folder, ("--task", "blur"), 2, "Wan has no use for task; leave it out"),
        ("tiny", ("--task", "blur"), 2, "tiny has no use for task, which is of video models"),
        ("tiny", ("--captioner", "rules"), 2, "tiny has no use for captioner, which is of video models"),
    ):
        ended = unfade("restore", "-n", model, source, "--overwrite", *words)
        assert ended.code == code and said in ended.err and len(ended.err.strip().splitlines()) == 1, (
            ended.err
        )


def test_evaluating_takes_words_task_and_captioner(
    unfade: Any, cogvideox_folder: Path, make_photo: Any, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    make_photo(photos / "a.png", 40, 70)
    told = (
        "evaluate", "--synthesize", "div2k-progression", "--from", photos, "--group", "blur-mild", "-n",
        f"{cogvideox_folder}?guidance=1", "--steps", 1, "--device", "cpu", "--dtype", "fp32", "--frames", "--along",
        "first", "--limit", 1,
    )  # fmt: skip
    ended = unfade(*told, "-o", tmp_path / "report", "--words", "uniform", "--captioner", "rules")
    assert ended.code == 0, ended.err
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["settings"]["video"] == {"words": "uniform", "captioner": "rules"}
    assert {one["trend"] for one in report["verdicts"]} >= {"rises", "shape"}
    assert "films should get better" in ended.out
    ended = unfade(*told, "-o", tmp_path / "other", "--captioner", "qwen3-vl-4b")
    assert ended.code == 6 and "qwen3-vl-4b is not on this machine" in ended.err
