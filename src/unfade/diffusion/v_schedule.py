"""From noise to latents with a network that predicts v, on a schedule that ends in pure noise: DPM and DDIM."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from unfade.core import Condition, Denoiser

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
    from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler

Sampler = Literal["dpm", "ddim"]

# CogVideoX's schedule: betas whose roots are even, rescaled so that time 999 is pure noise.
ZERO_SNR: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0,
}


@dataclass(frozen=True, slots=True)
class VSchedule:
    """The steps of a sampler whose network predicts `v = sqrt(a) noise - sqrt(1 - a) clean`.

    Times are trailing, so that the first is pure noise. diffusers takes every step to be `1000 // steps` long: where
    steps don't divide 1000, the noise level of a state is off by up to one such rounding.

    Attributes:
        steps: evaluations of the model, or pairs of them under guidance; 1 to the schedule's times.
        sampler: "dpm" draws fresh noise at every step, "ddim" none.
        config: of diffusers' `CogVideoXDPMScheduler` and `CogVideoXDDIMScheduler`; its own spacing gives way.

    Raises:
        ValueError: a value is out of range, or the configuration is not that of v on a schedule ending in noise.

    Source: v: Salimans and Ho 2022 (arXiv 2202.00512, eq. 12); trailing times and zero terminal SNR: Lin et al. 2023
        (arXiv 2305.08891, algorithm 1).
    """

    steps: int = 50
    sampler: Sampler = "dpm"
    config: Mapping[str, Any] = field(default_factory=lambda: dict(ZERO_SNR))

    def __post_init__(self) -> None:
        longest = self.config.get("num_train_timesteps", 1000)
        if not 1 <= self.steps <= longest:
            raise ValueError(f"steps must be 1 to {longest}, not {self.steps}")
        if self.sampler not in get_args(Sampler):
            raise ValueError(f"sampler must be one of {', '.join(get_args(Sampler))}, not {self.sampler!r}")
        kind = self.config.get("prediction_type"), self.config.get("rescale_betas_zero_snr")
        if kind != ("v_prediction", True):
            raise ValueError(
                "the scheduler's configuration is not that of v with zero terminal SNR "
                "(v_prediction, rescale_betas_zero_snr)"
            )

    def scheduler(self) -> "CogVideoXDPMScheduler | CogVideoXDDIMScheduler":
        """A fresh scheduler, ready for one sample."""
        from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
        from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler

        config: dict[str, Any] = {
            name: value for name, value in self.config.items() if not name.startswith("_")
        }
        config["timestep_spacing"] = "trailing"
        kind = CogVideoXDPMScheduler if self.sampler == "dpm" else CogVideoXDDIMScheduler
        scheduler = kind(**config)
        scheduler.set_timesteps(self.steps)
        return scheduler

    def times(self) -> tuple[float, ...]:
        """The diffusion times at which the model is asked, decreasing, in [0, 999]."""
        return tuple(float(time) for time in self.scheduler().timesteps)

    def signal(self) -> Tensor:
        """For each training time, the share `a` of the signal's variance, `[1000]`, float64; 0 at the last."""
        return self.scheduler().alphas_cumprod.double()

    def stepper(self) -> "VStepper":
        """What takes single steps."""
        return VStepper(self)

    def sample(
        self, denoiser: Denoiser, noise: Tensor, condition: Condition, dice: torch.Generator | None = None
    ) -> Tensor:
        """`sample_v` with this schedule."""
        return sample_v(denoiser, noise, condition, self, dice)


class VStepper:
    """Takes single steps of a schedule; they work value by value, so any part of the latents can be stepped alone.

    Args:
        schedule: the steps.

    Attributes:
        times: at which the model is asked, decreasing, 0 to 999.
    """

    def __init__(self, schedule: VSchedule) -> None:
        self._schedule = schedule
        self._scheduler: Any = schedule.scheduler()
        self._signal: Tensor = self._scheduler.alphas_cumprod
        self.times = tuple(int(time) for time in self._scheduler.timesteps)

    def clean(self, v: Tensor, state: Tensor, time: int) -> Tensor:
        """The clean latents that a prediction of v means."""
        signal = self._signal[time].to(state)
        return signal.sqrt() * state - (1 - signal).sqrt() * v

    def __call__(
        self, index: int, v: Tensor, state: Tensor, clean: Tensor | None, dice: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The state after step `index`, and the clean latents it was led by.

        Args:
            index: of the step.
            v: the prediction, `[B, z, k, h, w]`.
            state: before the step.
            clean: what the step before led by; None at the first.
            dice: of the noise that "dpm" adds.
        """
        # diffusers keeps frames before channels, and draws noise in that order.
        told, given = v.transpose(1, 2), state.transpose(1, 2)
        time = self.times[index]
        if self._schedule.sampler == "ddim":
            after = self._scheduler.step(told, time, given, return_dict=False)[0]
            return after.transpose(1, 2), self.clean(v, state, time)
        before = self.times[index - 1] if index else None
        earlier = None if clean is None else clean.transpose(1, 2)
        after, found = self._scheduler.step(told, earlier, time, before, given, generator=dice)
        return after.transpose(1, 2), found.transpose(1, 2)


def sample_v(
    denoiser: Denoiser,
    noise: Tensor,
    condition: Condition,
    schedule: VSchedule,
    dice: torch.Generator | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """The latents that a walk through a schedule's times leads to.

    Args:
        denoiser: gives v for `(x, t, condition)`, t in [0, 999].
        noise: standard normal, float32, `[B, z, k, h, w]`.
        condition: passed through.
        schedule: the steps.
        dice: of the noise that "dpm" adds, best of the CPU, so that devices agree; needed for "dpm" only.
        on_step: told how many steps are done.

    Returns:
        A tensor like `noise`.

    Raises:
        ValueError: "dpm" has no dice.

    Source: DDIM (Song et al. 2020, arXiv 2010.02502, eq. 12); SDE-DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095)
        as in diffusers' CogVideoX schedulers.
    """
    if schedule.sampler == "dpm" and dice is None:
        raise ValueError("the dpm sampler draws noise at every step; give it a generator, or choose ddim")
    stepper = schedule.stepper()
    state = noise
    clean: Tensor | None = None
    for index, time in enumerate(stepper.times):
        v = denoiser(state, float(time), condition).float()
        state, clean = stepper(index, v, state, clean, dice)
        if on_step:
            on_step(index + 1)
    return state
