"""`unfade train vivid-vr`: from folders of footage to a control that restores, stopped half-way and gone on with."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_footage import film

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V
from unfade.backbones.cogvideox_folder import save_cogvideox
from unfade.backbones.few_words import save_few_words_encoder
from unfade.cli import train
from unfade.media.video import frame_times
from unfade.recipes.run_vivid import _made_anew
from unfade.recipes.vivid import vivid_smoke
from unfade.training.footage_clips import FootageClips


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    torch.manual_seed(0)
    save_cogvideox(build_cogvideox(SMALL_T2V), folder)
    save_few_words_encoder(folder, ["a bright scene with muted colours camera panning"], 24)
    return folder


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    for name in ("a", "b", "c"):
        film(folder / f"{name}.mp4", (48,))
    return folder


def test_from_footage_to_a_control_that_restores(
    base: Path,
    footage: Path,
    tmp_path: Path,
    unfade: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made, runs = tmp_path / "made", tmp_path / "runs"
    ended = unfade(
        "distill", "concepts", "--videos", footage, "--model", base, "-o", made, "--steps", 2, "--guidance", 1,
        "--frames", 17, "--size", "48x32", "--device", "cpu", "--dtype", "fp32",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    told = (
        "train", "vivid-vr", "--videos", footage, "--model", base, "--runs", runs, "--recipe", "smoke", "--device",
        "cpu", "--held-out", 1, "--least-side", 48, "--concepts", made, "--ratio", 1,
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
    assert "3 clips in 3 of 3 videos" in ended.out and "caption 3 of 3" in ended.out
    ended = unfade(*told)
    assert ended.code == 0, ended.err
    assert "step 3 of 3  48 x 32 px" in ended.out and "caption" not in ended.out and "held out: " in ended.out
    assert f"control: {runs / 'control'}" in ended.out
    # What was made of the held-out video is left alone.
    held = Path(json.loads((runs / "footage.json").read_text())["held out"][0])
    clips = FootageClips.of(runs / "footage.jsonl", 17)
    apart = FootageClips(tuple(part for part in clips.parts if part[0].path == held))
    taken = _made_anew(made, clips, apart, vivid_smoke())
    keys = {clips.caption_key(index): video.path for index, (video, _) in enumerate(clips.parts)}
    assert len(clips) == 3 and len(apart) == 1
    assert {keys[video.path.stem] for video, _ in taken.parts} == set(keys.values()) - {held}
    note = json.loads((runs / "control" / "control.json").read_text())
    assert note["step"] == "3" and note["captions"] == "rules" and json.loads(note["run"])["iterations"] == 3
    result = tmp_path / "result.mp4"
    ended = unfade(
        "restore", footage / "a.mp4", "-o", result, "-n", base, "--control", runs / "control", "--steps", 1,
        "--guidance", 1, "--short-side", 0, "--window", 9, "--device", "cpu",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert frame_times(result).count == 48
    for more, sentence in (
        (("--ratio", 0.2), "was begun with ratio 1.0, not 0.2"),
        (("--connectors", "mlp"), "another model, adapter or control"),
        (("--judge", "lpips"), "lpips"),
        (("--crop", "64,32"), "neither a side such as 1024"),
        (("--concepts", footage), "has no manifest.jsonl; name what unfade distill concepts made"),
        (("--crop", 512), "larger footage, or a smaller --crop"),
        (("--held-out", 3), "too few to keep 3 of them apart"),
        (("--frames", 16, "--least-frames", 10), "no number of frames 8k"),
    ):
        ended = unfade(*told, *more)
        assert ended.code in (2, 3) and sentence in ended.err, ended.err
