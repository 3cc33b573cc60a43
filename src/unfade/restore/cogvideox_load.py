"""What CogVideoX asks of the memory."""

from dataclasses import dataclass
from typing import cast

import torch

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_memory import choose_cogvideox_plan, cogvideox_footprint
from unfade.backbones.memory_plan import MemoryPlan
from unfade.restore.placement import Load, Room


@dataclass(frozen=True, slots=True)
class CogVideoXLoad(Load):
    """What has to fit of a CogVideoX model; where others decode in tiles, its VAE computes layers in strips."""

    def plan(self, room: Room, device: torch.device, free: int, extra: int = 0) -> MemoryPlan:
        """The memory plan for this on a device with so many free bytes; takes seconds for large models."""
        config = cast(CogVideoXConfig, self.config)
        footprint = cogvideox_footprint(
            config,
            self.canvas,
            self.frames,
            self.dtype,
            prompts=self.prompts,
            denoised=self.denoised,
            strips=room.vae_tiles != "off",
        )
        return choose_cogvideox_plan(footprint, free, room.memory, device.type, extra, room.vae_tiles)
