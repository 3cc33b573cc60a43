"""What is particular to a generative model, as data; the engine reads it and never asks for a model's name."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """A backbone's rules and papers.

    Attributes:
        name: what the user types.
        prediction: what the denoiser returns; "clean" is the clean clip itself.
        size_multiple: sides are padded to its multiples inside and cropped back.
        frame_rule: (a, b): legal frame counts are a k + b.
        halo: pixels of surroundings a tile needs.
        parameters: how many.
        licence: of the weights.
        weights: file inside the package, or a hub id.
    """

    name: str
    prediction: Literal["clean", "velocity", "v"]
    size_multiple: int
    frame_rule: tuple[int, int]
    halo: int
    parameters: int
    licence: str
    weights: str
