"""`unfade models`: list, info, download and verify."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def test_list_shows_every_model_and_whether_it_is_here(unfade: Any) -> None:
    rows = {row["name"]: row for row in json.loads(unfade("models", "list", "--format", "json").out)}
    assert rows["wan2.2-ti2v-5b"]["aliases"] == ["vbridge"]
    assert rows["wan2.2-ti2v-5b"]["installed"] is False and rows["wan2.2-ti2v-5b"]["bytes"] is None
    lines = unfade("models", "list").out.splitlines()
    assert len(lines) == len(rows)
    assert any("vbridge" in line and "5.0B" in line and "not installed" in line for line in lines)


def test_info_of_a_model_that_is_not_here_and_of_a_folder(unfade: Any, wan_folder: Path) -> None:
    told = json.loads(unfade("models", "info", "vbridge", "--format", "json").out)
    assert (told["parameters"], told["frame_rule"], told["size_multiple"]) == (4_999_787_712, "4k + 1", 32)
    assert told["where"] == "not on this machine"
    small = unfade("models", "info", wan_folder)
    assert small.code == 0 and "4k + 1" in small.out and str(wan_folder) in small.out


def test_verify_says_which_file_differs(unfade: Any, wan_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(wan_folder, tmp_path / "copy"))
    first = unfade("models", "verify", folder)
    assert first.code == 0 and "transformer/config.json: new" in first.out.replace("same", "new")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    again = unfade("models", "verify", folder)
    assert again.code == 6
    assert "vae/diffusion_pytorch_model.safetensors: differs" in again.out
    assert "1 of" in again.err and "(vae/diffusion_pytorch_model.safetensors)" in again.err
    assert unfade("models", "verify", folder, "--accept").code == 0
    assert unfade("models", "verify", folder).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("download", "vbridge"), "the hub can't be reached; check the network"),
        (("download", "nobody"), "unknown model 'nobody'"),
        (("download", "wan2.2-t2v-a14b"), "two transformers of 14B"),
        (("verify", "vbridge"), "not on this machine"),
        (("info", "wan2.1-i2v-14b-480p"), "extra channels"),
    ],
)
def test_what_can_not_be_done_is_one_sentence_and_code_6(
    unfade: Any, arguments: tuple[str, ...], said: str
) -> None:
    ended = unfade("models", *arguments)
    assert ended.code == 6 and said in ended.err and len(ended.err.strip().splitlines()) == 1


def test_tiny_is_there_already(unfade: Any) -> None:
    ended = unfade("models", "download", "tiny")
    assert ended.code == 0 and "nothing to download" in ended.out


def test_a_half_download_is_called_one_and_a_revision_is_found_by_its_folder(
    unfade: Any, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Or the hub's library tries again for twenty seconds before it takes what is here.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    model = tmp_path / "hub" / "hub" / "models--Wan-AI--Wan2.2-TI2V-5B-Diffusers"
    folder = Path(shutil.copytree(wan_folder, model / "snapshots" / commit))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)

    def told() -> dict[str, Any]:
        rows = json.loads(unfade("models", "list", "--format", "json").out)
        return next(row for row in rows if row["name"] == "wan2.2-ti2v-5b")

    assert told()["installed"] is True and told()["incomplete"] is False
    fetched = unfade("models", "download", "vbridge", "--revision", commit)
    assert fetched.code == 0 and f"-n {folder}" in fetched.out
    for part in ("text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        (folder / part).unlink()
        assert told()["installed"] is False and told()["incomplete"] is True
        assert "incomplete; run download again" in unfade("models", "list").out
        described = unfade("models", "info", "vbridge")
        assert described.code == 0 and f"incomplete: no {part}" in described.out
