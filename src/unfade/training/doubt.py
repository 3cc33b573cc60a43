"""Fitting `Doubt`: errors of the finished network, and a likelihood that is greatest where their size is guessed."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.backbones.doubt import Doubt
from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny
from unfade.core import subseed
from unfade.training.photos import Photos
from unfade.training.samples import SampleRule, draw_sample
from unfade.training.team import Team


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubtRun:
    """How `Doubt` is fitted.

    Attributes:
        steps: updates.
        crop, batch: side and number of the crops of an update, shared by the team.
        lr: peak rate of Adam; it falls as a cosine to 0.
        least: the least share of the way that `Trust` is supposed to let answers go; drawn for each crop.
        seed: of everything random.
    """

    steps: int = 1600
    crop: int = 128
    batch: int = 8
    lr: float = 1e-3
    least: float = 0.6
    seed: int = 0


def laplace_loss(log_error: Tensor, error: Tensor) -> Tensor:
    """Negative log-likelihood of errors under a Laplace distribution of scale `b = exp(log_error)`.

    Least where `b` is the mean absolute error (Kendall and Gal 2017, arXiv 1703.04977, section 2.2 with a Laplace
    likelihood).
    """
    return (error * torch.exp(-log_error) + log_error).mean()


def fit_doubt(
    model: Tiny,
    photos: Photos,
    run: DoubtRun,
    team: Team | None = None,
    report: Callable[[int, float], None] | None = None,
) -> Doubt:
    """`Doubt` for the errors of a finished network, which stays as it is.

    Args:
        model: the network.
        photos: clean ones.
        run: how.
        team: that shares each batch.
        report: told the step and the mean loss of the last hundred.
    """
    team = team or Team()
    device = next(model.parameters()).device
    torch.manual_seed(subseed(run.seed, "doubt weights") % 2**32)
    doubt = Doubt(model.config.context).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(doubt.parameters(), run.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.steps)
    dice = random.Random(subseed(run.seed, "doubt dice", team.rank))
    fields = torch.Generator(device).manual_seed(subseed(run.seed, "doubt fields", team.rank))
    rule = SampleRule(crop=run.crop, batch=run.batch // team.size, together=2, prompted=0)
    recent: list[float] = []
    for step in range(run.steps):
        sample = draw_sample(photos, rule, dice, fields)
        degraded = sample.degraded.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            context = model.context(sample.thumbnail, sample.prompts).float()
            start, spectrum = torch.zeros(len(degraded), device=device), spectrum_of(sample.degraded)
            answer = model(degraded, start, degraded, context, spectrum).clamp(0, 1)
        share = run.least + (1.1 - run.least) * torch.rand(
            len(degraded), 1, 1, 1, generator=fields, device=device
        )
        result = torch.lerp(degraded, answer.float(), share).clamp(0, 1)
        with torch.autocast(device.type, torch.bfloat16):
            told = doubt(degraded, result, context)
        loss = laplace_loss(told.float(), (result - sample.clean).abs().mean(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        team.mean_gradients(doubt.parameters())
        torch.nn.utils.clip_grad_norm_(doubt.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        recent.append(float(loss.detach()))
        if report and (step + 1) % 100 == 0:
            report(step + 1, sum(recent) / len(recent))
            recent.clear()
    return doubt.eval()
