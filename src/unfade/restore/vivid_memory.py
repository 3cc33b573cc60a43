"""What Vivid-VR asks of the memory: base, control and VAE for one window, from their configurations."""

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar, cast

import torch

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_memory import choose_cogvideox_plan, cogvideox_footprint
from unfade.backbones.footprint import Footprint, bytes_of, saved_by_fp8
from unfade.backbones.live_bytes import peak_of
from unfade.backbones.memory_plan import MemoryPlan
from unfade.backbones.precision import default_dtype
from unfade.conditioning.control import Control, Controlled, ControlSettings
from unfade.conditioning.control_denoiser import ControlCondition, ControlDenoiser
from unfade.restore.memory import Advice
from unfade.restore.placement import Load, Room


@dataclass(frozen=True, slots=True)
class VividLoad(Load):
    """What has to fit of Vivid-VR: the base and its VAE as in any `Load`, and a third part, the control.

    Attributes:
        control: what the control is made of.
        advice: what makes it smaller.
    """

    advice: ClassVar[Advice] = Advice(
        "choose --memory group with --vae-tiles on, a smaller --short-side or --scale, --window or --tile, or free "
        "some memory",
        "choose --vae-tiles on, a smaller --short-side or --scale, --window or --tile, or free some memory",
    )

    control: ControlSettings = field(default_factory=ControlSettings)

    def plan(self, room: Room, device: torch.device, free: int, extra: int = 0) -> MemoryPlan:
        """The memory plan for this on a device with so many free bytes; takes seconds for large models."""
        footprint = vivid_footprint(
            cast(CogVideoXConfig, self.config),
            self.control,
            self.canvas,
            self.frames,
            self.dtype,
            self.denoised,
            room.vae_tiles != "off",
        )
        return choose_cogvideox_plan(footprint, free, room.memory, device.type, extra, room.vae_tiles)


def vivid_footprint(
    config: CogVideoXConfig,
    control: ControlSettings,
    canvas: tuple[int, int],
    frames: int,
    dtype: torch.dtype = torch.bfloat16,
    denoised: tuple[int, int] | None = None,
    strips: bool = True,
) -> Footprint:
    """Runs every phase on the meta device; transformer and control count as one, since they answer as one.

    With guidance the two answers of a step come after each other, and the one that waits does so on the host with the
    states, so a prompt more needs no more.

    Args:
        config: of the base.
        control: what its control is made of.
        canvas: (height, width) of what is encoded and decoded.
        frames: of a window.
        dtype: of transformer and control; the VAE is in fp32.
        denoised: (height, width) of what is denoised at once, where that is a tile of the canvas.
        strips: whether the VAE may compute its layers in strips.

    Raises:
        ValueError: the model can't have this size.
    """
    base = cogvideox_footprint(
        config, canvas, frames, dtype, prompts=1, denoised=denoised, strips=strips, clip=True
    )
    known = json.dumps([dict(part) for part in (config.transformer, config.vae, config.scheduler)])
    third = _measured(known, control, frames, denoised or canvas, dtype)
    return replace(
        base,
        transformer=base.transformer + third.whole,
        # The most that is streamed at once is a block with its connector, and the next block.
        block=base.block + third.connector,
        around=base.around + third.around,
        fp8=base.fp8 + third.whole - control.blocks * third.saved,
        denoise=third.denoise,
    )


@dataclass(frozen=True, slots=True)
class _Third:
    """Bytes of the control: all weights, those that are never streamed, a connector, what 8 bits save of a block; and
    the most that is alive besides weights while it and the transformer are evaluated."""

    whole: int
    around: int
    connector: int
    saved: int
    denoise: int


@lru_cache(32)
def _measured(
    known: str, control: ControlSettings, frames: int, denoised: tuple[int, int], dtype: torch.dtype
) -> _Third:
    config = CogVideoXConfig(*json.loads(known))
    with torch.device("meta"), default_dtype(dtype):
        whole = Control(config.transformer, control)
    streamed = sum(bytes_of(part) for part in (whole.controlnet.transformer_blocks, whole.connectors))
    # Two blocks stand for all: each is gone before the next begins, and the ControlNet's come just before they are
    # listened to.
    layers = min(2, config.transformer["num_layers"])
    lean = CogVideoXConfig({**config.transformer, "num_layers": layers}, config.vae, config.scheduler)
    base = build_cogvideox(lean, "meta", dtype)
    with torch.device("meta"), default_dtype(dtype):
        one = Control(lean.transformer, replace(control, blocks=1))
    denoiser = ControlDenoiser(Controlled(base.denoiser.model, one))
    x = torch.empty(1, *config.latent_shape(frames, *denoised), device="meta")
    words = (1, config.text_tokens, config.transformer["text_embed_dim"])
    condition = ControlCondition(x, torch.empty(words, device="meta", dtype=dtype))
    return _Third(
        bytes_of(whole),
        bytes_of(whole) - streamed,
        bytes_of(whole.connectors[0]),
        saved_by_fp8(whole.controlnet.transformer_blocks[0]),
        peak_of(lambda: denoiser(x, 500, condition)),
    )
