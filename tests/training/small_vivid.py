"""Vivid-VR's training small: random weights of the real classes, and clips in memory."""

from pathlib import Path

import torch
from torch import Tensor

from unfade.backbones.cogvideox import CogVideoX, build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V
from unfade.conditioning.control import ControlSettings
from unfade.core import generator
from unfade.training.footage_clips import FootagePairs
from unfade.training.glides import glide
from unfade.training.vivid import VividTrainer
from unfade.training.vivid_run import VividRun

SMALL = ControlSettings(blocks=1, bottleneck=8, width=8, groups=2)
RUN = VividRun(
    stages=((1, (32, 48)),),
    iterations=4,
    frames=17,
    least_frames=9,
    control=SMALL,
    lr=1e-3,
    warmup=1,
    batch=2,
    precision="fp32",
    checkpoint_every=2,
    validate_every=100,
    validate_steps=2,
    log_every=1,
)


class Pans:
    """Clips of two smooth pictures, in memory."""

    names = ("one", "two")

    def __len__(self) -> int:
        return 2

    def prompt(self, index: int) -> str:
        return f"a bright scene {self.names[index]}"

    def identity(self, index: int) -> str:
        return self.names[index]

    def enlarged(self, index: int, size: object) -> bool:
        return False

    def draw(self, index: int, size: object, frames: int, generator: torch.Generator) -> Tensor:
        rows, columns = torch.meshgrid(torch.arange(60), torch.arange(90), indexing="ij")
        waves = [torch.sin((rows * (1 + index) + k * columns) / 9) for k in (1, 2, 3)]
        photo = ((torch.stack(waves) * 0.4 + 0.5) * 255).byte()
        assert isinstance(size, tuple)
        return glide(photo, size, frames, generator)


def noisy(dice: torch.Generator):
    strength = 0.05 + 0.2 * float(torch.rand((), generator=dice))
    return lambda clip: (clip + strength * torch.randn(clip.shape, generator=generator(1))).clamp(0, 1)


def base() -> CogVideoX:
    torch.manual_seed(4)
    return build_cogvideox(SMALL_T2V)


def embed(captions: object) -> list[Tensor]:
    """Embeddings that differ from caption to caption."""
    assert isinstance(captions, list)
    return [
        torch.randn(1, 12, 24, generator=torch.Generator().manual_seed(sum(map(ord, caption))))
        for caption in captions
    ]


def trainer(
    folder: Path, run: VividRun = RUN, video: CogVideoX | None = None, **more: object
) -> VividTrainer:
    pairs = FootagePairs(Pans(), noisy)
    return VividTrainer(run, video or base(), pairs, embed, folder, **more)  # type: ignore[arg-type]
