"""Training `Gather`: footage made of photos, through the finished network, which stays as it is."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from unfade.backbones.gather import REACH, Gather
from unfade.backbones.motion import Levels
from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny, thumbnail_of
from unfade.core import InputError, subseed
from unfade.degrade.classic import quantise
from unfade.degrade.noise import GaussianNoise
from unfade.media.atomic import atomic_output
from unfade.media.compression import compressed
from unfade.training.bare_loop import run_steps
from unfade.training.dice import Dice
from unfade.training.moving import moving_clip
from unfade.training.optimizer import warm_cosine
from unfade.training.photos import Photos
from unfade.training.run_log import forget_after
from unfade.training.team import Team
from unfade.training.tiny import relative_error
from unfade.training.update import update
from unfade.training.validation import psnr
from unfade.training.windows import WindowRule, Windows, draw_windows

# Held-out clips that training is judged by: name, noise in grey levels, constant rate factor of H.264 or 0 for none.
_JUDGED = (("noise-20", 20.0, 0.0), ("noise-20-h264-23", 20.0, 23.0), ("h264-32", 0.0, 32.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherRun:
    """A whole training run.

    Attributes:
        windows: how batches are drawn; a team shares their clips.
        steps: in total.
        lr, warmup, weight_decay: of AdamW: peak rate, steps to reach it, decay; the rate falls as a cosine to 0.
        ema: decay of the averaged weights, which are the ones shipped.
        floor: as in `relative_error`.
        steady: weight of the loss on how the error changes from frame to frame.
        held_out: photos kept for validation.
        seed: of everything random.
        validate_every, checkpoint_every: steps.
    """

    windows: WindowRule = field(default_factory=lambda: WindowRule(clips=8))
    steps: int = 3500
    lr: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    ema: float = 0.998
    floor: float = 0.03
    steady: float = 0.3
    held_out: int = 24
    seed: int = 11
    validate_every: int = 500
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        if self.windows.moving.frames < 2 * REACH + 2:
            raise ValueError(
                f"clips need {2 * REACH + 2} frames, so that two of them have neighbours on both sides"
            )

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        return self.lr * warm_cosine(step, self.steps, self.warmup)


class GatherTrainer:
    """Owns the state of a run; `run()` goes on from wherever it stands."""

    def __init__(
        self,
        run: GatherRun,
        model: Tiny,
        photos: Photos,
        folder: Path,
        device: str = "cpu",
        team: Team | None = None,
    ) -> None:
        self.plan = run
        self.team = team or Team()
        self.folder = folder
        self.device = torch.device(device)
        self.photos, self.held_out = photos.split(run.held_out)
        self.model = model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.model.requires_grad_(False)
        self.through = fingerprint(self.model)
        torch.manual_seed(subseed(run.seed, "weights") % 2**32)
        gather = Gather(model.config.context)
        self.gather = gather.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.detach().clone() for name, value in self.gather.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.gather.parameters(), run.lr, (0.9, 0.99), weight_decay=run.weight_decay
        )
        self.dice = Dice(run.seed, self.team, self.device)
        self.step = 0

    def start_from(self, gather: Gather) -> None:
        """Takes over another one's weights as they are, trained through whatever network."""
        self.gather.load_state_dict(gather.state_dict())
        self.average = {name: value.detach().clone() for name, value in self.gather.state_dict().items()}

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def state(self) -> dict[str, Any]:
        """Everything needed to go on as if never stopped."""
        return {
            "plan": asdict(self.plan),
            "through": self.through,
            "step": self.step,
            "gather": self.gather.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "dice": self.dice.state(),
        }

    def save(self) -> None:
        """Writes the checkpoint atomically; called by the whole team, done by its leader."""
        state = self.state()
        if self.team.leads:
            with atomic_output(self.checkpoint) as temporary:
                torch.save(state, temporary)

    def resume(self) -> bool:
        """Takes up the folder's checkpoint, if there is one; exact with a team of the same size.

        Raises:
            InputError: it is damaged, or of other weights.
        """
        if not self.checkpoint.exists():
            return False
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise InputError(f"{self.checkpoint} is damaged; delete it to begin anew") from error
        if state.get("through") != self.through:
            raise InputError(
                f"{self.checkpoint} was trained through other weights; name those, or another folder with --runs"
            )
        self.gather.load_state_dict(state["gather"])
        self.step = state["step"]
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.dice.load(state["dice"])
        if self.team.leads:
            forget_after(self.folder / "log.jsonl", self.step)
        return True

    def averaged(self) -> Gather:
        """The network with averaged weights."""
        gather = Gather(self.model.config.context).to(self.device)
        gather.load_state_dict(self.average)
        return gather.eval()

    def _loss(self, windows: Windows) -> Tensor:
        frame, clean = windows.frames(windows.degraded), windows.frames(windows.clean)
        others = [windows.frames(windows.degraded, offset) for offset in windows.offsets]
        count = len(windows.restored)
        with torch.no_grad():
            context = self.model.context(windows.thumbnails, windows.prompts).repeat_interleave(count, 0)
        predicted = _restored(self.model, self.gather, frame, others, context)
        loss = relative_error(predicted, clean, frame, self.plan.floor)
        error = (predicted - clean).unflatten(0, (-1, count))
        found = (frame - clean).unflatten(0, (-1, count))
        change, size = error.diff(dim=1).square().mean((1, 2, 3, 4)), found.square().mean((1, 2, 3, 4))
        shaken = torch.sqrt(change + 2.5e-5) / torch.sqrt(2 * size).clamp_min(self.plan.floor)
        return loss + self.plan.steady * shaken.mean()

    def train_step(self) -> float:
        """One update; returns the loss.

        Raises:
            FloatingPointError: the loss is not finite; the state is as before the step.
        """
        rule = self.plan.windows
        rule = replace(rule, clips=rule.clips // self.team.size)
        loss = self._loss(draw_windows(self.photos, rule, self.dice.choices, self.dice.fields))
        rate = self.plan.rate(self.step)
        shared = update(
            self.gather, self.optimizer, self.average, loss, self.team, self.step, rate, self.plan.ema
        )
        self.step += 1
        return shared

    def run(self, until: int | None = None, report: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Trains to the end of the plan, or to step `until`; checkpoints and logs on the way."""
        run_steps(
            self,
            self.plan,
            lambda: judged(self.model, self.averaged(), self.held_out, self.plan),
            until,
            report,
        )


def fingerprint(model: nn.Module) -> str:
    """What tells a network's weights from any other's."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _restored(model: Tiny, gather: Gather, frame: Tensor, others: list[Tensor], context: Tensor) -> Tensor:
    """Frames `[B, 3, S, S]` as they are restored with their neighbours."""
    with torch.no_grad():
        levels = [Levels.of(one) for one in (frame, *others)]
    with torch.autocast(frame.device.type, torch.bfloat16):
        better = gather(frame, others, levels, context)
        start = torch.zeros(len(frame), device=frame.device)
        better = better.contiguous(memory_format=torch.channels_last)
        return model(better, start, better, context, spectrum_of(better.detach()))


@torch.no_grad()
def judged(model: Tiny, gather: Gather, photos: Photos, run: GatherRun) -> dict[str, list[float]]:
    """Mean RGB PSNR in dB of clips made of held-out photos: of the input, frame by frame, and with neighbours.

    Of the network's own answers, before `Trust` says how far they are followed.
    """
    table: dict[str, list[float]] = {}
    for name, sigma, quality in _JUDGED:
        figures: list[tuple[float, float, float]] = []
        for index in range(len(photos)):
            dice, fields = random.Random(subseed(run.seed, "judged", index)), torch.Generator()
            fields.manual_seed(subseed(run.seed, "judged fields", index))
            clean = moving_clip(photos, run.windows.moving, dice, fields)
            noise = torch.randn(clean.shape, generator=fields)
            clip = GaussianNoise(torch.full((len(clean),), sigma), noise)(clean) if sigma else clean
            clip = compressed(clip, "h264", quality) if quality else quantise(clip)
            device = next(model.parameters()).device
            clean, clip = clean.to(device), clip.to(device)
            middle = len(clip) // 2
            frame, truth = clip[middle : middle + 1], clean[middle : middle + 1]
            others = [clip[middle + offset : middle + offset + 1] for offset in (-2, -1, 1, 2)]
            context = model.context(thumbnail_of(clip).mean(0, keepdim=True), [None])
            with torch.autocast(device.type, torch.bfloat16):
                alone = model(frame, torch.zeros(1, device=device), frame, context, spectrum_of(frame))
            together = _restored(model, gather, frame, others, context)
            figures.append(tuple(psnr(one.clamp(0, 1), truth) for one in (frame, alone, together)))  # type: ignore[arg-type]
        table[name] = [round(sum(column) / len(figures), 3) for column in zip(*figures, strict=True)]
    return table
