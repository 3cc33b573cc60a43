"""Carries a V-Bridge recipe out: pairs and a model in, checkpoint, log, pictures and weights out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.prompt_embeddings import PromptEmbeddings
from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.conditioning.lora import Role
from unfade.core import ModelError, UsageError
from unfade.evaluation.metrics.fidelity import ssim
from unfade.prompts.vbridge import vbridge_prompt
from unfade.recipes.launch import changed, launched
from unfade.recipes.run_tiny import commit
from unfade.recipes.vbridge import recipe as recipe_of
from unfade.restore.load import located
from unfade.training.fewshot import PRESETS, Choice, choose_pairs, names_in, read_manifest, write_manifest
from unfade.training.pairs import find_pairs
from unfade.training.sequences import PairSequences
from unfade.training.tracker import check_tracker, open_tracker
from unfade.training.vbridge import VBridgeTrainer
from unfade.training.video_run import check_adapter
from unfade.version import __version__


def run_vbridge(
    pairs: Sequence[Path],
    model: str,
    folder: Path,
    *,
    recipe: str = "paper",
    adapter: bool | None = None,
    layout: str = "auto",
    few_shot: str = "1K",
    held_out: int = 1,
    without: Sequence[Path] = (),
    role: Role = "restore",
    start: Path | None = None,
    tracker: str = "none",
    until: int | None = None,
    device: str = "auto",
    cache: Path | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    **changes: Any,
) -> Path:
    """Trains, or goes on training, and writes what was learnt; returns its path.

    Under `accelerate launch` every process calls this alike.

    Args:
        pairs: folders; see `training.pairs.find_pairs`.
        model: a folder in diffusers' layout, or a name or hub id that was downloaded before.
        folder: of the run.
        recipe: a name in `recipes.vbridge.RECIPES`.
        adapter: True trains an adapter, False all weights, None what the recipe says.
        layout: of the pairs.
        few_shot: how many of each category: "50", "1K", "0.2K", "8K", any number, or "all".
        held_out: pairs of each category to validate on.
        without: manifests (`pairs.json`) of runs whose pairs must not be learnt from.
        role: of the adapter.
        start: an adapter to go on from.
        tracker: besides the log.
        until: stop after this step.
        device: "auto", "cpu" or "cuda".
        cache: of the prompts' embeddings.
        report: told every line of the log.
        changes: fields of `VBridgeRun` that differ from the recipe's; None means they don't. A step is taken one sample
            at a time on each process unless `accumulation` says otherwise.

    Raises:
        UsageError: a setting is unknown, the run does not fit the model or the machine, or a run that goes on is asked
            for other pairs than it began with.
        InputError: the pairs can't be used, or the folder holds another run's checkpoint.
        ModelError: the model or the adapter to start from can't be used.
        UnfadeError: the loss is not a number any more.
    """
    device, processes = launched(device)
    run = changed(recipe_of(recipe, adapter=adapter), changes, processes.num_processes)
    check_adapter(run, role, start)
    check_tracker(tracker)
    _, path = located(model)
    opened = open_wan(path)
    with processes.main_process_first():
        choice = _choice(pairs, layout, few_shot, run.seed, held_out, without, folder)
        texts = _texts(path, processes.device or torch.device(device), cache)
    if texts.shape[2] != opened.config.transformer["text_dim"]:
        raise ModelError(f"{path} has a text encoder of another model than its transformer; get it again")
    base = torch.bfloat16 if run.lora and run.precision == "bf16" else torch.float32
    trainer = VBridgeTrainer(
        run,
        load_wan(opened, base),
        PairSequences(choice.training),
        texts,
        folder,
        PairSequences(choice.held_out) if choice.held_out else None,
        device=device,
        role=role,
        start=start,
        measures={"ssim": ssim},
    )
    trainer.resume()
    if trainer.leads:
        trainer.log.tracker = open_tracker(tracker, folder, asdict(trainer.plan))
    trainer.run(until, report)
    return trainer.export(
        {"software": f"unfade {__version__}", "commit": commit(), "pairs": str(choice.counts())}, path
    )


def _choice(
    folders: Sequence[Path],
    layout: str,
    few_shot: str,
    seed: int,
    held_out: int,
    without: Sequence[Path],
    folder: Path,
) -> Choice:
    """The pairs the run's manifest names, or newly drawn ones, which are then written down."""
    barred = frozenset[str]().union(*(names_in(manifest) for manifest in without))
    found = find_pairs(folders, layout)
    manifest = folder / "pairs.json"
    each = _each(few_shot)
    if manifest.exists():
        choice = read_manifest(manifest, found)
        choice.check_asked(manifest, each, seed, held_out, barred)
        return choice
    choice = choose_pairs(found, each, seed, held_out, barred)
    write_manifest(choice, manifest)
    return choice


def _each(few_shot: str) -> int:
    if few_shot == "all":
        return 0
    if few_shot in PRESETS:
        return PRESETS[few_shot]
    if few_shot.isdecimal() and int(few_shot) > 0:
        return int(few_shot)
    raise UsageError(
        f"--few-shot is {', '.join(PRESETS)}, a number of pairs of each category, or all, not {few_shot!r}"
    )


def _texts(model: Path, device: torch.device, cache: Path | None) -> Tensor:
    """The published prompt and the empty one, `[2, L, D]`; embedded once, then read from disk."""
    return torch.cat(PromptEmbeddings(model, cache)([vbridge_prompt(), ""], device)).cpu()
