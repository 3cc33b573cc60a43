"""The nouns everybody agrees on: clips, trajectories, contracts, errors, seeds. Needs torch only."""

from unfade.core.clip import Clip, Metadata
from unfade.core.contracts import Condition, Denoiser, Plan, Restoration, Restorer
from unfade.core.errors import (
    InputError,
    ModelError,
    OutputError,
    PartialError,
    UnfadeError,
    UsageError,
)
from unfade.core.pair import Pair
from unfade.core.seeds import generator, subseed
from unfade.core.trajectory import Trajectory

__all__ = [
    "Clip",
    "Condition",
    "Denoiser",
    "InputError",
    "Metadata",
    "ModelError",
    "OutputError",
    "Pair",
    "PartialError",
    "Plan",
    "Restoration",
    "Restorer",
    "Trajectory",
    "UnfadeError",
    "UsageError",
    "generator",
    "subseed",
]
