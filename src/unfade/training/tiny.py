"""The training loop of `tiny`: bare PyTorch, alone or in a team, checkpoints that continue exactly."""

import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.core import InputError, subseed
from unfade.media.atomic import atomic_output
from unfade.training.bare_loop import run_steps, write_row
from unfade.training.dice import Dice
from unfade.training.families import draw_of
from unfade.training.optimizer import MuonAdamW, split_parameters, warm_cosine
from unfade.training.photos import Photos
from unfade.training.run_log import forget_after
from unfade.training.samples import Sample, SampleRule, draw_sample
from unfade.training.skills import learns_kernels_only
from unfade.training.team import Team
from unfade.training.update import update
from unfade.training.validation import validate


@dataclass(frozen=True, slots=True, kw_only=True)
class TinyRun:
    """A whole training run.

    Attributes:
        network: sizes of the network.
        stages: (share of all steps, crop, batch), from coarse to fine.
        together: samples of a batch that share the kind of degradation.
        steps: in total.
        lr, warmup, weight_decay: peak rate, steps to reach it, decoupled decay; the rate falls as a cosine to 0.
        ema: decay of the averaged weights, which are the ones shipped.
        refine: share of steps that also learn from the network's own answer at a later tau.
        texture: weight, in what is learnt from those answers, of local contrast that is missing: a walk of more steps
            is to end sharper, a single step nearest to the truth.
        again: how often, at most, that answer has been refined before; walks of many steps lead there.
        later: share of a later answer's correction that walks with the written weights follow (`TinyConfig.later`);
            what is taught is all of it.
        floor: root-mean-square error of the input below which a sample counts no more for being easier.
        held_out: photos kept for validation.
        family: of damage that a specialist learns, with its kernels alone (`training.skills`); empty: everything.
        seed: of everything random.
        validate_every, checkpoint_every: steps.
    """

    network: TinyConfig = field(default_factory=TinyConfig)
    stages: tuple[tuple[float, int, int], ...] = ((0.6, 96, 24), (0.4, 128, 16))
    together: int = 4
    steps: int = 11_000
    lr: float = 4.5e-4
    warmup: int = 300
    weight_decay: float = 0.01
    ema: float = 0.999
    refine: float = 0.15
    texture: float = 0.15
    again: int = 0
    later: float = 1.0
    floor: float = 0.03
    held_out: int = 24
    family: str = ""
    seed: int = 0
    validate_every: int = 1000
    checkpoint_every: int = 250

    def stage(self, step: int) -> SampleRule:
        """How samples are drawn at a step."""
        ends = itertools.accumulate(share for share, _, _ in self.stages)
        now = (stage for stage, end in zip(self.stages, ends, strict=True) if step < end * self.steps)
        _, crop, batch = next(now, self.stages[-1])
        rule = SampleRule(crop=crop, batch=batch, together=self.together)
        return replace(rule, prompted=0, partial=0) if self.family else rule

    def refines(self, step: int) -> bool:
        """Whether a step also learns at a later tau; one answer for the whole team, so that nobody waits."""
        return subseed(self.seed, "refine", step) % 10_000 < 10_000 * self.refine

    def rounds(self, step: int) -> int:
        """How often a step's answer is refined before it is learnt from, 0 to `again`, each as often."""
        return subseed(self.seed, "rounds", step) % (self.again + 1)

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        return self.lr * warm_cosine(step, self.steps, self.warmup)


def relative_error(predicted: Tensor, clean: Tensor, degraded: Tensor, floor: float) -> Tensor:
    """The share of the input's root-mean-square error that is left, averaged over samples.

    Every task weighs alike, whatever the size of its error: a noisy photo of 20 dB and a compressed one of
    30 dB both start at 1. Below `floor` the weight stays as it is, or clean photos, from which the least change
    is an infinite share, would outweigh all else and teach the network to leave everything alone; for the same
    reason what is left counts quadratically once it is small (46 dB).
    """
    left = ((predicted - clean) ** 2).mean((1, 2, 3))
    found = ((degraded - clean) ** 2).mean((1, 2, 3))
    return (torch.sqrt(left + 2.5e-5) / torch.sqrt(found).clamp_min(floor)).mean()


def missing_texture(predicted: Tensor, clean: Tensor, side: int = 8) -> Tensor:
    """By how much local contrast differs from the truth's, as a share of it, averaged over samples.

    Local contrast is the standard deviation of luma within squares. What is nearest to a truth that can't be known
    has less of it than any truth: detail that is uncertain is averaged away.

    Args:
        predicted, clean: `[B, 3, H, W]` in [0, 1].
        side: of the squares, in pixels.
    """
    contrasts: list[Tensor] = []
    for photo in (predicted, clean):
        luma = photo.float().mean(1, keepdim=True)
        mean = functional.avg_pool2d(luma, side)
        spread = functional.avg_pool2d(luma.square(), side) - mean.square()
        contrasts.append(torch.sqrt(spread.clamp_min(0) + 1e-5))
    found, wanted = contrasts
    return ((found - wanted).abs().mean((1, 2, 3)) / wanted.mean((1, 2, 3)).clamp_min(0.01)).mean()


class TinyTrainer:
    """Owns the state of a run: network, average, optimizer, dice. `run()` goes on from wherever it stands."""

    def __init__(
        self, run: TinyRun, photos: Photos, folder: Path, device: str = "cpu", team: Team | None = None
    ) -> None:
        self.plan = run
        self.team = team or Team()
        self.folder = folder
        self.device = torch.device(device)
        self.photos, self.held_out = photos.split(run.held_out)
        torch.manual_seed(subseed(run.seed, "weights") % 2**32)
        self.model = Tiny(run.network).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if run.family:
            learns_kernels_only(self.model)
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.optimizer = MuonAdamW(*split_parameters(self.model), lr=run.lr, weight_decay=run.weight_decay)
        self.dice = Dice(run.seed, self.team, self.device)
        self.step = 0

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def state(self) -> dict[str, Any]:
        """Everything needed to go on as if never stopped."""
        return {
            "plan": asdict(self.plan),
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "dice": self.dice.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes up a state saved by `state()`; exact with a team of the same size.

        Raises:
            InputError: the state belongs to another network.
        """
        if state["plan"]["network"] != asdict(self.plan.network):
            raise InputError(
                f"the checkpoint in {self.folder} is of another network; choose another folder with --runs"
            )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.dice.load(state["dice"])

    def resume(self) -> bool:
        """Takes up the folder's checkpoint, if there is one.

        The log loses what was done after the checkpoint and will be done again, and gains a row if the plan has
        changed.
        """
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.load_state(state)
        if self.team.leads:
            forget_after(self.folder / "log.jsonl", self.step)
        now = json.loads(json.dumps(asdict(self.plan)))
        before = json.loads(json.dumps(state["plan"]))
        changed = {
            name: [before.get(name), value] for name, value in now.items() if before.get(name) != value
        }
        if changed and self.team.leads:
            write_row(self.folder, {"step": self.step, "changed": changed})
        return True

    def start_from(self, model: Tiny) -> None:
        """Takes over another network's weights as they are; everything else stays at the beginning.

        Raises:
            InputError: it is of another configuration.
        """
        if model.config != self.plan.network:
            raise InputError("the weights to start from are of another network than the recipe's")
        self.model.load_state_dict(model.state_dict())
        self.average = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def save(self) -> None:
        """Writes the checkpoint atomically; called by the whole team, done by its leader."""
        state = self.state()
        if not self.team.leads:
            return
        with atomic_output(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def averaged(self) -> Tiny:
        """The network with averaged weights, for evaluation."""
        model = Tiny(self.plan.network).to(self.device)
        model.load_state_dict(self.average)
        return model.eval()

    def _loss(self, sample: Sample) -> Tensor:
        batch = sample.degraded.shape[0]
        degraded = sample.degraded.contiguous(memory_format=torch.channels_last)
        spectrum = spectrum_of(sample.degraded)
        with torch.autocast(self.device.type, torch.bfloat16):
            context = self.model.context(sample.thumbnail, sample.prompts)
            start = torch.zeros(batch, device=self.device)
            predicted = self.model(degraded, start, degraded, context, spectrum)
            loss = self._judge(predicted, sample)
            if self.plan.refines(self.step):
                earlier = predicted.detach().clamp(0, 1)
                with torch.no_grad():
                    for _ in range(self.plan.rounds(self.step)):
                        earlier = self._refined(earlier, degraded, context.detach(), spectrum).clamp(0, 1)
                refined = self._refined(earlier, degraded, context, spectrum)
                loss = loss + self._judge(refined, sample)
                loss = loss + self.plan.texture * missing_texture(refined, sample.clean)
        return loss

    def _refined(self, earlier: Tensor, degraded: Tensor, context: Tensor, spectrum: Tensor) -> Tensor:
        """The answer at a random tau to the state that an earlier answer leads to."""
        tau = torch.rand(len(degraded), generator=self.dice.fields, device=self.device) * 0.9 + 0.05
        state = torch.lerp(degraded, earlier, tau[:, None, None, None])
        return self.model(state, tau, degraded, context, spectrum)

    def _judge(self, predicted: Tensor, sample: Sample) -> Tensor:
        return relative_error(predicted, sample.clean, sample.degraded, self.plan.floor)

    def train_step(self) -> float:
        """One update; returns the loss.

        Raises:
            FloatingPointError: the loss is not finite; the state is as before the step.
        """
        stage = self.plan.stage(self.step)
        stage = replace(stage, batch=stage.batch // self.team.size)
        dice = self.dice.choices
        kinds = None
        if self.plan.family:
            kinds = [draw_of(self.plan.family, dice) for _ in range(stage.batch // stage.together)]
        loss = self._loss(draw_sample(self.photos, stage, dice, self.dice.fields, kinds))
        shared = update(
            self.model,
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
        run_steps(
            self, self.plan, lambda: validate(self.averaged(), self.held_out, self.plan.seed), until, report
        )


def shortened(run: TinyRun, steps: int) -> TinyRun:
    """The same run over another number of steps."""
    return replace(run, steps=steps)
