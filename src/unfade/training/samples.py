"""Training samples for `tiny`: crops and whole-photo thumbnails under one drawn degradation, with a prompt."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.backbones.tiny import thumbnail_of
from unfade.degrade import FOUNDIR, SINGLE, UNSEEN, View, draw_composition
from unfade.degrade.composition import Kinds
from unfade.degrade.degradation import Degradation
from unfade.degrade.resample import resize
from unfade.prompts import goal_sentence
from unfade.training.photos import Photos

# (share, kinds): single tasks that are tested on their own, then all FoundIR groups alike.
SINGLES: tuple[tuple[float, str | None], ...] = (
    (0.19, "gaussian-noise"),
    (0.12, "downsample"),
    (0.11, "jpeg"),
    (0.15, "motion-blur"),
    (0.03, "defocus"),
    (0.01, "gaussian-blur"),
    (0.06, "lowlight"),
    (0.04, "haze"),
    (0.03, "rain"),
    (0.06, "raindrop"),
    (0.02, None),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """A batch.

    Attributes:
        degraded, clean: `[B, 3, S, S]` in [0, 1], both rounded to 8 bits as files would be. Where a prompt asks for
            a part of the damage to go, the rest of it is still in `clean`.
        thumbnail: the degraded whole photo, `[B, 3, 32, 32]`.
        prompts: one a sample, mostly None.
    """

    degraded: Tensor
    clean: Tensor
    thumbnail: Tensor
    prompts: list[str | None]


@dataclass(frozen=True, slots=True)
class SampleRule:
    """How samples are drawn.

    Attributes:
        crop: side of a crop.
        batch: samples at once.
        together: samples that share the kind of degradation (never its parameters).
        prompted: share of samples that carry a prompt.
        partial: share of groups of samples whose prompts ask for a part of the damage only.
        reduced: share of crops taken from a photo reduced by up to 2, for detail sharper than the camera's.
        framed: share of photos cut to a random frame first, so that the light of more scenes is seen.
    """

    crop: int = 96
    batch: int = 16
    together: int = 4
    prompted: float = 0.35
    partial: float = 0.25
    reduced: float = 0.3
    framed: float = 0.6


def draw_kinds(dice: random.Random) -> Kinds:
    """The kinds of degradation of a few samples; never one of the unseen."""
    throw = dice.random()
    for share, name in SINGLES:
        throw -= share
        if throw < 0:
            return SINGLE[name] if name else ()
    kinds = dice.choice(list(FOUNDIR.values()))
    if UNSEEN.intersection(kinds):
        raise AssertionError("an unseen degradation must not be trained on")
    return kinds


def draw_mixture(dice: random.Random) -> tuple[Kinds, Kinds]:
    """The kinds of a few samples and which of them are asked to go, now and then ones that aren't there."""
    groups = list(FOUNDIR.values())
    kinds = dice.choice([kinds for kinds in groups if len(kinds) > 1])
    if dice.random() < 0.15:
        return kinds, dice.choice([other for other in groups if len(other) == 1 and other[0] not in kinds])
    return kinds, tuple(dice.sample(kinds, dice.randint(1, len(kinds) - 1)))


def _frame(photo: Tensor, crop: int, dice: random.Random) -> Tensor:
    """A random frame of a photo uint8 `[3, H, W]`: half its sides or more, and no less than a crop."""
    height, width = (
        dice.randint(min(side, max(crop, side // 2)), side) for side in (photo.shape[1], photo.shape[2])
    )
    top, left = dice.randint(0, photo.shape[1] - height), dice.randint(0, photo.shape[2] - width)
    return photo[:, top : top + height, left : left + width]


def _window(photo: Tensor, crop: int, reduced: bool, dice: random.Random) -> tuple[Tensor, list[float]]:
    """A crop uint8 `[3, S, S]` and where it lies (top, left, height, width, photo height, photo width)."""
    height, width = photo.shape[1:]
    side = crop
    if reduced:
        side = dice.randint(crop, max(crop, min(2 * crop, height, width)))
    side = min(side, height, width)
    top, left = dice.randint(0, height - side), dice.randint(0, width - side)
    window = photo[:, top : top + side, left : left + side]
    if side != crop:
        window = resize(window[None] / 255, crop, crop)[0].clamp(0, 1).mul(255).round().to(torch.uint8)
    scale = crop / side
    return window, [top * scale, left * scale, crop, crop, height * scale, width * scale]


def _turned(
    window: Tensor, thumbnail: Tensor, place: list[float], turn: int
) -> tuple[Tensor, Tensor, list[float]]:
    """One of the eight flips and quarter turns, applied to pixels, thumbnail and place alike."""
    top, left, height, width, photo_height, photo_width = place
    if turn & 1:
        window, thumbnail, left = window.flip(2), thumbnail.flip(2), photo_width - left - width
    if turn & 2:
        window, thumbnail, top = window.flip(1), thumbnail.flip(1), photo_height - top - height
    if turn & 4:
        window, thumbnail = window.transpose(1, 2), thumbnail.transpose(1, 2)
        top, left, photo_height, photo_width = left, top, photo_width, photo_height
    return window, thumbnail, [top, left, height, width, photo_height, photo_width]


def draw_sample(
    photos: Photos,
    rule: SampleRule,
    dice: random.Random,
    generator: torch.Generator,
    kinds: Sequence[Kinds] | None = None,
) -> Sample:
    """One batch; everything random comes from `dice` (choices) and `generator` (fields and parameters).

    Args:
        photos: where the crops come from.
        rule: sizes and shares.
        dice, generator: the generator's device is where the degradation is computed.
        kinds: one per group of `rule.together` samples; drawn if left out.
    """
    device = generator.device
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    prompts: list[str | None] = []
    for group in range(rule.batch // rule.together):
        windows, thumbnails, places = [], [], []
        for _ in range(rule.together):
            index = dice.randrange(len(photos))
            photo, thumbnail = photos[index], photos.thumbnails[index]
            if dice.random() < rule.framed:
                photo = _frame(photo, rule.crop, dice)
                thumbnail = thumbnail_of(photo[None] / 255)[0]
            window, place = _window(photo, rule.crop, dice.random() < rule.reduced, dice)
            window, thumbnail, place = _turned(window, thumbnail, place, dice.randrange(8))
            windows.append(window)
            thumbnails.append(thumbnail)
            places.append(place)
        clean = torch.stack(windows).to(device) / 255
        thumbnail = torch.stack(thumbnails).to(device)
        asked: Kinds | None = None
        if kinds is not None:
            chosen = kinds[group]
        elif dice.random() < rule.partial:
            chosen, asked = draw_mixture(dice)
        else:
            chosen = draw_kinds(dice)
        view = View(*torch.tensor(places, dtype=torch.float32, device=device).unbind(1))
        whole = View(*(view.top * 0, view.left * 0, *(2 * (view.photo_height, view.photo_width))))
        shape = (rule.together, rule.crop, rule.crop)
        composition = draw_composition(chosen, generator, shape, codec="torch")
        degraded = composition(clean, 1.0, view).mul(255).round().div(255)
        if asked is not None:
            clean = composition.without(asked)(clean, 1.0, view).mul(255).round().div(255)
        parts.append((degraded, clean, composition(thumbnail, 1.0, whole)))
        goals = names_of(chosen if asked is None else asked)
        stays = () if asked is None else names_of(kind for kind in chosen if kind not in asked)
        share = rule.prompted if asked is None else 1.0
        for _ in range(rule.together):
            prompts.append(goal_sentence(goals, dice, stays) if dice.random() < share else None)
    degraded, clean, thumbnail = (torch.cat(column) for column in zip(*parts, strict=True))
    return Sample(degraded, clean, thumbnail, prompts)


def names_of(kinds: Iterable[type[Degradation]]) -> tuple[str, ...]:
    """What degradations are called."""
    return tuple(kind.name for kind in kinds)
