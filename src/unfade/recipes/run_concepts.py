"""Carries a concept distillation out: footage and a base in; clips as the base would have them, with captions, out."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.backbones.cogvideox_denoiser import CogVideoXCondition
from unfade.backbones.cogvideox_folder import CogVideoXFolder, load_cogvideox, open_cogvideox
from unfade.backbones.prompt_embeddings import T5, PromptEmbeddings
from unfade.core import InputError, ModelError, PartialError, UsageError
from unfade.core.contracts import Device, Dtype
from unfade.diffusion.guidance import Contrast
from unfade.diffusion.v_schedule import VSchedule
from unfade.prompts.footage import FootageCaptioner, FootageRules
from unfade.prompts.vividvr import SUFFIX, vividvr_prompt
from unfade.recipes.footage import FOOTAGE_CAPTIONS, Say, manifest_of
from unfade.restore.cogvideox_load import CogVideoXLoad
from unfade.restore.device import choose_device, choose_dtype
from unfade.restore.load import located
from unfade.restore.placement import Placement, Room
from unfade.training.clip_captions import caption_clips, read_captions
from unfade.training.clip_manifest import shard_path
from unfade.training.concept_store import NOTE, ConceptStore
from unfade.training.concepts import (
    ConceptRow,
    ConceptRun,
    Make,
    chosen_clips,
    make_concepts,
    reimagined_clip,
)
from unfade.training.curation import CurationRules
from unfade.training.footage_clips import FootageClips


def run_concepts(
    videos: Sequence[Path],
    model: str | Path,
    folder: Path,
    run: ConceptRun,
    *,
    captioner: FootageCaptioner | None = None,
    captions: Path | None = None,
    shard: tuple[int, int] = (0, 1),
    device: Device = "auto",
    dtype: Dtype = "auto",
    cache: Path | None = None,
    say: Say = lambda line: None,
) -> int:
    """Makes clips anew, or goes on with it; returns how many this shard has now.

    Several processes, each with its own shard and device (CUDA_VISIBLE_DEVICES), may fill one folder. What becomes of a
    clip is the same whatever the number of shards and however often they were stopped.

    Args:
        videos: folders of footage, which is curated first, or one manifest of `training.curation`.
        model: CogVideoX1.5-5B: a folder in diffusers' layout, or a name or hub id that was downloaded before.
        folder: of the result; see `training.concept_store`.
        run: how clips are made.
        captioner: says what is in the footage; the rules if left out.
        captions: a file of captions that were made of the footage before.
        shard: (index, count): which of several processes this is.
        device, dtype: where and in what precision the transformer computes.
        cache: of embeddings.
        say: told in a line of each clip and of what comes before.

    Raises:
        UsageError: the run does not fit the model or the footage, or the folder was begun with another.
        InputError: the footage can't be used.
        ModelError: the model can't be used.
        OutputError: the folder can't be written.
        PartialError: some clips could not be read; all others are done.
        UnfadeError: the model answered with something that isn't a number.
    """
    shard_path(folder, shard)
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    captioner = captioner or FootageRules()
    _, path = located(model)
    opened = open_cogvideox(path, sees_photo=False)
    _check_run(run, opened.config)
    rules = CurationRules(least_side=min(run.size))
    manifest = manifest_of(videos, folder, rules, say, shared=shard[1] > 1, begun=(folder / NOTE).exists())
    clips = FootageClips.of(manifest, run.frames)
    chosen = chosen_clips(clips, run, shard)
    made_of = {
        "weights": opened.sha256(),
        "dtype": str(precision).removeprefix("torch."),
        "captioner": captioner.identity,
        "footage manifest": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "run": run.told(),
    }
    store = ConceptStore(folder, made_of, shard)
    todo = [index for index in chosen if not store.has(clips.caption_key(index))]
    if len(todo) < len(chosen):
        say(f"{len(chosen) - len(todo)} of {len(chosen)} clips are there already")
    if not todo:
        return len(chosen)
    lost = {index for index in todo if not _is_there(clips, index, say)}
    there = [index for index in todo if index not in lost]
    failed = len(lost)
    if there:
        told = _captions(clips, there, captioner, captions, folder, shard, say)
        unseen = {index for index in there if clips.caption_key(index) not in told}
        lost, failed = lost | unseen, failed + len(unseen)
        make = _maker(opened, tuple(dict.fromkeys(told.values())), run, where, precision, cache)
        readable = [index for index in chosen if index not in lost]
        told_clips = replace(clips, captions=told)
        failed += make_concepts(told_clips, readable, make, store, run, lambda row: say(_line(row)))
    if failed:
        raise PartialError(
            f"{failed} of {len(chosen)} clips could not be read, all others are done; bring the footage back and go on "
            "by the same command"
        )
    return len(chosen)


def _check_run(run: ConceptRun, config: CogVideoXConfig) -> None:
    """Whether a model can have the clips of a run.

    Raises:
        UsageError: it can't.
    """
    try:
        config.tokens(run.frames, *run.size)
        times = VSchedule(run.steps, run.sampler, config.scheduler).times()
    except ValueError as error:
        raise UsageError(str(error)) from error
    run.first_step(times)


def _is_there(clips: FootageClips, index: int, say: Say) -> bool:
    try:
        clips.identity(index)
    except InputError as error:
        say(f"left out: {error}")
        return False
    return True


def _captions(
    clips: FootageClips,
    wanted: Sequence[int],
    captioner: FootageCaptioner,
    known: Path | None,
    folder: Path,
    shard: tuple[int, int],
    say: Say,
) -> dict[str, str]:
    """The captions of some clips by `caption_key`; those that nobody made yet are kept in this shard's file.

    Clips that can't be read have none.
    """
    found = _known(known, captioner) if known else {}
    rest = tuple(clips.parts[index] for index in wanted if clips.caption_key(index) not in found)
    made = caption_clips(
        FootageClips(rest),
        captioner,
        shard_path(folder / FOOTAGE_CAPTIONS, shard),
        lambda number, of: say(f"caption {number} of {of}"),
        lambda why: say(f"left out: {why}"),
    )
    # A model that captions has to go before the base comes.
    if (unload := getattr(captioner, "unload", None)) is not None:
        unload()
    return found | made


def _known(path: Path, captioner: FootageCaptioner) -> dict[str, str]:
    """The captions of a file that are this captioner's.

    Raises:
        InputError: there is no such file, or it is damaged.
        UsageError: they are all another captioner's.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; check the path of --captions, or leave it out")
    found = read_captions(path, captioner.identity)
    if not found:
        raise UsageError(
            f"{path} holds no caption by {captioner.name}; give the --captioner that made it, or leave it out"
        )
    return found


def _maker(
    opened: CogVideoXFolder,
    captions: Sequence[str],
    run: ConceptRun,
    device: torch.device,
    dtype: torch.dtype,
    cache: Path | None,
) -> Make:
    """The base in memory as what makes clips, after the text encoder has embedded all captions and is gone.

    Raises:
        ModelError: the weights can't be used, or the text encoder is missing or another model's.
        OutputError: an embedding can't be kept.
    """
    host, limit = torch.device("cpu"), opened.config.text_tokens
    embed = PromptEmbeddings(opened.path, cache, limit, encoder=T5)
    suffix = SUFFIX if run.suffix else ""
    prompts = {caption: vividvr_prompt(caption, embed.count, limit, suffix=suffix) for caption in captions}
    embed.prepare([run.negative, *prompts.values()], device)
    (negative,) = embed([run.negative], host)
    if negative.shape[2] != opened.config.transformer["text_embed_dim"]:
        raise ModelError(
            f"{embed.folder} has a text encoder of another model than its transformer; get it again"
        )
    video = load_cogvideox(opened, dtype)
    placement = Placement(Room())
    load = CogVideoXLoad(video.config, run.size, run.size, run.frames, 2, dtype)  # type: ignore[arg-type]
    # A text-to-video model is shown no photo.
    nothing = torch.zeros(0)

    def make(frames: Tensor, caption: str, name: str) -> Tensor:
        (positive,) = embed([prompts[caption]], host)
        told = Contrast(*(CogVideoXCondition(nothing, text) for text in (positive, negative)))
        placement.settle(video, load, device)
        return placement.run(
            video, load, device, lambda: reimagined_clip(video, frames, told, run, name, device)
        )

    return make


def _line(row: ConceptRow) -> str:
    if row.error is not None:
        return f"clip {row.number} of {row.of}  left out: {row.error}"
    return f"clip {row.number} of {row.of}  {row.name}  {row.seconds:.1f} s"
