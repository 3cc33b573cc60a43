"""How V-Bridge samples: the published settings by name, and changes to them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from unfade.core import Plan, UsageError
from unfade.diffusion.flow import FlowSchedule
from unfade.diffusion.guidance import guided_steps

Large = Literal["resize", "tile", "whole"]
Drift = Literal["always", "gated", "never"]


@dataclass(frozen=True, slots=True)
class VBridgeSettings:
    """How V-Bridge samples, besides what every plan says.

    Attributes:
        frames: of the generated clip, 4k + 1; the last one is the result.
        steps: of the sampler, where the plan names none.
        shift: of its grid towards high noise.
        guidance: scale of classifier-free guidance; 1 is none and halves the cost.
        guidance_end: share of the steps after which there is no guidance.
        large: what happens above the area of 2560 x 1440: "resize" there and back as published, "tile", which
            keeps every pixel and denoises tile by tile, or "whole", which takes the photo as it is.
        drift: whether the result goes through the drift correction, where the model has one: "always" as
            published, "gated" where it does what it is good at (`restore.drift`), or "never".
        samples: how many seeds are drawn; the result is their mean.

    Raises:
        ValueError: a value is out of range.
    """

    frames: int = 9
    steps: int = 50
    shift: float = 5.0
    guidance: float = 5.0
    guidance_end: float = 1.0
    large: Large = "resize"
    drift: Drift = "always"
    samples: int = 1

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ValueError(f"frames must be at least 2, not {self.frames}")
        if self.guidance < 1:
            raise ValueError(f"guidance must be at least 1 (none), not {self.guidance}")
        for name, legal in (("large", get_args(Large)), ("drift", get_args(Drift))):
            if getattr(self, name) not in legal:
                raise ValueError(f"{name} must be one of {', '.join(legal)}, not {getattr(self, name)!r}")
        if not 1 <= self.samples <= 1000:
            raise ValueError(f"samples must be 1 to 1000, not {self.samples}")
        FlowSchedule(self.steps, self.shift)
        guided_steps(self.steps, self.guidance_end)

    @property
    def evaluations(self) -> int:
        """How often the transformer is evaluated for one photo, one sample, one tile and one pass."""
        return self.steps + (guided_steps(self.steps, self.guidance_end) if self.guidance > 1 else 0)

    def under(self, plan: Plan) -> "VBridgeSettings":
        """The same with the steps that the plan names, if it does."""
        return self if plan.steps is None else replace(self, steps=plan.steps)


PAPER = VBridgeSettings()
RELEASE = VBridgeSettings(guidance=6.0, guidance_end=0.85)
PRESETS: dict[str, VBridgeSettings] = {"paper": PAPER, "release": RELEASE}


def vbridge_settings(preset: str = "paper", changes: Mapping[str, Any] | None = None) -> VBridgeSettings:
    """A preset with some of its values changed by name.

    Raises:
        UsageError: the preset or a name is unknown, or a value out of range.
    """
    if preset not in PRESETS:
        raise UsageError(f"no preset is called {preset!r}; there is {', '.join(PRESETS)}")
    try:
        return replace(PRESETS[preset], **dict(changes or {}))
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
