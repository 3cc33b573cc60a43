"""Vivid-VR in memory: a base, its control and its VAE, placed as a memory plan says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_folder import CogVideoXFolder, load_cogvideox
from unfade.backbones.cogvideox_vae import CogVideoXVae
from unfade.conditioning.control import Controlled
from unfade.conditioning.control_denoiser import ControlDenoiser
from unfade.conditioning.control_file import load_control


@dataclass(frozen=True, slots=True)
class VividModel:
    """Vivid-VR in memory.

    Attributes:
        config: of the base.
        denoiser: transformer and control.
        vae: the base's.
    """

    config: CogVideoXConfig
    denoiser: ControlDenoiser
    vae: CogVideoXVae

    @property
    def streamed(self) -> Sequence[nn.Module]:
        """As they work: a block of the ControlNet, then those of the transformer that listen to it, with connectors."""
        base, control = self.denoiser.model.transformer, self.denoiser.model.control
        found: list[nn.Module] = []
        for index, pair in enumerate(zip(base.transformer_blocks, control.connectors, strict=True)):
            if index % control.every == 0:
                found.append(control.controlnet.transformer_blocks[index // control.every])
            found += pair
        return found

    @property
    def stored_in_8_bits(self) -> Sequence[nn.Module]:
        """Transformer and ControlNet; connectors are small and decide much."""
        return [self.denoiser.model.transformer, self.denoiser.model.control.controlnet]  # type: ignore[list-item]

    def to(self, device: torch.device) -> "VividModel":
        """The same model, moved; precisions stay as they are."""
        self.denoiser.model.to(device)
        self.vae.model.to(device)  # type: ignore[arg-type]
        return self


def load_vivid(folder: CogVideoXFolder, control: Path, dtype: torch.dtype) -> VividModel:
    """The model of a base's folder and a control folder, on the host.

    Args:
        folder: what `open_cogvideox` found.
        control: the folder.
        dtype: of transformer and control; the VAE is in fp32.

    Raises:
        ModelError: weights are missing, left over, of another shape or damaged.
    """
    video = load_cogvideox(folder, dtype)
    parts = load_control(control, video.denoiser.model, dtype)
    return VividModel(video.config, ControlDenoiser(Controlled(video.denoiser.model, parts)), video.vae)
