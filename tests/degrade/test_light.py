"""Low light and haze, and that crop, photo and thumbnail meet the same light."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from unfade.backbones.tiny import thumbnail_of
from unfade.core import generator
from unfade.degrade import SINGLE, View
from unfade.degrade.degradation import Degradation, Draw
from unfade.degrade.light import Haze, LowLight


def _draw(kind: type[Degradation], photo: Tensor, seed: int = 0, strength: str = "any") -> Degradation:
    shape = (photo.shape[0], photo.shape[2], photo.shape[3])
    return kind.draw(Draw(generator(seed, kind.name), *shape, strength=strength))  # type: ignore[arg-type]


def _window(photo: Tensor, top: int, left: int, height: int, width: int) -> View:
    values = (top, left, height, width, photo.shape[2], photo.shape[3])
    return View(*(torch.full((photo.shape[0],), float(value)) for value in values))


@pytest.mark.parametrize("strength", ["mild", "strong", "any"])
def test_brightness_falls_with_severity(strength: str, crops: Tensor) -> None:
    for seed in range(5):
        drawn = _draw(LowLight, crops, seed, strength)
        means = torch.stack([drawn(crops, step / 8).mean((1, 2, 3)) for step in range(9)])
        assert bool((means.diff(dim=0) < 0).all())


def test_lowlight_without_its_extras_is_an_exposure(crops: Tensor) -> None:
    drawn = _draw(LowLight, crops)
    assert isinstance(drawn, LowLight)
    one, zero = torch.ones(2), torch.zeros(2)
    plain = replace(
        drawn, stops=2 * one, falloff=zero, balance=torch.ones(2, 3), contrast=one, shot=zero, read=zero
    )
    assert torch.allclose(plain(crops), (crops**2.2 / 4) ** (1 / 2.2), atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 3), st.floats(0, 1), st.floats(0.5, 1), st.floats(0.05, 1))
def test_haze_is_koschmieders_law(density: float, severity: float, airlight: float, depth: float) -> None:
    x = torch.rand(1, 3, 9, 11, generator=generator(0))
    haze = Haze(torch.tensor([density]), torch.full((1, 3), airlight), torch.full((1, 1, 6, 6), depth))
    transmission = math.exp(-density * severity * depth)
    expected = x * transmission + airlight * (1 - transmission)
    assert torch.allclose(haze(x, severity), expected, atol=1e-5)


def test_haze_is_thicker_where_it_is_farther(photo: Tensor) -> None:
    depth = torch.linspace(1, 0, 6).reshape(1, 1, 6, 1).expand(1, 1, 6, 6).contiguous()
    hazy = Haze(torch.tensor([2.0]), torch.ones(1, 3), depth)(torch.zeros_like(photo))
    rows = hazy.mean((0, 1, 3))
    assert bool((rows.diff() <= 1e-6).all()) and float(rows[0]) > 0.8 and float(rows[-1]) < 0.05


@pytest.mark.parametrize("kind", [Haze, LowLight])
@pytest.mark.parametrize("strength", ["mild", "strong"])
def test_the_degraded_thumbnail_is_the_thumbnail_of_the_degraded(
    kind: type[Degradation], strength: str, photo: Tensor
) -> None:
    view = View.whole(photo)
    for seed in range(3):
        drawn = _draw(kind, photo, seed, strength)
        expected = thumbnail_of(drawn(photo))
        thumbnail = drawn(thumbnail_of(photo), 1.0, view)
        assert float((thumbnail - expected).abs().mean()) < 0.02


@pytest.mark.parametrize("name", [name for name in SINGLE if name not in ("haze", "lowlight")])
def test_thumbnails_of_all_others_are_near_too(name: str, photo: Tensor) -> None:
    (kind,) = SINGLE[name]
    drawn = _draw(kind, photo, strength="strong")
    expected = thumbnail_of(drawn(photo))
    thumbnail = drawn(thumbnail_of(photo), 1.0, View.whole(photo))
    # Streaks and flakes are spread evenly over a thumbnail, blurs and blocks left out of it.
    assert float((thumbnail - expected).abs().mean()) < 0.06


@pytest.mark.parametrize("severity", [0.3, 1.0])
def test_a_windows_haze_is_that_of_the_photo(severity: float, photo: Tensor) -> None:
    drawn = _draw(Haze, photo, strength="strong")
    crop = photo[:, :, 40:104, 88:184]
    expected = drawn(photo, severity)[:, :, 40:104, 88:184]
    assert torch.allclose(drawn(crop, severity, _window(photo, 40, 88, 64, 96)), expected, atol=1e-5)


def test_a_windows_low_light_is_that_of_the_photo(photo: Tensor) -> None:
    drawn = _draw(LowLight, photo, strength="strong")
    assert isinstance(drawn, LowLight)
    inner = (..., slice(40, 104), slice(88, 184))
    cropped = replace(drawn, field=drawn.field[inner])
    result = cropped(photo[inner], 1.0, _window(photo, 40, 88, 64, 96))
    assert torch.allclose(result, drawn(photo)[inner], atol=1e-5)


def test_a_field_of_another_size_is_refused(photo: Tensor) -> None:
    for name in ("gaussian-noise", "sensor-noise", "lowlight", "rain", "snow"):
        (kind,) = SINGLE[name]
        with pytest.raises(ValueError, match="can't be"):
            _draw(kind, photo)(photo[..., :-1])
