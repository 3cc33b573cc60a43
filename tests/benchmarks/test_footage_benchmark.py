"""What the benchmark of footage measures of clips whose figures are known."""

import sys
from fractions import Fraction
from itertools import islice
from math import log10
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from unfade.media.images import read_image
from unfade.media.video import read_video
from unfade.restore.engine import PixelRestorer
from unfade.restore.load import load

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import footage  # noqa: E402  # pyright: ignore[reportMissingImports]
import tables  # noqa: E402  # pyright: ignore[reportMissingImports]

FPS = Fraction(25)
DAMAGES = {damage.name: damage for damage in footage.DAMAGES}


def glide(photo: Path, frames: int) -> Tensor:
    """A window of 96 x 64 that moves by two pixels a frame."""
    image = read_image(photo).frames[0]
    return torch.stack(
        [image[:, 150:214, 200 + 2 * index : 296 + 2 * index] for index in range(frames)]
    ).contiguous()


@pytest.fixture(scope="module")
def restorer() -> PixelRestorer:
    loaded = load("tiny")
    assert isinstance(loaded, PixelRestorer), "tiny works on pixels"
    return loaded


@pytest.fixture(scope="module")
def rows(restorer: PixelRestorer, examples: Path) -> list[dict[str, Any]]:
    measured = footage.Footage(restorer, "fp32", 0)
    named = [DAMAGES["noise-20"], DAMAGES["noise-20 + H.264 crf 23"]]
    with torch.inference_mode():
        return measured.clip("glide", glide(examples / "coffee.png", 3), FPS, named)


def test_noise_is_as_strong_as_it_is_called_and_another_in_every_frame_and_clip() -> None:
    grey = torch.full((3, 3, 64, 96), 128 / 255)
    noise = 255 * (DAMAGES["noise-20"](grey, FPS, 0, "one") - grey)
    assert noise.std() == pytest.approx(20, rel=0.02)
    other = 255 * (DAMAGES["noise-20"](grey, FPS, 0, "other") - grey)
    for first, second in ((noise[0], noise[1]), (noise[1], noise[2]), (noise[0], other[0])):
        assert abs(float(torch.corrcoef(torch.stack((first.flatten(), second.flatten())))[0, 1])) < 0.03
    assert torch.equal(255 * (DAMAGES["noise-20"](grey, FPS, 0, "one") - grey), noise)
    assert not torch.equal(255 * (DAMAGES["noise-20"](grey, FPS, 1, "one") - grey), noise)


def test_low_light_stays_while_its_noise_changes() -> None:
    grey = torch.full((24, 3, 48, 48), 0.8)
    dark = DAMAGES["sensor noise + low light"](grey, FPS, 0, "grey")
    # Two stops less, hardly any falloff in the middle, then balance and contrast, on a plain power of 2.2.
    light = 0.8**2.2 / 4 * torch.tensor([1.1, 1.0, 0.9], dtype=torch.float64)
    middle = dark[..., 21:27, 21:27].double() ** 2.2
    torch.testing.assert_close(middle.mean((0, 2, 3)), light**1.2, rtol=0.03, atol=0)
    spread = middle.var((0, 2, 3))
    torch.testing.assert_close(spread, 3e-3 * light**1.2, rtol=0.25, atol=0)
    frames = dark.mean((1, 2, 3))
    assert frames.max() - frames.min() < 0.5 / 255
    assert (dark[0] - dark[1]).abs().mean() > 1 / 255


@pytest.mark.parametrize("damage", footage.DAMAGES, ids=lambda damage: damage.name)
def test_inputs_have_8_bits_and_are_damaged(damage: Any, examples: Path) -> None:
    truth = glide(examples / "coffee.png", 2)
    damaged = damage(truth, FPS, 0, "glide")
    assert damaged.shape == truth.shape
    assert torch.equal(damaged, (damaged * 255).round() / 255)
    assert 0 <= damaged.min() and damaged.max() <= 1
    assert ((damaged - truth).abs().mean() > 1 / 255) != (damage.name == "nothing")
    assert damage.is_judged == ("noise-" in damage.name and "crf" in damage.name)


def test_clips_are_read_from_their_beginning_and_reduced_by_averages(shared: Path) -> None:
    source = footage.SOURCES[2]
    read = list(source.images(shared / "clips", 2))
    assert [tuple(image.shape) for image in read] == [(3, 360, 640)] * 2
    for image, frame in zip(read, islice(read_video(source.path(shared / "clips")), 2), strict=True):
        whole = frame.image.double()
        average = (whole[:, ::2, ::2] + whole[:, ::2, 1::2] + whole[:, 1::2, ::2] + whole[:, 1::2, 1::2]) / 4
        assert (image - average).abs().max() <= 0.5 / 255 + 1e-6


def test_a_row_says_what_both_ways_reach(
    rows: list[dict[str, Any]], restorer: PixelRestorer, examples: Path
) -> None:
    noisy = rows[0]
    truth = glide(examples / "coffee.png", 3)
    damaged = DAMAGES["noise-20"](truth, FPS, 0, "glide")
    for way, count in (("over_time", 2), ("frame_by_frame", 0)):
        with torch.inference_mode():
            results = list(restorer.restore_stream(damaged, None, dtype="fp32", neighbours=count))
        decibels = [
            -10 * log10(((result.mul(255).round() / 255 - true).double() ** 2).mean())
            for result, true in zip(results, truth, strict=True)
        ]
        assert noisy[f"{way}_psnr"] == pytest.approx(sum(decibels) / 3, abs=1e-3)
        assert noisy[f"{way}_psnr"] > noisy["input_psnr"] + 5
    assert noisy["truth_warping_error"] < noisy["over_time_warping_error"] < noisy["input_warping_error"]
    assert noisy["truth_flicker"] == 0 < noisy["over_time_flicker"]
    assert noisy["over_time_seconds"] > 0
    assert [row["judged"] for row in rows] == [False, True]


def test_a_cut_is_seen_as_far_as_light_is_shared(restorer: PixelRestorer, examples: Path) -> None:
    measured = footage.Footage(restorer, "fp32", 0)
    first, second = (glide(examples / name, 2) for name in ("coffee.png", "rocket.jpg"))
    with torch.inference_mode():
        cut = measured.cut("a to b", first, second, FPS)
        unseen = measured.cut("a to a", first, 0.97 * first, FPS)
    assert [row["light"] for row in cut] == ["plain", "dark", "haze"]
    assert cut[0]["frame_by_frame"] < 1e-3 and cut[0]["over_time"] < 1e-3
    # Between two clips that look alike no cut is found, and they are restored as one.
    assert all(row["frame_by_frame"] > 1e-3 for row in unseen)


def test_bars_say_what_is_missed() -> None:
    def row(name: str, damage: str, psnr: float, warping: float, judged: bool = True) -> dict[str, Any]:
        """30 dB, a warping error of 2 and flicker of 1 frame by frame; four frames a second."""
        return {
            "name": name,
            "damage": damage,
            "width": 640,
            "height": 272,
            "judged": judged,
            "frame_by_frame_psnr": 30.0,
            "over_time_psnr": psnr,
            "frame_by_frame_warping_error": 2.0,
            "over_time_warping_error": warping,
            "frame_by_frame_flicker": 1.0,
            "over_time_flicker": warping / 2,
            "over_time_seconds": 0.25,
        }

    measured = [
        row("a", "n + c", 30.9, 1.0),
        row("b", "n + c", 30.3, 2.0),
        row("a", "m + c", 30.4, 2.4),
        row("a", "n", 29.0, 3.0, judged=False),
    ]
    cut = [
        {"name": "a to b", "light": light, "frame_by_frame": 0.4, "over_time": far}
        for light, far in (("plain", 0.45), ("haze", 1.0))
    ]
    found = footage.bars(measured, cut, amx=True)
    assert {bar.name: bar.passed for bar in found} == {
        "n + c: dB over frame by frame": True,
        "n + c: warping error over frame by frame's": True,
        "n + c: flicker over frame by frame's": True,
        "m + c: dB over frame by frame": False,
        "m + c: warping error over frame by frame's": False,
        "m + c: flicker over frame by frame's": False,
        "n: dB over frame by frame": False,
        "cut from a to b, plain: grey levels beyond frame by frame's": True,
        "cut from a to b, haze: grey levels beyond frame by frame's": False,
        "640x272: frames a second": False,
    }
    assert found[0].value == pytest.approx(0.6) and found[1].value == pytest.approx(0.75)
    assert footage.bars(measured, cut, amx=False)[-1].passed is None
    assert footage.bars(measured, cut, amx=False)[-1].value == pytest.approx(4)


def test_the_table_has_a_line_for_each_clip_and_damage(rows: list[dict[str, Any]]) -> None:
    lines = tables.footage({"clips": rows})
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {11}
    assert lines[2].startswith(f"| glide | noise-20 | {rows[0]['input_psnr']:.2f} | ")
    assert lines[2].endswith(f"| {rows[0]['over_time_flicker']:.2f} |")


def test_without_the_clips_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "footage.json"
    monkeypatch.setattr(sys, "argv", ["footage.py", "--data", str(tmp_path), "-o", str(output)])
    assert footage.main() == 3
    assert "carphone_pristine.mp4" in capsys.readouterr().out
    assert not output.exists()
    monkeypatch.setattr(sys, "argv", ["footage.py", "--frames", "1"])
    with pytest.raises(SystemExit):
        footage.main()
