"""What the benchmark of words and steps says of results that are known."""

import sys
from pathlib import Path

import pytest
import torch

from unfade.core import Clip
from unfade.media.images import write_image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import steering  # noqa: E402  # pyright: ignore[reportMissingImports]


def test_what_was_to_stay_is_measured_by_its_energy() -> None:
    clean, grain = torch.rand(2, 1, 3, 32, 32).unbind(0)
    grain = grain - 0.5
    for left, energy in ((1.0, 1.0), (0.5, 0.25), (0.0, 0.0), (-1.0, -1.0)):
        result = clean + left * grain
        assert steering.kept_energy(result, clean, clean + grain) == pytest.approx(energy, abs=1e-5)


def test_sharpness_is_that_of_the_truth_for_the_truth() -> None:
    truth = torch.rand(1, 3, 32, 32)
    assert steering.sharpness(truth, truth) == 1
    assert steering.sharpness(0.5 + 0.5 * truth, truth) == pytest.approx(0.5, abs=1e-5)


def test_bars_say_what_is_missed() -> None:
    words = [{"damage": "a + b", "asked_to_go": "a", "alone": 30.0, "asked": 28.5, "changed": 0.05}]
    steps = [
        {"task": "x2", "steps": count, "psnr": psnr, "sharpness": sharp}
        for count, psnr, sharp in ((1, 30.0, 0.8), (2, 29.8, 0.9), (8, 29.0, 0.7))
    ]
    bright = [
        {"task": "dark-0.2", "input": 8.0, "blind": 21.5, "named": 23.0},
        {"task": "dark-0.1", "input": 7.0, "blind": 19.0, "named": 20.0},
    ]
    verdicts = {bar.name: bar.passed for bar in steering.bars(words, bright, steps)}
    assert verdicts == {
        "a + b, a to go: dB below the wish granted alone": False,
        "a + b, a to go: energy of the rest changed": True,
        "dark-0.2, nothing said, dB": True,
        "dark-0.2, the brightness named, dB": False,
        "x2, 2 steps: dB below one step": True,
        "x2, 2 steps: sharpness over one step's": True,
        "x2, 8 steps: dB below one step": False,
        "x2, 8 steps: sharpness over one step's": False,
    }


def test_the_shipped_model_follows_words_and_keeps_its_answer_over_steps(
    tmp_path: Path, examples: Path
) -> None:
    from unfade.media.images import read_image

    whole = read_image(examples / "coffee.png").frames
    photo = tmp_path / "photo.png"
    write_image(Clip(whole[..., 100:260, 200:400]), photo)
    steered = steering.Steering("tiny", [photo], "fp32", 0)
    found = steered.words(("motion-blur", "gaussian-noise"), "gaussian-noise")
    # Where what is to stay is read as what is to go, nothing is done at all.
    assert found["asked"] > found["input"] + 8
    assert 0.8 < found["kept"] < 1.2
    named = steered.brightness("dark-0.2")
    assert named["named"] > named["blind"] > named["input"] + 5
    dark = steered.steps("dark-0.2")
    # An answer that is cut at every step instead of once loses 8 dB here.
    assert dark[1]["psnr"] > dark[0]["psnr"] - 1
