"""`unfade train footage`: what it offers, what it refuses, and what it says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.recipes import run_gather
from unfade.training.gather import GatherRun
from unfade.training.moving import MovingRule
from unfade.training.windows import WindowRule


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = Tiny(TinyConfig(widths=(8, 8, 8), blocks=(1, 1, 1), context=16, buckets=64))
    path = tmp_path / "weights.safetensors"
    save_tiny(network, network.state_dict(), path, {})
    return path


def test_help_says_what_it_needs(unfade: Callable[..., Any]) -> None:
    ended = unfade("train", "footage", "--help")
    assert ended.code == 0
    for word in ("--photos", "--weights", "--runs", "--steps", "--until", "--workers", "neighbouring frames"):
        assert word in ended.out
    assert "footage" in unfade("train", "--help").out


def test_what_can_not_be_done_is_told(
    unfade: Callable[..., Any], weights: Path, examples: Path, tmp_path: Path
) -> None:
    told = ("train", "footage", "--photos", examples, "--runs", tmp_path / "runs")
    assert unfade(*told).code == 2
    ended = unfade(*told, "--weights", weights, "--workers", 3)
    assert ended.code == 2 and "3 workers can't share 8 clips" in " ".join(ended.err.split())
    ended = unfade(*told, "--weights", tmp_path / "absent.safetensors")
    assert ended.code != 0 and "no model file" in ended.err
    ended = unfade(*told, "--weights", weights)
    assert ended.code != 0 and "too few" in ended.err
    assert [path.name for path in tmp_path.iterdir()] == [weights.name]


def test_the_command_trains_and_says_what_it_gained(
    unfade: Callable[..., Any],
    weights: Path,
    examples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moving = MovingRule(frames=6, size=16, parallax=0, moving=0)
    small = GatherRun(windows=WindowRule(moving, clips=1, compressed=0, noisy=1, partial=0), held_out=1)
    # The command has no way to ask for a run this small.
    monkeypatch.setattr(run_gather, "GatherRun", lambda: replace(small, validate_every=100))
    told = ("train", "footage", "--photos", examples, "--weights", weights, "--runs", tmp_path / "runs")
    ended = unfade(*told, "--steps", 2, "--until", 1)
    assert ended.code == 0 and "step 1  loss" in ended.out
    assert "frame by frame" in ended.out and "with neighbours" in ended.out
    assert f"weights: {tmp_path / 'runs' / 'tiny.safetensors'}" in ended.out.replace("\n", "")
    assert load_tiny(tmp_path / "runs/tiny.safetensors").gather is not None
