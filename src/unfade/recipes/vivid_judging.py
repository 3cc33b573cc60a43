"""How good small controls are on footage that they never saw, in figures that are kept clip by clip."""

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import Clip, subseed
from unfade.degrade.blur import gaussian_kernels
from unfade.evaluation.metrics.fidelity import psnr, ssim
from unfade.evaluation.metrics.footage import SMALLEST, warping_error
from unfade.recipes.vbridge_judging import append_line, read_journal
from unfade.recipes.vivid_cpu import Setting
from unfade.recipes.vivid_proof import VividProof
from unfade.restore.finish import finished
from unfade.restore.vivid_restorer import VividRestorer
from unfade.restore.vividvr import VividSettings
from unfade.training.folded import folded_convolutions

_FPS = Fraction(24)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one clip.

    Attributes:
        psnr: dB over RGB, the mean of the frames'.
        ssim: mean of the frames'.
        texture: mean step between neighbouring pixels, as a share of the truth's; above 1 is too sharp or noisy.
        warping: warping error along the truth's flow, in thousandths; None where frames are too small for it.
    """

    psnr: float
    ssim: float
    texture: float
    warping: float | None


def figures_of(made: Tensor, truth: Tensor) -> Figures:
    """Of frames `[T, 3, H, W]` in [0, 1]."""
    pairs = list(zip(made, truth, strict=True))
    large = min(made.shape[2:]) >= SMALLEST
    return Figures(
        sum(psnr(one, true) for one, true in pairs) / len(pairs),
        sum(ssim(one, true) for one, true in pairs) / len(pairs),
        _texture(made) / _texture(truth),
        1000 * warping_error(made, truth) if large else None,
    )


def means_of(figures: Sequence[Figures]) -> dict[str, float | None]:
    """Of several clips, by name."""
    rows = [asdict(one) for one in figures]
    return {
        name: None if rows[0][name] is None else round(sum(row[name] for row in rows) / len(rows), 4)
        for name in rows[0]
    }


def gap(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """By how much ours is more, with a 95 % interval over clips (1.96 standard errors) and the share that is more."""
    gaps = [mine - yours for mine, yours in zip(ours, theirs, strict=True)]
    mean = sum(gaps) / len(gaps)
    error = 1.96 * math.sqrt(sum((one - mean) ** 2 for one in gaps) / max(1, len(gaps) - 1) / len(gaps))
    return {
        "mean": round(mean, 3),
        "low": round(mean - error, 3),
        "high": round(mean + error, 3),
        "more": sum(one > 0 for one in gaps) / len(gaps),
    }


def restorer_of(proof: VividProof, variant: str, tile: int = 0) -> VividRestorer:
    """What `unfade restore` would make of base and control, without guidance, told what a clip's caption says and no
    more, as control was trained.

    Args:
        proof: with the variant's control.
        variant: its name.
        tile: side of what the model sees at once; 0 for all.
    """
    settings = VividSettings(
        window=proof.recipe.control.frames,
        tile=tile,
        sampler="ddim",
        guidance=1.0,
        short_side=0,
        crossfade=proof.recipe.crossfade,
        suffix=False,
    )
    return VividRestorer.of_folders(proof.model, proof.control(variant), settings, proof.folder / "prompts")


def fast(restorer: VividRestorer) -> AbstractContextManager[None]:
    """Inside it the restorer's VAE takes the fast way, which is the same up to rounding."""
    return folded_convolutions(restorer.loaded(torch.device("cpu"), torch.float32).vae.model)


def restored(
    restorer: VividRestorer,
    name: str,
    low: Tensor,
    caption: str,
    setting: Setting,
    frames: int = 2,
) -> list[Tensor]:
    """The states of a trajectory, each `[T, 3, H, W]` as the model has it, without colours brought back.

    Args:
        restorer: of a variant.
        name: of the clip; the noise depends on it and on nothing else.
        low: degraded frames `[T, 3, H, W]` in [0, 1].
        caption: what is to be seen, of every tile and window.
        setting: how; colours are for `coloured`.
        frames: how many states, the input's and the result's included.
    """
    restorer.settings = replace(restorer.settings, fidelity=setting.fidelity, colour="none")
    told = restorer.restore(
        Clip(low, _FPS),
        caption,
        steps=setting.steps,
        seed=subseed(1, name) % 2**31,
        device="cpu",
        dtype="fp32",
        frames=frames,
        keep=frames > 2,
    )
    return [state.frames for state in told.trajectory]


def coloured(made: Tensor, low: Tensor, setting: Setting) -> Tensor:
    """A restored clip with its input's colours brought back, rounded to 8 bits as files would be."""
    settings = VividSettings(colour=setting.colour)
    pairs = ((frame, source, False) for frame, source in zip(made, low, strict=True))
    frames = list(finished(pairs, settings, None, (low.shape[2], low.shape[3]), len(low)))
    return rounded(torch.stack(frames))


def blurred(clip: Tensor, sigma: float = 1.0) -> Tensor:
    """Each frame of `[T, 3, H, W]` under a Gaussian, which is what anybody can do against noise."""
    kernel = gaussian_kernels(torch.tensor([sigma]))
    reach = kernel.shape[1] // 2
    planes = functional.pad(clip.flatten(0, 1)[:, None], [reach] * 4, "replicate")
    return rounded(functional.conv2d(planes, kernel[None]).view_as(clip))


def rounded(clip: Tensor) -> Tensor:
    """As 8 bits have it."""
    return clip.clamp(0, 1).mul(255).round().div(255)


def maker_of(restorer: VividRestorer) -> str:
    """What identifies a restorer's results but for what a `Setting` says."""
    settings = replace(restorer.settings, fidelity=0.0, colour="none").told()
    told = json.dumps({"weights": restorer.weights.sha256, **settings}, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def settings_of(proof: VividProof) -> list[Setting]:
    """All that are tried."""
    recipe = proof.recipe
    return list(
        itertools.starmap(Setting, itertools.product(recipe.steps, recipe.fidelities, recipe.colours))
    )


def judge(
    proof: VividProof,
    part: str,
    variant: str,
    settings: Sequence[Setting],
    share: tuple[int, int] = (0, 1),
) -> None:
    """Restores clips and keeps their figures; what is kept already is not done again.

    Args:
        proof: with the variant's control.
        part: "held" or "choose".
        variant: its name.
        settings: in which to restore.
        share: (index, count): which of several processes this is.
    """
    restorer = restorer_of(proof, variant)
    maker = maker_of(restorer)
    done = {_key(row) for row in _rows(proof, part, variant, maker)}
    path = proof.judged / f"{part}-{proof.control(variant).parent.name}-{share[0]}.jsonl"
    with fast(restorer):
        for pair in proof.judged_pairs(part)[share[0] :: share[1]]:
            left = [one for one in settings if (pair.name, one) not in done]
            for _, alike in itertools.groupby(left, lambda one: (one.steps, one.fidelity)):
                made: Tensor | None = None
                for one in alike:
                    # Settings that differ in colours alone have the same clip below.
                    if made is None:
                        made = restored(restorer, pair.name, pair.low, pair.caption, one)[-1]
                    figures = asdict(figures_of(coloured(made, pair.low, one), pair.clean))
                    append_line(path, {"name": pair.name, "by": maker, **asdict(one), "figures": figures})


def judged(
    proof: VividProof, part: str, variant: str, settings: Sequence[Setting]
) -> dict[Setting, list[Figures]]:
    """The figures that are kept of a variant, clip after clip in the order of `judged_pairs`.

    Raises:
        KeyError: some are not there yet.
    """
    maker = maker_of(restorer_of(proof, variant))
    rows = {_key(row): Figures(**row["figures"]) for row in _rows(proof, part, variant, maker)}
    names = proof.footage(part).names
    return {one: [rows[name, one] for name in names] for one in settings}


def chosen(proof: VividProof) -> Setting:
    """The setting in which the whole is closest to the truth on clips that nothing else is judged on."""
    whole = next(iter(proof.recipe.variants))
    found = judged(proof, "choose", whole, settings_of(proof))
    return max(found, key=lambda one: sum(figures.psnr for figures in found[one]))


def _rows(proof: VividProof, part: str, variant: str, maker: str) -> list[dict[str, Any]]:
    """What is kept of a variant, by all processes, as long as the same weights and settings made it."""
    paths = sorted(proof.judged.glob(f"{part}-{proof.control(variant).parent.name}-[0-9]*.jsonl"))
    return [row for path in paths for row in read_journal(path) if row["by"] == maker]


def _key(row: dict[str, Any]) -> tuple[str, Setting]:
    return row["name"], Setting(row["steps"], row["fidelity"], row["colour"])


def _texture(clip: Tensor) -> float:
    return float(clip.diff(dim=2).abs().mean() + clip.diff(dim=3).abs().mean())
