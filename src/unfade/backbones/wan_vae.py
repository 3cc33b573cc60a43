"""Wan's VAE as restoration needs it: one frame in, normalised latents, frames out one chunk at a time."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from unfade.backbones.precision import true_fp32
from unfade.backbones.wan_vae_tiles import decode_in_tiles

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan


class WanVae:
    """diffusers' `AutoencoderKLWan` with normalised latents and pixels in [0, 1].

    Attributes:
        model: in evaluation mode; fp32 unless speed matters more than fidelity.
        frames_encoded, frames_decoded: how many frames went through so far.
        before: called before each use; a memory plan brings the weights in with it.
        tile: side in pixels of the tiles it decodes in, 0 for none; the pixels are the same.
    """

    def __init__(self, model: "AutoencoderKLWan") -> None:
        self.model = model.eval().requires_grad_(False)
        self.frames_encoded = 0
        self.frames_decoded = 0
        self.before: Callable[[], None] | None = None
        self.tile = 0

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (
            torch.tensor(self.model.config[name], dtype=torch.float32, device=device).reshape(1, -1, 1, 1, 1)
            for name in ("latents_mean", "latents_std")
        )
        return mean, 1.0 / std

    def normalised(self, latents: Tensor) -> Tensor:
        """The VAE's own latents as the transformer knows them: `(z - mean) / std`, float32."""
        mean, scale = self._statistics(latents.device)
        return (latents.float() - mean) * scale

    def denormalised(self, latents: Tensor) -> Tensor:
        """The inverse of `normalised`, float32."""
        mean, scale = self._statistics(latents.device)
        return latents.float() / scale + mean

    def _arrive(self) -> None:
        if self.before:
            self.before()

    @torch.inference_mode()
    @true_fp32()
    def encode(self, clip: Tensor) -> Tensor:
        """The mode of the posterior of a clip, normalised.

        The encoder is causal: latent 0 is that of frame 0 alone, whatever follows it.

        Args:
            clip: `[B, 3, T, H, W]` in [0, 1]; T = 4k + 1, sides multiples of the VAE's stride.

        Returns:
            `[B, z, k + 1, H / stride, W / stride]`, float32.
        """
        self._arrive()
        pixels = clip.to(self.device, self.dtype) * 2 - 1
        self.frames_encoded += clip.shape[0] * clip.shape[2]
        return self.normalised(self.model.encode(pixels, return_dict=False)[0].mode())

    def decode(self, latents: Tensor, last: bool = False) -> Iterator[Tensor]:
        """Frames of normalised latents as they come: the first alone, then four for each further latent.

        The decoder is causal and carries what it needs from chunk to chunk, so a chunk may be dropped before
        the next one is made. In tiles, ours or the model's own, all frames come at once.

        Args:
            latents: `[B, z, k, h, w]`.
            last: whether the last frame is all that is wanted: in tiles, it comes alone then and no other is kept.

        Yields:
            `[B, 3, t, H, W]` in [0, 1], float32, on the VAE's device.
        """
        self._arrive()
        with torch.inference_mode():
            z = self.denormalised(latents.to(self.device)).to(self.dtype)
        large = max(z.shape[3:]) * cast(int, self.model.config["scale_factor_spatial"]) > self.tile > 0
        if self.model.use_tiling or large:
            yield self._at_once(z, last)
            return
        # What AutoencoderKLWan._decode does, less keeping every chunk; its caches belong to the instance.
        self.model.clear_cache()
        cache: list[Tensor | None] = [None] * cast(int, self.model._conv_num)
        for index in range(z.shape[2]):
            # Nothing of a chunk is bound to a name here, so that it goes when the caller lets it go.
            yield self._chunk(z[:, :, index : index + 1], cache, index == 0)

    @torch.inference_mode()
    @true_fp32()
    def _at_once(self, z: Tensor, last: bool) -> Tensor:
        every = cast(int, self.model.config["scale_factor_temporal"])
        self.frames_decoded += z.shape[0] * (every * (z.shape[2] - 1) + 1)
        if self.model.use_tiling:
            frames = self.model.decode(z, return_dict=False)[0]
            return _pixels(frames[:, :, -1:] if last else frames)
        return _pixels(decode_in_tiles(self.model, z, self.tile, last))

    @torch.inference_mode()
    @true_fp32()
    def _chunk(self, z: Tensor, cache: list[Tensor | None], first: bool) -> Tensor:
        self._arrive()
        latent = self.model.post_quant_conv(z)
        chunk = self.model.decoder(latent, feat_cache=cache, feat_idx=[0], first_chunk=first)
        chunk = self._unpatched(chunk).clamp(-1, 1)
        self.frames_decoded += chunk.shape[0] * chunk.shape[2]
        return _pixels(chunk)

    def _unpatched(self, chunk: Tensor) -> Tensor:
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        size = self.model.config["patch_size"]
        return chunk if size is None else unpatchify(chunk, patch_size=size)


def _pixels(chunk: Tensor) -> Tensor:
    return chunk.float() * 0.5 + 0.5
