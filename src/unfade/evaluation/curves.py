"""How a metric runs along the film: mean, interval, trend, kinks (Progressive Restoration, figure 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unfade.core import generator

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Trend:
    """Whether a film gets better.

    Attributes:
        rho: Spearman's rank correlation of time and the mean curve; 1 where it always rises, NaN where it is flat.
        p: two-sided p-value of that, NaN where rho is.
        improved: one-sided p-value of the last frame being no better than the first (Wilcoxon, paired over
            images), NaN below six images.
    """

    rho: float
    p: float
    improved: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric along the film over several images.

    Attributes:
        mean: per frame.
        low, high: 95 % bootstrap interval of the mean, per frame; empty for a single photo.
        trend: does it rise; for metrics where less is better, of the negated values.
        kinks: frames at which the mean curve bends sharply.
        images: how many are behind it.
        replaced: values among them that were infinite, because a frame equalled the truth.
    """

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    trend: Trend
    kinks: tuple[int, ...]
    images: int
    replaced: int = 0


def curve(
    films: Sequence[Sequence[float]],
    higher_is_better: bool = True,
    seed: int = 0,
    photos: Sequence[str] | None = None,
) -> Curve:
    """The curve of some films' values, `[images][frames]`.

    Films with an infinite value (a frame equal to the truth) count with the largest finite value of their frame, or
    100 where there is none; how many there were is said.

    Args:
        films: values.
        higher_is_better: which way is up.
        seed: of the bootstrap.
        photos: which photo each film is of, where several are of one: those are not independent, so intervals and
            tests go by photo. A single photo has no interval.

    Raises:
        ValueError: there is no film, they differ in length, or a value is not a number.
    """
    if not films or len({len(film) for film in films}) != 1:
        raise ValueError("a curve needs films of one length")
    values = torch.tensor([list(film) for film in films], dtype=torch.float64)
    if bool(torch.isnan(values).any()):
        raise ValueError("a curve can't be drawn through what is not a number")
    replaced = int(torch.isinf(values).sum())
    values = _finite(values)
    mean = values.mean(0)
    alone = _by_photo(values, photos)
    low = high = torch.empty(0)
    if len(alone) > 1:
        dice = generator(seed, "bootstrap", values.shape[1])
        picks = torch.randint(len(alone), (RESAMPLES, len(alone)), generator=dice)
        low, high = torch.quantile(
            alone[picks].mean(1), torch.tensor([0.025, 0.975], dtype=torch.float64), dim=0
        )
    return Curve(
        mean=tuple(mean.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        trend=trend(alone.tolist(), higher_is_better),
        kinks=kinks(mean.tolist()),
        images=len(films),
        replaced=replaced,
    )


def trend(films: Sequence[Sequence[float]], higher_is_better: bool = True) -> Trend:
    """The trend test of `[images][frames]` finite values.

    Source: Spearman 1904; Wilcoxon 1945; both as computed by SciPy.
    """
    from scipy.stats import spearmanr, wilcoxon

    sign = 1 if higher_is_better else -1
    mean = [sign * sum(column) / len(films) for column in zip(*films, strict=True)]
    rho = p = improved = math.nan
    if len(set(mean)) > 1:
        result = spearmanr(range(len(mean)), mean)
        rho, p = float(result.statistic), float(result.pvalue)  # type: ignore[attr-defined]
    gains = [sign * (film[-1] - film[0]) for film in films]
    if len(films) >= 6 and any(gains):
        improved = float(wilcoxon(gains, alternative="greater").pvalue)  # type: ignore[attr-defined]
    return Trend(rho, p, improved)


def kinks(values: Sequence[float], factor: float = 4.0, share: float = 0.05) -> tuple[int, ...]:
    """Frames where a curve bends sharply: a latent video model's does where its chunks of four frames meet.

    A second difference counts that is `factor` times the median one, and at least `share` of the curve's range.
    """
    bends = [abs(c - 2 * b + a) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    if len(bends) < 3:
        return ()
    median = sorted(bends)[len(bends) // 2]
    least = max(factor * median, share * (max(values) - min(values)), 1e-9)
    return tuple(index + 1 for index, bend in enumerate(bends) if bend > least)


def rises(film: Sequence[float], higher_is_better: bool = True) -> bool:
    """Whether every frame is strictly better than the one before."""
    pairs = zip(film, film[1:], strict=False)
    return all((after > before) if higher_is_better else (after < before) for before, after in pairs)


def _by_photo(values: torch.Tensor, photos: Sequence[str] | None) -> torch.Tensor:
    """The mean film of each photo."""
    if photos is None:
        return values
    rows = [[index for index, name in enumerate(photos) if name == photo] for photo in dict.fromkeys(photos)]
    return torch.stack([values[indices].mean(0) for indices in rows])


def _finite(values: torch.Tensor) -> torch.Tensor:
    """Infinite entries replaced by the largest finite one of their column."""
    known = torch.isfinite(values)
    ceiling = torch.where(known, values, -math.inf).amax(0)
    ceiling = torch.where(torch.isfinite(ceiling), ceiling, 100.0)
    return torch.where(known, values, ceiling.expand_as(values))
