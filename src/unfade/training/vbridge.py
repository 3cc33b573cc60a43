"""V-Bridge's training: Wan learns, as a flow, the way from a degraded photo to its truth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.wan import Wan
from unfade.backbones.wan_denoiser import WanCondition
from unfade.conditioning.lora import Role
from unfade.core import Clip, Condition, UsageError, generator
from unfade.degrade.framing import Size, sides_of
from unfade.diffusion.flow import FlowSchedule, sample_flow
from unfade.training.flow_matching import flow_loss
from unfade.training.latents import LatentStore, vae_fingerprint
from unfade.training.sequences import Sequences
from unfade.training.tracker import Tracker
from unfade.training.vbridge_run import VBridgeRun
from unfade.training.video_trainer import VideoTrainer
from unfade.training.video_validation import Measure, decoded, validate

__all__ = ["VBridgeRun", "VBridgeTrainer"]


class VBridgeTrainer(VideoTrainer[VBridgeRun, Wan, Sequences]):
    """Owns the state of a run on Wan, whose first latent is the photo itself.

    Attributes:
        texts: embedded prompts.
        measures: figures that validation gives besides PSNR.
    """

    def __init__(
        self,
        run: VBridgeRun,
        video: Wan,
        sequences: Sequences,
        texts: Tensor,
        folder: Path,
        held_out: Sequences | None = None,
        tracker: Tracker | None = None,
        *,
        device: str = "cpu",
        role: Role = "restore",
        start: Path | None = None,
        cache: Path | None = None,
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        """A run at its beginning.

        Args:
            run, video, sequences, folder, held_out, tracker, device, role, start: as `VideoTrainer` has them.
            texts: embedded prompts, `[1, L, D]`, or `[2, L, D]` with the empty one second.
            cache: of latents; in `folder` unless given.
            measures: figures of a picture and its truth, `[3, H, W]` each, that validation gives besides PSNR.

        Raises:
            UsageError: the run does not fit the model, the texts, the adapter or what it was launched by.
            ModelError: the adapter to start from does not fit.
        """
        if run.text_dropout and len(texts) < 2:
            raise UsageError(
                "text dropout needs the embedding of the empty prompt as well; give it or set it to 0"
            )
        super().__init__(
            run, video, sequences, folder, held_out, tracker, device=device, role=role, start=start
        )
        self.texts = texts.float().to(self.device)
        self.measures = measures
        self.store = LatentStore(
            lambda clip, dice: video.vae.encode(clip),
            vae_fingerprint(video.vae.model) if run.crops else "",
            sequences,
            run.frames,
            run.crops,
            run.seed,
            cache or folder / "latents",
        )

    def loss(self, chosen: list[int], slots: range, size: int | Size, epoch: int) -> Tensor:
        """The flow's objective; see `flow_matching.flow_loss`."""
        run = self.plan
        latents = torch.stack([self.store(chosen[slot], size, epoch) for slot in slots])
        noise = self.noise(latents, slots)
        bare = run.without_text(self.step)
        with self.arithmetic():
            return flow_loss(
                self.model,
                latents.to(self.device),
                noise,
                run.levels(self.step)[list(slots)].to(self.device),
                self.texts[[int(bare[slot]) for slot in slots]],
                self.video.config.transformer["patch_size"],
                run.first_latent_loss,
            )

    def judged(self, held_out: Sequences, size: int | Size) -> tuple[dict[str, Any], Clip]:
        """Figures without guidance; crop and noise of each sequence depend on the seed, its name and the size."""
        run, wan = self.plan, self.video
        shape = wan.config.latent_shape(run.frames, *sides_of(size))
        schedule = FlowSchedule(run.validate_steps, run.shift, wan.config.scheduler)

        def denoiser(x: Tensor, t: float, condition: Condition) -> Tensor:
            with self.arithmetic():
                return wan.denoiser(x, t, condition)

        def walked(index: int, name: str, clip: Tensor) -> tuple[Tensor, Tensor]:
            latents = wan.vae.encode(clip.transpose(0, 1)[None]).to(self.device)
            condition = WanCondition(latents[:, :, :1], self.texts[:1])
            noise = torch.randn(1, *shape, generator=generator(run.seed, "validate", name)).to(self.device)
            made = condition.pinned(sample_flow(denoiser, noise, condition, schedule))
            return decoded(wan.vae.decode(made)), decoded(wan.vae.decode(latents))[-1]

        return validate(held_out, run.frames, size, run.seed, walked, self.measures)
