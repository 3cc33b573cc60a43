"""Whether a run that goes on has the photos it began with: with others, what was held out may have been learnt."""

import hashlib
import json
from pathlib import Path

from unfade.core import UsageError
from unfade.media.atomic import atomic_output
from unfade.training.photos import Photos

_NAME = "photos.json"


def check_same_photos(folder: Path, *parts: Photos) -> None:
    """Compares photos with those noted in a run's folder, or notes them where there is no note yet.

    Args:
        folder: of the run.
        parts: photos by purpose, in an order that stays.

    Raises:
        UsageError: they are others.
    """
    told = {"photos": [len(part) for part in parts], "identity": [_identity(part) for part in parts]}
    path = folder / _NAME
    if path.exists():
        if json.loads(path.read_text()) != told:
            raise UsageError(
                f"{folder} was begun with other photos than those given now, or with other numbers of them for each "
                "purpose; give the same ones, or choose another --runs"
            )
        return
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(told) + "\n")


def _identity(photos: Photos) -> str:
    digest = hashlib.sha256()
    for index in range(len(photos)):
        photo = photos[index]
        digest.update(f"{tuple(photo.shape)}".encode() + photo.contiguous().numpy().tobytes())
    return digest.hexdigest()
