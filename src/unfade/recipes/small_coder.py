"""The VAE of a small model: trained by all cores, then written beside a transformer that knows nothing yet."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.video import VideoConfig, build_video, save_video
from unfade.core import subseed
from unfade.training.autoencoder import AutoencoderRun, AutoencoderTrainer
from unfade.training.coders import settle
from unfade.training.photos import Photos
from unfade.training.team import Team, work_together

Report = Callable[[dict[str, Any]], None]


def train_coder(
    workers: int,
    config: VideoConfig,
    run: AutoencoderRun,
    photos: Photos,
    folder: Path,
    target: Path,
    report: Report | None = None,
) -> None:
    """Trains a VAE, or goes on, and writes the model.

    Args:
        workers: processes of one thread each.
        config: of the model.
        run: of its VAE.
        photos: to learn from.
        folder: of checkpoint and log.
        target: the model's folder.
        report: told every line of the log; must be importable where there are several workers.
    """
    work_together(workers, _train, config, run, photos, folder, target, report)


def _train(
    team: Team,
    config: VideoConfig,
    run: AutoencoderRun,
    photos: Photos,
    folder: Path,
    target: Path,
    report: Report | None,
) -> None:
    torch.manual_seed(subseed(run.seed, "weights") % 2**32)
    video = build_video(config)
    settle(video.vae.model)
    trainer = AutoencoderTrainer(run, video.vae.model, photos, folder, team)
    trainer.resume()
    trainer.run(report=report)
    if team.leads:
        whole = type(video).of(video.denoiser.model, trainer.finish(), config.scheduler)  # type: ignore[arg-type]
        save_video(whole, target)
