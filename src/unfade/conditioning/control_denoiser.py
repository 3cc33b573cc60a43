"""A controlled CogVideoX behind the denoiser contract."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unfade.backbones.cogvideox_denoiser import rotary_of
from unfade.conditioning.control import Controlled
from unfade.core import Condition

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class ControlCondition:
    """What a controlled model is told besides its state.

    Attributes:
        low: scaled latents of the degraded footage, those in front included, `[B, z, k, h, w]`.
        text: embeddings of the prompt, `[B, L, D]`.
        places: embeddings for tiles that have a prompt of their own, by (top, left) on the canvas.
    """

    low: Tensor
    text: Tensor
    places: Mapping[tuple[int, int], Tensor] = field(default_factory=dict[tuple[int, int], Tensor])

    def crop(self, top: int, left: int, height: int, width: int) -> "ControlCondition":
        window = self.low[..., top : top + height, left : left + width]
        return ControlCondition(window, self.places.get((top, left), self.text))


class ControlDenoiser:
    """The v of latents under a prompt and degraded footage.

    Attributes:
        model: transformer and control.
        calls: how often they were evaluated so far.
        before: called before each evaluation; a memory plan brings the weights in with it.
    """

    def __init__(self, model: Controlled) -> None:
        self.model = model.eval().requires_grad_(False)
        self.calls = 0
        self.before: Callable[[], None] | None = None
        self._rotary: dict[tuple[object, ...], Rotary] = {}

    def __call__(self, x: Tensor, t: float, condition: Condition) -> Tensor:
        """The prediction for `x` `[B, z, k, h, w]`, latents in front included, at diffusion time `t` in [0, 999]."""
        if not isinstance(condition, ControlCondition):
            raise TypeError(f"a controlled model needs a ControlCondition, not {type(condition).__name__}")
        if self.before:
            self.before()
        self.calls += 1
        reference = next(self.model.parameters())
        given = x.to(reference)
        times = torch.full((x.shape[0],), t, device=reference.device)
        with torch.inference_mode():
            answer = self.model(
                given,
                condition.low.to(reference),
                condition.text.to(reference),
                times,
                self._positions(given),
            )
        return answer.to(x.device)

    def _positions(self, x: Tensor) -> Rotary:
        key = (*x.shape[2:], x.device)
        if key not in self._rotary:
            config = self.model.transformer.config
            self._rotary[key] = rotary_of(config, x.shape[2], x.shape[3], x.shape[4], x.device)
        return self._rotary[key]
