"""How good small controls are on held-out footage, and whether seams show where tiles and windows meet."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

import torch
from torch import Tensor

from unfade.core import Clip, generator, subseed
from unfade.evaluation.metrics.fidelity import psnr, ssim
from unfade.evaluation.metrics.footage import SMALLEST, warping_error
from unfade.recipes.vivid_proof import VividProof, degraded
from unfade.restore.vivid_restorer import VividRestorer
from unfade.restore.vividvr import VividSettings
from unfade.training.glides import glide

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
    """What `unfade restore` would make of base and control, without guidance.

    Args:
        proof: with the variant's control.
        variant: its name.
        tile: side of what the model sees at once; 0 for all.
    """
    recipe = proof.recipe
    settings = VividSettings(
        window=recipe.control.frames,
        tile=tile,
        steps=recipe.steps,
        sampler="ddim",
        guidance=1.0,
        short_side=0,
    )
    return VividRestorer.of_folders(proof.model, proof.control(variant), settings, proof.folder / "prompts")


def restored(restorer: VividRestorer, name: str, low: Tensor, frames: int = 2) -> list[Tensor]:
    """The states of a trajectory, each `[T, 3, H, W]`, rounded to 8 bits: the input first, the result last."""
    seed = subseed(1, name) % 2**31
    told = restorer.restore(
        Clip(low, _FPS), seed=seed, device="cpu", dtype="fp32", frames=frames, keep=frames > 2
    )
    return [state.frames.clamp(0, 1).mul(255).round().div(255) for state in told.trajectory]


@dataclass(frozen=True, slots=True)
class Seams:
    """How large steps across borders are beside steps elsewhere; 1 where there is no seam.

    Attributes:
        clips: how many were looked at.
        tiles: mean step between neighbouring pixels across the borders of tiles, as a share of that elsewhere, over
            the same share in the truth.
        windows: the same of steps in time where windows meet.
    """

    clips: int
    tiles: float
    windows: float


def seams(proof: VividProof, variant: str, count: int) -> Seams:
    """Restores wide and long footage of held-out photos with tiles and windows that overlap by half.

    Args:
        proof: with the variant's control.
        variant: its name.
        count: clips.
    """
    recipe, restorer = proof.recipe, restorer_of(proof, variant, proof.recipe.size)
    _, photos = proof.material
    # The largest ones first; smaller ones would be enlarged.
    fitting = sorted(range(len(photos)), key=lambda index: -min(photos[index].shape[1:]))[:count]
    length = 2 * recipe.control.frames - 1
    along = restorer.settings.along(recipe.model, recipe.wide // recipe.model.stride)
    cuts = [tile.stop * recipe.model.stride for tile in along[:-1]]
    joins = [window.keep_start for window in restorer.settings.timeline(recipe.model, length).windows[1:]]
    found: list[Tensor] = []
    for index in fitting:
        dice = generator(2, "wide", index)
        truth = glide(photos[index], (recipe.wide, recipe.wide), length, dice)
        made = restored(restorer, f"wide {index}", degraded(dice)(truth))[-1]
        steps = [
            torch.stack([_across(clip, 2, cuts) + _across(clip, 3, cuts), _across(clip, 0, joins)])
            for clip in (made, truth)
        ]
        found.append(torch.stack(steps))
    total = torch.stack(found).sum(0)
    shares = total[:, :, 0] / total[:, :, 1]
    tiles, windows = (shares[0] / shares[1]).tolist()
    return Seams(len(fitting), round(tiles, 4), round(windows, 4))


def _across(clip: Tensor, axis: int, borders: Sequence[int]) -> Tensor:
    """Mean absolute step along an axis at the borders, and elsewhere."""
    steps = clip.diff(dim=axis).abs().transpose(0, axis).flatten(1).mean(1)
    at = torch.zeros(len(steps), dtype=torch.bool)
    at[[border - 1 for border in borders]] = True
    return torch.stack([steps[at].mean(), steps[~at].mean()])


def _texture(clip: Tensor) -> float:
    return float(clip.diff(dim=2).abs().mean() + clip.diff(dim=3).abs().mean())
