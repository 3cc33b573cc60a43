"""Vivid-VR's training: control learns to lead a frozen CogVideoX from degraded footage to the clean clip."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_denoiser import padded_in_front
from unfade.conditioning.control import Control, Controlled
from unfade.conditioning.control_denoiser import ControlCondition
from unfade.conditioning.control_file import load_control, save_control, settings_of
from unfade.core import Clip, Condition, UsageError, generator, subseed
from unfade.degrade.framing import Size, name_of, sides_of
from unfade.diffusion.v_schedule import VSchedule, sample_v
from unfade.training.footage_clips import FootagePairs
from unfade.training.latents import LatentStore, vae_fingerprint
from unfade.training.progressive import Embeddings
from unfade.training.run_state import learnt
from unfade.training.tracker import Tracker
from unfade.training.v_objective import controlled_v_loss
from unfade.training.validation import psnr
from unfade.training.video_trainer import VideoTrainer
from unfade.training.video_validation import decoded
from unfade.training.vivid_run import VividRun

_PICTURED = 4


class VividTrainer(VideoTrainer[VividRun, CogVideoX, FootagePairs]):
    """Owns the state of a run on a text-to-video CogVideoX, of which nothing changes but the control beside it.

    Attributes:
        embed: gives captions' embeddings.
    """

    def __init__(
        self,
        run: VividRun,
        video: CogVideoX,
        pairs: FootagePairs,
        embed: Embeddings,
        folder: Path,
        held_out: FootagePairs | None = None,
        tracker: Tracker | None = None,
        *,
        device: str = "cpu",
        start: Path | None = None,
        cache: Path | None = None,
    ) -> None:
        """A run at its beginning.

        Args:
            run: what to do.
            video: the base; its precision is kept.
            pairs: to learn from.
            embed: gives captions' embeddings, and the empty one's.
            folder: of checkpoint, log, pictures and the control.
            held_out: to validate on.
            tracker: told figures and pictures besides the log.
            device: "cpu" or "cuda".
            start: a control folder to go on from.
            cache: of latents; in `folder` unless given.

        Raises:
            UsageError: the run does not fit the model, the control or what it was launched by.
            ModelError: the control to start from does not fit.
        """
        super().__init__(run, video, pairs, folder, held_out, tracker, device=device, start=start)
        self.embed = embed
        self._signal = VSchedule(config=video.config.scheduler).signal()
        self.store = LatentStore(
            self._encoded,
            vae_fingerprint(video.vae.model) if run.crops else "",
            pairs,
            run.frames,
            run.crops,
            run.seed,
            cache or folder / "latents",
        )

    def _learning(self, start: Path | None) -> nn.Module:
        run, transformer = self.plan, self.video.denoiser.model
        if start is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(subseed(run.seed, "control") % 2**32)
                control = Control.beginning(transformer, run.control)
        elif settings_of(start) != run.control:
            raise UsageError(
                f"{start} is a control of another make than this run's; take its settings, or another"
            )
        else:
            control = load_control(start, transformer)
        controlled = Controlled(transformer, control.float().train().requires_grad_(True))
        controlled.checkpointing(run.gradient_checkpointing)
        return controlled

    def _encoded(self, both: Tensor, dice: torch.Generator) -> Tensor:
        """Latents of the degraded and, after them, of the clean frames, drawn from the posterior."""
        vae = self.video.vae
        halves = both[0].transpose(0, 1).chunk(2)
        return torch.cat([vae.encode_frames(half, dice) for half in halves], dim=2)

    def _pair(self, index: int, size: int | Size, epoch: int, frames: int) -> Tensor:
        """Latents of both, `[2, z, k, h, w]`, those in front included, of the first so many frames.

        The encoder looks only backwards, in chunks of eight frames, so those of a shorter clip are the beginning of a
        longer clip's.
        """
        config = self.video.config
        low, clean = self.store(index, size, epoch).chunk(2, dim=1)
        kept = torch.stack([low, clean])[:, :, : config.clip_latents(frames)]
        return padded_in_front(kept, config.padding(frames))

    def loss(self, chosen: list[int], slots: range, size: int | Size, epoch: int) -> Tensor:
        """The objective of v; see `v_objective.controlled_v_loss`."""
        run, bare = self.plan, self.plan.without_text(self.step)
        frames = run.length(self.step)
        both = torch.stack([self._pair(chosen[slot], size, epoch, frames) for slot in slots], dim=1)
        low, clean = both.to(self.device)
        noise = self.noise(clean, slots)
        times = run.times(self.step)[list(slots)]
        captions = ["" if bare[slot] else self.sequences.prompt(chosen[slot]) for slot in slots]
        text = torch.cat([one.float() for one in self.embed(captions)]).to(self.device)
        with self.arithmetic():
            return controlled_v_loss(
                self.model,
                clean,
                noise,
                times.to(self.device),
                self._signal[times].to(self.device),
                low,
                text,
            )

    def judged(self, held_out: FootagePairs, size: int | Size) -> tuple[dict[str, Any], Clip]:
        """Figures without guidance by DDIM on the longest clips; crop, draw and noise depend on seed, name and size.

        Returns:
            Mean PSNR over all frames in dB, "input", "result" and "ceiling" (the VAE's own round trip of the clean
            clip); and of a few clips the last frame, degraded, restored and true.
        """
        run, figures, rows = self.plan, list[list[float]](), list[Tensor]()
        for index, name in enumerate(held_out.names):
            dice = generator(run.seed, "held out", name, name_of(size))
            low, clean = held_out.draw(index, size, run.frames, dice).chunk(2)
            made = self.restored(low, held_out.prompt(index), generator(run.seed, "validate", name))
            true = decoded(self.video.vae.decode(self.video.vae.encode(clean.transpose(0, 1)[None])))
            figures.append([_mean_psnr(one, clean) for one in (low, made, true)])
            if len(rows) < _PICTURED:
                rows.append(torch.cat([low[-1], made[-1], clean[-1]], dim=2))
        means = [round(sum(column) / len(column), 3) for column in zip(*figures, strict=True)]
        report: dict[str, Any] = dict(zip(("input", "result", "ceiling"), means, strict=True))
        return report, Clip(torch.cat(rows, dim=1)[None].clamp(0, 1))

    def restored(self, low: Tensor, caption: str, dice: torch.Generator) -> Tensor:
        """A clip as the model stands, without guidance and by DDIM.

        Args:
            low: degraded frames `[T, 3, H, W]` in [0, 1], a legal number of them.
            caption: what is to be seen.
            dice: of the noise.

        Returns:
            `[T, 3, H, W]`, rounded to 8 bits.
        """
        run, video = self.plan, self.video
        height, width = sides_of((low.shape[2], low.shape[3]))
        schedule = VSchedule(run.validate_steps, "ddim", video.config.scheduler)
        noise = torch.randn(1, *video.config.latent_shape(len(low), height, width), generator=dice)
        latents = video.vae.encode(low.transpose(0, 1)[None])
        front = video.config.padding(len(low))
        controlled = self._bare()
        told = ControlCondition(
            padded_in_front(latents, front).to(self.device), self.embed([caption])[0].float().to(self.device)
        )

        def denoiser(x: Tensor, t: float, condition: Condition) -> Tensor:
            assert isinstance(condition, ControlCondition)
            dtype = controlled.transformer.dtype
            times = torch.full((1,), t, device=self.device)
            with self.arithmetic(), torch.no_grad():
                return self.model(
                    x.to(dtype), condition.low.to(dtype), condition.text.to(dtype), times
                ).float()

        made = sample_v(denoiser, noise.to(self.device), told, schedule)
        return decoded(video.vae.decode(made[:, :, front:]))

    def _bare(self) -> Controlled:
        return getattr(self.model, "module", self.model)

    def export(self, notes: Mapping[str, str] | None = None, base: Path | None = None) -> Path:
        """Writes `control/`, which restores on the base it was trained on; called by all processes.

        Args:
            notes: on the training, besides the run itself.
            base: means nothing here; the base is unchanged.

        Raises:
            OutputError: it can't be written.
        """
        del base
        weights, path = learnt(self.model), self.folder / "control"
        told = {**(notes or {}), "step": str(self.step), "run": json.dumps(asdict(self.plan))}
        if self.leads:
            config = self.video.denoiser.model.config
            with torch.device("meta"):
                control = Control(config, self.plan.control)
            control.load_state_dict(
                {name.removeprefix("control."): one for name, one in weights.items()}, assign=True
            )
            save_control(control, path, config, {**self.video.provenance, **told})
        self.accelerator.wait_for_everyone()
        return path


def _mean_psnr(made: Tensor, truth: Tensor) -> float:
    return sum(psnr(one, true) for one, true in zip(made, truth, strict=True)) / len(truth)
