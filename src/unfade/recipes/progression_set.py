"""Progressive's three training sets from a folder of clean photos, by all cores, and on where it was stopped."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import OutputError, UnfadeError, UsageError
from unfade.degrade.progression import FPS, STRENGTHS
from unfade.media.atomic import atomic_output
from unfade.media.film import write_film
from unfade.prompts.scene import Captioner
from unfade.recipes.progression_shard import (
    Photo,
    Prompts,
    SetSettings,
    Shard,
    build_shard,
    built,
    check_photo,
    prompts_of,
)
from unfade.recipes.workers import begin_worker
from unfade.training.progression import KIND, MANIFEST, SHARDS, ProgressionSet

PREVIEW = "preview.mp4"
_PREVIEWED = 4
_PREVIEW_WIDTH = 480

# Hears (clips done, clips in all, a sentence for each photo that had to be left out).
Told = Callable[[int, int, Sequence[str]], None]


def build_set(
    photos: Iterable[Photo],
    output: Path,
    settings: SetSettings,
    *,
    captioner: Captioner | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    told: Told | None = None,
) -> dict[str, Any]:
    """Builds or completes a set in `output`, and gives its manifest.

    Shards that are there already, from the same photos and settings, are kept, so a build that was killed goes on
    and ends with the same bytes; the preview alone is encoded anew and only looks the same.
    Only one build may write a folder at a time. At most two shards a worker are
    under way, and each worker holds one photo.

    Args:
        photos: clean ones. Those that can't be read or are too small are told of and left out.
        output: holds `manifest.json`, `preview.mp4` and `shards/` afterwards.
        settings: of the set.
        captioner: a model that writes the scene-adaptive prompts, in this process; None for the rules.
        workers: processes; None for one a core, 1 for none besides this one.
        overwrite: build every shard anew.
        told: hears of the progress.

    Raises:
        UsageError: two photos would share a name.
        InputError: no photo can be used.
        OutputError: the folder can't be written or holds a set of other photos or settings.
        UnfadeError: a worker process died; every shard that was finished is kept.
    """
    told = told or (lambda done, total, sentences: None)
    usable, refused = _checked(photos, settings)
    if not usable:
        raise refused[0][1] if len(refused) == 1 else none_left(refused)
    failed = [{"photo": photo.name, "error": str(error)} for photo, error in refused]
    shards = _shards(usable, settings)
    folder = output / SHARDS
    total = len(usable) * len(settings.tasks) * len(STRENGTHS)
    _clear(folder)
    indices: dict[str, dict[str, Any]] = {}
    missing: list[Shard] = []
    for shard in shards:
        index = None if overwrite else built(shard, settings, folder)
        if index is None:
            missing.append(shard)
        else:
            indices[shard.name] = _kept(index)
    done = sum(len(shard.photos) * len(STRENGTHS) for shard in shards if shard.name in indices)
    told(done, total, [row["error"] for row in failed])
    for shard, index in _made(missing, settings, folder, captioner, workers or _cores()):
        indices[shard.name] = _kept(index)
        done += len(shard.photos) * len(STRENGTHS)
        told(
            done, total, [row["error"] for row in index["failed"]] if shard.task == settings.tasks[0] else []
        )
    failed += [
        row for shard in shards if shard.task == settings.tasks[0] for row in indices[shard.name]["failed"]
    ]
    manifest = _manifest(settings, shards, indices, failed)
    with atomic_output(output / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    _write_preview(output, settings)
    return manifest


def _checked(
    photos: Iterable[Photo], settings: SetSettings
) -> tuple[list[Photo], list[tuple[Photo, UnfadeError]]]:
    """By their headers alone, which takes a moment even for thousands."""
    usable: list[Photo] = []
    refused: list[tuple[Photo, UnfadeError]] = []
    names: dict[str, Photo] = {}
    for photo in sorted(photos, key=lambda photo: photo.name):
        other = names.setdefault(photo.key(""), photo)
        if other is not photo:
            raise UsageError(
                f"{photo.path} and {other.path} would share a name in the set; rename one of them"
            )
        try:
            check_photo(photo, settings)
        except UnfadeError as error:
            refused.append((photo, error))
        else:
            usable.append(photo)
    return usable, refused


def none_left(refused: Sequence[tuple[Photo, UnfadeError]]) -> UnfadeError:
    """What to raise where every photo was refused: the first one's reason, in one sentence."""
    first = refused[0][1] if refused else None
    kind = type(first) if first else UsageError
    return kind(f"none of {len(refused)} photos can be used; the first: {first}")


def _shards(photos: Sequence[Photo], settings: SetSettings) -> list[Shard]:
    size = settings.photos_per_shard
    parts = [tuple(photos[start : start + size]) for start in range(0, len(photos), size)]
    return [Shard(task, index, part) for task in settings.tasks for index, part in enumerate(parts)]


def _kept(index: dict[str, Any]) -> dict[str, Any]:
    """What is held of a shard until all are done: not its clips, so that memory doesn't grow with them."""
    return {**{name: index[name] for name in ("bytes", "sha256", "failed")}, "clips": len(index["clips"])}


def _clear(folder: Path) -> None:
    """What a build that was killed left half-written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".unfade-*"):
            left.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{folder} can't be written: {reason}; choose another folder") from error


def _made(
    shards: Sequence[Shard], settings: SetSettings, folder: Path, captioner: Captioner | None, workers: int
) -> Iterator[tuple[Shard, dict[str, Any]]]:
    """Shards as they are finished."""

    def prompts(shard: Shard) -> Prompts | None:
        return prompts_of(shard, settings, captioner) if captioner else None

    if min(workers, len(shards)) < 2:
        for shard in shards:
            yield shard, build_shard(shard, settings, folder, prompts(shard))
        return
    # Spawned, since libvips must not be forked.
    pool = ProcessPoolExecutor(min(workers, len(shards)), get_context("spawn"), begin_worker)
    waiting: dict[Future[dict[str, Any]], Shard] = {}
    try:
        for shard in shards:
            waiting[pool.submit(build_shard, shard, settings, folder, prompts(shard))] = shard
            if len(waiting) >= 2 * workers:
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)
    except BrokenProcessPool as error:
        raise UnfadeError(
            "a worker process died, perhaps for want of memory; what was finished is kept, and the same command with "
            "fewer --workers goes on from there"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(waiting: dict[Future[dict[str, Any]], Shard]) -> Iterator[tuple[Shard, dict[str, Any]]]:
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        yield waiting.pop(future), future.result()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _manifest(
    settings: SetSettings,
    shards: Sequence[Shard],
    indices: dict[str, dict[str, Any]],
    failed: list[dict[str, str]],
) -> dict[str, Any]:
    rows = [
        {
            "task": shard.task,
            "file": f"{SHARDS}/{shard.name}.tar",
            "index": f"{SHARDS}/{shard.name}.json",
            "clips": indices[shard.name]["clips"],
            "bytes": indices[shard.name]["bytes"],
            "sha256": indices[shard.name]["sha256"],
        }
        for shard in shards
    ]
    return {
        "kind": KIND,
        **asdict(settings),
        "fps": FPS,
        "strengths": STRENGTHS,
        "clips": sum(row["clips"] for row in rows),
        "shards": rows,
        "failed": sorted(failed, key=lambda row: row["photo"]),
    }


def _write_preview(output: Path, settings: SetSettings) -> None:
    """The strong clips of the first photos, one after another, the tasks side by side."""
    built_set = ProgressionSet(output, shards=-(-_PREVIEWED // settings.photos_per_shard))
    clips = [index for index in range(len(built_set)) if built_set.rows[index]["strength"] == "strong"]
    by_photo: dict[str, list[int]] = {}
    for index in clips:
        by_photo.setdefault(built_set.rows[index]["photo"], []).append(index)
    shown = [by_photo[name] for name in sorted(by_photo)[:_PREVIEWED]]
    height, width = settings.size
    small = (max(2, round(height * _PREVIEW_WIDTH / width)), _PREVIEW_WIDTH)

    def pictures() -> Iterator[Tensor]:
        for clips_of_photo in shown:
            ways = [built_set.stored(index) for index in clips_of_photo]
            if width > _PREVIEW_WIDTH:
                ways = [functional.interpolate(way, small, mode="area") for way in ways]
            yield from torch.cat(ways, dim=3)

    write_film(pictures(), output / PREVIEW, FPS)
