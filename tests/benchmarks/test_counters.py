"""What a restoration costs is counted and has to be exactly what it must be."""

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from unfade.backbones.wan_denoiser import WanDenoiser

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import counters  # pyright: ignore[reportMissingImports]


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: replace(settings, steps=3, frames=5) for name, settings in counters.SETTINGS.items()}
    monkeypatch.setattr(counters, "SETTINGS", few)


def test_counts_are_what_they_must_be(tmp_path: Path) -> None:
    target = tmp_path / "counters.json"
    assert counters.main(["--strict", "--output", str(target)]) == 0
    told = json.loads(target.read_text())["counters"]
    assert [row["calls"] for row in told.values()] == [6, 6, 6, 3]
    assert [row["encoder_loads"] for row in told.values()] == [1, 0, 0, 0]
    assert {(row["encoded"], row["decoded"]) for row in told.values()} == {(1, 5)}


def test_work_done_twice_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WanDenoiser, "remembering", lambda self: nullcontext())
    assert counters.main(["--strict", "--output", str(tmp_path / "counters.json")]) == 1
    missed = json.loads((tmp_path / "counters.json").read_text())["missed"]
    assert missed and all("prompt_projections" in name for name in missed)


def test_the_committed_counts_are_those_of_the_published_settings() -> None:
    told = json.loads((Path(counters.__file__).parent / "results/counters.json").read_text())
    assert told["missed"] == []
    assert [row["calls"] for row in told["counters"].values()] == [100, 93, 100, 50]
