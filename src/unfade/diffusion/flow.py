"""From noise to latents along a flow: UniPC as diffusers has it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unfade.core import Condition, Denoiser

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

# UniPC of order 2 with the bh2 variant on the clean prediction, over flow sigmas that end at 0.
UNIPC: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "solver_order": 2,
    "solver_type": "bh2",
    "predict_x0": True,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 5.0,
    "final_sigmas_type": "zero",
    "timestep_spacing": "linspace",
    "lower_order_final": True,
}


@dataclass(frozen=True, slots=True)
class FlowSchedule:
    """The steps of a flow sampler: sigmas from 1 towards 0, shifted by `shift s / (1 + (shift - 1) s)`.

    Attributes:
        steps: evaluations of the model, or pairs of them under guidance.
        shift: how much of the way is spent at high noise; 1 is none.
        config: of diffusers' `UniPCMultistepScheduler`; its own shift gives way to `shift`.

    Raises:
        ValueError: steps or shift are out of range, or the configuration is not that of a flow.
    """

    steps: int = 50
    shift: float = 5.0
    config: Mapping[str, Any] = field(default_factory=lambda: dict(UNIPC))

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise ValueError(f"steps must be 1 to 1000, not {self.steps}")
        if not self.shift > 0:
            raise ValueError(f"the shift of a flow is above 0, not {self.shift}")
        if self.config.get("prediction_type") != "flow_prediction" or not self.config.get("use_flow_sigmas"):
            raise ValueError(
                "the scheduler's configuration is not that of a flow (use_flow_sigmas, flow_prediction)"
            )

    def scheduler(self, device: torch.device | str = "cpu") -> "UniPCMultistepScheduler":
        """A fresh scheduler, ready for one sample."""
        from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

        config: dict[str, Any] = {
            name: value for name, value in self.config.items() if not name.startswith("_")
        }
        config["flow_shift"] = self.shift
        scheduler = UniPCMultistepScheduler(**config)
        scheduler.set_timesteps(self.steps, device=device)
        return scheduler

    def times(self) -> tuple[float, ...]:
        """The diffusion times at which the model is asked, decreasing, in [0, 1000]."""
        return tuple(float(time) for time in self.scheduler().timesteps)

    def sample(
        self, denoiser: Denoiser, noise: Tensor, condition: Condition, dice: torch.Generator | None = None
    ) -> Tensor:
        """`sample_flow` with this schedule, which adds no noise on the way."""
        return sample_flow(denoiser, noise, condition, self)


def sample_flow(
    denoiser: Denoiser,
    noise: Tensor,
    condition: Condition,
    schedule: FlowSchedule,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """The latents a flow leads to.

    Args:
        denoiser: gives the velocity `noise - clean` for `(x, t, condition)`, t in [0, 1000].
        noise: standard normal, float32, of any shape the denoiser takes.
        condition: passed through.
        schedule: the steps.
        on_step: told how many steps are done.

    Returns:
        A tensor like `noise`.

    Source: UniPC (Zhao et al. 2023, arXiv 2302.04867) as in diffusers' `UniPCMultistepScheduler`.
    """
    scheduler = schedule.scheduler(noise.device)
    state = noise
    for index, time in enumerate(scheduler.timesteps):
        velocity = denoiser(state, float(time), condition)
        state = scheduler.step(velocity, time, state, return_dict=False)[0]
        if on_step:
            on_step(index + 1)
    return state
