"""Training samples for `Gather`: frames of moving clips with their neighbours, under one drawn degradation a clip."""

import random
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unfade.backbones.gather import REACH
from unfade.backbones.tiny import thumbnail_of
from unfade.degrade import draw_composition
from unfade.degrade.classic import quantise
from unfade.degrade.composition import SINGLE, Kinds
from unfade.degrade.over_time import degraded_over_time
from unfade.media.compression import VideoCodec, compressed
from unfade.prompts import goal_sentence
from unfade.training.moving import MovingRule, moving_clip
from unfade.training.photos import Photos
from unfade.training.samples import draw_kinds, draw_mixture, names_of

# Which neighbours a frame has: both sides in full, mostly, and what is left of them at the ends of a shot.
_BOTH = (-2, -1, 1, 2)
_ENDS = ((1, 2), (-1, 1, 2), (-2, -1), (-2, -1, 1), (1,), (-1,), (-1, 1))


@dataclass(frozen=True, slots=True)
class WindowRule:
    """How windows are drawn.

    Attributes:
        moving: frames and how they move; a clip has `2 * REACH` frames more than are restored.
        clips: at once.
        noisy: share of clips with noise and nothing else, before compression; the others are drawn as for photos.
        compressed: share of clips that went through a video codec.
        spoilt: the same of clips without any other damage; the rest of those is as it should be.
        codecs: those, by how often, with the range of their constant rate factor.
        partial: share of clips whose prompts ask for a part of the damage only.
        prompted: share of the other clips that carry a prompt.
        whole: share of batches whose frames have all their neighbours.
    """

    moving: MovingRule = field(default_factory=MovingRule)
    clips: int = 4
    noisy: float = 0.45
    compressed: float = 0.6
    spoilt: float = 0.6
    codecs: tuple[tuple[VideoCodec, float, tuple[float, float]], ...] = (
        ("h264", 0.75, (18.0, 38.0)),
        ("h265", 0.25, (20.0, 38.0)),
    )
    partial: float = 0.15
    prompted: float = 0.2
    whole: float = 0.8


@dataclass(frozen=True, slots=True)
class Windows:
    """A batch of C clips, of which `T - 2 * REACH` frames each are to be restored.

    Attributes:
        degraded, clean: `[C, T, 3, S, S]` in [0, 1], rounded to 8 bits. Where a prompt asks for a part of the damage
            to go, the rest of it is still in `clean`.
        thumbnails: of the degraded clips, `[C, 3, 32, 32]`.
        prompts: one a clip.
        offsets: of the neighbours that frames have, in this batch.
    """

    degraded: Tensor
    clean: Tensor
    thumbnails: Tensor
    prompts: list[str | None]
    offsets: tuple[int, ...]

    @property
    def restored(self) -> range:
        """Which frames have all the neighbours there may be."""
        return range(REACH, self.degraded.shape[1] - REACH)

    def frames(self, clips: Tensor, offset: int = 0) -> Tensor:
        """The restored frames of `clips` `[C, T, ...]`, or their neighbours at an offset, `[C * K, ...]`, by clips."""
        return clips[:, self.restored.start + offset : self.restored.stop + offset].flatten(0, 1)


def draw_windows(
    photos: Photos, rule: WindowRule, dice: random.Random, generator: torch.Generator
) -> Windows:
    """One batch.

    Args:
        photos: what the clips are made of.
        rule: sizes and shares.
        dice, generator: the generator's device is where clips are made and degraded.
    """
    parts: list[tuple[Tensor, Tensor]] = []
    prompts: list[str | None] = []
    for _ in range(rule.clips):
        clean = moving_clip(photos, rule.moving, dice, generator)
        asked: Kinds | None = None
        if dice.random() < rule.partial:
            kinds, asked = draw_mixture(dice)
        elif dice.random() < rule.noisy:
            kinds = SINGLE["noise"]
        else:
            kinds = draw_kinds(dice)
        degraded, clean = _degraded(clean, kinds, asked, generator)
        # What is to stay would not survive it.
        if asked is None and dice.random() < (rule.compressed if kinds else rule.spoilt):
            degraded = _compressed(degraded, rule, dice)
        parts.append((quantise(degraded), quantise(clean)))
        goals = names_of(kinds if asked is None else asked)
        stays = () if asked is None else names_of(kind for kind in kinds if kind not in asked)
        said = asked is not None or dice.random() < rule.prompted
        prompts.append(goal_sentence(goals, dice, stays) if said else None)
    degraded, clean = (torch.stack(column) for column in zip(*parts, strict=True))
    thumbnails = torch.stack([thumbnail_of(clip).mean(0) for clip in degraded])
    offsets = _BOTH if dice.random() < rule.whole else dice.choice(_ENDS)
    return Windows(degraded, clean, thumbnails, prompts, offsets)


def _degraded(
    clip: Tensor, kinds: Kinds, asked: Kinds | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    height, width = clip.shape[2:]
    composition = draw_composition(kinds, generator, (1, height, width), codec="torch")
    degraded, rest = degraded_over_time(clip, composition, generator, asked or ())
    return degraded, clip if asked is None else rest


def _compressed(clip: Tensor, rule: WindowRule, dice: random.Random) -> Tensor:
    names, shares, ranges = zip(*rule.codecs, strict=True)
    index: int = dice.choices(range(len(names)), shares)[0]
    return compressed(clip, names[index], round(dice.uniform(*ranges[index]), 1), preset="veryfast").to(
        clip.device
    )
