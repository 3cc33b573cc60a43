"""Footage that a recipe was given: folders, which are curated first, or a manifest of what was."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unfade.core import InputError, UsageError
from unfade.training.curation import CurationRules, Judge, curate

# Of the footage: curated where folders were given, and its captions.
FOOTAGE, FOOTAGE_CAPTIONS = "footage.jsonl", "footage-captions.jsonl"

Say = Callable[[str], None]


def manifest_of(
    videos: Sequence[Path],
    folder: Path,
    rules: CurationRules,
    say: Say,
    judge: Judge | None = None,
    *,
    shared: bool = False,
    begun: bool = False,
) -> Path:
    """A manifest that was given, or that of the folders, curated once.

    Args:
        videos: folders, or one manifest.
        folder: where the manifest of folders goes.
        rules: what a clip must have; a manifest that was given has its own.
        say: told of each video.
        judge: measures quality.
        shared: whether other processes ask for the same at the same time.
        begun: whether something was made of the folder's manifest already, which then stays as it is.

    Raises:
        InputError: something is neither, or there is no footage.
        UsageError: there is nothing at all, or the folder's manifest was made by other rules.
        OutputError: the manifest can't be written.
    """
    if len(videos) == 1 and videos[0].is_file():
        if judge is not None or rules != CurationRules(least_side=rules.least_side):
            raise UsageError(
                f"{videos[0]} was curated already; leave the judge and the rules out, or give folders"
            )
        return videos[0]
    if not videos:
        raise UsageError("there is no footage to begin with; name its folders, or a manifest")
    if not all(one.is_dir() for one in videos):
        lacking = next(one for one in videos if not one.is_dir())
        raise InputError(f"{lacking} is not a folder of videos; give folders, or one manifest")
    manifest = folder / FOOTAGE
    if begun and manifest.exists():
        return manifest
    manifest.parent.mkdir(parents=True, exist_ok=True)
    with _alone(manifest, shared, say):
        totals = curate(
            videos,
            manifest,
            rules,
            judge,
            heard=lambda number, of, row: say(f"looked through {number} of {of} videos: {row.path.name}"),
        )
    say(f"{totals.clips} clips in {totals.kept} of {totals.videos} videos")
    return manifest


@contextmanager
def _alone(manifest: Path, shared: bool, say: Say) -> Iterator[None]:
    """Lets one process of several in at a time; a process that is killed holds nobody up."""
    if not shared:
        yield
        return
    try:
        import fcntl
    except ImportError as error:
        raise UsageError(
            "several shards can't look through folders at once on this system; give the manifest of curated footage"
        ) from error
    with manifest.with_name(f".{manifest.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process looks through the footage; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
