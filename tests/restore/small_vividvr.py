"""Vivid-VR small: random weights of the real classes, and settings that make several tiles and windows of little."""

import torch
from torch import Tensor

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V
from unfade.conditioning.control import Control, Controlled, ControlSettings
from unfade.conditioning.control_denoiser import ControlCondition, ControlDenoiser
from unfade.restore.chunks import Chunks, MemoryChunks
from unfade.restore.shot_walk import ShotWalk
from unfade.restore.vivid_model import VividModel
from unfade.restore.vividvr import VividSettings

SETTINGS = VividSettings(window=17, tile=64, steps=4, guidance=3.0, short_side=0)
SMALL = ControlSettings(blocks=1, bottleneck=8, width=8, groups=2)


def small_model() -> VividModel:
    """Transformer, VAE and a control that is not at its beginning."""
    torch.manual_seed(0)
    base = build_cogvideox(SMALL_T2V)
    control = Control.beginning(base.denoiser.model, SMALL)
    with torch.no_grad():
        for parameter in control.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return VividModel(base.config, ControlDenoiser(Controlled(base.denoiser.model, control)), base.vae)


def footage(frames: int, height: int = 60, width: int = 90) -> Tensor:
    """`[T, 3, H, W]`, smooth and moving."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    made = [
        torch.stack(
            [torch.sin((rows + 2 * t) / 9), torch.cos((columns - t) / 7), torch.sin((rows + columns) / 11)]
        )
        for t in range(frames)
    ]
    return torch.stack(made) * 0.4 + 0.5


TEXTS = torch.randn(2, 1, 12, 24, generator=torch.Generator().manual_seed(5))


def told(index: int, low: Tensor) -> tuple[ControlCondition, ControlCondition]:
    """The same two prompts everywhere."""
    return ControlCondition(low, TEXTS[0]), ControlCondition(low, TEXTS[1])


def walk(
    model: VividModel,
    clip: Tensor,
    settings: VividSettings = SETTINGS,
    chunks: Chunks | None = None,
    **extra: object,
) -> ShotWalk:
    """A walk over a clip in its own size."""
    timeline = settings.timeline(model.config, len(clip))
    size = (clip.shape[2], clip.shape[3])
    kept = MemoryChunks() if chunks is None else chunks
    return ShotWalk(model, settings, timeline, size, kept, 7, "shot", **extra)  # type: ignore[arg-type]


def restored(made: ShotWalk, clip: Tensor) -> Tensor:
    """All of it, `[T, 3, H, W]`."""
    made.encode(clip)
    made.denoise(told)
    return torch.stack([frame for index in range(len(made.timeline.windows)) for frame in made.decode(index)])
