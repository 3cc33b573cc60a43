"""What a published system decides of a restoration in latents; the engine carries it out on any video model."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Protocol, Self, TypeVar

from torch import Tensor

from unfade.backbones.video import VideoConfig
from unfade.core import Plan, UsageError
from unfade.diffusion.guidance import steps_between
from unfade.diffusion.schedule import Schedule
from unfade.diffusion.sizes import Fit


class LatentSettings(Protocol):
    """How a system samples, besides what every plan says.

    Attributes:
        system: its name, part of the seed of every draw.
        method: how it is called in provenance.
        area: pixels of a canvas above which `large` may mean tiles.
        auto_tile: side of those tiles in pixels.
        frames: of the generated clip; the last one is the result.
        steps: of the sampler.
        guidance, guidance_begin, guidance_end: scale of classifier-free guidance, and the shares of the steps at which
            it begins and ends.
        large: "resize", "tile" or "whole": what happens to photos larger than the model is asked to do at once.
        drift: "always", "gated" or "never": when a drift correction is taken, where there is one.
        samples: how many seeds are drawn.
        evaluations: of the transformer for one photo, one sample, one tile and one pass.
    """

    system: ClassVar[str]
    method: ClassVar[str]
    area: ClassVar[int]
    auto_tile: ClassVar[int]

    @property
    def frames(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def guidance(self) -> float: ...
    @property
    def guidance_begin(self) -> float: ...
    @property
    def guidance_end(self) -> float: ...
    @property
    def large(self) -> str: ...
    @property
    def drift(self) -> str: ...
    @property
    def samples(self) -> int: ...
    @property
    def evaluations(self) -> int: ...

    def under(self, plan: Plan) -> Self:
        """The same with the steps that the plan names, if it does."""
        ...

    def fit(self, config: VideoConfig, height: int, width: int) -> Fit:
        """The canvas for a photo of this size."""
        ...

    def asked(self, prompt: str | None, picture: Tensor | None = None) -> list[str]:
        """The prompt, and with guidance the negative one.

        Args:
            prompt: the user's, if there is one.
            picture: `[3, H, W]`, the degraded photo, where a prompt may be chosen for it.
        """
        ...

    def schedule(self, config: Mapping[str, Any]) -> Schedule:
        """The steps, on a model's scheduler."""
        ...

    def told(self) -> dict[str, str]:
        """What is particular to this system, for provenance."""
        ...


Settings = TypeVar("Settings", bound=LatentSettings)


def with_changes(
    make: Callable[..., Settings], known: Collection[str], changes: Mapping[str, Any], family: str
) -> Settings:
    """Settings with some of them changed by name.

    Args:
        make: makes them from what is changed.
        known: the names there are.
        changes: by name.
        family: of the model, for the user.

    Raises:
        UsageError: a name is unknown, or a value out of range.
    """
    if unknown := [name for name in changes if name not in known]:
        raise UsageError(f"{family} has no use for {unknown[0]}; leave it out")
    try:
        return make(**changes)
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_settings(settings: LatentSettings, **legal: tuple[str, ...]) -> None:
    """What every system asks of its settings.

    Args:
        settings: to check.
        legal: by the name of a setting, what it may be.

    Raises:
        ValueError: a value is out of range.
    """
    for name in ("frames", "steps", "samples"):
        if not isinstance(getattr(settings, name), int):
            raise ValueError(f"{name} must be a whole number, not {getattr(settings, name)!r}")
    for name in ("guidance", "guidance_begin", "guidance_end"):
        if not isinstance(getattr(settings, name), (int, float)):
            raise ValueError(f"{name} must be a number, not {getattr(settings, name)!r}")
    if settings.frames < 2:
        raise ValueError(f"frames must be at least 2, not {settings.frames}")
    if not 1 <= settings.guidance < math.inf:
        raise ValueError(f"guidance must be at least 1 (none) and finite, not {settings.guidance}")
    for name, values in legal.items():
        if getattr(settings, name) not in values:
            raise ValueError(f"{name} must be one of {', '.join(values)}, not {getattr(settings, name)!r}")
    if not 1 <= settings.samples <= 1000:
        raise ValueError(f"samples must be 1 to 1000, not {settings.samples}")
    steps_between(settings.steps, settings.guidance_begin, settings.guidance_end)


def evaluations_of(settings: LatentSettings) -> int:
    """How often the transformer is evaluated: twice in the steps that have guidance."""
    guided = steps_between(settings.steps, settings.guidance_begin, settings.guidance_end)
    return settings.steps + (guided if settings.guidance > 1 else 0)
