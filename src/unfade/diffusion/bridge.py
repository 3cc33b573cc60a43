"""Walking the straight pixel path from degraded to restored."""

from collections.abc import Callable

from torch import Tensor

from unfade.core import Condition, Denoiser


def bridge(
    denoiser: Denoiser,
    degraded: Tensor,
    condition: Condition,
    steps: int = 1,
    keep: bool = True,
    on_step: Callable[[int], None] | None = None,
) -> tuple[tuple[float, ...], tuple[Tensor, ...]]:
    """The states of `steps` equal steps in restoration time.

    The denoiser predicts the clean photo; each step goes the share `d / (1 - tau)` of the way there:
    `x(tau + d) = x + (prediction - x) d / (1 - tau)`. One step from tau = 0 is plain regression, and the last
    step always lands on the prediction itself.

    Args:
        denoiser: called as `denoiser(x, tau, condition)`.
        degraded: `[B, 3, H, W]`, the state at tau = 0.
        condition: passed through.
        steps: at least 1.
        keep: whether the states between the first and the last are wanted.
        on_step: told how many steps are done.

    Returns:
        Restoration times from 0 to 1 and the states there, the first being `degraded` itself: `steps + 1` of
        them, or only the two ends.

    Source: InDI (Delbracio and Milanfar 2023, arXiv 2303.11435, eq. 4) with time running towards the clean end.
    """
    if steps < 1:
        raise ValueError(f"a walk needs at least 1 step, not {steps}")
    taus = tuple(index / steps for index in range(steps + 1))
    states = [degraded]
    state = degraded
    for index in range(steps):
        predicted = denoiser(state, taus[index], condition)
        share = (taus[index + 1] - taus[index]) / (1 - taus[index])
        state = predicted if index == steps - 1 else state.lerp(predicted, share)
        if keep:
            states.append(state)
        if on_step:
            on_step(index + 1)
    return (taus, tuple(states)) if keep else ((0.0, 1.0), (degraded, state))
