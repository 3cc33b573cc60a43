"""Whoever takes part in a benchmark: a model of ours, a classical filter, another network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

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
        round_trip: a latent backbone's decode(encode(clip)), frame by frame: the ceiling of what it can reach.
        film_trip: the same of frames `[T, 3, H, W]` as one clip: the ceiling of every frame of a film.
        words: of Progressive, "scene" or "uniform": how it is asked; "" of others, or where all are asked alike.
        tuned: whether it is something else than its base; None where that means nothing.
        captioner: identity of what looks at photos for its prompts; "" where nothing does.
    """

    name: str
    kind: Literal["model", "peer"]
    make: Callable[[Facts], Restorer | None]
    weights: str | None = None
    told: str | None = None
    source: str = ""
    round_trip: Callable[[Clip], Clip] | None = None
    film_trip: Callable[[Tensor], Tensor] | None = None
    words: str = ""
    tuned: bool | None = None
    captioner: str = ""
