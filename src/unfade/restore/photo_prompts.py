"""The prompt of a photo where a system chooses one, and room for the model that may look at the photo for it."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from unfade.backbones.captioner import work_on
from unfade.prompts.captions import KeptCaptions
from unfade.prompts.scene import Captioner, ChosenPrompt
from unfade.restore.system import LatentSettings


@runtime_checkable
class Choosing(Protocol):
    """Settings of a system that makes a prompt for a photo where the user gives none."""

    @property
    def captioner(self) -> Captioner:
        """What may look at the photo."""
        ...

    def choose(self, prompt: str | None, picture: Tensor | None = None) -> ChosenPrompt:
        """The prompt, where it comes from, and why."""
        ...


def asked_of(
    settings: LatentSettings,
    prompt: str | None,
    picture: Tensor,
    device: torch.device,
    make_way: Callable[[], None],
) -> tuple[list[str], dict[str, str]]:
    """What a model is asked for with a photo, and what provenance tells of that.

    A captioner that is a model is let go of afterwards, as the video model needs the memory.

    Args:
        settings: of the system.
        prompt: the user's, which always wins.
        picture: the degraded photo `[3, H, W]` in [0, 1].
        device: where a captioner computes.
        make_way: called before its model is loaded.

    Returns:
        The prompts as `LatentSettings.asked` gives them; "prompt_source" and "prompt_why" where the system chooses,
        and "prompt_note", the same sentence, where the captioner's text could not be used.

    Raises:
        ModelError: the captioner can't be used.
    """
    if not isinstance(settings, Choosing):
        return settings.asked(prompt, picture), {}
    looks = settings.captioner
    if isinstance(looks, KeptCaptions):
        work_on(looks, device)
        looks.before = make_way
    chosen = settings.choose(prompt, picture)
    if isinstance(looks, KeptCaptions):
        looks.unload()
    told = {"prompt_source": chosen.source, "prompt_why": chosen.why}
    if chosen.source == "uniform" and chosen.caption is not None:
        told["prompt_note"] = chosen.why
    return settings.asked(chosen.text), told
