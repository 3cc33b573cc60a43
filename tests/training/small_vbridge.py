"""A V-Bridge run as small as it gets, for the tests of its training and of its processes."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL
from unfade.conditioning.lora import LoraSettings
from unfade.training.vbridge import VBridgeRun, VBridgeTrainer

TEXTS = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(5))
RUN = VBridgeRun(
    stages=((1, 32), (1, 64)),
    frames=5,
    lr=1e-3,
    warmup=2,
    batch=2,
    crops=1,
    precision="fp32",
    lora=LoraSettings(rank=4),
    checkpoint_every=3,
    validate_every=100,
    validate_steps=2,
    log_every=1,
)
WHOLE = replace(RUN, lora=None)


def wan() -> Wan:
    torch.manual_seed(4)
    return build_wan(SMALL)


def learnt(trainer: VBridgeTrainer) -> dict[str, torch.Tensor]:
    return {
        name: value.detach().clone()
        for name, value in trainer.video.denoiser.model.named_parameters()
        if value.requires_grad
    }


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
