"""The sampler: its grid against the formula, its way on flows whose end is known."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from unfade.core import Condition
from unfade.diffusion.flow import UNIPC, FlowSchedule, sample_flow


@dataclass(frozen=True)
class Clean:
    value: Tensor

    def crop(self, top: int, left: int, height: int, width: int) -> "Clean":
        return self


@pytest.mark.parametrize(("steps", "shift"), [(50, 5.0), (4, 5.0), (20, 3.0), (10, 1.0)])
def test_the_grid_is_the_shifted_line(steps: int, shift: float) -> None:
    even = np.linspace(1, 0.001, steps + 1)[:-1]
    sigmas = shift * even / (1 + (shift - 1) * even)
    scheduler = FlowSchedule(steps, shift).scheduler()
    # The first sigma is kept an epsilon below 1, where the logarithm of the signal would be infinite.
    np.testing.assert_allclose(scheduler.sigmas.numpy(), [*sigmas, 0], atol=2e-6)
    times = FlowSchedule(steps, shift).times()
    assert len(times) == steps
    np.testing.assert_allclose(times, sigmas * 1000, atol=1)
    assert list(times) == sorted(times, reverse=True)


def test_the_last_sigma_of_fifty_steps() -> None:
    assert float(FlowSchedule(50, 5.0).scheduler().sigmas[-2]) == pytest.approx(0.0968, abs=2e-4)


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
def test_a_perfect_model_is_followed_to_the_end(steps: int) -> None:
    clean, noise = torch.randn(2, 1, 4, 2, 6, 6).unbind()

    def velocity(x: Tensor, t: float, condition: Condition) -> Tensor:
        assert isinstance(condition, Clean)
        sigma = schedule.scheduler().sigmas[schedule.times().index(t)]
        return (x - condition.value) / sigma

    schedule = FlowSchedule(steps, 5.0)
    torch.testing.assert_close(
        sample_flow(velocity, noise, Clean(clean), schedule), clean, atol=1e-4, rtol=1e-4
    )


def test_each_step_asks_once_and_is_told() -> None:
    asked: list[float] = []
    told: list[int] = []

    def still(x: Tensor, t: float, condition: Condition) -> Tensor:
        asked.append(t)
        return torch.zeros_like(x)

    schedule = FlowSchedule(6, 5.0)
    sample_flow(still, torch.randn(1, 2, 1, 4, 4), Clean(torch.zeros(1)), schedule, told.append)
    assert tuple(asked) == schedule.times()
    assert told == [1, 2, 3, 4, 5, 6]


def test_the_loaded_configuration_counts_but_its_shift_gives_way() -> None:
    loaded = {**UNIPC, "solver_order": 1, "flow_shift": 3.0, "_class_name": "UniPCMultistepScheduler"}
    scheduler = FlowSchedule(4, 5.0, loaded).scheduler()
    assert scheduler.config["solver_order"] == 1
    assert scheduler.config["flow_shift"] == 5.0


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="steps"):
        FlowSchedule(0)
    with pytest.raises(ValueError, match="shift"):
        FlowSchedule(4, 0)
    with pytest.raises(ValueError, match="not that of a flow"):
        FlowSchedule(4, 5.0, {**UNIPC, "prediction_type": "epsilon"})
