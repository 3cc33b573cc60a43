"""`unfade train progressive`: stopped half-way, gone on with, and told what it does not know."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.small_captioner import save_llava

from unfade.cli import train
from unfade.core import Clip, generator
from unfade.media.images import write_image
from unfade.recipes.run_progressive import captions_of


def test_the_command_trains_stops_and_goes_on(
    cogvideox_folder: Path, tmp_path: Path, unfade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos = tmp_path / "photos"
    for index in range(4):
        write_image(Clip(torch.rand(1, 3, 64, 96, generator=generator(0, index))), photos / f"{index}.png")
    told = (
        "train", "progressive", "--photos", photos, "--model", cogvideox_folder, "--runs", tmp_path / "runs",
        "--recipe", "smoke", "--device", "cpu", "--held-out", 1, "--task", "blur",
    )  # fmt: skip
    said = train._report_video

    def interrupted(row: dict[str, object]) -> None:
        said(row)
        if row["step"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(train, "_report_video", interrupted)
        ended = unfade(*told)
    assert ended.code == 130 and "the same command goes on from there" in ended.err
    ended = unfade(*told)
    assert ended.code == 0 and "step 3 of 3  48 x 32 px" in ended.out and "weights: " in ended.out
    ended = unfade(*told, "--task", "x")
    assert ended.code != 0 and "unknown task 'x'" in ended.err


def test_captions_are_kept_beside_the_photos(
    cogvideox_folder: Path, tmp_path: Path, unfade: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "mine"
    for index in range(2):
        write_image(Clip(torch.rand(1, 3, 64, 96, generator=generator(0, index))), folder / f"{index}.png")
    write_image(Clip(torch.rand(1, 3, 16, 96, generator=generator(0, "low"))), folder / "low.png")
    told = (
        "train", "progressive", "--photos", folder, "--model", cogvideox_folder, "--runs", tmp_path / "runs",
        "--recipe", "smoke", "--device", "cpu", "--held-out", 1, "--task", "blur", "--prompts", "scene",
        "--captioner", save_llava(tmp_path / "llava"),
    )  # fmt: skip
    ended = unfade(*told, "--until", 1)
    assert ended.code == 0, ended.err
    assert "left out: " in ended.err and "low.png has 96 x 16 pixels, fewer than the 48 x 32" in ended.err
    # Two photos, two strengths; what lies there now is no photo, and the run goes on.
    assert len(list((folder / ".unfade-captions").iterdir())) == 4
    assert not (tmp_path / "cache/unfade/captions").exists()
    assert unfade(*told).code == 0
    assert captions_of([folder]) == folder / ".unfade-captions" and captions_of(["s3://bucket/set"]) is None
