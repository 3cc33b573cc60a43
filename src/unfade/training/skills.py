"""Branch, train, merge: a trained `tiny` becomes several that each learn one kind of damage, then one with skills.

Trained on everything at once, kinds of damage pull the network's kernels apart; 250 steps on one of them gain what
thousands on all of them don't. So copies of the network learn a family of damage each, their kernels become the
skills of one network, and that learns from a photo's spectrum which of them it takes. All of it is trained together
afterwards.

Source: branch-train-merge (Li et al. 2022, arXiv 2208.03306) with experts mixed as in Sukhbaatar et al. 2024 (arXiv
2403.07816), of kernels instead of layers.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from unfade.backbones.kernels import Kernels
from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny
from unfade.core import InputError, subseed
from unfade.training.families import DEEP, FAMILIES, NAMES, SKILLS, draw_of, family_of
from unfade.training.photos import Photos
from unfade.training.samples import SampleRule, draw_kinds, draw_sample


def learns_kernels_only(model: Tiny) -> None:
    """Holds everything of a network but its kernels, so that copies of it stay alike in all else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_of_kernels(model, name))


def _of_kernels(model: Tiny, name: str) -> bool:
    """Whether a parameter of that name is one of `Kernels`."""
    return isinstance(model.get_submodule(name.rpartition(".")[0]), Kernels)


@torch.no_grad()
def merged(base: Tiny, specialists: Mapping[str, Mapping[str, Tensor]]) -> Tiny:
    """One network whose skills are the kernels of its specialists.

    Args:
        base: a network of one skill.
        specialists: the state of a copy of it for each family, different in its kernels only.

    Raises:
        InputError: the base has skills already.
    """
    if max(base.config.skills) > 1:
        raise InputError("the weights have skills already; train them on as they are")
    model = Tiny(replace(base.config, skills=SKILLS))
    model.load_state_dict(
        {name: value for name, value in base.state_dict().items() if not _of_kernels(base, name)},
        strict=False,
    )
    deep = {id(kernels) for kernels in model.bottom.modules() if isinstance(kernels, Kernels)}
    for name, kernels in model.named_modules():
        if not isinstance(kernels, Kernels):
            continue
        groups = DEEP if id(kernels) in deep else tuple((one,) for one in NAMES)
        weights, biases = (
            [torch.stack([specialists[one][f"{name}.{part}"] for one in group]).mean(0) for group in groups]
            for part in ("weight", "bias")
        )
        kernels.weight.copy_(torch.cat(weights, 1))
        kernels.bias.copy_(torch.stack(biases, 1).flatten())
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceRun:
    """How a merged network learns which of its skills a photo needs.

    Attributes:
        steps: updates.
        crop, batch: side and number of the crops of an update.
        lr: peak rate of AdamW; it falls as a cosine to 0.
        smoothing: of the labels, so that no skill is ruled out.
        seed: of everything random.
    """

    steps: int = 3000
    crop: int = 128
    batch: int = 32
    lr: float = 2e-3
    smoothing: float = 0.05
    seed: int = 0


def fit_choice(
    model: Tiny, photos: Photos, run: ChoiceRun, report: Callable[[int, float], None] | None = None
) -> None:
    """Teaches a network with skills to take that of a photo's family, in place; everything else stays as it is.

    Args:
        model: from `merged`.
        photos: clean ones.
        run: how.
        report: told the step and the share of right choices over the last hundred.
    """
    assert model.skills is not None, "a merged network has skills"
    torch.manual_seed(subseed(run.seed, "choice weights") % 2**32)
    for layer in model.skills.read:
        if isinstance(layer, torch.nn.Linear):
            layer.reset_parameters()
    model.skills.choose.reset_parameters()
    parameters = [*model.skills.read.parameters(), *model.skills.choose.parameters()]
    optimizer = torch.optim.AdamW(parameters, run.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, run.steps)
    dice = random.Random(subseed(run.seed, "choice dice"))
    fields = torch.Generator(next(model.parameters()).device).manual_seed(subseed(run.seed, "choice fields"))
    rule = SampleRule(crop=run.crop, batch=run.batch, together=4, prompted=0, partial=0)
    right: list[float] = []
    for step in range(run.steps):
        kinds = [
            draw_of(dice.choice(list(FAMILIES)), dice) if dice.random() < 0.6 else draw_kinds(dice)
            for _ in range(rule.batch // rule.together)
        ]
        spectrum = spectrum_of(draw_sample(photos, rule, dice, fields, kinds).degraded)
        families = [family_of(one) for one in kinds for _ in range(rule.together)]
        loss, correct = _told(model, spectrum, families, run.smoothing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        right.append(correct)
        if report and (step + 1) % 100 == 0:
            report(step + 1, sum(right) / len(right))
            right.clear()


def _told(model: Tiny, spectrum: Tensor, families: Sequence[str], smoothing: float) -> tuple[Tensor, float]:
    """Cross-entropy of the skills taken at all levels, and the share of photos for which the first is right."""
    fine = torch.tensor([NAMES.index(one) for one in families], device=spectrum.device)
    deep = torch.tensor(
        [next(index for index, group in enumerate(DEEP) if one in group) for one in families],
        device=spectrum.device,
    )
    shares = model.shares(spectrum.new_zeros(len(spectrum), model.config.context), spectrum)
    loss = torch.stack(
        [
            functional.nll_loss(torch.log(part + 1e-6), label) * (1 - smoothing)
            - smoothing * torch.log(part + 1e-6).mean()
            for part, label in zip(shares, (fine, fine, deep), strict=True)
        ]
    ).sum()
    return loss, float((shares[0].argmax(1) == fine).float().mean())
