"""Which of Progressive's tasks a group of a benchmark is, if it is one."""

from unfade.degrade import named
from unfade.degrade.blur import Blur, Defocus, DirectionalBlur, GaussianBlur, LocalBlur, MotionBlur
from unfade.degrade.classic import CLASSIC
from unfade.degrade.degradation import Degradation
from unfade.degrade.light import LowLight
from unfade.degrade.resample import Downsample, Resolution
from unfade.evaluation.benchmarks.benchmark import Group
from unfade.prompts.progressive import Task

_OF_KINDS: dict[type[Degradation], Task] = {
    **dict.fromkeys((Resolution, Downsample), "resolution"),
    **dict.fromkeys((Blur, Defocus, DirectionalBlur, GaussianBlur, LocalBlur, MotionBlur), "blur"),
    LowLight: "lowlight",
}
_OF_CLASSIC: dict[str, Task] = {"motion": "blur", "defocus": "blur", "dark": "lowlight"}


def task_of(group: Group) -> Task | None:
    """The task that undoes all of a group's degradation; None where it is no task, several, or unknown."""
    if group.scale > 1:
        return "resolution"
    if group.make in CLASSIC:
        return _OF_CLASSIC.get(group.make.partition("-")[0])
    kinds = named(group.make) if group.make else ()
    return _OF_KINDS.get(kinds[0]) if len(kinds) == 1 else None
