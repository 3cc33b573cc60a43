"""Physics of getting worse: degradations drawn once, applied at any severity, and trajectories made of them."""

from unfade.degrade.composition import (
    FOUNDIR,
    PROGRESSIONS,
    SINGLE,
    UNSEEN,
    Composition,
    draw_composition,
    named,
)
from unfade.degrade.degradation import Degradation, Draw, Strength
from unfade.degrade.trajectory import fade, linear
from unfade.degrade.view import View

__all__ = [
    "FOUNDIR",
    "PROGRESSIONS",
    "SINGLE",
    "UNSEEN",
    "Composition",
    "Degradation",
    "Draw",
    "Strength",
    "View",
    "draw_composition",
    "fade",
    "linear",
    "named",
]
