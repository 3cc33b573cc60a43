"""A whole Wan model: transformer, VAE and the rules both follow, from a configuration or from loaded parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_denoiser import WanDenoiser
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


def build_wan(config: WanConfig, device: torch.device | str = "cpu") -> Wan:
    """A model with random weights in fp32; on the meta device it takes no memory and has every shape."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    with torch.device(device):
        transformer = WanTransformer3DModel(**config.transformer)
        vae = AutoencoderKLWan(**config.vae)
    return Wan.of(transformer, vae, config.scheduler, {"weights": "random"})
