"""A folder of numbered frames that appears whole or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from unfade.core import Clip, OutputError
from unfade.media.images import write_image

_NUMBERED = re.compile(r"\d{4,}\.png")


def write_frames(
    frames: Iterable[Clip],
    folder: Path,
    *,
    bit_depth: int | None = None,
    strip_metadata: bool = False,
    overwrite: bool = False,
) -> int:
    """Write one PNG a clip, `0000.png` upward, taking the clips one at a time; gives their number.

    They are written to a hidden folder beside `folder`, which then takes its name. An existing folder keeps
    whatever else lies in it, but no frames of an earlier, longer film.

    Raises:
        OutputError: the folder exists and `overwrite` is False, or can't be written.
    """
    if folder.exists() and not (overwrite and folder.is_dir()):
        raise OutputError(f"{folder} exists already; choose another output or add --overwrite")
    temporary = folder.with_name(f".unfade-{secrets.token_hex(6)}")
    try:
        temporary.mkdir(parents=True)
        number = 0
        for number, clip in enumerate(frames, start=1):
            name = temporary / f"{number - 1:04d}.png"
            write_image(clip, name, bit_depth=bit_depth, strip_metadata=strip_metadata)
        _publish(temporary, folder)
        return number
    except OutputError as error:
        raise OutputError(str(error).replace(str(temporary), str(folder))) from error
    except OSError as error:
        raise OutputError(f"{folder} can't be written: {(error.strerror or str(error)).lower()}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        os.rename(temporary, folder)
        return
    new = {path.name for path in temporary.iterdir()}
    for name in sorted(new):
        os.replace(temporary / name, folder / name)
    for path in folder.iterdir():
        if _NUMBERED.fullmatch(path.name) and path.name not in new:
            path.unlink()
