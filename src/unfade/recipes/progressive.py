"""How Progressive restoration is trained.

    unfade train progressive --photos DIV2K_train_HR --model THUDM/CogVideoX1.5-5B-I2V

goes on where it stopped when started again. With `accelerate launch -m unfade` in the place of `unfade` it takes all
GPUs there are. The paper names neither rank, rate nor length; none of the expected numbers has been measured here.
"""

from dataclasses import replace

from unfade.conditioning.lora import LoraSettings
from unfade.core import UsageError
from unfade.training.progressive_run import ProgressiveRun


def progressive_lora() -> ProgressiveRun:
    """One adapter of rank 128 for all three tasks, 4,800 clips of DIV2K ten times over in batches of 8: 6,000 steps.

    Command: `unfade train progressive --photos DIV2K_train_HR --model THUDM/CogVideoX1.5-5B-I2V`. Hardware: one GPU of
    40 GB, less with smaller --stages. Expected: frames that get better on each task (the paper's figure 2); not
    measured by us.
    """
    return ProgressiveRun()


def progressive_smoke() -> ProgressiveRun:
    """A few steps of everything on a small model, for tests and for trying the plumbing on any CPU."""
    return ProgressiveRun(
        stages=((1, (32, 48)),),
        lora=LoraSettings(rank=4, alpha=2.0, targets=("to_q", "to_k", "to_v", "to_out.0")),
        warmup=1,
        batch=2,
        precision="fp32",
        checkpoint_every=2,
        validate_every=100,
        validate_steps=2,
        log_every=1,
    )


RECIPES = {"lora": progressive_lora, "smoke": progressive_smoke}


def recipe(name: str, *, adapter: bool | None = None) -> ProgressiveRun:
    """A recipe by name; all weights (False) learn at a fifth of an adapter's rate.

    Raises:
        UsageError: the name is unknown.
    """
    if name not in RECIPES:
        raise UsageError(f"unknown recipe {name!r}; there is {', '.join(RECIPES)}")
    run = RECIPES[name]()
    return replace(run, lora=None, lr=2e-5) if adapter is False else run
