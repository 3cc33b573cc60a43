"""Fitting `Trust`: whole photos through the finished network, then a quantile of how far it may be followed."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.backbones.tiny import SIZE_MULTIPLE, Tiny, thumbnail_of
from unfade.backbones.trust import Trust, evidence_of
from unfade.core import subseed
from unfade.degrade import draw_composition
from unfade.training.photos import Photos
from unfade.training.samples import draw_kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRun:
    """How `Trust` is fitted.

    Attributes:
        photos: degraded photos that are looked at.
        smallest: side of the smallest frame of a photo that counts as a photo of its own.
        quantile: share of photos that may turn back before the end of the way.
        gained: the way is cut where its last part, from this share on, is level: PSNR rises along a straight way in n
            steps as long as the nearest point to the truth lies beyond 1 - 1 / (2 n) of it.
        rounds: passes over the photos.
        batch, lr, weight_decay: of the fit.
        seed: of everything random.
    """

    photos: int = 12_000
    smallest: int = 192
    quantile: float = 0.04
    gained: float = 0.95
    rounds: int = 120
    batch: int = 256
    lr: float = 2e-3
    weight_decay: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of answers.

    Attributes:
        seen: `[N, evidence + context]`.
        nearest: `[N]`, the share of the way from input to answer that lies nearest to the truth.
    """

    seen: Tensor
    nearest: Tensor

    @staticmethod
    def joined(parts: Sequence["Answers"]) -> "Answers":
        """All of them, one after another."""
        return Answers(torch.cat([part.seen for part in parts]), torch.cat([part.nearest for part in parts]))


def nearest_share(degraded: Tensor, predicted: Tensor, clean: Tensor) -> Tensor:
    """Where on the straight way from input to answer the truth is nearest, `[B]`: 1 is the answer itself."""
    way = (predicted - degraded).flatten(1).double()
    wanted = (clean - degraded).flatten(1).double()
    return ((way * wanted).sum(1) / (way * way).sum(1).clamp_min(1e-12)).float()


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
    seen, nearest = [], []
    for number in range(run.photos) if numbers is None else numbers:
        dice = random.Random(subseed(run.seed, "trust", number))
        fields = torch.Generator(device).manual_seed(subseed(run.seed, "fields", number))
        kinds = draw_kinds(dice)
        if not kinds:
            continue
        clean = _frame(photos[dice.randrange(len(photos))], run.smallest, dice).to(device)[None] / 255
        composition = draw_composition(kinds, fields, (1, clean.shape[2], clean.shape[3]), codec="torch")
        degraded = composition(clean).mul(255).round().div(255)
        context = model.context(thumbnail_of(degraded), [None])
        with torch.autocast(device.type, torch.bfloat16):
            predicted = model(degraded, torch.zeros(1, device=device), degraded, context).clamp(0, 1)
        seen.append(torch.cat((evidence_of(degraded, predicted), context.float().cpu()), 1))
        nearest.append(nearest_share(degraded, predicted, clean).cpu())
        if on_photo:
            on_photo(number)
    return Answers(torch.cat(seen), torch.cat(nearest))


def _frame(photo: Tensor, smallest: int, dice: random.Random) -> Tensor:
    """A random part of a photo, uint8 `[3, h, w]` with sides that are multiples of 8, for a photo of its own."""
    sides = [
        dice.randint(min(smallest, side) // SIZE_MULTIPLE, side // SIZE_MULTIPLE) * SIZE_MULTIPLE
        for side in photo.shape[1:]
    ]
    top, left = (dice.randint(0, whole - side) for whole, side in zip(photo.shape[1:], sides, strict=True))
    return photo[:, top : top + sides[0], left : left + sides[1]]


def fit_trust(answers: Answers, run: TrustRun, context: int) -> Trust:
    """`Trust` such that the share `run.quantile` of answers are nearest to the truth before `gained` of its way.

    Source: quantile regression (Koenker and Bassett 1978), by its pinball loss.
    """
    torch.manual_seed(subseed(run.seed, "trust weights") % 2**32)
    trust = Trust(context)
    trust.mean.copy_(answers.seen.mean(0))  # type: ignore[operator]
    trust.scale.copy_(answers.seen.std(0).clamp_min(1e-3))  # type: ignore[operator]
    wanted = (answers.nearest / run.gained).clamp(0, 2)
    optimizer = torch.optim.AdamW(trust.parameters(), run.lr, weight_decay=run.weight_decay)
    steps = run.rounds * (len(wanted) // run.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    dice = torch.Generator().manual_seed(subseed(run.seed, "order"))
    split = answers.seen.shape[1] - context
    for _ in range(run.rounds):
        order = torch.randperm(len(wanted), generator=dice)
        for chosen in order.split(run.batch):
            if len(chosen) < run.batch:
                continue
            seen = answers.seen[chosen]
            loss = pinball(trust(seen[:, :split], seen[:, split:]), wanted[chosen], run.quantile)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return trust.eval()


@torch.no_grad()
def followed(trust: Trust, answers: Answers, steps: int = 8) -> dict[str, float]:
    """What trust does to answers it was not fitted to.

    Returns:
        `share`: the mean share of the way that is gone; `rising`, `rising_before`: the share of photos whose PSNR rises
        along `steps` even steps with and without it; `kept`: the mean part of what could be gained (at the nearest
        point) that is gained, and `kept_before`.
    """
    split = answers.seen.shape[1] - trust.context
    share = trust(answers.seen[:, :split], answers.seen[:, split:])
    ahead = answers.nearest > 0
    told: dict[str, float] = {"share": float(share.mean())}
    for name, gone in (("", share), ("_before", torch.ones_like(share))):
        told["rising" + name] = float((answers.nearest > gone * (1 - 0.5 / steps)).float().mean())
        told["kept" + name] = float((1 - (1 - (gone / answers.nearest)[ahead]) ** 2).clamp_min(-1).mean())
    return {name: round(value, 4) for name, value in told.items()}


def pinball(predicted: Tensor, found: Tensor, quantile: float) -> Tensor:
    """The loss whose least value is at the quantile of what is found."""
    short = found - predicted
    return torch.maximum(quantile * short, (quantile - 1) * short).mean()
