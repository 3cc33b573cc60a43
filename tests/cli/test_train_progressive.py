"""`unfade train progressive`: stopped half-way, gone on with, and told what it does not know."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unfade.cli import train
from unfade.core import Clip, generator
from unfade.media.images import write_image


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
