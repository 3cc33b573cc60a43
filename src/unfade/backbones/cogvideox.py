"""A whole CogVideoX model: transformer, VAE and the rules both follow, from a configuration or from loaded parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, CogVideoXDenoiser
from unfade.backbones.cogvideox_vae import CogVideoXVae
from unfade.backbones.precision import default_dtype

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel


@dataclass(frozen=True, slots=True)
class CogVideoX:
    """A CogVideoX model in memory.

    Attributes:
        config: what its parts say about themselves.
        denoiser: the transformer.
        vae: the VAE.
        provenance: where the weights came from, as short texts.
    """

    config: CogVideoXConfig
    denoiser: CogVideoXDenoiser
    vae: CogVideoXVae
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])

    @staticmethod
    def of(
        transformer: "CogVideoXTransformer3DModel",
        vae: "AutoencoderKLCogVideoX",
        scheduler: Mapping[str, Any],
        provenance: Mapping[str, str] | None = None,
    ) -> "CogVideoX":
        """A model of loaded parts; every size comes from their configurations."""
        parts = (
            {name: value for name, value in part.items() if not name.startswith("_")}
            for part in (transformer.config, vae.config, scheduler)
        )
        config = CogVideoXConfig(*parts)
        return CogVideoX(
            config,
            CogVideoXDenoiser(transformer),
            CogVideoXVae(vae, config.latent_scale, config.image_scale),
            dict(provenance or {}),
        )

    def to(self, device: torch.device) -> "CogVideoX":
        """The same model, moved; precisions stay as they are."""
        self.denoiser.model.to(device)  # type: ignore[arg-type]
        self.vae.model.to(device)  # type: ignore[arg-type]
        return self

    def conditions(self, image: Tensor, texts: Sequence[Tensor]) -> list[CogVideoXCondition]:
        """What the denoiser is told for a photo `[1, 3, H, W]` in [0, 1] and each prompt's embeddings `[1, L, D]`."""
        latents = self.vae.encode_image(image)
        return [CogVideoXCondition(latents, text) for text in texts]

    def finished(self, latents: Tensor, condition: CogVideoXCondition) -> Tensor:
        """A clip's latents as the VAE decodes them, of what was denoised: without those in front."""
        return latents[:, :, 1 - latents.shape[2] % 2 :]


def build_cogvideox(
    config: CogVideoXConfig,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    vae_dtype: torch.dtype = torch.float32,
) -> CogVideoX:
    """A model with random weights; on the meta device it takes no memory and has every shape.

    Args:
        config: of the model.
        device: where it is made, without a copy elsewhere.
        dtype: of the transformer.
        vae_dtype: of the VAE.
    """
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

    with torch.device(device):
        with default_dtype(dtype):
            transformer = CogVideoXTransformer3DModel(**config.transformer)
        with default_dtype(vae_dtype):
            vae = AutoencoderKLCogVideoX(**config.vae)
    return CogVideoX.of(transformer, vae, config.scheduler, {"weights": "random"})
