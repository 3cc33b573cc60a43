"""Vivid-VR in memory: a base, its control and its VAE, each on the device when it is its turn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

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


def load_vivid(
    folder: CogVideoXFolder, control: Path, device: torch.device, dtype: torch.dtype
) -> VividModel:
    """The model of a base's folder and a control folder.

    Args:
        folder: what `open_cogvideox` found.
        control: the folder.
        device: where it works.
        dtype: of transformer and control; the VAE is in fp32.

    Raises:
        ModelError: weights are missing, left over, of another shape or damaged.
    """
    video = load_cogvideox(folder, dtype)
    parts = load_control(control, video.denoiser.model, dtype)
    model = VividModel(video.config, ControlDenoiser(Controlled(video.denoiser.model, parts)), video.vae)
    take_turns(model, device)
    return model


def take_turns(model: VividModel, device: torch.device) -> None:
    """Keeps on a device only what works at the moment: the VAE, or transformer and control."""
    if device.type == "cpu":
        return
    parts: dict[str, Any] = {"vae": model.vae.model, "denoiser": model.denoiser.model}

    def bringing(name: str) -> Callable[[], None]:
        other = next(key for key in parts if key != name)

        def arrive() -> None:
            if next(parts[name].parameters()).device.type != device.type:
                parts[other].to("cpu")
                parts[name].to(device)

        return arrive

    model.vae.before = bringing("vae")
    model.denoiser.before = bringing("denoiser")
