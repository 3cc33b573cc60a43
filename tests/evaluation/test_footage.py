"""Warping error, flicker and the comparison of times."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from unfade.core import InputError, generator
from unfade.evaluation.metrics.footage import flicker, footage_metrics, timing_equal, warping_error
from unfade.media.images import read_image

pytest.importorskip("cv2")


def _panning(examples: Path, frames: int = 4, right: int = 2, down: int = 1) -> Tensor:
    """A window moving by whole pixels over a photo, `[T, 3, 72, 96]`."""
    photo = read_image(examples / "coffee.png").frames[0, :, 100:240, 150:350]
    return torch.stack(
        [photo[:, down * t : down * t + 72, right * t : right * t + 96] for t in range(frames)]
    )


def _noise(x: Tensor, sigma: float = 0.05) -> Tensor:
    return x + sigma * torch.randn(x.shape, generator=generator(0, "noise"))


def test_a_still_has_no_warping_error_and_no_flicker(examples: Path) -> None:
    still = _panning(examples, right=0, down=0)
    assert warping_error(still) == pytest.approx(0, abs=1e-12)
    assert warping_error(still, still) == pytest.approx(0, abs=1e-12)
    assert flicker(still) == flicker(still, still) == 0


def test_a_translation_is_followed(examples: Path) -> None:
    panning = _panning(examples)
    unmoved = float((panning[1:] - panning[:-1]).square().mean())
    assert warping_error(panning) < 0.02 * unmoved


def test_noise_of_each_frame_is_seen_along_the_truths_motion(examples: Path) -> None:
    truth = _panning(examples)
    errors = [warping_error(_noise(truth, sigma), truth) for sigma in (0, 0.02, 0.05, 0.1)]
    assert errors == sorted(set(errors))
    # Independent noise in two frames; fetching between pixels halves the second one's variance at most twice.
    assert 1.25 * 0.1**2 * 0.9 < errors[-1] - errors[0] < 2 * 0.1**2 * 1.1


def test_flicker_of_brightness_is_seen_by_the_warping_error_by_hand(examples: Path) -> None:
    still = 0.2 + 0.5 * _panning(examples, right=0, down=0)
    blinking = still.clone()
    blinking[1::2] += 0.1
    assert warping_error(blinking, still) == pytest.approx(0.01, rel=1e-4)


def test_what_becomes_hidden_is_not_counted() -> None:
    """A textured square slides over a textured ground; where it arrives the ground is gone."""
    dice = generator(1)
    ground, square = torch.rand(3, 24, 32, generator=dice), torch.rand(3, 8, 8, generator=dice)
    ground, square = (
        torch.nn.functional.interpolate(x[None], scale_factor=4, mode="bicubic")[0].clamp(0, 1)
        for x in (ground, square)
    )
    frames = torch.stack([ground, ground])
    frames[0, :, 32:64, 32:64] = square
    frames[1, :, 32:64, 38:70] = square
    unmasked = float((frames[1] - frames[0]).square().mean())
    assert warping_error(frames) < 0.05 * unmasked


def test_the_result_does_not_depend_on_opencvs_threads(examples: Path) -> None:
    import cv2

    x = _noise(_panning(examples))
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        first = warping_error(x)
        cv2.setNumThreads(3)
        assert warping_error(x) == first and cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)


def test_flicker_by_hand() -> None:
    truth = torch.full((6, 3, 8, 8), 0.5)
    alternating = truth.clone()
    alternating[1::2] += 10 / 255
    assert flicker(alternating, truth) == pytest.approx(10, abs=1e-4)
    # Without a truth the second differences are twice the step, and halved.
    assert flicker(alternating) == pytest.approx(10, abs=1e-4)
    assert flicker(truth + 0.1, truth) == pytest.approx(0, abs=1e-9)
    assert flicker(truth) == flicker(truth, truth) == 0


def test_a_fade_is_no_flicker_and_its_loss_is_one() -> None:
    fade = torch.linspace(0.2, 0.8, 7, dtype=torch.float64).view(-1, 1, 1, 1).expand(7, 3, 4, 4)
    assert flicker(fade) == pytest.approx(0, abs=1e-9)
    assert flicker(torch.full_like(fade, 0.5), fade) == pytest.approx(25.5, abs=1e-9)


def test_flicker_grows_with_the_alternation(examples: Path) -> None:
    truth = _panning(examples, 5)
    values = []
    for step in (0.0, 0.02, 0.05, 0.1):
        x = truth.clone()
        x[::2] *= 1 - step
        values.append(flicker(x, truth))
    assert values[0] == 0 and values == sorted(set(values))


def test_too_little_footage_is_refused_and_has_no_figure(examples: Path) -> None:
    panning = _panning(examples)
    with pytest.raises(ValueError, match="2 frames"):
        flicker(panning[:1])
    with pytest.raises(ValueError, match="3 frames"):
        flicker(panning[:2])
    with pytest.raises(ValueError, match="2 frames"):
        warping_error(panning[:1])
    with pytest.raises(ValueError, match="32x32"):
        warping_error(panning[..., :31])
    with pytest.raises(ValueError, match="one size"):
        flicker(panning, panning[:3])
    (warping, light), absences = footage_metrics()
    assert absences == () and (warping.name, light.name) == ("warping-error", "flicker")
    assert warping.measure(panning[:1]) is None and warping.measure(panning[..., :31]) is None
    assert light.measure(panning[:2]) is None and light.measure(panning[:2], panning[:2]) == 0
    assert warping.measure(panning) == warping_error(panning)


def _write(path: Path, times: list[int], time_base: Fraction = Fraction(1, 12800)) -> Path:
    """A tiny video whose frames are shown at `times`, in ticks."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        for index, time in enumerate(times):
            pixels = np.full((48, 64, 3), 40 + 20 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


TIMES = [0, 512, 1024, 1536, 2048]


def test_equal_times_are_equal(tmp_path: Path) -> None:
    first, second = _write(tmp_path / "a.mp4", TIMES), _write(tmp_path / "b.mp4", TIMES)
    timing = timing_equal(first, second)
    assert timing.equal and timing.frames == (5, 5) and timing.difference is None


def test_the_first_moved_frame_is_named(tmp_path: Path) -> None:
    first = _write(tmp_path / "a.mp4", TIMES)
    second = _write(tmp_path / "b.mp4", [0, 512, 1025, 1600, 2048])
    timing = timing_equal(first, second)
    assert not timing.equal and timing.frames == (5, 5)
    assert timing.difference is not None and timing.difference.startswith("frame 2 ")


def test_a_missing_frame_is_counted(tmp_path: Path) -> None:
    first, second = _write(tmp_path / "a.mp4", TIMES), _write(tmp_path / "b.mp4", TIMES[:4])
    assert timing_equal(first, second).difference == "5 and 4 frames"
    assert timing_equal(second, first).frames == (4, 5)


def test_milliseconds_of_matroska_are_near_enough(tmp_path: Path) -> None:
    times = [0, 427, 853, 1280, 1707]
    first, second = _write(tmp_path / "a.mp4", times), _write(tmp_path / "b.mkv", times)
    assert timing_equal(first, second).equal
    moved = _write(tmp_path / "c.mkv", [0, 427, 853, 1280 + 64, 1707])
    difference = timing_equal(first, moved).difference
    assert difference is not None and difference.startswith("frame 3 ")


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    first = _write(tmp_path / "a.mp4", TIMES)
    (tmp_path / "b.mp4").write_text("nothing")
    with pytest.raises(InputError):
        timing_equal(first, tmp_path / "b.mp4")
