"""Carries a Vivid-VR recipe out: footage and a text-to-video model in; checkpoint, log and a control out."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox
from unfade.backbones.video import embeddings_of
from unfade.conditioning.connectors import ConnectorKind
from unfade.conditioning.control_file import settings_of
from unfade.core import InputError, UsageError, subseed
from unfade.degrade.framing import sides_of
from unfade.degrade.second_order import SecondOrder
from unfade.evaluation.metrics.learned import learned_metric
from unfade.evaluation.metrics.metric import Metric
from unfade.prompts.footage import FootageCaptioner, FootageRules
from unfade.recipes.footage import FOOTAGE_CAPTIONS, Say, manifest_of
from unfade.recipes.launch import changed, launched, on_host
from unfade.recipes.request import hold_to
from unfade.recipes.run_tiny import commit
from unfade.recipes.vivid import DEGRADATION, SCALE
from unfade.recipes.vivid import recipe as recipe_of
from unfade.restore.load import located
from unfade.training.clip_captions import caption_clips, read_captions
from unfade.training.concept_store import CAPTIONS, MANIFEST
from unfade.training.curation import CurationRules, Judge
from unfade.training.footage_clips import Clips, FootageClips, FootagePairs
from unfade.training.mixed_clips import RATIO, MixedClips
from unfade.training.tracker import check_tracker, open_tracker
from unfade.training.video_run import check_run
from unfade.training.vivid import VividTrainer
from unfade.training.vivid_run import VividRun
from unfade.version import __version__

ASKED = "footage.json"


def run_vivid(
    videos: Sequence[Path],
    model: str,
    folder: Path,
    *,
    recipe: str = "paper",
    rules: CurationRules = CurationRules(),
    judge: str | None = None,
    captioner: FootageCaptioner | None = None,
    concepts: Path | None = None,
    ratio: float = RATIO,
    connectors: ConnectorKind | None = None,
    projector: bool = True,
    held_out: int = 2,
    start: Path | None = None,
    tracker: str = "none",
    until: int | None = None,
    device: str = "auto",
    cache: Path | None = None,
    say: Say = lambda line: None,
    report: Callable[[dict[str, Any]], None] | None = None,
    **changes: Any,
) -> Path:
    """Trains control, or goes on training it, and writes it; returns its folder.

    Under `accelerate launch` every process calls this alike.

    Args:
        videos: folders of footage, which is curated first, or one manifest of `training.curation`.
        model: a text-to-video CogVideoX: a folder in diffusers' layout, or a name or hub id that was downloaded before.
        folder: of the run.
        recipe: a name in `recipes.vivid.RECIPES`.
        rules: what a clip must have, where folders are given.
        judge: name of the learned no-reference metric that `rules.least_quality` is about.
        captioner: says what is in the clean footage; the rules if left out.
        concepts: what `unfade distill concepts` made, to be mixed in.
        ratio: of its clips to real ones.
        connectors: kind of them, other than the recipe's.
        projector: whether the degraded footage's latents go through the feature projector.
        held_out: videos to validate on.
        start: a control folder to go on from.
        tracker, until, device, cache, report: as for `run_vbridge`.
        say: told of what comes before training.
        changes: fields of `VividRun` that differ from the recipe's; None means they don't.

    Raises:
        UsageError: a setting is unknown, the run does not fit the model or the machine, or a run that goes on is asked
            for other footage than it began with.
        InputError: the footage can't be used, or the folder holds another run's checkpoint.
        ModelError: the model, the control to start from or the metric can't be used.
        UnfadeError: the loss is not a number any more.
    """
    device, processes = launched(device)
    run = _run(recipe, changes, connectors, projector, processes.num_processes)
    check_tracker(tracker)
    _, path = located(model)
    opened = open_cogvideox(path, sees_photo=False)
    check_run(run, opened.config, processes.num_processes)
    embeddings = embeddings_of(opened, cache)
    looks = captioner or FootageRules()
    with processes.main_process_first():
        lead = processes.is_main_process
        tell = say if lead else _nothing
        if start is not None and settings_of(start) != run.control:
            raise UsageError(
                f"{start} is a control of another make than this run's; take its settings, or another"
            )
        measured, begun = _judge(judge) if judge else None, (folder / ASKED).exists()
        manifest = manifest_of(videos, folder, rules, tell, measured, begun=begun)
        every = FootageClips.of(manifest, run.frames)
        training, apart = _parted(every, held_out, run)
        made = None if concepts is None else _made_anew(concepts, every, apart, run)
        asked = {
            "footage": _hash(manifest),
            "captioner": looks.identity,
            "held out": sorted({str(video.path) for video, _ in apart.parts}),
            "concepts": None
            if concepts is None
            else [_hash(concepts / name) for name in (MANIFEST, CAPTIONS)],
            "ratio": None if concepts is None else ratio,
        }
        if lead or begun:
            hold_to(folder / ASKED, asked)
        told = caption_clips(
            FootageClips((*training.parts, *apart.parts)),
            looks,
            folder / FOOTAGE_CAPTIONS,
            lambda number, of: tell(f"caption {number} of {of}"),
        )
        if (unload := getattr(looks, "unload", None)) is not None:
            unload()
        training, apart = (replace(part, captions=told) for part in (training, apart))
        source: Clips = training if made is None else MixedClips(training, made, ratio, run.seed)
        said = {"", *told.values(), *(source.prompt(index) for index in range(len(source)))}
        embeddings.prepare(sorted(said), processes.device or torch.device(device))
    degradation = repr((SCALE, DEGRADATION))
    trainer = VividTrainer(
        run,
        load_cogvideox(opened, torch.bfloat16 if run.precision == "bf16" else torch.float32),
        FootagePairs(source, degraded, degradation),
        on_host(embeddings, opened.config),
        folder,
        FootagePairs(apart, degraded, degradation) if len(apart) else None,
        device=device,
        start=start,
    )
    trainer.resume()
    if trainer.leads:
        trainer.log.tracker = open_tracker(tracker, folder, asdict(trainer.plan))
    trainer.run(until, report)
    return trainer.export({"software": f"unfade {__version__}", "commit": commit(), "captions": looks.name})


def degraded(dice: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The second-order degradation, thrown once for a clip."""
    return SecondOrder.draw(dice, SCALE, DEGRADATION)


def _run(
    recipe: str, changes: dict[str, Any], connectors: ConnectorKind | None, projector: bool, processes: int
) -> VividRun:
    run = recipe_of(recipe)
    control = replace(run.control, projector=run.control.projector and projector)
    try:
        if connectors is not None:
            control = replace(control, connectors=connectors)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return changed(run, {**changes, "control": control}, processes)


def _judge(name: str) -> Judge:
    """A learned metric of pictures.

    Raises:
        UsageError: it is unknown, compares with a truth, or can't be had here.
    """
    found = learned_metric(name)
    if not isinstance(found, Metric):
        raise UsageError(f"{name} can't judge footage here: {found.why}")
    if found.of != "picture":
        raise UsageError(
            f"{name} compares with a truth, which footage to learn from has not; take niqe or musiq"
        )
    return Judge(found.name, found.measure, found.higher_is_better)


def _parted(clips: FootageClips, held_out: int, run: VividRun) -> tuple[FootageClips, FootageClips]:
    """(to learn from, held out), of which no video is in both.

    Raises:
        UsageError: too few videos are left, or all clips are smaller than the crop.
    """
    height, width = max((sides_of(size) for _, size in run.stages), key=lambda sides: sides[0] * sides[1])
    large = [index for index in range(len(clips)) if not clips.enlarged(index, (height, width))]
    if not large:
        raise UsageError(f"no clip has {width} x {height} pixels; give larger footage, or a smaller --crop")
    paths = sorted({str(clips.parts[index][0].path) for index in large})
    if len(paths) <= held_out:
        raise UsageError(
            f"{len(paths)} videos are too few to keep {held_out} of them apart; give more, or fewer --held-out"
        )
    apart = frozenset(random.Random(subseed(run.seed, "held out")).sample(paths, held_out))
    parts = [
        tuple(clips.parts[index] for index in large if (str(clips.parts[index][0].path) in apart) == out)
        for out in (False, True)
    ]
    # One clip of each held-out video is enough to watch.
    first = {str(video.path): (video, clip) for video, clip in reversed(parts[1])}
    return replace(clips, parts=parts[0]), replace(clips, parts=tuple(first[path] for path in sorted(first)))


def _made_anew(concepts: Path, every: FootageClips, apart: FootageClips, run: VividRun) -> FootageClips:
    """Clips of a distillation that are large enough, and none that was made of a held-out video.

    Raises:
        InputError: the folder is not that of a distillation, or its shards were not merged.
        UsageError: no clip is left.
    """
    if not (concepts / MANIFEST).is_file():
        raise InputError(
            f"{concepts} has no {MANIFEST}; name what unfade distill concepts made, merged by unfade distill merge "
            "if it has shards"
        )
    told = read_captions(concepts / CAPTIONS)
    made = FootageClips.of(concepts / MANIFEST, run.frames, told, sources=every)
    paths = {video.path for video, _ in apart.parts}
    held = {every.caption_key(index) for index, (video, _) in enumerate(every.parts) if video.path in paths}
    sizes = [size for _, size in run.stages]
    left = tuple(
        part
        for index, part in enumerate(made.parts)
        # A clip made anew is named after the clip it was made of.
        if part[0].path.stem not in held and not any(made.enlarged(index, size) for size in sizes)
    )
    if not left:
        raise UsageError(
            f"{concepts} has no clip that is as large as the crop and not of a held-out video; distil more, or larger "
            "ones"
        )
    return replace(made, parts=left)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _nothing(line: str) -> None:
    del line
