"""Trains a video model to continue a degraded photo towards its truth, by LoRA or whole, on one to many GPUs."""

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.free_memory import free_bytes, out_of_memory
from unfade.backbones.wan import Wan
from unfade.conditioning.lora import (
    UNKNOWN,
    Role,
    attach_lora,
    base_fingerprint,
    load_adapter,
    save_adapter,
    settings_of,
    train_adapter,
)
from unfade.core import Clip, UnfadeError, UsageError, generator
from unfade.degrade.framing import Size, sides_of
from unfade.training.latents import LatentStore
from unfade.training.processes import accelerated
from unfade.training.run_export import export_whole
from unfade.training.run_log import RunLog
from unfade.training.run_memory import in_tiles, short_to_learn, short_to_validate, tile_for
from unfade.training.run_state import changed_settings, learnt, read_state, save_state, take_up
from unfade.training.sequences import Sequences
from unfade.training.stopping import Stop, stop_after_step
from unfade.training.tracker import Tracker
from unfade.training.video_run import VideoRun, check_adapter, check_run

Report = Callable[[dict[str, Any]], None]
Run = TypeVar("Run", bound=VideoRun)
Model = TypeVar("Model", Wan, CogVideoX)
Data = TypeVar("Data", bound=Sequences)


class VideoTrainer(ABC, Generic[Run, Model, Data]):
    """Owns the state of a run; `run()` goes on from wherever it stands.

    Everything random is a function of seed, step and sample, so a resumed run repeats nothing and leaves nothing out,
    and a step over several processes is the step of one. Processes come from `accelerate launch` (DDP, or FSDP of
    version 2 to spread a model that is trained whole); without it there is one.

    Attributes:
        plan: the run; an adapter that it goes on from decides what its own looks like.
        video: the model; its transformer is changed in place.
        step: how many steps are done.
        clipped: how many of them had their gradient clipped.
        kept: the step that the checkpoint is of, None where this run has none yet.
        store: gives latents.
        log: what the run tells of itself.
    """

    def __init__(
        self,
        run: Run,
        video: Model,
        sequences: Data,
        folder: Path,
        held_out: Data | None = None,
        tracker: Tracker | None = None,
        *,
        device: str = "cpu",
        role: Role = "restore",
        start: Path | None = None,
    ) -> None:
        """A run at its beginning.

        Args:
            run: what to do.
            video: the base; trained whole it has to be float32.
            sequences: to learn from.
            folder: of checkpoint, log, pictures and weights.
            held_out: to validate on.
            tracker: told figures and pictures besides the log.
            device: "cpu" or "cuda".
            role: of the adapter, and its name on the model.
            start: an adapter to go on from instead of a new one.

        Raises:
            UsageError: the run does not fit the model, the adapter or what it was launched by.
            ModelError: the adapter to start from does not fit.
        """
        self.plan = run
        self.video: Model = video
        self.folder = folder
        self.sequences = sequences
        self.held_out = held_out
        self.role: Role = role
        self.step = 0
        self.clipped = 0
        self.kept: int | None = None
        # While weights change, they are neither those before a step nor those after it.
        self._changing = False
        self.accelerator = accelerated(device)
        self.device = self.accelerator.device
        self.log = RunLog(folder, self.leads, tracker)
        if not len(sequences):
            raise UsageError("there is nothing to learn from; give pairs, photos or footage")
        check_run(run, video.config, self.accelerator.num_processes)
        bare = self._learning(start)
        video.to(self.device)
        bare.to(self.device)
        optimizer = torch.optim.AdamW(
            [parameter for parameter in bare.parameters() if parameter.requires_grad],
            lr=run.lr,
            betas=run.betas,
            eps=run.eps,
            weight_decay=run.weight_decay,
        )
        self.model, wrapped = self.accelerator.prepare(bare, optimizer)
        self.optimizer: torch.optim.Optimizer = wrapped.optimizer
        self.store: LatentStore

    def _learning(self, start: Path | None) -> nn.Module:
        """The module that learns, with a gradient for what is to be trained and for nothing else.

        Args:
            start: what to go on from instead of beginning anew.

        Raises:
            UsageError: what is asked of the adapter does not go with the run.
            ModelError: the adapter to start from does not fit.
        """
        run, bare = self.plan, self.video.denoiser.model
        check_adapter(run, self.role, start)
        if run.lora is None:
            train_whole(bare)
        elif start is not None:
            told = load_adapter(bare, start, self.role, self.video.provenance)
            self.plan = replace(run, lora=settings_of(start, told))
            train_adapter(bare, self.role)
        else:
            attach_lora(bare, run.lora, run.seed, self.role)
        if run.gradient_checkpointing:
            bare.enable_gradient_checkpointing()
        return bare

    @abstractmethod
    def loss(self, chosen: list[int], slots: range, size: int | Size, epoch: int) -> Tensor:
        """What is minimised, a scalar; only the model computes in `arithmetic`, the VAE in its own precision.

        Args:
            chosen: the sequences of this step.
            slots: which of them to take; what is random about a sample depends on its slot.
            size: of the crops.
            epoch: counted from 0.
        """

    @abstractmethod
    def judged(self, held_out: Data, size: int | Size) -> tuple[dict[str, Any], Clip]:
        """Figures on held-out sequences, and a picture of some of them."""

    @property
    def leads(self) -> bool:
        """Whether this process logs and saves."""
        return self.accelerator.is_main_process

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.plan.steps(len(self.sequences))

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all; called by all processes.

        Raises:
            OutputError: it can't be written.
        """
        save_state(self.checkpoint, self.model, self.optimizer, self._notes(), self.leads)
        self.kept = self.step

    def _notes(self) -> dict[str, Any]:
        return {
            "run": json.dumps(asdict(self.plan)),
            "base": base_fingerprint(self.video.denoiser.model.config),
            "role": self.role,
            "step": self.step,
            "clipped": self.clipped,
            "base_weights": self.video.provenance.get("weights", UNKNOWN),
            "latents": [self.store.encoded, self.store.found, self.store.enlarged],
        }

    def resume(self) -> bool:
        """Takes up the folder's checkpoint, if there is one; the log loses what came after it, or all of it.

        Raises:
            InputError: the checkpoint is damaged, or of another base, adapter or role.
        """
        if not self.checkpoint.exists():
            self.log.forget_after(0)
            return False
        state = read_state(self.checkpoint)
        changed = changed_settings(state, self._notes(), self.folder)
        take_up(self.model, self.optimizer, state)
        self.step, self.clipped = state["step"], state["clipped"]
        self.kept = self.step
        self.store.encoded, self.store.found, self.store.enlarged = state.get("latents", (0, 0, 0))
        self.log.forget_after(self.step)
        if changed:
            self.log.write({"step": self.step, "changed": changed})
        return True

    def train_step(self, stop: Stop | None = None) -> dict[str, float]:
        """One update.

        Returns:
            "loss" and "norm" (of the gradient, before it is clipped), over all processes.

        Raises:
            FloatingPointError: loss or gradient is not finite; everything is as before the step.
        """
        run, accelerator = self.plan, self.accelerator
        count = len(self.sequences)
        size, epoch = run.size(self.step, count), self.step // run.epoch_steps(count)
        chosen = run.chosen(self.step, count)
        share = run.batch // (run.accumulation * accelerator.num_processes)
        total = torch.zeros((), device=self.device)
        for micro in range(run.accumulation):
            begin = (micro * accelerator.num_processes + accelerator.process_index) * share
            slots = range(begin, begin + share)
            last = micro == run.accumulation - 1
            with nullcontext() if last else accelerator.no_sync(self.model):
                loss = self.loss(chosen, slots, size, epoch) / run.accumulation
                total += loss.detach()
                loss.backward()
        told = torch.stack([total, total.new_tensor(float(bool(stop and stop.asked)))])
        told = accelerator.reduce(told, "sum")
        shared = float(told[0]) / accelerator.num_processes
        if stop:
            # Whichever process was told to stop, all of them do so at the same step.
            stop.agreed = bool(told[1])
        learning = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        norm = torch.nn.utils.clip_grad_norm_(learning, run.clip)
        norm = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)  # type: ignore[operator]
        if not (math.isfinite(shared) and math.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            names = ", ".join(self.sequences.names[index] for index in chosen)
            what = "loss" if not math.isfinite(shared) else "gradient"
            raise FloatingPointError(f"the {what} is not a number at step {self.step} (samples: {names})")
        for group in self.optimizer.param_groups:
            group["lr"] = run.rate(self.step, self.steps)
        self._changing = True
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._changing = False
        self.clipped += norm > run.clip
        return {"loss": shared, "norm": norm}

    def noise(self, clean: Tensor, slots: range) -> Tensor:
        """Standard normal noise like `clean`, `[B, ...]`; that of a sample depends on seed, step and slot only."""
        seed, step = self.plan.seed, self.step
        drawn = [
            torch.randn(clean.shape[1:], generator=generator(seed, "noise", step, slot)) for slot in slots
        ]
        return torch.stack(drawn).to(self.device)

    def arithmetic(self) -> AbstractContextManager[Any]:
        """Inside it the transformer computes in the run's precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.plan.precision == "bf16")

    def run(self, until: int | None = None, report: Report | None = None) -> None:
        """Trains to the end of the plan, or to step `until`; checkpoints, validates and logs on the way.

        After SIGINT or SIGTERM the step under way is finished and saved first. Where a step fails, or telling of it,
        the state before the failure is saved, by a process that is alone. Only where the loss is not a number is the
        checkpoint left as it is: what was learnt since may be what spoilt it.

        Raises:
            UnfadeError: the loss is not a number any more, memory ran out, or a photo went missing.
            KeyboardInterrupt, SystemExit: as asked for by a signal.
        """
        end = min(self.steps, until or self.steps)
        with stop_after_step() as stop:
            try:
                self._run(end, stop, report)
            finally:
                self.log.close()
            if stop.agreed or stop.asked:
                stop.obey()

    def _run(self, end: int, stop: Stop, report: Report | None) -> None:
        recent: list[dict[str, float]] = []
        clipped, begun = self.clipped, time.perf_counter()
        while self.step < end and not stop.agreed:
            recent.append(self._stepped(stop))
            last = self.step == end or stop.agreed
            validates = self.held_out is not None and not stop.agreed
            validates = validates and (self.step % self.plan.validate_every == 0 or last)
            seconds = time.perf_counter() - begun
            # Before validating, which may fail where learning does not.
            if self.step % self.plan.checkpoint_every == 0 or last or validates:
                self.save()
            if self.step % self.plan.log_every == 0 or last or validates:
                row = {**self._figures(recent, self.clipped - clipped), "seconds": round(seconds, 2)}
                try:
                    self._told(row, validates, report)
                except Exception:
                    # A tracker that lost its connection, or a pipe that nobody reads any more.
                    self._keep()
                    raise
                recent, clipped, begun = [], self.clipped, time.perf_counter()

    def _told(self, row: dict[str, Any], validates: bool, report: Report | None) -> None:
        """A row of the log, with figures on held-out sequences if it is time for them."""
        try:
            if validates:
                row["held_out"] = self._validated()
        finally:
            self.log.write(row)
        if report and self.leads:
            report(row)

    def _stepped(self, stop: Stop) -> dict[str, float]:
        """One update; where it fails, what was learnt before it is kept."""
        try:
            return self.train_step(stop)
        except FloatingPointError as error:
            raise UnfadeError(
                f"{error}; {self._told_kept()}: look at these samples, or try a lower --lr"
            ) from error
        except Exception as error:
            # A photo that went missing, say.
            self.optimizer.zero_grad(set_to_none=True)
            self._keep()
            if not out_of_memory(error):
                raise
            size, processes = self._size(self.step), self.accelerator.num_processes
            whole = all(one.requires_grad for one in self.video.denoiser.model.parameters())
            raise short_to_learn(self.plan, self.step, size, processes, whole, self._told_kept()) from error

    def _keep(self) -> None:
        """Saves what a failed step left whole; with other processes, which know nothing of it, that can't be done."""
        alone = self.accelerator.num_processes == 1
        if alone and not self._changing and self.step and self.step != self.kept:
            self.save()

    def _told_kept(self) -> str:
        if self.kept is None:
            return "no state was saved yet"
        return f"the state of step {self.kept} is kept in {self.checkpoint}"

    def _validated(self) -> dict[str, Any]:
        try:
            return self.validate()
        except Exception as error:
            if out_of_memory(error):
                raise short_to_validate(self.step, self._told_kept()) from error
            raise

    def _size(self, step: int) -> int | Size:
        return self.plan.size(step, len(self.sequences))

    def _figures(self, recent: list[dict[str, float]], clipped: int) -> dict[str, Any]:
        means = {name: sum(row[name] for row in recent) / len(recent) for name in ("loss", "norm")}
        return {
            "step": self.step,
            "of": self.steps,
            "size": self._size(self.step - 1),
            "loss": round(means["loss"], 6),
            "norm": round(means["norm"], 6),
            "clipped": round(clipped / len(recent), 3),
            "clipped_in_all": round(self.clipped / self.step, 3),
            "rate": self.plan.rate(self.step - 1, self.steps),
            "latents_made": self.store.encoded,
            "latents_read": self.store.found,
            "photos_enlarged": self.store.enlarged,
        }

    def validate(self) -> dict[str, Any]:
        """Figures on the held-out sequences at the present crop, and a picture in `pictures/`.

        All processes do the same work, since a model that is spread needs all of them; the first one writes. The VAE
        works in tiles where the whole is predicted not to fit beside what learns.
        """
        if self.held_out is None:
            raise UsageError("there are no held-out sequences to validate on")
        size = self._size(max(0, self.step - 1))
        side = tile_for(self.video, sides_of(size), self.plan.frames, free_bytes(self.device))
        with in_tiles(self.video.vae, side):
            figures, picture = self.judged(self.held_out, size)
        self.log.picture(picture, self.step)
        return figures

    def export(self, notes: Mapping[str, str] | None = None, base: Path | None = None) -> Path:
        """Writes what was learnt: `adapter.safetensors`, or a model folder for a model trained whole.

        What is there already is replaced. Called by all processes. Returns the path.

        Args:
            notes: on the training, besides the run itself.
            base: the folder of the base, whose text encoder and tokenizer a model trained whole restores with.

        Raises:
            OutputError: it can't be written.
        """
        run, bare = self.plan, self.video.denoiser.model
        weights = learnt(self.model)
        path = self.folder / ("adapter.safetensors" if run.lora else f"model-{self.step:06d}")
        told = {**(notes or {}), "step": str(self.step), "run": json.dumps(asdict(run))}
        if self.leads and run.lora:
            save_adapter(
                bare, path, self.video.provenance, told, role=self.role, name=self.role, weights=weights
            )
        elif self.leads:
            export_whole(self.video, weights, path, told, base)
        self.accelerator.wait_for_everyone()
        return path


def train_whole(transformer: Any) -> None:
    """Makes all of a transformer float32 and lets all of it learn."""
    transformer.float().requires_grad_(True)
