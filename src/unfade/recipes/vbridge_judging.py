"""Restorers judged on pairs of files by category: what tables of drift correction and ablations are made of."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from unfade.core import Clip, InputError, Plan
from unfade.core.seeds import subseed
from unfade.degrade.resample import resize
from unfade.evaluation.metrics.fidelity import Colour, psnr, ssim
from unfade.media.atomic import atomic_output
from unfade.media.images import read_image
from unfade.restore.latent import LatentRestorer
from unfade.training.pairs import PairFiles

Report = Callable[[dict[str, Any]], None]

# What tables show, and by what ending a figure's name says so.
COLOURS: Mapping[Colour, str] = {"rgb": "", "y": "_y"}
_FIGURES = tuple(f"{name}{ending}" for ending in COLOURS.values() for name in ("input", "result", "ssim"))


def degraded_of(pair: PairFiles) -> Clip:
    """The degraded photo of a pair, enlarged to its truth's size where it is smaller (RealCE)."""
    clip = read_image(pair.lq)
    if not pair.resized:
        return clip
    return clip.with_frames(resize(clip.frames, pair.height, pair.width).clamp(0, 1))


def restored(restorer: LatentRestorer, pair: PairFiles, plan: Plan, seed: int = 0) -> Clip:
    """What a restorer makes of a pair's degraded photo; the noise depends on seed, the pair's name and its pixels."""
    return restorer.restore(
        degraded_of(pair), plan=plan, seed=subseed(seed, pair.name) % 2**31, keep=False
    ).result


def made_by(restorer: LatentRestorer, plan: Plan) -> str:
    """What identifies a restorer's results: a hash of its weights, adapters and settings and of the plan.

    Raises:
        ModelError: a file of the model is not what it was when it was first used.
    """
    beside = ("seed", "frames", "device", "keep", "confidence")
    told = {
        "weights": restorer.weights.sha256,
        "settings": asdict(cast(Any, restorer.settings)),
        "plan": {name: value for name, value in asdict(plan).items() if name not in beside},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def figures_of(result: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR in dB and SSIM in both ways of counting: of a result `[1, 3, H, W]`, rounded to 8 bits as files would be.

    Args:
        result, truth: in [0, 1].

    Returns:
        "result" and "ssim" over RGB, with the squared error pooled over channels; "result_y" and "ssim_y" on BT.601
        luma, 16 to 235.
    """
    rounded = _rounded(result)
    likeness = {f"ssim{end}": ssim(rounded, truth, colour) for colour, end in COLOURS.items()}
    return {**_decibels(rounded, truth, "result"), **likeness}


def _decibels(rounded: Tensor, truth: Tensor, name: str) -> dict[str, float]:
    return {f"{name}{end}": psnr(rounded, truth, colour) for colour, end in COLOURS.items()}


def _rounded(frames: Tensor) -> Tensor:
    return frames.clamp(0, 1).mul(255).round().div(255)


def judged_pairs(
    restorer: LatentRestorer,
    pairs: Sequence[PairFiles],
    plan: Plan,
    journal: Path,
    report: Report | None = None,
) -> dict[str, dict[str, Any]]:
    """Means by category, and over all photos as "all".

    A pair that the journal holds is not restored again, as long as the same restorer made what was judged, and every
    figure is there.

    Args:
        restorer: to judge.
        pairs: with their truths.
        plan: how to restore.
        journal: a file of one line for each pair.
        report: told every new line.

    Raises:
        InputError: there are no pairs.
        ModelError: the model or an adapter can't be used.
    """
    if not pairs:
        raise InputError("there are no held-out pairs to judge on; hold some out or give others")
    maker = made_by(restorer, plan)
    rows = {
        row["name"]: row
        for row in read_journal(journal)
        if row.get("by") == maker and all(name in row for name in _FIGURES)
    }
    for pair in pairs:
        if pair.name in rows:
            continue
        truth = read_image(pair.hq).frames
        row = {
            "name": pair.name,
            "by": maker,
            "category": pair.category,
            **_decibels(_rounded(degraded_of(pair).frames), truth, "input"),
            **figures_of(restored(restorer, pair, plan).frames, truth),
        }
        append_line(journal, row)
        rows[pair.name] = row
        if report:
            report(row)
    return means(rows[pair.name] for pair in pairs)


def means(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """ "input", "result" and "ssim", over RGB and on luma, by category, and over all rows as "all"."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["category"], []).append(row)
        groups.setdefault("all", []).append(row)
    order = [*sorted(name for name in groups if name != "all"), "all"]
    return {
        name: {
            figure: sum(row[figure] for row in groups[name]) / len(groups[name])
            for figure in _FIGURES
            if figure in groups[name][0]
        }
        for name in order
    }


def write_json(path: Path, content: Any) -> None:
    """Writes a table's figures, whole or not at all."""
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a page, whole or not at all."""
    with atomic_output(path) as temporary:
        temporary.write_text(text)


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a line to a journal; a line before it that was cut off by a kill stays apart from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write((json.dumps(row) + "\n").encode())


def read_journal(path: Path) -> list[dict[str, Any]]:
    """A journal's lines; one that was cut off by a kill is left out."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
