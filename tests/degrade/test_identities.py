"""What holds for every degradation: nothing at severity 0, nothing outside [0, 1], nothing left to chance."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from unfade.core import generator
from unfade.degrade import FOUNDIR, PROGRESSIONS, SINGLE, Composition, Degradation, draw_composition
from unfade.degrade.composition import Kinds

KINDS: dict[str, Kinds] = {
    **SINGLE,
    **FOUNDIR,
    **{f"progression {key}": kinds for key, kinds in PROGRESSIONS.items()},
}
pytestmark = pytest.mark.parametrize("name", KINDS)


def _drawn(name: str, x: Tensor, strength: str = "any", seed: int = 0) -> Composition:
    shape = (x.shape[0], x.shape[2], x.shape[3])
    return draw_composition(KINDS[name], generator(seed, name), shape, strength)  # type: ignore[arg-type]


def _sliced(part: Degradation, index: int) -> Degradation:
    """The parameters of one sample of the batch."""
    changes = {}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, Tensor):
            changes[field.name] = value[index : index + 1]
        elif isinstance(value, Degradation):
            changes[field.name] = _sliced(value, index)
    return replace(part, **changes)


def test_severity_zero_is_the_identity_bit_for_bit(name: str, crops: Tensor) -> None:
    drawn = _drawn(name, crops)
    assert torch.equal(drawn(crops, 0.0), crops)
    assert torch.equal(drawn(crops, torch.zeros(2)), crops)
    for part in drawn.parts:
        assert torch.equal(part(crops, 0.0), crops)


def test_severity_zero_leaves_its_own_sample_alone(name: str, crops: Tensor) -> None:
    degraded = _drawn(name, crops, "strong")(crops, torch.tensor([0.0, 1.0]))
    assert torch.equal(degraded[0], crops[0])
    assert not torch.equal(degraded[1], crops[1])


@pytest.mark.parametrize("strength", ["mild", "strong", "any"])
def test_results_stay_in_range_and_keep_shape_and_type(name: str, strength: str, crops: Tensor) -> None:
    for severity in (1e-3, 0.4, 1.0):
        degraded = _drawn(name, crops, strength, seed=1)(crops, severity)
        assert degraded.shape == crops.shape and degraded.dtype == crops.dtype
        assert bool(torch.isfinite(degraded).all())
        assert float(degraded.min()) >= 0 and float(degraded.max()) <= 1


@pytest.mark.parametrize("severity", [-0.01, 1.01, float("inf")])
def test_severity_out_of_range_is_refused(name: str, severity: float, crops: Tensor) -> None:
    drawn = _drawn(name, crops)
    with pytest.raises(ValueError, match="severity"):
        drawn(crops, severity)
    with pytest.raises(ValueError, match="severity"):
        drawn(crops, torch.tensor([0.5, severity]))


def test_same_seed_same_result_other_seed_another(name: str, crops: Tensor) -> None:
    first, again, other = (_drawn(name, crops, "strong", seed)(crops) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_applying_draws_nothing_and_changes_nothing(name: str, crops: Tensor) -> None:
    drawn, before, state = _drawn(name, crops), crops.clone(), torch.random.get_rng_state()
    first, second = drawn(crops, 0.7), drawn(crops, 0.7)
    assert torch.equal(first, second) and torch.equal(crops, before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_batch_equals_its_samples_one_by_one(name: str, crops: Tensor) -> None:
    drawn = _drawn(name, crops, "strong")
    severity = torch.tensor([1.0, 0.6])
    together = drawn(crops, severity)
    for index in range(2):
        alone = Composition(tuple(_sliced(part, index) for part in drawn.parts))
        single = alone(crops[index : index + 1], severity[index : index + 1])
        error = (single - together[index : index + 1]).abs()
        # An FFT of another size rounds differently, which the gamma curve enlarges in the dark.
        assert float(error.mean()) < 1e-3 and float(error.max()) < 0.1


def test_mild_is_milder_than_strong(name: str, photo: Tensor) -> None:
    drawn = {}
    for strength in ("mild", "strong"):
        errors = [(_drawn(name, photo, strength, seed)(photo) - photo).square().mean() for seed in range(4)]
        drawn[strength] = float(torch.stack(errors).mean())
    assert 0 < drawn["mild"] < drawn["strong"]
