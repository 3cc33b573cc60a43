"""`unfade degrade --as progression`: Progressive's training sets from folders of clean photos."""

from collections.abc import Sequence
from pathlib import Path

import typer

from unfade.cli.board import Stages, close


def build_progression(
    sources: Sequence[Path],
    output: Path,
    *,
    tasks: Sequence[str],
    size: tuple[int, int] | None,
    frames: int,
    seed: int,
    captioner: str,
    photos_per_shard: int,
    workers: int | None,
    recursive: bool,
    overwrite: bool,
    max_megapixels: float,
) -> None:
    """Builds or completes a set, telling of its progress and of photos left out.

    Args:
        size: (width, height), as the user types it; None for the published one.
        captioner: "rules" or a model.

    Raises:
        PartialError: some photos were left out; the set holds the others.
        UnfadeError: as for `recipes.progression_set.build_set`.
    """
    from unfade.backbones.captioner import choose_captioner
    from unfade.core import InputError, UsageError
    from unfade.degrade.progression import SIZE
    from unfade.prompts.captions import KeptCaptions
    from unfade.prompts.progressive import TASKS
    from unfade.recipes.progression_set import build_set
    from unfade.recipes.progression_shard import Photo, SetSettings
    from unfade.restore.device import choose_device
    from unfade.restore.outputs import photos_in

    if unknown := [task for task in tasks if task not in TASKS]:
        raise UsageError(f"unknown task {unknown[0]!r}; there is {', '.join(TASKS)}")
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file, but degrade writes a folder; choose another output")
    photos: list[Photo] = []
    ignored = 0
    for source in sources:
        found, base = [source], source.parent
        if source.is_dir():
            found, passed_over = photos_in(source, recursive, skip=output)
            base, ignored = source, ignored + passed_over
        photos += [Photo(photo, photo.relative_to(base).as_posix()) for photo in found]
    looks = choose_captioner(captioner, choose_device("auto"), output / "captions")
    settings = SetSettings(
        tasks=tuple(task for task in TASKS if not tasks or task in tasks),
        size=SIZE if size is None else (size[1], size[0]),
        frames=frames,
        seed=seed,
        captioner=looks.identity,
        photos_per_shard=photos_per_shard,
        max_megapixels=max_megapixels,
    )
    failures: list[tuple[str, Exception]] = []
    with Stages() as board:

        def told(done: int, total: int, sentences: Sequence[str]) -> None:
            failures.extend((sentence, InputError(sentence)) for sentence in sentences)
            board.tell("clips", done, total)

        manifest = build_set(
            photos,
            output,
            settings,
            captioner=looks if isinstance(looks, KeptCaptions) else None,
            workers=workers,
            overwrite=overwrite,
            told=told,
        )
    typer.echo(f"{output}: {manifest['clips']} clips in {len(manifest['shards'])} shards")
    close(failures, len(photos) - len(failures), ignored=ignored)
