"""A small video VAE trained from nothing: mostly photos, now and then a short clip of one."""

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unfade.core import InputError, generator, subseed
from unfade.degrade import draw_composition, named
from unfade.degrade.composition import Composition, Kinds
from unfade.degrade.resample import resize
from unfade.degrade.trajectory import fade_frames, linear_frames
from unfade.media.atomic import atomic_output
from unfade.training.coders import scale, typical
from unfade.training.folded import folded_convolutions
from unfade.training.glides import glide
from unfade.training.optimizer import MuonAdamW, warm_cosine
from unfade.training.photos import Photos
from unfade.training.run_log import forget_after
from unfade.training.sequences import Way
from unfade.training.team import Team
from unfade.training.update import update

# Largest standard deviation of noise on clips, pixels in [0, 1].
_NOISIEST = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderRun:
    """A whole training run of a VAE.

    Attributes:
        steps: in total.
        batch: photos at once; a clip counts as `frames + 3` photos.
        crop: side in pixels; the photo is first reduced so that its shorter side is between `crop` and `reach`.
        reach: largest shorter side.
        clips: every this many steps the batch is of clips.
        frames: of a clip, 4k + 1.
        trajectory: how a clip gets better, "linear" or "fade"; or "glide", a camera that glides over a photo.
        kinds: names of degradations that inputs may carry.
        clean: share of photos without any.
        lr, warmup: peak rate and steps to reach it; the rate falls as a cosine to a fiftieth.
        kl: weight of the mean divergence of a latent value from a standard normal one.
        square: weight of the mean squared error beside the mean absolute one; values are in [-1, 1].
        ema: decay of the averaged weights, which are the ones kept.
        seed: of everything random.
        report_every, checkpoint_every: steps.
    """

    steps: int = 1900
    batch: int = 32
    crop: int = 64
    reach: int = 192
    clips: int = 4
    frames: int = 5
    trajectory: Way | Literal["glide"] = "linear"
    kinds: tuple[str, ...] = ("lowlight", "haze", "gaussian-noise")
    clean: float = 0.7
    lr: float = 3e-3
    warmup: int = 100
    kl: float = 1e-4
    square: float = 2.0
    ema: float = 0.998
    seed: int = 0
    report_every: int = 100
    checkpoint_every: int = 250

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        return self.lr * warm_cosine(step, self.steps, self.warmup, least=0.02)


def drawn_crops(photos: Photos, count: int, crop: int, reach: int, dice: random.Random) -> Tensor:
    """Random crops of reduced and flipped photos, `[count, 3, crop, crop]` in [0, 1]."""
    crops: list[Tensor] = []
    for _ in range(count):
        photo = photos[dice.randrange(len(photos))]
        shorter = min(photo.shape[1:])
        goal = min(max(crop, shorter), round(crop * (max(reach, crop) / crop) ** dice.random()))
        # The part that becomes the crop is cut first, so that no more than that is resized.
        side = min(shorter, round(crop * shorter / goal))
        top, left = (dice.randint(0, length - side) for length in photo.shape[1:])
        window = photo[:, top : top + side, left : left + side].float().div(255)
        window = resize(window[None], crop, crop)[0].clamp(0, 1)
        crops.append(window.flip(2) if dice.random() < 0.5 else window)
    return torch.stack(crops)


def drawn_clips(
    clean: Tensor,
    kinds: Sequence[Kinds],
    frames: int,
    dice: random.Random,
    fields: torch.Generator,
    trajectory: Way = "linear",
) -> Tensor:
    """Clips `[B, 3, frames, S, S]` from degraded photos to the clean ones: in a straight line, or by a degradation
    that fades."""
    drawn = [(one[None], _drawn(one[None], dice.choice(kinds), fields)) for one in clean]
    made = (
        linear_frames(whole(one, 1.0), one, frames)
        if trajectory == "linear"
        else fade_frames(one, whole, frames)
        for one, whole in drawn
    )
    return torch.cat([torch.stack(list(clip), dim=2) for clip in made])


def _drawn(clean: Tensor, kind: Kinds, fields: torch.Generator) -> Composition:
    return draw_composition(kind, fields, (clean.shape[0], clean.shape[2], clean.shape[3]), codec="torch")


class AutoencoderTrainer:
    """Owns the state of a run; `run()` goes on from wherever it stands.

    Attributes:
        vae: the weights being trained, fp32; the arithmetic is bf16 inside.
        average: their moving average.
        step: how many are done.
    """

    def __init__(
        self, run: AutoencoderRun, vae: Any, photos: Photos, folder: Path, team: Team | None = None
    ) -> None:
        self.plan = run
        self.vae = vae.train().requires_grad_(True)
        self.photos = photos
        self.folder = folder
        self.team = team or Team()
        self.kinds = [named(name) for name in run.kinds]
        self.average = {name: value.detach().clone() for name, value in vae.state_dict().items()}
        hidden, ends = _split(vae)
        self.optimizer = MuonAdamW(hidden, ends, lr=run.lr, weight_decay=0.0)
        self.step = 0

    @property
    def checkpoint(self) -> Path:
        return self.folder / "vae.pt"

    def save(self) -> None:
        """Writes the checkpoint atomically; the leader's is everyone's, as all dice come from the step."""
        if not self.team.leads:
            return
        state = {
            "plan": asdict(self.plan),
            "step": self.step,
            "model": self.vae.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_output(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def resume(self) -> bool:
        """Takes up the folder's checkpoint, if there is one; the log loses what came after it.

        Raises:
            InputError: it is of another network.
        """
        if not self.checkpoint.exists():
            self._forget()
            return False
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        try:
            self.vae.load_state_dict(state["model"])
        except RuntimeError as error:
            raise InputError(
                f"the checkpoint in {self.folder} is of another network; choose another folder"
            ) from error
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self._forget()
        return True

    def _forget(self) -> None:
        if self.team.leads:
            forget_after(self.folder / "vae.jsonl", self.step)

    def batch(self, step: int) -> Tensor:
        """The pixels of a step `[B, 3, T, S, S]` in [-1, 1], this member's share of them."""
        plan = self.plan
        dice = random.Random(subseed(plan.seed, "crops", step, self.team.rank))
        fields = generator(plan.seed, "fields", step, self.team.rank)
        share = plan.batch // self.team.size
        if plan.clips and step % plan.clips == plan.clips - 1:
            share = max(1, share // (plan.frames + 3))
            if plan.trajectory == "glide":
                return self._glided(share, dice, fields) * 2 - 1
            clean = drawn_crops(self.photos, share, plan.crop, plan.reach, dice)
            return drawn_clips(clean, self.kinds, plan.frames, dice, fields, plan.trajectory) * 2 - 1
        clean = drawn_crops(self.photos, share, plan.crop, plan.reach, dice)
        parts = [part for part in clean.split(max(1, share // 8))]
        mixed = [
            part if dice.random() < plan.clean else _drawn(part, dice.choice(self.kinds), fields)(part, 1.0)
            for part in parts
        ]
        return torch.cat(mixed)[:, :, None] * 2 - 1

    def _glided(self, count: int, dice: random.Random, fields: torch.Generator) -> Tensor:
        """Clips `[B, 3, T, S, S]`; as many as stills are degraded have noise, fresh in every frame."""
        plan = self.plan
        clips: list[Tensor] = []
        for _ in range(count):
            photo = self.photos[dice.randrange(len(self.photos))]
            clip = glide(photo, (plan.crop, plan.crop), plan.frames, fields)
            if dice.random() >= plan.clean:
                clip = clip + _NOISIEST * dice.random() * torch.randn(clip.shape, generator=fields)
            clips.append(clip.clamp(0, 1).transpose(0, 1))
        return torch.stack(clips)

    def loss(self, pixels: Tensor, step: int) -> Tensor:
        """What is minimised, for pixels in [-1, 1]."""
        noise = generator(self.plan.seed, "posterior", step, self.team.rank)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = self.vae.encode(pixels, return_dict=False)[0]
            mean, logvar = posterior.mean.float(), posterior.logvar.float()
            latents = mean + torch.exp(0.5 * logvar) * torch.randn(mean.shape, generator=noise)
            answer = self.vae.decode(latents, return_dict=False)[0].float()
        error = answer - pixels
        divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        return error.abs().mean() + self.plan.square * (error**2).mean() + self.plan.kl * divergence

    def train_step(self) -> float:
        """One update; returns the loss over the team.

        Raises:
            FloatingPointError: the loss is not finite; the weights are as before the step.
        """
        loss = self.loss(self.batch(self.step), self.step)
        shared = update(
            self.vae,
            self.optimizer,
            self.average,
            loss,
            self.team,
            self.step,
            self.plan.rate(self.step),
            self.plan.ema,
        )
        self.step += 1
        return shared

    def run(self, until: int | None = None, report: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Trains to the end of the plan, or to step `until`; checkpoints and logs on the way."""
        end = min(until or self.plan.steps, self.plan.steps)
        recent: list[float] = []
        begun = time.perf_counter()
        with folded_convolutions(self.vae):
            while self.step < end:
                recent.append(self.train_step())
                last = self.step == end
                if (self.step % self.plan.report_every == 0 or last) and self.team.leads:
                    row = {
                        "step": self.step,
                        "loss": round(sum(recent) / len(recent), 5),
                        "psnr": round(self.psnr(), 2),
                        "seconds": round(time.perf_counter() - begun, 1),
                    }
                    self._log(row, report)
                    recent, begun = [], time.perf_counter()
                if self.step % self.plan.checkpoint_every == 0 or last:
                    self.save()

    @torch.inference_mode()
    def psnr(self, count: int = 32) -> float:
        """In dB, of clean crops that are always the same ones, by the weights as they stand."""
        dice = random.Random(subseed(self.plan.seed, "judged"))
        pixels = drawn_crops(self.photos, count, self.plan.crop, self.plan.reach, dice)[:, :, None] * 2 - 1
        with torch.autocast("cpu", torch.bfloat16):
            latents = self.vae.encode(pixels, return_dict=False)[0].mode()
            answer = self.vae.decode(latents, return_dict=False)[0].float()
        return -10 * math.log10(float(((answer - pixels) ** 2).mean()) / 4 + 1e-12)

    def _log(self, row: dict[str, Any], report: Callable[[dict[str, Any]], None] | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "vae.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")
        if report:
            report(row)

    def finish(self, samples: int = 64) -> Any:
        """The VAE with averaged weights, its latents measured and brought to unit size."""
        self.vae.load_state_dict(self.average)
        self.vae.eval().requires_grad_(False)
        dice = generator(self.plan.seed, "typical")
        with torch.inference_mode(), folded_convolutions(self.vae):
            posteriors = (
                self.vae.encode(pixels, return_dict=False)[0] for pixels in self._specimens(samples)
            )
            parts = [typical(self.vae, one, dice).transpose(0, 1).flatten(1) for one in posteriors]
        scale(self.vae, torch.cat(parts, dim=1))
        return self.vae

    def _specimens(self, samples: int) -> Iterator[Tensor]:
        for index in range(samples):
            yield self.batch(-1 - index)


def _split(vae: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(for Muon, for AdamW): kernels between feature maps, and the rest."""
    hidden: list[Tensor] = []
    ends: list[Tensor] = []
    for name, parameter in vae.named_parameters():
        inner = parameter.ndim >= 4 and not any(
            end in name for end in ("conv_in", "conv_out", "quant", "gamma")
        )
        (hidden if inner else ends).append(parameter)
    return hidden, ends
