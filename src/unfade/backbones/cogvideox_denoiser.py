"""CogVideoX's transformer behind the denoiser contract, with a photo's latents beside those of the clip."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from unfade.backbones.cogvideox_config import OFS
from unfade.core import Condition

if TYPE_CHECKING:
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

Rotary = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class CogVideoXCondition:
    """What CogVideoX is told besides its state.

    Attributes:
        image: latents of the degraded photo, scaled as `CogVideoXConfig.image_scale` says, `[B, z, 1, h, w]`.
        text: embeddings of the prompt, `[B, L, D]`.
    """

    image: Tensor
    text: Tensor

    def crop(self, top: int, left: int, height: int, width: int) -> "CogVideoXCondition":
        window = self.image[..., top : top + height, left : left + width]
        return CogVideoXCondition(window, self.text)


def padded_in_front(latents: Tensor, copies: int) -> Tensor:
    """A clip's latents `[B, z, k, h, w]` with copies of the first one before it, as CogVideoX1.5 was trained.

    Padding at the end, as some trainers do, would make the model's first latent the wrong one.
    """
    return torch.cat([latents[:, :, :1]] * copies + [latents], dim=2)


def velocity(
    model: "CogVideoXTransformer3DModel",
    x: Tensor,
    times: Tensor,
    condition: CogVideoXCondition,
    rotary: Rotary | None = None,
) -> Tensor:
    """The prediction of v by the transformer as it is, for training as for sampling.

    Args:
        model: diffusers' transformer, or what wraps it for training.
        x: noisy latents, those in front included, `[B, z, k, h, w]`.
        times: diffusion time of each sample, `[B]`, 0 to 999.
        condition: its image stands beside the first latent (the one in front, if there is one), zeros beside others;
            a text-to-video model sees none.
        rotary: what `rotary_of` gave for this size; made anew if None.

    Returns:
        `[B, z, k, h, w]`.
    """
    given = x
    if _config(model)["in_channels"] > x.shape[1]:
        image = condition.image.to(x.device, x.dtype)
        given = torch.cat([x, functional.pad(image, (0, 0, 0, 0, 0, x.shape[2] - 1))], dim=1)
    given = given.transpose(1, 2).to(_dtype(model))
    ofs = None if _config(model)["ofs_embed_dim"] is None else torch.full((1,), OFS, device=x.device)
    latents, height, width = x.shape[2:]
    answer = model(
        hidden_states=given,
        encoder_hidden_states=condition.text.to(x.device, given.dtype),
        timestep=times.to(x.device),
        ofs=ofs,
        image_rotary_emb=rotary or rotary_of(_config(model), latents, height, width, x.device),
        return_dict=False,
    )[0]
    return answer.transpose(1, 2)


def rotary_of(config: Any, latents: int, height: int, width: int, device: torch.device) -> Rotary:
    """Cosines and sines of the rotary positions of a clip's tokens, `[tokens, head size]` each.

    CogVideoX1.5 counts its patches from 0 on, whatever the size; CogVideoX has the grid it was trained on.

    Args:
        config: of the transformer.
        latents, height, width: of what is denoised.
        device: where they are wanted.
    """
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    patch, pairs, size = config["patch_size"], config["patch_size_t"], config["attention_head_dim"]
    grid = height // patch, width // patch
    if pairs is None:
        found = get_3d_rotary_pos_embed(size, ((0, 0), grid), grid, latents, device=device)
    else:
        largest = config["sample_height"] // patch, config["sample_width"] // patch
        found = get_3d_rotary_pos_embed(
            size, None, grid, latents // pairs, grid_type="slice", max_size=largest, device=device
        )
    return found[0], found[1]


class CogVideoXDenoiser:
    """The v of latents under a photo and a prompt.

    Attributes:
        model: diffusers' `CogVideoXTransformer3DModel`.
        calls: how often the transformer was evaluated so far.
        before: called before each evaluation; a memory plan brings the weights in with it.
    """

    def __init__(self, model: "CogVideoXTransformer3DModel") -> None:
        self.model = model.eval().requires_grad_(False)
        self.calls = 0
        self.before: Callable[[], None] | None = None
        self._rotary: dict[tuple[object, ...], Rotary] | None = None

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """While it lasts, the positions of a size are computed once. For the steps of one sampling."""
        outer = self._rotary
        self._rotary = {} if outer is None else outer
        try:
            yield
        finally:
            self._rotary = outer

    def __call__(self, x: Tensor, t: float, condition: Condition) -> Tensor:
        """The prediction for `x` `[B, z, k, h, w]`, latents in front included, at diffusion time `t` in [0, 999]."""
        if not isinstance(condition, CogVideoXCondition):
            raise TypeError(f"CogVideoX needs a CogVideoXCondition, not {type(condition).__name__}")
        if self.before:
            self.before()
        self.calls += 1
        times = torch.full((x.shape[0],), t, device=x.device)
        with torch.inference_mode():
            return velocity(self.model, x, times, condition, self._positions(x))

    def _positions(self, x: Tensor) -> Rotary | None:
        if self._rotary is None:
            return None
        key = (*x.shape[2:], x.device)
        if key not in self._rotary:
            latents, height, width = x.shape[2:]
            self._rotary[key] = rotary_of(self.model.config, latents, height, width, x.device)
        return self._rotary[key]


def _unwrapped(model: Any) -> Any:
    return getattr(model, "module", model)


def _config(model: Any) -> Any:
    return _unwrapped(model).config


def _dtype(model: Any) -> torch.dtype:
    return _unwrapped(model).dtype
