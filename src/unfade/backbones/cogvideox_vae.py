"""CogVideoX's VAE as restoration needs it: a photo or a clip in, scaled latents, frames out."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from unfade.backbones.cogvideox_strips import Strips
from unfade.backbones.precision import true_fp32

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution


# Side of strips for what diffusers' own layers can't take.
_LARGE = 1024


class CogVideoXVae:
    """diffusers' `AutoencoderKLCogVideoX` with scaled latents and pixels in [0, 1].

    Its norms look at all pixels and frames of a chunk, so neither diffusers' tiles nor other chunks give the same
    pixels: it works on the whole, in the chunks it was trained with. Where memory is short it computes every layer in
    strips (`cogvideox_strips`), which give the same pixels up to rounding.

    Attributes:
        model: in evaluation mode; fp32 unless speed matters more than fidelity.
        latent_scale: of a clip's latents.
        image_scale: of the conditioning photo's latents.
        frames_encoded, frames_decoded: how many frames went through so far.
        before: called before each use; a memory plan brings the weights in with it.
        tile: a strip has as many places as a square of this side; 0 for whole layers.
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
        encode = self.encoding()
        moments: list[Tensor] = []
        chunk: list[Tensor] = []

        def take() -> None:
            moments.append(encode(torch.stack(chunk, dim=1)[None]).cpu())
            chunk.clear()

        for frame in frames:
            chunk.append(frame)
            # The first chunk has one frame more.
            if len(chunk) == size + (not moments):
                take()
        if not moments and len(chunk) == 1:
            take()
        if chunk or not moments:
            raise ValueError(f"the number of frames must be a multiple of {size} and one")
        posterior = DiagonalGaussianDistribution(torch.cat(moments, dim=2))
        return (posterior.mode() if dice is None else posterior.sample(dice)) * self.latent_scale

    def encoding(self) -> Callable[[Tensor], Tensor]:
        """What gives the moments `[B, 2 z, k, h, w]`, float32, of a clip's chunks `[B, 3, t, H, W]` one by one."""
        strips: Strips | None = None
        cache: dict[str, Tensor] | None = None

        @torch.inference_mode()
        @true_fp32()
        def encode(chunk: Tensor) -> Tensor:
            nonlocal cache, strips
            self._arrive()
            if cache is None and strips is None:
                strips = self._strips(chunk.shape[0] * chunk.shape[3] * chunk.shape[4], chunk.shape[2])
            pixels = chunk.to(self.device, self.dtype) * 2 - 1
            self.frames_encoded += chunk.shape[0] * chunk.shape[2]
            if strips is not None:
                return strips.encode(self.model.encoder, pixels).float()
            made, cache = self.model.encoder(pixels, conv_cache=cache)
            return made.float()

        return encode

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
    @true_fp32()
    def _latents(self, clip: Tensor, dice: torch.Generator | None) -> Tensor:
        first = min(clip.shape[2], cast(int, self.model.num_sample_frames_batch_size) + 1)
        if self._strips(clip.shape[0] * clip.shape[3] * clip.shape[4], first):
            posterior = self._in_strips(clip)
        else:
            self._arrive()
            pixels = clip.to(self.device, self.dtype) * 2 - 1
            self.frames_encoded += clip.shape[0] * clip.shape[2]
            posterior = self.model.encode(pixels, return_dict=False)[0]
        return (posterior.mode() if dice is None else posterior.sample(dice)).float()

    def _in_strips(self, clip: Tensor) -> "DiagonalGaussianDistribution":
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        size = cast(int, self.model.num_sample_frames_batch_size)
        first = min(size + 1, clip.shape[2])
        if (clip.shape[2] - 1) % size:
            raise ValueError(f"the number of frames must be a multiple of {size} and one")
        chunks = clip.split([first, *[size] * ((clip.shape[2] - first) // size)], dim=2)
        encode = self.encoding()
        return DiagonalGaussianDistribution(torch.cat([encode(chunk) for chunk in chunks], dim=2))

    def decode(self, latents: Tensor, last: bool = False) -> Iterator[Tensor]:
        """Frames of a clip's scaled latents, without those in front, chunk by chunk as the model was trained.

        An odd number of latents gives one frame for the first and four for each further one. The first chunk has
        three latents (or the only one), the others two.

        Args:
            latents: `[B, z, 2k + 1, h, w]`.
            last: whether the last frame is all that is wanted, which changes nothing: no chunk is kept anyway.

        Yields:
            `[B, 3, t, H, W]` in [0, 1], float32, on the VAE's device.

        Raises:
            ValueError: the number of latents is even, which the decoder would turn into frames that never were.
        """
        count, size = latents.shape[2], cast(int, self.model.num_latent_frames_batch_size)
        if count % 2 == 0:
            raise ValueError(f"an odd number of latents can be decoded, not {count}")
        places = latents.shape[0] * latents.shape[3] * latents.shape[4]
        pixels = places * 4 ** (len(self.model.config["block_out_channels"]) - 1)
        first = 1 if count == 1 else cast(int, self.model.num_sample_frames_batch_size) + 1
        strips = self._strips(pixels, first)
        cache: dict[str, Tensor] | None = None
        start = 0
        stop = min(count, size + 1)
        while start < count:
            # Nothing of a chunk is bound to a name here, so that it goes when the caller lets it go.
            caches: list[dict[str, Tensor] | None] = [cache]
            yield self._chunk(latents[:, :, start:stop], caches, strips)
            cache = caches[0]
            start, stop = stop, stop + size

    @torch.inference_mode()
    @true_fp32()
    def _chunk(
        self, latents: Tensor, caches: list[dict[str, Tensor] | None], strips: Strips | None
    ) -> Tensor:
        self._arrive()
        z = (latents.to(self.device).float() / self.latent_scale).to(self.dtype)
        if strips is not None:
            chunk = strips.decode(self.model.decoder, z)
        else:
            chunk, caches[0] = self.model.decoder(z, conv_cache=caches[0])
        self.frames_decoded += chunk.shape[0] * chunk.shape[2]
        return (chunk.float() * 0.5 + 0.5).clamp(0, 1)

    def _strips(self, pixels: int, first: int) -> Strips | None:
        """What works on frames of so many pixels in all; None for diffusers' own layers.

        Args:
            pixels: of a frame, of all samples.
            first: frames of the first chunk; the others have as many as the model was trained with.

        Those cut what goes into a convolution along time, by its bytes in 16 bits, and fail where a piece has fewer
        frames than the kernel: from 1.7 megapixels on, with the published channels, and of a single frame from 1.4 on.
        """
        if self.tile:
            return Strips(self.tile)
        channels = max(self.model.config["block_out_channels"][:2])
        for count in (first + 2, cast(int, self.model.num_sample_frames_batch_size) + 2):
            pieces = int(channels * count * pixels * 2 / 2**30 / 2) + 1
            if -(-count // pieces) < 3:
                return Strips(_LARGE)
        return None

    def _arrive(self) -> None:
        if self.before:
            self.before()
