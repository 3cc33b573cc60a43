"""Curves along the film, against SciPy, by hand and by what bootstrap intervals must do."""

import math

import numpy as np
import pytest
from scipy import stats

from unfade.evaluation.curves import curve, kinks, rises, trend


def test_a_straight_rise_has_rho_one_no_kink_and_its_own_mean() -> None:
    films = [[20 + k + i for k in range(9)] for i in range(7)]
    found = curve(films)
    assert found.mean == pytest.approx([23 + k for k in range(9)])
    assert found.trend.rho == pytest.approx(1)
    assert found.trend.p < 1e-6
    assert found.trend.improved == pytest.approx(stats.wilcoxon([8.0] * 7, alternative="greater").pvalue)
    assert found.kinks == ()
    assert found.images == 7


def test_a_metric_where_less_is_better_is_turned_round() -> None:
    films = [[9.0 - k + 0.1 * i for k in range(9)] for i in range(6)]
    assert trend(films, higher_is_better=False).rho == pytest.approx(1)
    assert trend(films, higher_is_better=True).rho == pytest.approx(-1)
    assert trend(films, higher_is_better=False).improved < 0.05 < trend(films).improved
    assert rises(films[0], higher_is_better=False)
    assert not rises(films[0])


def test_a_flat_curve_has_no_trend() -> None:
    found = trend([[5.0] * 9] * 8)
    assert all(math.isnan(value) for value in (found.rho, found.p, found.improved))


def test_the_interval_holds_the_mean_and_narrows_with_more_images() -> None:
    dice = np.random.default_rng(0)
    few, many = (curve(dice.normal(30, 2, (count, 9)).tolist()) for count in (8, 128))
    for found in (few, many):
        assert all(low < mid < high for low, mid, high in zip(found.low, found.mean, found.high, strict=True))
    width = [np.mean(np.subtract(found.high, found.low)) for found in (few, many)]
    assert width[1] < width[0] / 2
    # The normal approximation of the larger one.
    assert width[1] == pytest.approx(2 * 1.96 * 2 / math.sqrt(128), rel=0.2)


def test_one_photo_has_no_interval_and_intervals_repeat() -> None:
    found = curve([[1.0, 2.0, 4.0]])
    assert found.mean == (1.0, 2.0, 4.0)
    assert found.low == found.high == ()
    films = [[float(k * i) for k in range(9)] for i in range(5)]
    assert curve(films) == curve(films)


def test_an_infinite_last_frame_counts_as_the_best_finite_one() -> None:
    assert curve([[20.0, math.inf], [20.0, 60.0]]).mean == (20.0, 60.0)
    assert curve([[20.0, math.inf], [20.0, math.inf]]).mean == (20.0, 100.0)
    assert curve([[20.0, math.inf], [20.0, 60.0]]).replaced == 1
    with pytest.raises(ValueError, match="not a number"):
        curve([[math.nan, 1.0], [0.0, 1.0]])


def test_films_of_one_photo_are_not_independent() -> None:
    films = [[float(k + i) for k in range(9)] for i in (0, 0, 0, 6, 6, 6)]
    apart, together = curve(films), curve(films, photos=["a", "a", "a", "b", "b", "b"])
    assert together.mean == apart.mean
    assert together.high[0] - together.low[0] > apart.high[0] - apart.low[0]
    # Two photos are too few for a test, six films would have been enough.
    assert math.isnan(together.trend.improved)
    assert apart.trend.improved < 0.05


def test_kinks_are_where_the_chunks_of_a_latent_model_meet() -> None:
    # Slope 1 up to frame 4, slope 3 behind it, with a little curvature all along.
    values = [k + 0.01 * k * k if k <= 4 else 4.16 + 3 * (k - 4) + 0.01 * k * k for k in range(9)]
    assert kinks(values) == (4,)
    assert kinks([math.sin(k / 8) for k in range(9)]) == ()
    assert kinks([1.0, 2.0]) == ()


def test_spearman_agrees_with_scipy_on_noisy_curves() -> None:
    dice = np.random.default_rng(1)
    films = (np.arange(9) + dice.normal(0, 4, (10, 9))).tolist()
    expected = stats.spearmanr(range(9), np.mean(films, 0))
    found = trend(films)
    assert (found.rho, found.p) == pytest.approx((expected.statistic, expected.pvalue))


def test_films_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        curve([[1.0, 2.0], [1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="one length"):
        curve([])
