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
        frame_rule: (a, b): legal frame counts are a k + b; with a = 0, b alone.
        halo: pixels of surroundings a tile needs.
        parameters: how many, of the network that is evaluated step by step.
        licence: of the weights.
        weights: file inside the package, or a hub id ("owner/name").
        space: where the denoiser works: on pixels, or on the latents of a VAE.
        steps: evaluations of the denoiser where a plan names none.
        aliases: other names for the same.
        advice: what to know before using it, as a sentence; empty if nothing.
    """

    name: str
    prediction: Literal["clean", "velocity", "v"]
    size_multiple: int
    frame_rule: tuple[int, int]
    halo: int
    parameters: int
    licence: str
    weights: str
    space: Literal["pixels", "latents"] = "pixels"
    steps: int = 1
    aliases: tuple[str, ...] = ()
    advice: str = ""
