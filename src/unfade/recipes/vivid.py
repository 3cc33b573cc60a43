"""How Vivid-VR is trained.

    unfade train vivid-vr --videos FOOTAGE --model THUDM/CogVideoX1.5-5B --concepts CONCEPTS

goes on where it stopped when started again. With `accelerate launch -m unfade` in the place of `unfade` it takes all
GPUs there are. No figures that are expected of it have been measured here.
"""

from unfade.conditioning.control import ControlSettings
from unfade.core import UsageError
from unfade.degrade.second_order import SecondOrderSettings
from unfade.training.vivid_run import VividRun

# How much smaller the degraded footage was before it was enlarged again, and what else befell it.
SCALE, DEGRADATION = 4.0, SecondOrderSettings()


def vivid_paper() -> VividRun:
    """The published training: 30,000 steps of 32 clips of 1024 x 1024, control of 1.37 B parameters.

    Command: `accelerate launch --num_processes 32 -m unfade train vivid-vr --videos FOOTAGE --model
    THUDM/CogVideoX1.5-5B --concepts CONCEPTS`. Hardware: 32 GPUs of 96 GB, 6,000 GPU hours, by the paper. Expected: its
    tables 1 and 2; not measured by us.
    """
    return VividRun()


def vivid_smoke() -> VividRun:
    """A few steps of everything on a small model, for tests and for trying the plumbing on any CPU."""
    return VividRun(
        stages=((1, (32, 48)),),
        iterations=3,
        frames=17,
        least_frames=9,
        control=ControlSettings(blocks=1, bottleneck=8, width=8, groups=2),
        warmup=1,
        batch=2,
        precision="fp32",
        checkpoint_every=1,
        validate_every=100,
        validate_steps=2,
        log_every=1,
    )


RECIPES = {"paper": vivid_paper, "smoke": vivid_smoke}


def recipe(name: str) -> VividRun:
    """A recipe by name.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; there is {', '.join(RECIPES)}")
    return RECIPES[name]()
