"""Means and spreads of several draws, against numpy."""

import numpy as np
import pytest
import torch

from unfade.core import UsageError
from unfade.restore.samples import Samples, check_confidence, confidence


def ways(count: int) -> list[torch.Tensor]:
    dice = torch.Generator().manual_seed(count)
    return [torch.rand(4, 3, 5, 6, generator=dice) for _ in range(count)]


def test_one_way_is_its_own_mean() -> None:
    samples, way = Samples(), ways(1)[0]
    samples.add(way)
    assert samples.mean is way
    with pytest.raises(ValueError, match="at least 2"):
        _ = samples.spread


@pytest.mark.parametrize("count", [2, 3, 7])
def test_mean_and_spread_are_numpys(count: int) -> None:
    samples = Samples()
    for way in ways(count):
        samples.add(way)
    every = np.stack([way.numpy() for way in ways(count)]).astype(np.float64)
    np.testing.assert_allclose(samples.mean.numpy(), every.mean(0), atol=1e-6)
    np.testing.assert_allclose(samples.spread.numpy(), np.sqrt(every[:, -1].var(0).mean(0))[None], atol=1e-6)


def test_confidence_is_1_where_all_agree_and_0_at_black_or_white() -> None:
    samples = Samples()
    for value in (0.0, 1.0):
        way = torch.full((2, 3, 1, 2), 0.3)
        way[:, :, :, 1] = value
        samples.add(way)
    torch.testing.assert_close(confidence(samples.spread), torch.tensor([[[1.0, 0.0]]]))


def test_nothing_is_sure_of_one_sample() -> None:
    with pytest.raises(UsageError, match="--samples"):
        check_confidence(1)
    check_confidence(2)
