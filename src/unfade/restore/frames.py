"""A folder of numbered frames that appears whole or not at all."""

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unfade.core import Clip, OutputError
from unfade.media.images import write_image

_NUMBERED = re.compile(r"\d{4,}\.png")


class FrameFolder:
    """Takes clips one at a time and writes one PNG each, `0000.png` upward. A context manager.

    They are written to a hidden folder beside `folder`, which takes its name when the block ends without an
    exception. An existing folder keeps whatever else lies in it, but no frames of an earlier, longer film.

    Args:
        folder: where the frames are to lie.
        bit_depth: 8 or 16; None for the clips' own.
        strip_metadata: leave everything but the pixels out.
        overwrite: replace frames that exist.

    Raises:
        OutputError: the folder exists and `overwrite` is False, or can't be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bit_depth: int | None = None,
        strip_metadata: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.folder = folder
        self.num_frames = 0
        self._options: dict[str, Any] = {"bit_depth": bit_depth, "strip_metadata": strip_metadata}
        self._overwrite = overwrite
        self._temporary = folder.with_name(f".unfade-{secrets.token_hex(6)}")

    def __enter__(self) -> Self:
        if self.folder.exists() and not (self._overwrite and self.folder.is_dir()):
            raise OutputError(f"{self.folder} exists already; choose another output or add --overwrite")
        try:
            with self._explained():
                self._temporary.mkdir(parents=True)
        except BaseException:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                with self._explained():
                    _publish(self._temporary, self.folder)
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def write(self, clip: Clip) -> None:
        """Add a photo."""
        with self._explained():
            write_image(clip, self._temporary / f"{self.num_frames:04d}.png", **self._options)
        self.num_frames += 1

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OutputError as error:
            raise OutputError(str(error).replace(str(self._temporary), str(self.folder))) from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"{self.folder} can't be written: {reason}") from error


def write_frames(
    frames: Iterable[Clip],
    folder: Path,
    *,
    bit_depth: int | None = None,
    strip_metadata: bool = False,
    overwrite: bool = False,
) -> int:
    """Write one PNG a clip into a folder, taking the clips one at a time; gives their number.

    Raises:
        OutputError: as for `FrameFolder`.
    """
    options: dict[str, Any] = {"bit_depth": bit_depth, "strip_metadata": strip_metadata}
    with FrameFolder(folder, overwrite=overwrite, **options) as written:
        for clip in frames:
            written.write(clip)
    return written.num_frames


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
