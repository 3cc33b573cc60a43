"""Footage made so that each statement is true or false on purpose, and what is said of it."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import generator
from unfade.degrade.jpeg import jpeg_round_trip
from unfade.media.images import read_image
from unfade.media.video import probe_video, read_video
from unfade.prompts.footage import FootageRules, caption_times, footage_sentences, measure_footage

RULES = FootageRules()
# Words that would ask a generator for what is to go.
FAULTS = re.compile(
    r"blur|nois|grain|block|artefact|artifact|compress|jpeg|soft|pixelat|low.res|degrad|damag|old"
)


@pytest.fixture(scope="module")
def canvas() -> Tensor:
    """A large picture of random patches with fine grain, `[3, 400, 900]`, of medium light and no tint."""
    dice = generator(5, "canvas")
    coarse, fine = torch.rand(1, 1, 20, 45, generator=dice), torch.rand(1, 1, 200, 450, generator=dice)
    parts = (functional.interpolate(part, size=(400, 900), mode="bicubic") for part in (coarse, fine))
    picture = sum(weight * part for weight, part in zip((0.7, 0.15), parts, strict=True)) + 0.05
    return torch.as_tensor(picture)[0].clamp(0, 1).expand(3, -1, -1)


def _window(canvas: Tensor, top: float, left: float) -> Tensor:
    return canvas[:, round(top) : round(top) + 180, round(left) : round(left) + 320]


def _footage(
    canvas: Tensor, down: float = 0.0, right: float = 0.0, looks: int = 5
) -> tuple[Tensor, list[float]]:
    """Looks a second apart through a window that goes so many pixels a second."""
    top, left = (110 - down * (looks - 1) / 2, 290 - right * (looks - 1) / 2)
    frames = [_window(canvas, top + down * look, left + right * look) for look in range(looks)]
    return torch.stack(frames), [float(look) for look in range(looks)]


def _published(total: int, fps: float) -> list[int]:
    """The released rule, counted frame by frame: a second is looked at once all of its frames are there."""
    rate = round(fps)
    looks = [frame for frame in range(total) if frame % rate == 0 and frame + rate <= total] or [0]
    return looks + [total - 1] * (looks[-1] != total - 1)


@pytest.mark.parametrize("fps", [1, 5.0, 23.976, 24, 25, 29.97, 60])
def test_looks_are_those_of_the_released_code(fps: float) -> None:
    for total in (*range(1, 131), 1000):
        assert list(caption_times(total, fps)) == _published(total, fps)
    assert caption_times(121, 24) == (0, 24, 48, 72, 96, 120)
    assert caption_times(1, 24) == (0,) and caption_times(55, 24) == (0, 24, 54)
    assert caption_times(5, 0.2) == (0, 1, 2, 3, 4)
    for total, rate in ((0, 24.0), (5, 0.0), (5, math.inf), (5, math.nan)):
        with pytest.raises(ValueError, match="at least 1 frame and a rate above 0"):
            caption_times(total, rate)


@pytest.mark.parametrize(
    ("down", "right", "said", "unsaid"),
    [
        (0, 30, "camera panning to the right", "left|tilting|still|slowly|quickly"),
        (0, -30, "camera panning to the left", "right|tilting|still|slowly|quickly"),
        (0, 8, "camera slowly panning to the right", "left|tilting|still|quickly"),
        (0, -100, "camera quickly panning to the left", "right|tilting|still|slowly"),
        (20, 0, "camera tilting down", "panning|up|still"),
        (-20, 0, "camera tilting up", "panning|down|still"),
        (-18, 32, "camera panning to the right and tilting up", "left|down|still"),
        (0, 0, "camera standing still. Hardly anything in the scene moves.", "panning|tilting|Parts"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("harm", ["none", "noise", "jpeg", "soft"])
def test_the_way_of_the_camera_is_told(canvas, down, right, said, unsaid, harm) -> None:
    frames, times = _footage(canvas, down, right)
    if harm == "noise":
        frames = (frames + 0.08 * torch.randn(frames.shape, generator=generator(1, "noise"))).clamp(0, 1)
    elif harm == "jpeg":
        frames = jpeg_round_trip(frames, torch.full((len(frames),), 20.0))
    elif harm == "soft":
        frames = functional.interpolate(
            functional.avg_pool2d(frames, 4), scale_factor=4.0, mode="bicubic"
        ).clamp(0, 1)
    text = RULES.describe(frames, times)
    assert said in text and not re.search(rf"\b({unsaid})\b", text), text
    assert not FAULTS.search(text.lower()) and 1 <= text.count(".") <= 3
    motion = measure_footage(frames, times).motion
    assert motion is not None
    # Of 180 rows and 320 columns; looks are compared at 192 columns, to whole pixels.
    assert motion.right == pytest.approx(right / 320, abs=1 / 192)
    assert motion.down == pytest.approx(down / 180, abs=1 / 108)


def test_a_camera_played_backwards_goes_the_other_way(canvas) -> None:
    frames, times = _footage(canvas, 0, 30)
    forth, back = (measure_footage(one, times).motion for one in (frames, frames.flip(0)))
    assert forth is not None and back is not None
    assert back.right == -forth.right and back.camera == forth.camera == "panning"


def test_the_pace_is_that_of_the_times(canvas) -> None:
    frames, times = _footage(canvas, 0, 30)
    quick = measure_footage(frames, [time / 5 for time in times]).motion
    slow = measure_footage(frames, times).motion
    assert quick is not None and slow is not None and quick.right == pytest.approx(5 * slow.right)
    assert "quickly" in RULES.describe(frames, [time / 5 for time in times])


def test_subjects_before_a_standing_camera_are_no_pan(canvas) -> None:
    frames, times = _footage(canvas)
    frames = frames.clone()
    for look in range(len(frames)):
        frames[look, :, 60:120, 20 + 50 * look : 70 + 50 * look] = torch.tensor([0.9, 0.9, 0.1])[
            :, None, None
        ]
    text = RULES.describe(frames, times)
    assert "camera standing still. Parts of the scene move." in text


def test_a_camera_that_goes_to_and_fro_moves_and_a_cut_is_no_motion_of_it(canvas) -> None:
    stops = (0, 40, 5, 45, 0)
    shaky = torch.stack([_window(canvas, 100, 200 + stop) for stop in stops])
    assert "camera moving" in RULES.describe(shaky, range(5))
    cuts = torch.rand(5, 3, 12, 20, generator=generator(2, "cuts"))
    cuts = functional.interpolate(cuts, size=(180, 320), mode="bicubic").clamp(0, 1)
    text = RULES.describe(cuts, range(5))
    assert "the view changing" in text and "camera" not in text


def test_light_that_changes_evenly_is_no_motion(canvas) -> None:
    frames, times = _footage(canvas)
    ramp = torch.linspace(0, 0.2, len(frames)).view(-1, 1, 1, 1)
    motion = measure_footage(frames * 0.7 + ramp, times).motion
    assert motion is not None and motion.camera == "still" and motion.change == pytest.approx(0, abs=1e-3)


def test_one_frame_has_no_motion(canvas) -> None:
    frames, _ = _footage(canvas, looks=1)
    assert measure_footage(frames, [0.0]).motion is None
    assert "camera" not in RULES.describe(frames, [0.0])


LIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "very dark": lambda picture: picture * 0.2,
    "dark": lambda picture: picture * 0.5,
    "dim": lambda picture: (picture**4 * 2).clamp(0, 1),
    "well-lit": lambda picture: picture,
    "bright": lambda picture: 0.5 + 0.5 * picture,
}


@pytest.mark.parametrize("light", LIGHTS)
def test_light_is_told(canvas, light) -> None:
    frames, times = _footage(canvas, 0, 20)
    text = RULES.describe(LIGHTS[light](frames), times)
    assert text.startswith(f"A {light} scene in black and white")


@pytest.mark.parametrize(
    ("gains", "said", "unsaid"),
    [
        ((1.0, 0.75, 0.5), "with warm colours, mostly orange", "cold|blue|greenish"),
        ((0.5, 0.7, 1.0), "with cold colours, mostly blue", "warm|orange|greenish"),
        ((0.6, 1.0, 0.6), "with greenish colours, mostly green", "warm|cold|blue"),
        ((1.0, 0.97, 0.94), "with muted colours", "warm|cold|mostly|white"),
        ((1.0, 1.0, 1.0), "in black and white", "colours|mostly"),
    ],
)
def test_colours_are_told(canvas, gains, said, unsaid) -> None:
    frames, times = _footage(canvas, 0, 20)
    text = RULES.describe(frames * torch.tensor(gains)[:, None, None], times)
    assert said in text and not re.search(unsaid, text), text


def test_two_colours_that_share_the_picture_are_both_told(canvas) -> None:
    frames, times = _footage(canvas)
    left = torch.arange(320) < 170
    red, blue = (torch.tensor(gains)[:, None, None] for gains in ((1.0, 0.3, 0.3), (0.3, 0.4, 1.0)))
    found = measure_footage(frames * torch.where(left, red, blue), times)
    assert found.colours == ("red", "blue")
    few = torch.arange(320) < 30
    assert measure_footage(frames * torch.where(few, red, torch.ones(3, 1, 1)), times).colours == ()


def test_contrast_is_told(canvas) -> None:
    frames, times = _footage(canvas)
    middle = frames.mean()
    assert "gentle contrast" in RULES.describe(middle + 0.3 * (frames - middle), times)
    assert "strong contrast" in RULES.describe((middle + 2 * (frames - middle)).clamp(0, 1), times)


def test_faults_are_answered_by_what_is_there_without_them(examples: Path) -> None:
    photo = read_image(examples / "coffee.png").frames
    clean = RULES.describe(photo, [0.0])
    assert clean.count(".") == 1, clean
    noisy = (photo + 0.06 * torch.randn(photo.shape, generator=generator(3, "noise"))).clamp(0, 1)
    assert "clean, even surfaces" in RULES.describe(noisy, [0.0])
    soft = functional.interpolate(functional.avg_pool2d(photo, 4), scale_factor=4.0, mode="bicubic").clamp(
        0, 1
    )
    text = RULES.describe(soft, [0.0])
    assert text.endswith("It has crisp edges and fine detail.")
    blocky = jpeg_round_trip(photo, torch.tensor([10.0]))
    assert "smooth gradients" in RULES.describe(blocky, [0.0])
    both = jpeg_round_trip(soft, torch.tensor([10.0]))
    assert RULES.describe(both, [0.0]).endswith("It has crisp edges and fine detail and smooth gradients.")


def test_blocks_are_those_of_the_grid(examples: Path) -> None:
    photo = read_image(examples / "coffee.png").frames
    blocks = [
        measure_footage(one, [0.0]).blocks or 0.0
        for one in (
            photo,
            *(jpeg_round_trip(photo, torch.tensor([quality])) for quality in (60.0, 30.0, 10.0)),
        )
    ]
    assert blocks == sorted(blocks) and blocks[0] < 0.1 and blocks[3] > 1
    # Off the grid, nothing is seen of them: the grid starts at the frame's own corner.
    shifted = jpeg_round_trip(photo, torch.tensor([10.0]))[..., 3:, 3:]
    assert (measure_footage(shifted, [0.0]).blocks or 0.0) < 0.2
    assert measure_footage(photo[..., :40, :40], [0.0]).blocks is None


def test_shapes_and_times_must_fit(canvas) -> None:
    frames, times = _footage(canvas)
    for bad, told in ((frames[0], times), (frames[:, :1], times), (frames, times[:-1]), (frames, [0.0] * 5)):
        with pytest.raises(ValueError, match="frames are"):
            measure_footage(bad, told)
    for side in (1, 7, 40):
        assert footage_sentences(measure_footage(frames[..., :side, :side], times)).startswith("A ")


def test_real_footage_of_a_standing_camera(shared: Path) -> None:
    path = shared / "clips" / "carphone_pristine.mp4"
    if not path.is_file():
        pytest.skip(f"no {path}")
    rate = float(probe_video(path).fps)
    wanted = caption_times(96, rate)
    frames = torch.stack([frame.image for frame in read_video(path) if frame.index in wanted])
    text = RULES.describe(frames, [index / rate for index in wanted])
    assert "camera standing still. Parts of the scene move." in text
