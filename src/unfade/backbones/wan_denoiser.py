"""Wan's transformer behind the denoiser contract, with a clean first latent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unfade.backbones.wan_forward import KEY, PromptMemory, TwoTimes, prepare
from unfade.core import Condition

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel


@dataclass(frozen=True, slots=True)
class WanCondition:
    """What Wan is told besides its state.

    Attributes:
        first: the clean first latent, normalised, `[B, z, 1, h, w]`.
        text: embeddings of the prompt, padded with zeros, `[B, L, D]`.
    """

    first: Tensor
    text: Tensor

    def crop(self, top: int, left: int, height: int, width: int) -> "WanCondition":
        return WanCondition(self.first[..., top : top + height, left : left + width], self.text)

    def pinned(self, latents: Tensor) -> Tensor:
        """`latents` `[B, z, k, h, w]` with the clean latent in the first place."""
        first = self.first.to(latents.device, latents.dtype)
        return torch.cat([first, latents[:, :, 1:]], dim=2)


def token_times(latents: Tensor, patch: tuple[int, int, int], t: float) -> Tensor:
    """Diffusion time for each token, `[B, tokens]`: 0 for those of the first latent, `t` for the others.

    A single time for all of them would tell the model that its first frame is noisy (Wan2.2's TI2V-5B was
    trained with it clean at time 0).
    """
    batch, _, frames, height, width = latents.shape
    each = (height // patch[1]) * (width // patch[2])
    times = torch.full((batch, frames // patch[0], each), t, dtype=torch.float32, device=latents.device)
    times[:, 0] = 0
    return times.flatten(1)


class WanDenoiser:
    """The velocity `noise - clean` of latents whose first one is known.

    Attributes:
        model: diffusers' `WanTransformer3DModel`.
        calls: how often the transformer was evaluated so far.
        before: called before each evaluation; a memory plan brings the weights in with it.
    """

    def __init__(self, model: "WanTransformer3DModel") -> None:
        self.model = model.eval().requires_grad_(False)
        self.calls = 0
        self.before: Callable[[], None] | None = None
        self._memories: dict[int, tuple[Tensor, PromptMemory]] | None = None
        prepare(model)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """While it lasts, what a prompt alone decides (keys and values of its tokens) is computed once.

        For the steps of one sampling: weights, adapters and embeddings must not change meanwhile.
        """
        outer = self._memories
        self._memories = {} if outer is None else outer
        try:
            yield
        finally:
            self._memories = outer

    def __call__(self, x: Tensor, t: float, condition: Condition) -> Tensor:
        """The prediction for `x` `[B, z, k, h, w]` at diffusion time `t` in [0, 1000].

        What `x` holds in the place of the first latent does not matter.
        """
        if not isinstance(condition, WanCondition):
            raise TypeError(f"Wan needs a WanCondition, not {type(condition).__name__}")
        if self.before:
            self.before()
        self.calls += 1
        times = token_times(x, self.model.config["patch_size"], t)
        clean = times.shape[1] // (x.shape[2] // self.model.config["patch_size"][0])
        with torch.inference_mode():
            return self.model(
                hidden_states=condition.pinned(x).to(self.model.dtype),
                timestep=times,
                encoder_hidden_states=condition.text.to(x.device, self.model.dtype),
                return_dict=False,
                attention_kwargs={KEY: TwoTimes(clean, self._memory(condition.text))},
            )[0]

    def _memory(self, text: Tensor) -> PromptMemory | None:
        if self._memories is None:
            return None
        # The text is kept with its memory, so that nothing else can take its place in the meantime.
        return self._memories.setdefault(id(text), (text, PromptMemory()))[1]
