"""A whole Wan model: transformer, VAE and the rules both follow, from a configuration or from loaded parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unfade.backbones.precision import default_dtype
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_denoiser import WanCondition, WanDenoiser
from unfade.backbones.wan_vae import WanVae

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel


@dataclass(frozen=True, slots=True)
class Wan:
    """A Wan model in memory.

    Attributes:
        config: what its parts say about themselves.
        denoiser: the transformer.
        vae: the VAE.
        provenance: where the weights came from, as short texts.
    """

    config: WanConfig
    denoiser: WanDenoiser
    vae: WanVae
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])

    @staticmethod
    def of(
        transformer: "WanTransformer3DModel",
        vae: "AutoencoderKLWan",
        scheduler: Mapping[str, Any],
        provenance: Mapping[str, str] | None = None,
    ) -> "Wan":
        """A model of loaded parts; every size comes from their configurations."""
        parts = (
            {name: value for name, value in part.items() if not name.startswith("_")}
            for part in (transformer.config, vae.config, scheduler)
        )
        config = WanConfig(*parts)
        return Wan(config, WanDenoiser(transformer), WanVae(vae), dict(provenance or {}))

    def to(self, device: torch.device) -> "Wan":
        """The same model, moved; precisions stay as they are."""
        self.denoiser.model.to(device)  # type: ignore[arg-type]
        self.vae.model.to(device)  # type: ignore[arg-type]
        return self

    def conditions(self, image: Tensor, texts: Sequence[Tensor]) -> list[WanCondition]:
        """What the denoiser is told for a photo `[1, 3, H, W]` in [0, 1] and each prompt's embeddings `[1, L, D]`."""
        first = self.vae.encode(image.unsqueeze(2))
        return [WanCondition(first, text) for text in texts]

    def finished(self, latents: Tensor, condition: WanCondition) -> Tensor:
        """A clip's latents as the VAE decodes them, of what was denoised: with the photo's in the first place."""
        return condition.pinned(latents)


def build_wan(
    config: WanConfig,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    vae_dtype: torch.dtype = torch.float32,
) -> Wan:
    """A model with random weights; on the meta device it takes no memory and has every shape.

    Args:
        config: of the model.
        device: where it is made, without a copy elsewhere.
        dtype: of the transformer; what diffusers keeps in fp32 when it loads weights is fp32.
        vae_dtype: of the VAE.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    with torch.device(device):
        with default_dtype(dtype):
            transformer = WanTransformer3DModel(**config.transformer)
        with default_dtype(vae_dtype):
            vae = AutoencoderKLWan(**config.vae)
    kept = set(WanTransformer3DModel._keep_in_fp32_modules or ())
    for name, parameter in transformer.named_parameters():
        if kept.intersection(name.split(".")):
            parameter.data = parameter.data.float()
    return Wan.of(transformer, vae, config.scheduler, {"weights": "random"})
