"""What came out of the CPU-sized proof of Vivid-VR: controls judged side by side, as figures, pictures and a page."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox
from unfade.conditioning.control import Control
from unfade.core import Clip, UsageError, generator
from unfade.evaluation.report.figures import json_safe
from unfade.media.images import write_image
from unfade.recipes.run_tiny import commit
from unfade.recipes.stages import spent
from unfade.recipes.vbridge_judging import write_json, write_text
from unfade.recipes.vivid_cpu import Setting
from unfade.recipes.vivid_judging import (
    Figures,
    blurred,
    chosen,
    coloured,
    fast,
    figures_of,
    gap,
    judge,
    judged,
    means_of,
    restored,
    restorer_of,
    settings_of,
)
from unfade.recipes.vivid_page import BLURRED, page
from unfade.recipes.vivid_proof import JudgedPair, VividProof
from unfade.recipes.vivid_seams import measure_seams, seams
from unfade.recipes.vivid_verdicts import verdicts
from unfade.recipes.workers import in_workers
from unfade.training.folded import folded_convolutions
from unfade.training.video_validation import decoded

_SHOWN = 6
_FEW = 8


def judge_proof(proof: VividProof, workers: int) -> None:
    """Restores all that is judged, as many processes at a time as there are workers, one thread each.

    First the whole in every setting on clips to choose by, then everything on held-out clips: the whole in every
    setting, the others in the one that was chosen, and footage to look for seams in.

    Raises:
        UnfadeError: something can't be restored.
        KeyboardInterrupt: as asked for; what is done is kept.
    """
    for variant in proof.recipe.variants:
        proof.needs(proof.control(variant), "control")
    whole, *others = proof.recipe.variants
    every = settings_of(proof)
    _share(proof, workers, [(judge, "choose", whole, every)])
    best = chosen(proof)
    _share(
        proof,
        workers,
        [
            (judge, "held", whole, every),
            *((judge, "held", variant, [best]) for variant in others),
            (measure_seams, list(dict.fromkeys([best, proof.recipe.published]))),
        ],
    )


def _share(proof: VividProof, workers: int, jobs: Sequence[tuple[Any, ...]]) -> None:
    """Does jobs, each in as many parts as there are workers."""
    place = proof.name, proof.photos, proof.clips, proof.folder
    parts = [(*place, (index, workers), *job) for job in jobs for index in range(workers)]
    if workers == 1:
        for part in parts:
            _do(*part)
    else:
        in_workers(_do, parts, workers)


def _do(
    name: str,
    photos: Sequence[Path],
    clips: Path,
    folder: Path,
    share: tuple[int, int],
    work: Callable[..., None],
    *told: Any,
) -> None:
    work(VividProof(name, photos, clips, folder), *told, share)


def report_proof(proof: VividProof, folder: Path) -> dict[str, Any]:
    """Writes `README.md`, `figures.json`, logs and pictures of what was judged.

    Args:
        proof: with all its stages done.
        folder: to write to.

    Returns:
        What `figures.json` holds.

    Raises:
        UsageError: not everything was judged.
    """
    recipe, every = proof.recipe, settings_of(proof)
    whole, *others = recipe.variants
    try:
        best = chosen(proof)
        tried = {part: judged(proof, part, whole, every) for part in ("choose", "held")}
        held = {whole: tried["held"][best]}
        held |= {variant: judged(proof, "held", variant, [best])[best] for variant in others}
    except KeyError as error:
        raise UsageError(
            f"{error} was not judged yet; run --stage judge before this one, or --stage all"
        ) from error
    pairs = proof.judged_pairs("held")
    video = load_cogvideox(open_cogvideox(proof.model, sees_photo=False), torch.float32)
    with folded_convolutions(video.vae.model):
        through = [
            decoded(video.vae.decode(video.vae.encode(one.clean.transpose(0, 1)[None]))) for one in pairs
        ]
    truths = [one.clean for one in pairs]
    published = f"{whole}, as published"
    figured: dict[str, list[Figures]] = {
        "input": _figured([one.low for one in pairs], truths),
        BLURRED: _figured([blurred(one.low) for one in pairs], truths),
        whole: held[whole],
        published: tried["held"][recipe.published],
        **{variant: held[variant] for variant in others},
        "VAE of the truth": _figured(through, truths),
    }
    values = {name: [one.psnr for one in figures] for name, figures in figured.items()}
    with torch.device("meta"):
        control = Control(recipe.model.transformer, recipe.variants[whole])
    figures: dict[str, Any] = {
        "parameters": {
            "vae": _count(video.vae.model),
            "transformer": _count(video.denoiser.model),
            "control": _count(control),
        },
        "clips": {
            "held out": len(pairs),
            "chosen on": len(proof.footage("choose")),
            "learnt from": len(proof.footage("learn")),
            "made anew": len(proof.made_anew()),
        },
        "chosen": {**asdict(best), "told": best.told()},
        "means": {name: means_of(one) for name, one in figured.items()},
        "over_input": {
            name: gap(values[name], values["input"])
            for name in values
            if name not in ("input", "VAE of the truth")
        },
        "over_blurred": gap(values[whole], values[BLURRED]),
        "lost_to_whole": {name: gap(values[whole], values[name]) for name in others},
        "settings": [
            {**asdict(one), **{part: means_of(found[one]) for part, found in tried.items()}} for one in every
        ],
        "seams": {
            "As published" if one == recipe.published else "As chosen": seams(proof, one)
            for one in dict.fromkeys([best, recipe.published])
        },
        "concepts": _changed(proof),
        "spent": {stage: asdict(one) for stage, one in spent(proof.folder).items() if stage != "report"},
        "commit": commit(),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
    }
    figures["verdicts"] = verdicts(figures)
    write_json(folder / "figures.json", json_safe(figures))
    _sheet(folder / "held-out.png", proof, pairs, best)
    _film(folder / "steps.png", proof, pairs[: _SHOWN // 2])
    write_text(folder / "README.md", page(proof, figures))
    logs = {"vae.jsonl": proof.folder / "vae.jsonl", "base.jsonl": proof.folder / "base" / "log.jsonl"}
    for variant in recipe.variants:
        slug = proof.control(variant).parent
        logs[f"control-{slug.name}.jsonl"] = slug / "log.jsonl"
    for name, log in logs.items():
        write_text(folder / name, log.read_text())
    return figures


def _figured(made: Sequence[Tensor], truths: Sequence[Tensor]) -> list[Figures]:
    return [figures_of(one, truth) for one, truth in zip(made, truths, strict=True)]


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _changed(proof: VividProof) -> dict[str, float | None]:
    """How clips made anew differ from what they were made of, as means over a few."""
    made, learnt, run = proof.made_anew(), proof.footage("learn"), proof.recipe.concepts
    keys = {learnt.caption_key(index): index for index in range(len(learnt))}
    found: list[Figures] = []
    for place in sorted(range(len(made)), key=lambda place: made.names[place])[:_FEW]:
        index = keys[made.parts[place][0].path.stem]
        before = learnt.draw(index, run.size, run.frames, generator(run.seed, "clip", learnt.names[index]))
        found.append(figures_of(made.draw(place, run.size, run.frames, generator(0)), before))
    return means_of(found)


def _sheet(path: Path, proof: VividProof, pairs: Sequence[JudgedPair], setting: Setting) -> None:
    """Rows of middle frames: degraded, every variant, truth."""
    count = min(_SHOWN, len(pairs))
    shown = [pairs[round((place + 0.5) * len(pairs) / count - 0.5)] for place in range(count)]
    middle = len(shown[0].low) // 2
    columns = [[one.low[middle] for one in shown]]
    for variant in proof.recipe.variants:
        restorer = restorer_of(proof, variant)
        with fast(restorer):
            made = [restored(restorer, one.name, one.low, one.caption, setting)[-1] for one in shown]
        clips = zip(made, shown, strict=True)
        columns.append([coloured(clip, one.low, setting)[middle] for clip, one in clips])
    columns.append([one.clean[middle] for one in shown])
    write_image(Clip(_larger(torch.cat([torch.cat(column, dim=1) for column in columns], dim=2))), path)


def _film(path: Path, proof: VividProof, pairs: Sequence[JudgedPair]) -> None:
    """Rows of the trajectory's middle frames as published: the input, the clean clip predicted after some steps, the
    result, the truth."""
    setting = proof.recipe.published
    restorer, rows = restorer_of(proof, next(iter(proof.recipe.variants))), list[Tensor]()
    with fast(restorer):
        for one in pairs:
            first, *states = restored(restorer, one.name, one.low, one.caption, setting, frames=6)
            way = [first, *(coloured(state, one.low, setting) for state in states), one.clean]
            rows.append(torch.cat([state[len(one.low) // 2] for state in way], dim=2))
    write_image(Clip(_larger(torch.cat(rows, dim=1))), path)


def _larger(picture: Tensor) -> Tensor:
    """Twice as large, pixel by pixel, `[1, 3, 2H, 2W]`."""
    return picture.clamp(0, 1).repeat_interleave(2, 1).repeat_interleave(2, 2)[None]
