"""How Progressive restoration samples: the settings, and the prompt it chooses where the user gives none."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from torch import Tensor

from unfade.backbones.captioner import AUTO, choose_captioner
from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.video import VideoConfig
from unfade.core import Plan, UsageError
from unfade.diffusion.sizes import Fit, bounded_fit, padded_fit
from unfade.diffusion.v_schedule import Sampler, VSchedule
from unfade.prompts.measured import MeasuredCaptioner, measure
from unfade.prompts.progressive import TASKS, Task
from unfade.prompts.scene import Captioner, ChosenPrompt, own_prompt, plain_prompt, scene_prompt
from unfade.restore.device import choose_device
from unfade.restore.system import check_settings, evaluations_of, with_changes

Large = Literal["resize", "tile", "whole"]
Words = Literal["scene", "uniform"]
AnyTask = Literal["auto"] | Task

# The shorter and the longer side at which CogVideoX1.5 was trained.
BOUNDS = 768, 1360


@dataclass(frozen=True, slots=True)
class ProgressiveSettings:
    """How Progressive restoration samples, besides what every plan says.

    The paper tells neither steps nor guidance nor sampler; these are those of the model's own demonstration.

    Attributes:
        frames: of the generated clip; the last one is the result.
        steps: of the sampler, where the plan names none.
        sampler: "dpm", which draws noise at every step, or "ddim", which draws none.
        guidance: scale of classifier-free guidance; 1 is none and halves the cost.
        guidance_begin, guidance_end: shares of the steps before and after which there is no guidance.
        large: what happens to photos above 1360 x 768: "resize" there and back, "tile", which keeps every pixel
            and denoises tile by tile, or "whole", which takes the photo as it is.
        words: the prompt where the user gives none: "scene" is made for the photo, "uniform" is the fixed one of the
            task.
        task: what is to become better: "resolution", "blur" or "lowlight"; "auto" measures what is wrong. Own prompts
            say it themselves.
        captioner: what looks at the photo for "scene"; the rules measure it and need no model.
        samples: how many seeds are drawn; the result is their mean.

    Raises:
        ValueError: a value is out of range.

    Source: Progressive Image Restoration via Text-Conditioned Video Generation (arXiv 2512.02273).
    """

    system: ClassVar[str] = "progressive"
    method: ClassVar[str] = "Progressive restoration (arXiv 2512.02273)"
    area: ClassVar[int] = BOUNDS[0] * BOUNDS[1]
    # With both sides of the halo, a tile is no higher than what the model was trained on.
    auto_tile: ClassVar[int] = 512

    frames: int = 9
    steps: int = 50
    sampler: Sampler = "dpm"
    guidance: float = 6.0
    guidance_begin: float = 0.0
    guidance_end: float = 1.0
    large: Large = "resize"
    words: Words = "scene"
    task: AnyTask = "auto"
    captioner: Captioner = field(default_factory=MeasuredCaptioner)
    samples: int = 1

    def __post_init__(self) -> None:
        check_settings(
            self,
            large=get_args(Large),
            words=get_args(Words),
            sampler=get_args(Sampler),
            task=("auto", *TASKS),
        )
        VSchedule(self.steps, self.sampler)

    @property
    def drift(self) -> str:
        """There is no drift correction."""
        return "never"

    @property
    def evaluations(self) -> int:
        """How often the transformer is evaluated for one photo, one sample and one tile."""
        return evaluations_of(self)

    def under(self, plan: Plan) -> Self:
        """The same with the steps that the plan names, if it does."""
        return self if plan.steps is None else replace(self, steps=plan.steps)

    def fit(self, config: VideoConfig, height: int, width: int) -> Fit:
        """The canvas for a photo of this size.

        Raises:
            UsageError: the model has one size only, and the photo is larger.
        """
        only = config.only if isinstance(config, CogVideoXConfig) else None
        if only is None:
            if self.large == "resize":
                return bounded_fit(height, width, config.size_multiple, BOUNDS)
            return padded_fit(height, width, config.size_multiple)
        if height > only[1] or width > only[2]:
            raise UsageError(
                f"this model takes photos up to {only[2]}x{only[1]}, not {width}x{height}; make it smaller, or choose "
                "cogvideox1.5-5b-i2v"
            )
        return Fit(height, width, only[1], only[2])

    def choose(self, prompt: str | None, picture: Tensor | None = None) -> ChosenPrompt:
        """The user's prompt, or one for the photo, and why.

        Args:
            prompt: the user's, which always wins.
            picture: the degraded photo `[3, H, W]` in its own size. Without one (of footage, whose frames are to be
                asked for alike), the prompt is the task's fixed one, by default the published.
        """
        if own := own_prompt(prompt):
            return own
        task = self.task
        if task == "auto":
            task = (measure(picture).task if picture is not None else None) or "resolution"
        if picture is None or self.words == "uniform":
            return plain_prompt(task)
        return scene_prompt(picture, task, self.captioner)

    def asked(self, prompt: str | None, picture: Tensor | None = None) -> list[str]:
        """What `choose` chooses; with guidance, also an empty prompt to go away from."""
        return [self.choose(prompt, picture).text, ""][: 2 if self.guidance > 1 else 1]

    def schedule(self, config: Mapping[str, Any]) -> VSchedule:
        """The steps, on a model's scheduler."""
        return VSchedule(self.steps, self.sampler, config)

    def told(self) -> dict[str, str]:
        """What is particular to this system, for provenance."""
        return {"sampler": self.sampler}


_NAMES = frozenset(one.name for one in fields(ProgressiveSettings))


def progressive_settings(
    config: CogVideoXConfig, preset: str = "paper", changes: Mapping[str, Any] | None = None
) -> ProgressiveSettings:
    """The settings for a model, some of them changed by name.

    Args:
        config: of the model; one that has a single number of frames gets it.
        preset: "paper", the only one.
        changes: fields of `ProgressiveSettings`; the captioner may be told by its name or folder, as
            `choose_captioner` takes it, and is "auto" where nothing is said.

    Raises:
        ModelError: the captioner is unknown or not on this machine.
        UsageError: the preset or a name is unknown, or a value out of range.
    """
    if preset != "paper":
        raise UsageError(f"CogVideoX has no preset called {preset!r}; there is paper")
    frames = {"frames": config.only[0]} if config.only else {}
    told = {**frames, **dict(changes or {})}
    if isinstance(looks := told.get("captioner", AUTO), (str, Path)):
        told["captioner"] = choose_captioner(looks, choose_device("auto"))
    return with_changes(ProgressiveSettings, _NAMES, told, "CogVideoX")
