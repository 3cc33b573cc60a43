"""Progressive restoration's training: CogVideoX learns to continue a degraded photo as it is told to."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, padded_in_front
from unfade.conditioning.lora import Role
from unfade.core import Clip, Condition, generator
from unfade.degrade.framing import Size, sides_of
from unfade.diffusion.v_schedule import VSchedule, sample_v
from unfade.training.latents import LatentStore, vae_fingerprint
from unfade.training.progression import Prompted
from unfade.training.progressive_run import ProgressiveRun
from unfade.training.tracker import Tracker
from unfade.training.v_objective import v_loss
from unfade.training.video_trainer import VideoTrainer
from unfade.training.video_validation import Measure, decoded, validate

# Embeddings `[1, L, D]` of prompts.
Embeddings = Callable[[Sequence[str]], Sequence[Tensor]]


class ProgressiveTrainer(VideoTrainer[ProgressiveRun, CogVideoX, Prompted]):
    """Owns the state of a run on CogVideoX, which sees the photo beside the clip.

    Attributes:
        embed: gives prompts' embeddings.
        measures: figures that validation gives besides PSNR.
    """

    def __init__(
        self,
        run: ProgressiveRun,
        video: CogVideoX,
        sequences: Prompted,
        embed: Embeddings,
        folder: Path,
        held_out: Prompted | None = None,
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
            embed: gives prompts' embeddings, and the empty prompt's.
            cache: of latents; in `folder` unless given.
            measures: figures of a picture and its truth, `[3, H, W]` each, that validation gives besides PSNR.

        Raises:
            UsageError: the run does not fit the model, the adapter or what it was launched by.
            ModelError: the adapter to start from does not fit.
        """
        super().__init__(
            run, video, sequences, folder, held_out, tracker, device=device, role=role, start=start
        )
        self.embed = embed
        self.measures = measures
        self._signal = VSchedule(config=video.config.scheduler).signal()
        self.store = LatentStore(
            self._encoded,
            f"{vae_fingerprint(video.vae.model)} {run.image_noise}" if run.crops else "",
            sequences,
            run.frames,
            run.crops,
            run.seed,
            cache or folder / "latents",
        )

    def _encoded(self, clip: Tensor, dice: torch.Generator) -> Tensor:
        """The photo's latents and after them the clip's, `[1, z, 1 + k, h, w]`."""
        vae = self.video.vae
        photo = vae.encode_image(self.plan.seen(clip[:, :, 0], dice))
        return torch.cat([photo, vae.encode(clip)], dim=2)

    def _condition(self, image: Tensor, prompts: Sequence[str]) -> CogVideoXCondition:
        text = torch.cat([one.float().to(self.device) for one in self.embed(prompts)])
        return CogVideoXCondition(image.to(self.device), text)

    def loss(self, chosen: list[int], slots: range, size: int | Size, epoch: int) -> Tensor:
        """The objective of v; see `v_objective.v_loss`."""
        run, bare = self.plan, self.plan.without_text(self.step)
        both = torch.stack([self.store(chosen[slot], size, epoch) for slot in slots]).to(self.device)
        image, clip = both[:, :, :1], both[:, :, 1:]
        clean = padded_in_front(clip, self.video.config.padding(run.frames))
        noise = self.noise(clean, slots)
        times = run.times(self.step)[list(slots)]
        prompts = ["" if bare[slot] else self.sequences.prompt(chosen[slot]) for slot in slots]
        condition = self._condition(image, prompts)
        with self.arithmetic():
            return v_loss(
                self.model,
                clean,
                noise,
                times.to(self.device),
                self._signal[times].to(self.device),
                condition,
                run.later,
                run.even,
            )

    def judged(self, held_out: Prompted, size: int | Size) -> tuple[dict[str, Any], Clip]:
        """Figures without guidance by DDIM; crop, draw and noise of each depend on the seed, its name and the size."""
        run, video = self.plan, self.video
        shape = video.config.latent_shape(run.frames, *sides_of(size))
        schedule = VSchedule(run.validate_steps, "ddim", video.config.scheduler)

        def denoiser(x: Tensor, t: float, condition: Condition) -> Tensor:
            with self.arithmetic():
                return video.denoiser(x, t, condition)

        def walked(index: int, name: str, clip: Tensor) -> tuple[Tensor, Tensor]:
            prompt = held_out.prompt(index)
            condition = self._condition(video.vae.encode_image(clip[:1]), [prompt])
            noise = torch.randn(1, *shape, generator=generator(run.seed, "validate", name)).to(self.device)
            made = video.finished(sample_v(denoiser, noise, condition, schedule), condition)
            true = video.vae.encode(clip.transpose(0, 1)[None])
            return decoded(video.vae.decode(made)), decoded(video.vae.decode(true))[-1]

        return validate(held_out, run.frames, size, run.seed, walked, self.measures)
