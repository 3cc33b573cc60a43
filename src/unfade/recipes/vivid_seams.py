"""Whether seams show in restored footage where tiles and windows meet, clip by clip and with an interval."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from unfade.core import generator
from unfade.recipes.vbridge_judging import append_line, read_journal
from unfade.recipes.vivid_cpu import Setting
from unfade.recipes.vivid_judging import coloured, fast, maker_of, restored, restorer_of
from unfade.recipes.vivid_proof import VividProof, degraded
from unfade.training.glides import glide

_SAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Meeting:
    """Places along an axis of clips where two tiles or windows meet, and places to compare them with.

    Attributes:
        axes: of `[T, 3, H, W]`.
        size: (height, width) of the clips.
        length: of the clips.
        cuts: the places before which the second one begins.
        every: the grid that codec and model work on; only places in the same phase of it as a cut are compared.
    """

    axes: tuple[int, ...]
    size: tuple[int, int]
    length: int
    cuts: tuple[int, ...]
    every: int

    def steps(self, clip: Tensor) -> list[float]:
        """The mean absolute step at the cuts of a clip `[T, 3, H, W]`, and at the other places of their phases."""
        found = torch.tensor([across(clip, axis, self.cuts, self.every) for axis in self.axes])
        return found.sum(0).tolist()


def across(clip: Tensor, axis: int, cuts: Sequence[int], every: int) -> tuple[float, float]:
    """Mean absolute step along an axis at the cuts, and at the other places that lie like one of them on a grid.

    Args:
        clip: `[T, 3, H, W]`.
        axis: of it.
        cuts: places; a step is that from the place before.
        every: places between two lines of the grid.
    """
    steps = clip.diff(dim=axis).abs().transpose(0, axis).flatten(1).mean(1)
    phases = {cut % every for cut in cuts}
    alike = [place for place in range(1, len(steps) + 1) if place % every in phases and place not in cuts]
    there, elsewhere = (float(steps[[place - 1 for place in places]].mean()) for places in (cuts, alike))
    return there, elsewhere


@dataclass(frozen=True, slots=True)
class Share:
    """Steps at cuts as a share of those at like places, over the same share in the truth; 1 where there is no seam.

    Attributes:
        mean: over all clips together.
        low, high: a 95 % interval, by drawing clips anew.
    """

    mean: float
    low: float
    high: float

    @staticmethod
    def of(steps: Sequence[tuple[Sequence[float], Sequence[float]]]) -> "Share":
        """Of each clip what `Meeting.steps` says of the restored one, or its input, and of its truth."""
        found = torch.tensor(steps, dtype=torch.float64)
        drawn = torch.randint(len(found), (_SAMPLES, len(found)), generator=generator(0, "bootstrap"))
        sums = torch.cat([found.sum(0)[None], found[drawn].sum(1)])
        shares = sums[:, :, 0] / sums[:, :, 1]
        ratios = shares[:, 0] / shares[:, 1]
        low, high = ratios[1:].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        return Share(round(float(ratios[0]), 4), round(low, 4), round(high, 4))


def meetings(proof: VividProof) -> dict[str, Meeting]:
    """Where tiles meet in a wide clip of one window, and where windows meet in a long one of one tile."""
    recipe = proof.recipe
    config, frames, size = recipe.model, recipe.control.frames, recipe.size
    restorer = restorer_of(proof, next(iter(recipe.variants)), size)
    along = restorer.settings.along(config, recipe.wide // config.stride)
    cuts = tuple(tile.stop * config.stride for tile in along[:-1])
    windows = restorer.settings.timeline(config, 2 * frames - 1).windows
    joins = tuple(window.keep_start for window in windows[1:])
    return {
        "tiles": Meeting((2, 3), (recipe.wide, recipe.wide), frames, cuts, config.size_multiple),
        "windows": Meeting((0,), (size, size), 2 * frames - 1, joins, config.temporal_stride),
    }


def measure_seams(proof: VividProof, settings: Sequence[Setting], share: tuple[int, int] = (0, 1)) -> None:
    """Restores wide and long footage of all held-out photos and keeps the steps that are in it.

    Args:
        proof: with control of the whole.
        settings: in which to restore.
        share: (index, count): which of several processes this is.
    """
    _, photos = proof.material
    captions, path = _captions(proof), proof.judged / f"seams-{share[0]}.jsonl"
    restorer = restorer_of(proof, next(iter(proof.recipe.variants)), proof.recipe.size)
    maker = maker_of(restorer)
    done = {_key(row) for row in _rows(proof, maker)}
    with fast(restorer):
        for index in range(share[0], len(photos), share[1]):
            for kind, meeting in meetings(proof).items():
                left = [one for one in settings if (index, kind, one) not in done]
                dice = generator(2, kind, index)
                truth = glide(photos[index], meeting.size, meeting.length, dice)
                low = degraded(dice)(truth)
                for one in left:
                    made = restored(restorer, f"{kind} {index}", low, captions[index], one)[-1]
                    clips = {"made": coloured(made, low, one), "input": low, "truth": truth}
                    steps = {name: meeting.steps(clip) for name, clip in clips.items()}
                    append_line(path, {"photo": index, "kind": kind, "by": maker, **asdict(one), **steps})


def seams(proof: VividProof, setting: Setting) -> dict[str, Any]:
    """What is kept of a setting: how many clips, and of "tiles" and "windows" the share, and the input's own."""
    restorer = restorer_of(proof, next(iter(proof.recipe.variants)), proof.recipe.size)
    kept = {_key(row): row for row in _rows(proof, maker_of(restorer))}
    found: dict[str, Any] = {}
    for kind in meetings(proof):
        keys = sorted((key for key in kept if key[1:] == (kind, setting)), key=lambda key: key[0])
        rows = [kept[key] for key in keys]
        found["clips"] = len(rows)
        found[kind] = {
            name: asdict(Share.of([(row[name], row["truth"]) for row in rows])) for name in ("made", "input")
        }
    return found


def _captions(proof: VividProof) -> list[str]:
    """What is said of each held-out photo's footage."""
    clips, (_, photos) = proof.footage("held"), proof.material
    told = {video.path.stem: clips.prompt(index) for index, (video, _) in enumerate(clips.parts)}
    return [told.get(f"photo-{index:04d}", "") for index in range(len(photos))]


def _rows(proof: VividProof, maker: str) -> list[dict[str, Any]]:
    rows = [row for path in sorted(proof.judged.glob("seams-[0-9]*.jsonl")) for row in read_journal(path)]
    return [row for row in rows if row["by"] == maker]


def _key(row: dict[str, Any]) -> tuple[int, str, Setting]:
    return row["photo"], row["kind"], Setting(row["steps"], row["fidelity"], row["colour"])
