"""One update of a network that a team trains: what `tiny` and the small VAE have in common."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from unfade.training.team import Team


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor],
    loss: Tensor,
    team: Team,
    step: int,
    rate: float,
    ema: float,
) -> float:
    """Follows the gradient of a loss, averaged over the team and clipped at 1, and moves the average along.

    Args:
        model: what learns.
        optimizer: of its parameters.
        average: exponential moving average of its state, changed in place.
        loss: a scalar, of this member's share of the batch.
        team: of which everyone calls this.
        step: updates done so far; the average's decay grows from 0.1 to `ema` with it.
        rate: the learning rate.
        ema: decay of the average.

    Returns:
        The loss over the team.

    Raises:
        FloatingPointError: the loss is not finite; everything is as before.
    """
    shared = float(team.mean(loss.detach().clone()))
    if not math.isfinite(shared):
        raise FloatingPointError(f"the loss is {shared} at step {step}; lower the learning rate")
    loss.backward()
    team.mean_gradients(model.parameters())
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    decay = min(ema, (1 + step) / (10 + step))
    for name, value in model.state_dict().items():
        average[name].lerp_(value, 1 - decay)
    return shared
