"""Fitting `Trust`: whole photos through the finished network, then how far to follow it so that films still rise."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import SIZE_MULTIPLE, Tiny, thumbnail_of
from unfade.backbones.trust import Trust, evidence_of
from unfade.core import UsageError, subseed
from unfade.degrade import FOUNDIR, SINGLE, draw_composition
from unfade.degrade.composition import Kinds
from unfade.training.photos import Photos

_TASKS = (
    "gaussian-noise",
    "downsample",
    "jpeg",
    "motion-blur",
    "defocus",
    "lowlight",
    "haze",
    "rain",
    "raindrop",
)
# What is looked at, each as often as any other: the single tasks, then FoundIR's groups.
LOOKED_AT: tuple[tuple[str, Kinds], ...] = (*((name, SINGLE[name]) for name in _TASKS), *FOUNDIR.items())
# Of a mean squared error, so that a perfect answer has a finite one in dB.
_FLOOR = 1e-5
# What a photo gains at best, in dB, is taken to be at least this.
_LEAST = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRun:
    """How `Trust` is fitted.

    Attributes:
        photos: degraded photos that are looked at.
        smallest: side of the smallest frame of a photo that counts as a photo of its own.
        turning: share of the photos of each kind of degradation whose PSNR may turn down before the end of the way.
        gained: a way in n even steps rises to its end as long as the nearest point to the truth lies beyond
            1 - 1 / (2 n) of it; 15/16 for the eight steps of a film of nine frames.
        price: the most that following a photo too far may cost, for a whole way and in multiples of what the photo
            gains at best; where that does not keep `turning`, more photos turn, since what else it would take is not
            worth it.
        most: the same in dB, for a kind's photos on average; the lower of both holds.
        watched: each so many photos one is not learnt from: on those it is seen whether a kind keeps `turning`.
        rounds: passes over the photos.
        batch, lr, weight_decay: of the fit.
        seed: of everything random.
    """

    photos: int = 8000
    smallest: int = 192
    turning: float = 0.02
    gained: float = 15 / 16
    price: float = 160.0
    most: float = 100.0
    watched: int = 8
    rounds: int = 120
    batch: int = 256
    lr: float = 2e-3
    weight_decay: float = 1.0
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of N answers; all squares are means over a photo's values.

    Attributes:
        seen: evidence, `[N, 24]`.
        way: the square of the way from the input to the answer, `[N]`.
        ahead: the product of that way and the one from the input to the truth, `[N]`.
        error: the square of the latter, the input's mean squared error, `[N]`.
        kind: number of the kind of degradation, `[N]`.
        photo: number of the photo, `[N]`.
    """

    seen: Tensor
    way: Tensor
    ahead: Tensor
    error: Tensor
    kind: Tensor
    photo: Tensor

    @property
    def nearest(self) -> Tensor:
        """The share of the way that lies nearest to the truth, `[N]`: 1 is the answer itself."""
        return self.ahead / self.way.clamp_min(1e-12)

    def gain(self, share: Tensor) -> Tensor:
        """By how many dB PSNR is above the input's at a share of the way, `[N]`."""
        left = self.error - 2 * share * self.ahead + share**2 * self.way
        return 10 * torch.log10(self.error.clamp_min(_FLOOR) / left.clamp_min(_FLOOR))

    def __getitem__(self, chosen: Tensor) -> "Answers":
        return Answers(*(getattr(self, column.name)[chosen] for column in fields(self)))

    @staticmethod
    def joined(parts: Sequence["Answers"]) -> "Answers":
        """All of them, one after another."""
        return Answers(
            *(torch.cat([getattr(part, column.name) for part in parts]) for column in fields(Answers))
        )


@torch.no_grad()
def look(
    model: Tiny,
    photos: Photos,
    run: TrustRun,
    numbers: Iterable[int] | None = None,
    on_photo: Callable[[int], None] | None = None,
) -> Answers:
    """The network's answers to drawn degradations of whole photos.

    Args:
        model: the finished network.
        photos: clean ones.
        run: how.
        numbers: which of the `run.photos` to look at, all if left out; each depends on the seed and its number only.
        on_photo: told the number of each that is done.
    """
    device = next(model.parameters()).device
    rows: list[tuple[Any, ...]] = []
    for number in range(run.photos) if numbers is None else numbers:
        dice = random.Random(subseed(run.seed, "trust", number))
        drawn = torch.Generator(device).manual_seed(subseed(run.seed, "fields", number))
        kind, photo = dice.randrange(len(LOOKED_AT)), dice.randrange(len(photos))
        clean = _frame(photos[photo], run.smallest, dice).to(device)[None] / 255
        composition = draw_composition(
            LOOKED_AT[kind][1], drawn, (1, clean.shape[2], clean.shape[3]), codec="torch"
        )
        degraded = composition(clean).mul(255).round().div(255)
        context = model.context(thumbnail_of(degraded), [None])
        with torch.autocast(device.type, torch.bfloat16):
            start, spectrum = torch.zeros(1, device=device), spectrum_of(degraded)
            predicted = model(degraded, start, degraded, context, spectrum).clamp(0, 1)
        way, wanted = (predicted - degraded).double(), (clean - degraded).double()
        squares = way.square().mean(), (way * wanted).mean(), wanted.square().mean()
        rows.append((evidence_of(degraded, predicted), *map(float, squares), kind, photo))
        if on_photo:
            on_photo(number)
    seen, *others = zip(*rows, strict=True)
    return Answers(torch.cat(seen), *(torch.tensor(column) for column in others))


def _frame(photo: Tensor, smallest: int, dice: random.Random) -> Tensor:
    """A random part of a photo, uint8 `[3, h, w]` with sides that are multiples of 8, for a photo of its own."""
    sides = [
        dice.randint(min(smallest, side) // SIZE_MULTIPLE, side // SIZE_MULTIPLE) * SIZE_MULTIPLE
        for side in photo.shape[1:]
    ]
    top, left = (dice.randint(0, whole - side) for whole, side in zip(photo.shape[1:], sides, strict=True))
    return photo[:, top : top + sides[0], left : left + sides[1]]


def fit_trust(answers: Answers, run: TrustRun) -> Trust:
    """`Trust` that keeps as many dB as it can while films of each kind of degradation rise to their ends.

    Photos that are followed too far pay a price for each share of the way, in proportion to what they gain. It is
    raised for a kind as long as more than `run.turning` of its watched photos turn down, and lowered where fewer do.

    Raises:
        UsageError: all answers are of photos that are watched, or none is.

    Source: Lagrange multipliers learnt on data apart from what the model learns from (Cotter et al. 2018, arXiv
        1807.00028).
    """
    torch.manual_seed(subseed(run.seed, "trust weights") % 2**32)
    watches = answers.photo % run.watched == 0
    learning, watched = answers[~watches], answers[watches]
    if not len(learning.kind) or not len(watched.kind):
        raise UsageError(
            f"trust is fitted to some photos and watched on each {run.watched}th of them; give more photos"
        )
    batch = min(run.batch, len(learning.kind))
    trust = Trust()
    trust.mean.copy_(learning.seen.mean(0))  # type: ignore[operator]
    trust.scale.copy_(learning.seen.std(0).clamp_min(1e-3))  # type: ignore[operator]
    best = learning.gain(learning.nearest).clamp_min(_LEAST)
    most = _most(learning.kind, best, run)
    prices = most.clamp_max(3.0)
    optimizer = torch.optim.AdamW(trust.parameters(), run.lr, weight_decay=run.weight_decay)
    steps = run.rounds * (len(learning.kind) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    dice = torch.Generator().manual_seed(subseed(run.seed, "order"))
    for turn in range(run.rounds):
        for chosen in torch.randperm(len(learning.kind), generator=dice).split(batch):
            if len(chosen) < batch:
                continue
            part = learning[chosen]
            share = trust(part.seen)
            too_far = torch.relu(share - (part.nearest / run.gained).clamp(0, 2))
            loss = (prices[part.kind] * best[chosen] * too_far - part.gain(share)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if turn >= 5:
            _reprice(prices, most, trust, watched, run)
    return trust.eval()


def _most(kinds: Tensor, best: Tensor, run: TrustRun) -> Tensor:
    """The highest price of each kind."""
    gains = [best[kinds == kind] for kind in range(len(LOOKED_AT))]
    means = torch.stack([one.mean() if len(one) else best.new_tensor(_LEAST) for one in gains])
    return (run.most / means).clamp_max(run.price)


@torch.no_grad()
def _reprice(prices: Tensor, most: Tensor, trust: Trust, watched: Answers, run: TrustRun) -> None:
    turns = (trust(watched.seen) > watched.nearest / run.gained).float()
    for kind in range(len(prices)):
        mine = watched.kind == kind
        # Half a photo that is as it should be, so that a kind with few photos moves slowly.
        rate = (float(turns[mine].sum()) + 0.5 * run.turning) / (int(mine.sum()) + 0.5)
        # Down faster than up, since a price that has been too high for a while keeps the fit too careful.
        step = 0.05 * max(-3.0, min(1.0, math.log(rate / run.turning)))
        prices[kind] = min(float(most[kind]), max(0.02, float(prices[kind]) * math.exp(step)))


@torch.no_grad()
def followed(trust: Trust, answers: Answers, run: TrustRun) -> dict[str, float]:
    """What trust does to answers it was not fitted to.

    Returns:
        `share`: the mean share of the way that is gone; `rising` and `gain`: the share of photos whose PSNR rises along
        the whole way, and by how many dB it does, and both `_before`, without trust; `gain_at_best`: at the nearest
        point to each truth.
    """
    share = trust(answers.seen)
    told = {"share": float(share.mean()), "gain_at_best": float(answers.gain(answers.nearest).mean())}
    for name, gone in (("", share), ("_before", torch.ones_like(share))):
        told["rising" + name] = float((answers.nearest > gone * run.gained).float().mean())
        told["gain" + name] = float(answers.gain(gone).mean())
    return {name: round(value, 4) for name, value in told.items()}
