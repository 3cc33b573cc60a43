"""How V-Bridge samples: the published settings by name, and changes to them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self, get_args

from torch import Tensor

from unfade.backbones.video import VideoConfig
from unfade.core import Plan, UsageError
from unfade.diffusion.flow import FlowSchedule
from unfade.diffusion.sizes import AREA, Fit, padded_fit, published_fit
from unfade.prompts.vbridge import NEGATIVE_PROMPT, vbridge_prompt
from unfade.restore.system import check_settings, evaluations_of, with_changes

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
        guidance_begin, guidance_end: shares of the steps before and after which there is no guidance.
        large: what happens above the area of 2560 x 1440: "resize" there and back as published, "tile", which
            keeps every pixel and denoises tile by tile, or "whole", which takes the photo as it is.
        drift: whether the result goes through the drift correction, where the model has one: "always" as
            published, "gated" where it does what it is good at (`restore.drift`), or "never".
        samples: how many seeds are drawn; the result is their mean.

    Raises:
        ValueError: a value is out of range.
    """

    system: ClassVar[str] = "vbridge"
    method: ClassVar[str] = "V-Bridge (arXiv 2603.13089)"
    # With both sides of the halo, a tile has less than the area that the model is asked to do at once.
    area: ClassVar[int] = AREA
    auto_tile: ClassVar[int] = 1280

    frames: int = 9
    steps: int = 50
    shift: float = 5.0
    guidance: float = 5.0
    guidance_begin: float = 0.0
    guidance_end: float = 1.0
    large: Large = "resize"
    drift: Drift = "always"
    samples: int = 1

    def __post_init__(self) -> None:
        check_settings(self, large=get_args(Large), drift=get_args(Drift))
        FlowSchedule(self.steps, self.shift)

    @property
    def evaluations(self) -> int:
        """How often the transformer is evaluated for one photo, one sample, one tile and one pass."""
        return evaluations_of(self)

    def under(self, plan: Plan) -> Self:
        """The same with the steps that the plan names, if it does."""
        return self if plan.steps is None else replace(self, steps=plan.steps)

    def fit(self, config: VideoConfig, height: int, width: int) -> Fit:
        """The canvas for a photo of this size."""
        rule = published_fit if self.large == "resize" else padded_fit
        return rule(height, width, config.size_multiple)

    def asked(self, prompt: str | None, picture: Tensor | None = None) -> list[str]:
        """What the model is told to go towards and, with guidance, what to go away from."""
        return [vbridge_prompt(prompt), NEGATIVE_PROMPT][: 2 if self.guidance > 1 else 1]

    def schedule(self, config: Mapping[str, Any]) -> FlowSchedule:
        """The steps, on a model's scheduler."""
        return FlowSchedule(self.steps, self.shift, config)

    def told(self) -> dict[str, str]:
        """What is particular to this system, for provenance."""
        return {"shift": f"{self.shift:g}"}


PAPER = VBridgeSettings()
RELEASE = VBridgeSettings(guidance=6.0, guidance_end=0.85)
_NAMES = frozenset(field.name for field in fields(VBridgeSettings))
PRESETS: dict[str, VBridgeSettings] = {"paper": PAPER, "release": RELEASE}


def vbridge_settings(preset: str = "paper", changes: Mapping[str, Any] | None = None) -> VBridgeSettings:
    """A preset with some of its values changed by name.

    Raises:
        UsageError: the preset or a name is unknown, or a value out of range.
    """
    if preset not in PRESETS:
        raise UsageError(f"no preset is called {preset!r}; there is {', '.join(PRESETS)}")
    return with_changes(partial(replace, PRESETS[preset]), _NAMES, dict(changes or {}), "Wan")
