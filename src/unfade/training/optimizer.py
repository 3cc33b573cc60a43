"""Muon for the convolutions, AdamW for everything else.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") orthogonalises each
momentum matrix by five Newton-Schulz iterations, so that every direction of a layer learns at one speed; the
step is scaled to AdamW's usual size (Liu et al. 2025, arXiv 2502.16982, eq. 4).
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Roughly the nearest semi-orthogonal matrix (singular values 0.7 to 1.2), computed in bf16."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(torch.bfloat16)
    x = x / (x.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.T).to(matrix.dtype)


class MuonAdamW(Optimizer):
    """Both rules in one optimizer, so that a checkpoint holds one state.

    Args:
        muon: weights of two or more dimensions; all but the first are flattened.
        adamw: the rest.
        lr: of both, at the size usual for AdamW.
        weight_decay: decoupled, for Muon's weights only.
    """

    def __init__(
        self, muon: Iterable[Tensor], adamw: Iterable[Tensor], lr: float, weight_decay: float
    ) -> None:
        groups = [
            {"params": list(muon), "is_muon": True, "weight_decay": weight_decay},
            {"params": list(adamw), "is_muon": False, "weight_decay": 0.0},
        ]
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            update = self._muon if group["is_muon"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    update(parameter, group["lr"])

    def _muon(self, parameter: Tensor, lr: float) -> None:
        state = self.state[parameter]
        momentum = state.setdefault("momentum", torch.zeros_like(parameter))
        momentum.lerp_(parameter.grad, 0.05)  # type: ignore[arg-type]
        matrix = torch.lerp(parameter.grad, momentum, 0.95).flatten(1)  # type: ignore[arg-type]
        size = 0.2 * max(matrix.shape) ** 0.5
        parameter.sub_(orthogonalised(matrix).view_as(parameter), alpha=lr * size)

    def _adamw(self, parameter: Tensor, lr: float) -> None:
        state = self.state[parameter]
        if not state:
            state.update(steps=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter))
        state["steps"] += 1
        first, second, grad = state["first"], state["second"], parameter.grad
        first.lerp_(grad, 0.1)
        second.mul_(0.99).addcmul_(grad, grad, value=0.01)
        corrected = (second / (1 - 0.99 ** state["steps"])).sqrt_().add_(1e-8)
        parameter.addcdiv_(first, corrected, value=-lr / (1 - 0.9 ** state["steps"]))


def split_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(for Muon, for AdamW): convolutions between feature maps go to Muon; ends, embeddings and biases don't.

    What is held still is in neither.
    """
    muon: list[Tensor] = []
    adamw: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        hidden = parameter.ndim == 4 and not name.startswith(("enter.", "leave.", "scene."))
        (muon if hidden else adamw).append(parameter)
    return muon, adamw


def warm_cosine(step: int, steps: int, warmup: int, least: float = 0.0) -> float:
    """The share of the peak rate at a step: rising evenly to 1 over `warmup`, falling as a cosine to `least`."""
    warm = min(1.0, (step + 1) / max(1, warmup))
    return warm * (least + (1 - least) * 0.5 * (1 + math.cos(math.pi * step / steps)))
