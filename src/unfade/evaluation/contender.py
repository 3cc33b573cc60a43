"""Whoever takes part in a benchmark: a model of ours, a classical filter, another network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from unfade.core import Clip, Restorer
from unfade.evaluation.peers.facts import Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A restorer and what a table says about it.

    Attributes:
        name: in tables, unique in a run.
        kind: "model" for what is judged, "peer" for what it is compared with.
        make: from what is known about an input to the restorer for it; None where it does not apply.
        weights: SHA-256 of its weights, None for filters.
        told: what it is told that a blind restorer is not, e.g. "the noise level".
        source: paper or library.
        round_trip: a latent backbone's decode(encode(clip)): the ceiling of what it can reach.
    """

    name: str
    kind: Literal["model", "peer"]
    make: Callable[[Facts], Restorer | None]
    weights: str | None = None
    told: str | None = None
    source: str = ""
    round_trip: Callable[[Clip], Clip] | None = None
