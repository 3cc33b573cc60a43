"""CogVideoX's VAE as restoration needs it: a photo or a clip in, scaled latents, frames out."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX


class CogVideoXVae:
    """diffusers' `AutoencoderKLCogVideoX` with scaled latents and pixels in [0, 1].

    Its norms look at all pixels and frames of a chunk, so neither tiles nor other chunks give the same pixels: it
    always works on the whole, in the chunks it was trained with.

    Attributes:
        model: in evaluation mode; fp32 unless speed matters more than fidelity.
        latent_scale: of a clip's latents.
        image_scale: of the conditioning photo's latents.
        frames_encoded, frames_decoded: how many frames went through so far.
        before: called before each use; a memory plan brings the weights in with it.
        tile: 0; there are no tiles.
    """

    def __init__(self, model: "AutoencoderKLCogVideoX", latent_scale: float, image_scale: float) -> None:
        self.model = model.eval().requires_grad_(False)
        self.latent_scale = latent_scale
        self.image_scale = image_scale
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

    def encode(self, clip: Tensor) -> Tensor:
        """The mode of the posterior of a clip, scaled as the transformer knows a clip's latents.

        Args:
            clip: `[B, 3, T, H, W]` in [0, 1]; T = 8k + 1, sides multiples of the VAE's stride.

        Returns:
            `[B, z, 2k + 1, H / stride, W / stride]`, float32.
        """
        return self._latents(clip, None) * self.latent_scale

    @torch.inference_mode()
    def encode_frames(self, frames: Iterable[Tensor], dice: torch.Generator | None = None) -> Tensor:
        """A clip's latents as `encode` gives them, of frames that come one at a time.

        Args:
            frames: `[3, H, W]` in [0, 1], 8k + 1 of them.
            dice: draws from the posterior, of the CPU; without it, its mode.

        Returns:
            `[1, z, 2k + 1, H / stride, W / stride]`, float32, on the CPU.

        Raises:
            ValueError: the number of frames is not legal.
        """
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        size = cast(int, self.model.num_sample_frames_batch_size)
        cache: dict[str, Tensor] | None = None
        moments: list[Tensor] = []
        chunk: list[Tensor] = []

        def take() -> None:
            nonlocal cache
            self._arrive()
            pixels = torch.stack(chunk, dim=1)[None].to(self.device, self.dtype) * 2 - 1
            made, cache = self.model.encoder(pixels, conv_cache=cache)
            moments.append(made.float().cpu())
            self.frames_encoded += len(chunk)
            chunk.clear()

        for frame in frames:
            chunk.append(frame)
            # The first chunk has one frame more.
            if len(chunk) == size + (cache is None):
                take()
        if cache is None and len(chunk) == 1:
            take()
        if chunk or not moments:
            raise ValueError(f"the number of frames must be a multiple of {size} and one")
        posterior = DiagonalGaussianDistribution(torch.cat(moments, dim=2))
        return (posterior.mode() if dice is None else posterior.sample(dice)) * self.latent_scale

    def encode_image(self, image: Tensor, dice: torch.Generator | None = None) -> Tensor:
        """A photo's latents, encoded by itself and scaled as the transformer knows what it is conditioned on.

        Args:
            image: `[B, 3, H, W]` in [0, 1], sides multiples of the VAE's stride.
            dice: draws from the posterior, as diffusers' pipeline does; without it, its mode.

        Returns:
            `[B, z, 1, H / stride, W / stride]`, float32.
        """
        return self._latents(image.unsqueeze(2), dice) * self.image_scale

    @torch.inference_mode()
    def _latents(self, clip: Tensor, dice: torch.Generator | None) -> Tensor:
        self._arrive()
        pixels = clip.to(self.device, self.dtype) * 2 - 1
        self.frames_encoded += clip.shape[0] * clip.shape[2]
        posterior = self.model.encode(pixels, return_dict=False)[0]
        return (posterior.mode() if dice is None else posterior.sample(dice)).float()

    def decode(self, latents: Tensor) -> Iterator[Tensor]:
        """Frames of a clip's scaled latents, without those in front, chunk by chunk as the model was trained.

        An odd number of latents gives one frame for the first and four for each further one. The first chunk has
        three latents (or the only one), the others two.

        Args:
            latents: `[B, z, 2k + 1, h, w]`.

        Yields:
            `[B, 3, t, H, W]` in [0, 1], float32, on the VAE's device.

        Raises:
            ValueError: the number of latents is even, which the decoder would turn into frames that never were.
        """
        count, size = latents.shape[2], cast(int, self.model.num_latent_frames_batch_size)
        if count % 2 == 0:
            raise ValueError(f"an odd number of latents can be decoded, not {count}")
        cache: dict[str, Tensor] | None = None
        start = 0
        stop = min(count, size + 1)
        while start < count:
            # Nothing of a chunk is bound to a name here, so that it goes when the caller lets it go.
            caches: list[dict[str, Tensor] | None] = [cache]
            yield self._chunk(latents[:, :, start:stop], caches)
            cache = caches[0]
            start, stop = stop, stop + size

    @torch.inference_mode()
    def _chunk(self, latents: Tensor, caches: list[dict[str, Tensor] | None]) -> Tensor:
        self._arrive()
        z = (latents.to(self.device).float() / self.latent_scale).to(self.dtype)
        chunk, caches[0] = self.model.decoder(z, conv_cache=caches[0])
        self.frames_decoded += chunk.shape[0] * chunk.shape[2]
        return (chunk.float() * 0.5 + 0.5).clamp(0, 1)

    def _arrive(self) -> None:
        if self.before:
            self.before()
