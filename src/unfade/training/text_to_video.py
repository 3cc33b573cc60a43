"""A text-to-video CogVideoX trained whole on captioned clips: what Vivid-VR's control is then built on."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition, padded_in_front
from unfade.core import Clip, UsageError
from unfade.degrade.framing import Size
from unfade.diffusion.v_schedule import VSchedule
from unfade.training.footage_clips import Clips
from unfade.training.latents import LatentStore, vae_fingerprint
from unfade.training.progressive import Embeddings
from unfade.training.progressive_run import ProgressiveRun
from unfade.training.v_objective import v_loss
from unfade.training.video_trainer import VideoTrainer


class TextToVideoTrainer(VideoTrainer[ProgressiveRun, CogVideoX, Clips]):
    """Owns the state of a run on a model that sees a caption and nothing else.

    Attributes:
        embed: gives captions' embeddings.
    """

    def __init__(
        self,
        run: ProgressiveRun,
        video: CogVideoX,
        clips: Clips,
        embed: Embeddings,
        folder: Path,
        *,
        device: str = "cpu",
        cache: Path | None = None,
    ) -> None:
        """A run at its beginning.

        Args:
            run: what to do; `image_noise` and `later` mean nothing.
            video: the model, a text-to-video one in float32.
            clips: to learn from.
            embed: gives captions' embeddings, and the empty one's.
            folder: of checkpoint, log and weights.
            device: "cpu" or "cuda".
            cache: of latents; in `folder` unless given.

        Raises:
            UsageError: the model is shown a photo, or the run does not fit it.
        """
        if video.config.sees_photo:
            raise UsageError("this model is shown a photo; text-to-video training takes a model that isn't")
        super().__init__(run, video, clips, folder, device=device)
        self.embed = embed
        self._signal = VSchedule(config=video.config.scheduler).signal()
        self.store = LatentStore(
            lambda clip, dice: video.vae.encode_frames(clip[0].transpose(0, 1), dice),
            vae_fingerprint(video.vae.model) if run.crops else "",
            clips,
            run.frames,
            run.crops,
            run.seed,
            cache or folder / "latents",
        )

    def loss(self, chosen: list[int], slots: range, size: int | Size, epoch: int) -> Tensor:
        """The objective of v; see `v_objective.v_loss`."""
        run, bare = self.plan, self.plan.without_text(self.step)
        clips = torch.stack([self.store(chosen[slot], size, epoch) for slot in slots]).to(self.device)
        clean = padded_in_front(clips, self.video.config.padding(run.frames))
        noise = self.noise(clean, slots)
        times = run.times(self.step)[list(slots)]
        captions = ["" if bare[slot] else self.sequences.prompt(chosen[slot]) for slot in slots]
        text = torch.cat([one.float() for one in self.embed(captions)]).to(self.device)
        # A model that sees no photo has no use for what would be its latents.
        condition = CogVideoXCondition(clean[:, :, :1], text)
        with self.arithmetic():
            return v_loss(
                self.model,
                clean,
                noise,
                times.to(self.device),
                self._signal[times].to(self.device),
                condition,
            )

    def judged(self, held_out: Clips, size: int | Size) -> tuple[dict[str, Any], Clip]:
        """Nothing: what a text alone calls for has no truth.

        Raises:
            UsageError: always.
        """
        raise UsageError("a text-to-video run has no truth to be judged by; leave the held-out clips out")
