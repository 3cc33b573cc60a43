"""Drift correction and ablations as they run at full size, on the smallest real model and the smallest pairs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unfade.core import Clip, Plan, UsageError, generator
from unfade.degrade import named
from unfade.media.images import read_image, write_image
from unfade.recipes.run_vbridge import run_vbridge
from unfade.recipes.run_vbridge_ablations import run_ablations
from unfade.recipes.vbridge_drift import run_vbridge_drift
from unfade.training.fewshot import names_in

PLAN = Plan(device="cpu", dtype="fp32")
SAMPLING: dict[str, Any] = {"steps": 1, "guidance": 1.0}
SHORT: dict[str, Any] = {
    "stages": ((1, 32),),
    "batch": 1,
    "precision": "fp32",
    "text_dropout": 0.0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for category in ("Haze", "Noise"):
        for index in range(4):
            truth = torch.rand(1, 3, 32, 40, generator=generator(index, category))
            write_image(Clip(truth), folder / category / "GT" / f"{index}.png")
            write_image(Clip(truth * 0.5 + 0.3), folder / category / "LQ" / f"{index}.png")
    return folder


def test_drift_correction_from_pairs_to_gains(
    pairs: Path, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="holds no finished adapter"):
        run_vbridge_drift([pairs], str(wan_folder), tmp_path / "base", tmp_path / "drift")
    run_vbridge(
        [pairs], str(wan_folder), tmp_path / "base", recipe="smoke", few_shot="1", held_out=0, **SHORT
    )

    def corrected() -> dict[str, Any]:
        return run_vbridge_drift(
            [pairs],
            str(wan_folder),
            tmp_path / "base",
            tmp_path / "drift",
            each=1,
            held_out=1,
            plan=PLAN,
            sampling=SAMPLING,
            **SHORT,
        )

    told = corrected()
    assert not names_in(tmp_path / "base" / "pairs.json") & names_in(tmp_path / "drift" / "choice.json")
    assert set(told["gain"]) == {"Haze", "Noise", "all"}
    gain = told["with DC"]["Haze"]["result"] - told["w/o DC"]["Haze"]["result"]
    assert told["gain"]["Haze"] == pytest.approx(gain)
    assert told["gated"]["all"]["result"] >= min(
        told[name]["all"]["result"] for name in ("w/o DC", "with DC")
    )
    rolled = sorted((tmp_path / "drift" / "rollout").rglob("LQ/*.png"))
    assert len(rolled) == 2
    assert read_image(rolled[0]).metadata.bit_depth == 16
    before = [path.stat().st_mtime_ns for path in rolled]
    assert corrected() == told
    assert [path.stat().st_mtime_ns for path in rolled] == before
    assert "| w/o DC |" in (tmp_path / "drift" / "gains.md").read_text()


def test_a_table_of_fading_against_blending(
    pairs: Path, examples: Path, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked: dict[str, Any] = {
        "held_out": 1,
        "kinds": {"Haze": named("haze")},
        "epochs": 1,
        "plan": PLAN,
        "sampling": SAMPLING,
        **{name: value for name, value in SHORT.items() if name != "device"},
    }
    with pytest.raises(UsageError, match="--photos"):
        run_ablations("trajectory", [pairs], str(wan_folder), tmp_path, **asked)
    told = run_ablations("trajectory", [pairs], str(wan_folder), tmp_path, photos=[examples], **asked)
    assert list(told["rows"]) == ["linear", "fade"]
    assert len(told["held_out"]) == 2
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == told["rows"]
    assert (tmp_path / "table.md").read_text().count("SSIM") == 2


def test_a_table_with_and_without_correction(
    pairs: Path, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told = run_ablations(
        "drift",
        [pairs],
        str(wan_folder),
        tmp_path,
        held_out=1,
        each=1,
        plan=PLAN,
        sampling=SAMPLING,
        **SHORT,
    )
    assert list(told["rows"]) == ["w/o DC", "with DC"]
    with pytest.raises(UsageError, match="unknown table 'x'; there is frames, curriculum, data, drift"):
        run_ablations("x", [pairs], str(wan_folder), tmp_path)
