"""Many sequences walked at once by a Wan model, and judged frame by frame against their truth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.video import VideoModel
from unfade.backbones.wan import Wan
from unfade.backbones.wan_denoiser import WanCondition
from unfade.core import generator
from unfade.diffusion.flow import FlowSchedule, sample_flow
from unfade.training.folded import folded_convolutions
from unfade.training.sequences import Sequences
from unfade.training.validation import psnr


@dataclass(frozen=True, slots=True)
class Walk:
    """How a model is asked.

    Attributes:
        frames: of a clip, 4k + 1.
        steps, shift: of the sampler; there is no guidance.
        seed: of the noise, which depends on the sequence's name as well.
        batch: sequences at once.
        bf16: whether the transformer computes in bf16.
    """

    frames: int = 9
    steps: int = 10
    shift: float = 5.0
    seed: int = 0
    batch: int = 16
    bf16: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came out for one sequence; PSNR in dB over all colours, of frames rounded to 8 bits.

    Attributes:
        name, category: of the sequence.
        input: of the degraded frame.
        frames: of every generated frame after the first, the result last.
        ceiling: of the last frame of the true sequence, encoded and decoded.
        photo: of the truth alone, encoded and decoded.
    """

    name: str
    category: str
    input: float
    frames: tuple[float, ...]
    ceiling: float
    photo: float

    @property
    def result(self) -> float:
        return self.frames[-1]

    def told(self) -> dict[str, Any]:
        return asdict(self)


def held_sequences(
    sequences: Sequences, size: int, frames: int, seed: int, indices: Iterable[int] | None = None
) -> tuple[tuple[str, ...], Tensor]:
    """Names and pixels `[N, T, 3, S, S]` of sequences whose crops and degradations depend on seed and name only."""
    chosen = range(len(sequences)) if indices is None else list(indices)
    names = tuple(sequences.names[index] for index in chosen)
    clips = [
        sequences.draw(index, size, frames, generator(seed, "held out", name, size))
        for index, name in zip(chosen, names, strict=True)
    ]
    return names, torch.stack(clips)


def walked(wan: Wan, first: Tensor, names: Sequence[str], text: Tensor, walk: Walk) -> Tensor:
    """The clips a model generates from first frames.

    Args:
        wan: the model; whatever adapter is active stays so.
        first: `[N, 3, H, W]` in [0, 1], sides of legal size.
        names: of the sequences.
        text: embedded prompt `[1, L, D]`.
        walk: how.

    Returns:
        `[N, T - 1, 3, H, W]` in [0, 1]: all frames but the first.
    """
    schedule = FlowSchedule(walk.steps, walk.shift, wan.config.scheduler)
    shape = wan.config.latent_shape(walk.frames, first.shape[2], first.shape[3])
    parts: list[Tensor] = []
    with folded_convolutions(wan.vae.model), torch.inference_mode():
        for begin in range(0, len(first), walk.batch):
            part, these = first[begin : begin + walk.batch], names[begin : begin + walk.batch]
            noise = torch.stack(
                [torch.randn(shape, generator=generator(walk.seed, "walk", name)) for name in these]
            )
            condition = WanCondition(wan.vae.encode(part[:, :, None]), text.expand(len(part), -1, -1))
            with torch.autocast("cpu", torch.bfloat16, enabled=walk.bf16):
                made = sample_flow(wan.denoiser, noise, condition, schedule)
            frames = torch.cat(list(wan.vae.decode(condition.pinned(made))), dim=2)
            parts.append(frames[:, :, 1:].transpose(1, 2))
    return torch.cat(parts).clamp(0, 1)


def seen_through(video: VideoModel, clips: Tensor, batch: int = 16) -> Tensor:
    """The last frames `[N, 3, H, W]` of clips `[N, T, 3, H, W]` that were encoded and decoded."""
    with folded_convolutions(video.vae.model):
        parts = [
            torch.cat(list(video.vae.decode(video.vae.encode(part.transpose(1, 2)))), dim=2)[:, :, -1]
            for part in clips.split(batch)
        ]
    return torch.cat(parts).clamp(0, 1)


def judged(wan: Wan, names: Sequence[str], clips: Tensor, made: Tensor, batch: int = 16) -> list[Judgement]:
    """Judgements of generated frames.

    Args:
        wan: whose VAE sets the ceiling.
        names: "category/...", one for each clip.
        clips: the true sequences `[N, T, 3, H, W]`.
        made: all frames but the first, `[N, T', 3, H, W]`; T' may differ.
        batch: clips through the VAE at once.
    """
    ceilings, photos = seen_through(wan, clips, batch), seen_through(wan, clips[:, -1:], 4 * batch)
    rows: list[Judgement] = []
    for index, name in enumerate(names):
        truth = clips[index, -1]
        rows.append(
            Judgement(
                name,
                name.rpartition("/")[0],
                psnr(_rounded(clips[index, 0]), truth),
                tuple(psnr(_rounded(frame), truth) for frame in made[index]),
                psnr(_rounded(ceilings[index]), truth),
                psnr(_rounded(photos[index]), truth),
            )
        )
    return rows


def summary(rows: Sequence[Judgement]) -> dict[str, dict[str, Any]]:
    """Means by category, and over everything as "all": input, result, gain, ceiling, photo, frames, count."""
    groups: dict[str, list[Judgement]] = {}
    for row in rows:
        groups.setdefault(row.category, []).append(row)
    return {name: _means(group) for name, group in {**groups, "all": list(rows)}.items()}


def gains(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    """By how many dB the result rose from one summary to another, by category."""
    return {name: round(after[name]["result"] - before[name]["result"], 3) for name in before}


def _means(rows: Sequence[Judgement]) -> dict[str, Any]:
    def mean(values: Iterable[float]) -> float:
        listed = list(values)
        return round(sum(listed) / len(listed), 3)

    found = {
        name: mean(getattr(row, name) for row in rows) for name in ("input", "result", "ceiling", "photo")
    }
    return {
        **found,
        "gain": round(found["result"] - found["input"], 3),
        "better": mean(row.result > row.input for row in rows),
        "frames": [mean(column) for column in zip(*(row.frames for row in rows), strict=True)],
        "count": len(rows),
    }


def _rounded(frame: Tensor) -> Tensor:
    return frame.mul(255).round().div(255)
