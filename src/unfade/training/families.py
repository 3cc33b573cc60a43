"""Which kinds of degradation are learnt together: what one skill of `tiny` is for."""

import random

from unfade.degrade import FOUNDIR, SINGLE
from unfade.degrade.composition import Kinds
from unfade.training.samples import draw_kinds

# The share of each kind within its family; in the order of the skills at 1/2 and 1/4 of the size.
FAMILIES: dict[str, tuple[tuple[float, Kinds], ...]] = {
    "noise": ((0.75, SINGLE["gaussian-noise"]), (0.25, FOUNDIR["Noise"])),
    "enlarging": ((1.0, SINGLE["downsample"]),),
    "jpeg": ((0.85, SINGLE["jpeg"]), (0.15, FOUNDIR["Noise_JPEG"])),
    "blur": (
        (0.55, SINGLE["motion-blur"]),
        (0.25, SINGLE["defocus"]),
        (0.08, SINGLE["gaussian-blur"]),
        (0.12, FOUNDIR["Blur"]),
    ),
}
# Everything else: light, weather, mixtures, nothing at all.
REST = "rest"
NAMES = (*FAMILIES, REST)
# At an eighth of the size families share a skill: fine detail, blur, the rest.
DEEP = (("noise", "enlarging", "jpeg"), ("blur",), (REST,))
# Kernels of each layer at 1/2, 1/4 and 1/8 of the size.
SKILLS = (len(NAMES), len(NAMES), len(DEEP))


def family_of(kinds: Kinds) -> str:
    """The family that drawn kinds belong to."""
    for name, family in FAMILIES.items():
        if any(kinds == known for _, known in family):
            return name
    return REST


def draw_of(family: str, dice: random.Random) -> Kinds:
    """The kinds of degradation of a few samples of a family, one of `NAMES`."""
    if family in FAMILIES:
        shares, kinds = zip(*FAMILIES[family], strict=True)
        return dice.choices(kinds, shares)[0]
    while family_of(kinds := draw_kinds(dice)) != family:
        pass
    return kinds
