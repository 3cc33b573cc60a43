"""Carries a Progressive recipe out: clean photos or a built set and a model in; checkpoint, log and weights out."""

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox
from unfade.backbones.video import embeddings_of
from unfade.conditioning.lora import Role
from unfade.core import UnfadeError, UsageError, subseed
from unfade.degrade.framing import sides_of
from unfade.evaluation.metrics.fidelity import ssim
from unfade.media.atomic import atomic_output
from unfade.media.remote import joined, read_bytes
from unfade.prompts.captions import KeptCaptions
from unfade.prompts.measured import MeasuredCaptioner
from unfade.prompts.progressive import TASKS, Task
from unfade.prompts.scene import Captioner
from unfade.recipes.launch import changed, launched, on_host
from unfade.recipes.progression_set import none_left
from unfade.recipes.progression_shard import Photo, SetSettings, check_photo
from unfade.recipes.progressive import recipe as recipe_of
from unfade.recipes.run_tiny import commit
from unfade.restore.load import located
from unfade.restore.outputs import photos_in
from unfade.training.progression import (
    MANIFEST,
    PhotoFiles,
    ProgressionSequences,
    ProgressionSet,
    Prompted,
    Some,
    scene_prompts,
)
from unfade.training.progressive import ProgressiveTrainer
from unfade.training.progressive_run import ProgressiveRun
from unfade.training.tracker import check_tracker, open_tracker
from unfade.training.video_run import check_adapter, check_run
from unfade.version import __version__

PHOTOS, PROMPTS = "photos.json", "prompts.json"
CAPTIONS = ".unfade-captions"


def run_progressive(
    sources: Sequence[str | Path],
    model: str,
    folder: Path,
    *,
    recipe: str = "lora",
    adapter: bool | None = None,
    tasks: Sequence[Task] = TASKS,
    prompts: str = "uniform",
    captioner: Captioner | None = None,
    image_noise: bool = True,
    held_out: int = 4,
    role: Role = "restore",
    start: Path | None = None,
    tracker: str = "none",
    until: int | None = None,
    device: str = "auto",
    cache: Path | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
    **changes: Any,
) -> Path:
    """Trains, or goes on training, and writes what was learnt; returns its path.

    Under `accelerate launch` every process calls this alike.

    Args:
        sources: folders of clean photos, from which progressions are streamed; or one folder or address of a set that
            `unfade degrade --as progression` built.
        model: a folder in diffusers' layout, or a name or hub id that was downloaded before.
        folder: of the run.
        recipe: a name in `recipes.progressive.RECIPES`.
        adapter: False trains all weights; an adapter otherwise.
        tasks: what is learnt; one adapter learns them all together.
        prompts: "uniform", or "scene" for a prompt of each clip's own.
        captioner: what looks at degraded photos for "scene"; the rules if left out. A built set has its prompts.
        image_noise: whether the photo the model sees has noise on it, as the recipe says.
        held_out: photos to validate on.
        role, start, tracker, until, device, cache, report: as for `run_vbridge`.
        say: hears a sentence for each photo that is left out because it is none or smaller than a crop, which its
            header tells before anything is decoded.
        changes: fields of `ProgressiveRun` that differ from the recipe's; None means they don't.

    Raises:
        UsageError: a setting is unknown, the run does not fit the model or the machine, or a run that goes on is asked
            for other photos than it began with.
        InputError: the photos can't be used, or the folder holds another run's checkpoint.
        ModelError: the model or the adapter to start from can't be used.
        UnfadeError: the loss is not a number any more.
    """
    device, processes = launched(device)
    run = changed(recipe_of(recipe, adapter=adapter), changes, processes.num_processes)
    if not image_noise:
        run = replace(run, image_noise=None)
    check_adapter(run, role, start)
    check_tracker(tracker)
    if prompts not in ("uniform", "scene"):
        raise UsageError(f"prompts are uniform or scene, not {prompts!r}")
    _, path = located(model)
    opened = open_cogvideox(path)
    check_run(run, opened.config, processes.num_processes)
    embeddings = embeddings_of(opened, cache)
    with processes.main_process_first():
        hears = say if processes.is_main_process else lambda sentence: None
        training, apart = _sequences(sources, tasks, prompts, captioner, run, held_out, folder, hears)
        said = {part.prompt(index) for part in (training, apart) for index in range(len(part))}
        embeddings.prepare(["", *sorted(said)], processes.device or torch.device(device))
    base = torch.bfloat16 if run.lora and run.precision == "bf16" else torch.float32
    trainer = ProgressiveTrainer(
        run,
        load_cogvideox(opened, base),
        training,
        on_host(embeddings, opened.config),
        folder,
        apart if len(apart) else None,
        device=device,
        role=role,
        start=start,
        measures={"ssim": ssim},
    )
    trainer.resume()
    if trainer.leads:
        trainer.log.tracker = open_tracker(tracker, folder, asdict(trainer.plan))
    trainer.run(until, report)
    notes = {
        "software": f"unfade {__version__}",
        "commit": commit(),
        "tasks": " ".join(tasks),
        "prompts": prompts,
    }
    return trainer.export(notes, path)


def captions_of(sources: Sequence[str | Path]) -> Path | None:
    """Where captions of photos are kept: beside them, in the first folder; None, the user's cache, elsewhere."""
    first = Path(sources[0])
    return first / CAPTIONS if first.is_dir() and os.access(first, os.W_OK | os.X_OK) else None


def _sequences(
    sources: Sequence[str | Path],
    tasks: Sequence[Task],
    prompts: str,
    captioner: Captioner | None,
    run: ProgressiveRun,
    held_out: int,
    folder: Path,
    say: Callable[[str], None],
) -> tuple[Prompted, Prompted]:
    """(to learn from, held out); no photo is in both, and a run that goes on has what it began with."""
    if unknown := [task for task in tasks if task not in TASKS]:
        raise UsageError(f"unknown task {unknown[0]!r}; there is {', '.join(TASKS)}")
    looks = captioner or MeasuredCaptioner()
    asked = {"tasks": list(tasks), "prompts": prompts}
    if len(sources) == 1 and _is_set(sources[0]):
        made = ProgressionSet(sources[0], prompts, tasks)
        _check_set(made, run)
        names = [row["photo"] for row in made.rows]
        apart = _apart(sorted(set(names)), held_out, run.seed, folder, asked)
        chosen = [
            [index for index, name in enumerate(names) if (name in apart) == out] for out in (False, True)
        ]
        return Some(made, chosen[0]), Some(made, chosen[1])
    paths = sorted(
        {path for source in sources for path in photos_in(Path(source), recursive=True)[0]},
        key=str,
    )
    paths = _usable(paths, run, say)
    if prompts == "scene":
        asked["captioner"] = looks.identity
    apart = _apart([str(path) for path in paths], held_out, run.seed, folder, asked)
    parts = [
        ProgressionSequences(
            PhotoFiles([path for path in paths if (str(path) in apart) == out]), tuple(tasks)
        )
        for out in (False, True)
    ]
    if prompts == "scene":
        kept = PROMPTS, f"held-out-{PROMPTS}"
        parts = [_described(part, folder / name, looks, run) for part, name in zip(parts, kept, strict=True)]
        if isinstance(looks, KeptCaptions):
            looks.unload()
    return parts[0], parts[1]


def _usable(paths: Sequence[Path], run: ProgressiveRun, say: Callable[[str], None]) -> list[Path]:
    """The photos that have the pixels of every stage's crop, by their headers alone.

    Raises:
        UnfadeError: none has; what is wrong with the first.
    """
    sizes = [SetSettings(size=sides_of(size)) for _, size in run.stages]
    usable: list[Path] = []
    refused: list[tuple[Photo, UnfadeError]] = []
    for path in paths:
        photo = Photo(path, path.name)
        try:
            for size in sizes:
                check_photo(photo, size)
        except UnfadeError as error:
            refused.append((photo, error))
        else:
            usable.append(path)
    if refused and not usable:
        raise refused[0][1] if len(refused) == 1 else none_left(refused)
    for _, error in refused:
        say(f"left out: {error}")
    return usable


def _check_set(made: ProgressionSet, run: ProgressiveRun) -> None:
    """Whether a built set has what a run draws from it.

    Raises:
        UsageError: its frames are too few, too many or too small.
    """
    for _, size in run.stages:
        height, width = sides_of(size)
        if run.frames != made.num_frames or height > made.size[0] or width > made.size[1]:
            raise UsageError(
                f"{made.address} holds {made.num_frames} frames of {made.size[1]} x {made.size[0]}, not "
                f"{run.frames} of {width} x {height}; change --stages or --frames, or train from the photos"
            )


def _is_set(source: str | Path) -> bool:
    """Whether there is a set's manifest; a folder on this machine without one holds photos."""
    if "://" not in str(source):
        return (Path(source) / MANIFEST).is_file()
    read_bytes(joined(source, MANIFEST))
    return True


def _apart(
    names: Sequence[str], held_out: int, seed: int, folder: Path, asked: dict[str, Any]
) -> frozenset[str]:
    """The photos to validate on; written down with what else was asked, and compared where the run goes on.

    Raises:
        UsageError: too few photos are left, or the run began with others, other tasks or other prompts.
    """
    if len(names) <= held_out:
        raise UsageError(
            f"{len(names)} photos are too few to keep {held_out} of them apart; give more, or fewer --held-out"
        )
    apart = random.Random(subseed(seed, "held out")).sample(list(names), held_out)
    told = {**asked, "held_out": sorted(apart), "training": sorted(set(names) - set(apart))}
    path = folder / PHOTOS
    if path.exists() and (folder / "checkpoint.pt").exists():
        if json.loads(path.read_text(encoding="utf-8")) != told:
            raise UsageError(
                f"{path} names other photos, tasks or prompts than those given now; give the same ones, or choose "
                "another --runs"
            )
    else:
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return frozenset(apart)


def _described(
    sequences: ProgressionSequences, path: Path, captioner: Captioner, run: ProgressiveRun
) -> ProgressionSequences:
    """The same with a prompt of each clip's own, made once and kept in a file of the run."""
    size = run.stages[-1][1]
    made_of = {
        "captioner": captioner.identity,
        "size": list(sides_of(size)),
        "seed": run.seed,
        "photos": [str(photo) for photo in getattr(sequences.photos, "paths", ())],
        "tasks": list(sequences.tasks),
    }
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if kept.get("made_of") != made_of:
        found = scene_prompts(sequences, size, captioner, run.seed)
        kept = {"made_of": made_of, "prompts": {name: chosen.text for name, chosen in found.items()}}
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(kept, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return replace(sequences, prompts=kept["prompts"])
