"""The next frame of footage has the same degradation, and noise and weather of its own."""

from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import generator
from unfade.degrade import SINGLE, Composition, Degradation, draw_composition
from unfade.degrade.degradation import Draw

SHAPE = (2, 40, 56)
# What of each is another in every frame.
NEW = {
    "gaussian-noise": {"field"},
    "sensor-noise": {"field"},
    "noise": {"gaussian.field", "sensor.field"},
    "lowlight": {"field"},
    "rain": {"opacity"},
    "snow": {"opacity"},
}


def drawn(name: str, seed: int = 0) -> Degradation:
    (part,) = draw_composition(SINGLE[name], generator(seed, name), SHAPE, "strong", "torch").parts
    return part


def attributes(part: Degradation, prefix: str = "") -> dict[str, object]:
    """Everything a degradation has drawn, by name."""
    found: dict[str, object] = {}
    for field in fields(part):  # type: ignore[arg-type]
        value = getattr(part, field.name)
        if isinstance(value, Degradation):
            found |= attributes(value, f"{prefix}{field.name}.")
        else:
            found[prefix + field.name] = value
    return found


def same(one: object, other: object) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return one == other


def test_these_are_all_that_change_from_frame_to_frame() -> None:
    parts = {name: drawn(name) for name in SINGLE}
    assert {name for name, part in parts.items() if part.anew(generator(1)) is not part} == NEW.keys()


@pytest.mark.parametrize("name", NEW)
def test_only_the_field_is_another(name: str) -> None:
    part = drawn(name)
    before = {
        key: value.clone() if isinstance(value, Tensor) else value for key, value in attributes(part).items()
    }
    other = part.anew(generator(1))
    assert type(other) is type(part)
    now = attributes(other)
    assert {key for key, value in before.items() if not same(value, now[key])} == NEW[name]
    # The one it was made from stays as it is.
    assert all(same(value, before[key]) for key, value in attributes(part).items())


@pytest.mark.parametrize("name", NEW)
def test_the_same_dice_make_the_same_frame_and_each_frame_is_new(name: str) -> None:
    dice, x = generator(2), torch.full((2, 3, 40, 56), 0.4)
    part = drawn(name)
    frames = [part(x)]
    for _ in range(3):
        part = part.anew(dice)
        frames.append(part(x))
    for index, frame in enumerate(frames):
        assert all(not torch.equal(frame, other) for other in frames[:index])
    again = drawn(name).anew(generator(2))
    assert torch.equal(again(x), frames[1])


@pytest.mark.parametrize("name", NEW)
def test_severity_zero_is_still_the_identity(name: str) -> None:
    x = torch.rand(2, 3, 40, 56, generator=generator(3))
    other = drawn(name).anew(generator(1))
    assert torch.equal(other(x, 0.0), x)
    assert not torch.equal(other(x, 1.0), x)


@pytest.mark.parametrize("name", ["gaussian-noise", "sensor-noise", "noise", "lowlight"])
def test_new_noise_is_as_strong_and_independent(name: str) -> None:
    x = torch.full((1, 3, 192, 192), 0.6)
    part = SINGLE[name][0].draw(Draw(generator(4), 1, 192, 192, "mild"))
    one, other = (noisy(x) for noisy in (part, part.anew(generator(5))))
    # Without what both have in common, such as dark corners.
    one, other = (frame[..., 4:-4, 4:-4] - functional.avg_pool2d(frame, 9, 1) for frame in (one, other))
    assert float(other.std()) == pytest.approx(float(one.std()), rel=0.02)
    assert abs(float((one * other).mean() / (one.std() * other.std()))) < 0.05


def test_both_kinds_of_mixed_noise_share_their_field() -> None:
    other = drawn("noise").anew(generator(6))
    found = attributes(other)
    assert found["gaussian.field"] is found["sensor.field"]
    field = found["gaussian.field"]
    assert isinstance(field, Tensor)
    assert float(field.mean()) == pytest.approx(0, abs=0.04)
    assert float(field.std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", ["rain", "snow"])
def test_what_falls_is_elsewhere_and_as_much(name: str) -> None:
    part = drawn(name)
    before, after = (attributes(one)["opacity"] for one in (part, part.anew(generator(7))))
    assert isinstance(before, Tensor) and isinstance(after, Tensor)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one.flatten().sort().values, other.flatten().sort().values)


def test_a_composition_is_made_anew_part_by_part() -> None:
    kinds = (*SINGLE["haze"], *SINGLE["noise"], *SINGLE["jpeg"])
    whole = draw_composition(kinds, generator(8), SHAPE, codec="torch")
    other = whole.anew(generator(9))
    assert isinstance(other, Composition)
    assert other.parts[0] is whole.parts[0]
    assert other.parts[2] is whole.parts[2]
    expected = whole.parts[1].anew(generator(9))
    assert attributes(other.parts[1]).keys() == attributes(expected).keys()
    assert all(same(value, attributes(expected)[key]) for key, value in attributes(other.parts[1]).items())
    x = torch.rand(2, 3, 40, 56, generator=generator(10))
    assert torch.equal(other(x, 0.0), x)
