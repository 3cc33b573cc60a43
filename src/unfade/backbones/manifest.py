"""The hashes of a model's files, kept in its folder so that gigabytes are read for them only once."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from unfade.core import ModelError
from unfade.media.atomic import atomic_output

NAME = "unfade-manifest.json"


@dataclass(frozen=True, slots=True)
class Known:
    """A file as it was when its hash was taken.

    Attributes:
        size: in bytes.
        mtime: of its last change, in nanoseconds.
        sha256: of its content.
    """

    size: int
    mtime: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What reading a file again came to.

    Attributes:
        name: of the file, inside the model's folder.
        state: "same" as when it was first used, "as published" by the hub's own hash, "new" (never used
            before, now known), or "differs".
    """

    name: str
    state: str


class Manifest:
    """The known hashes of a model folder's files.

    Kept in `unfade-manifest.json` inside the folder, or in the user's cache where the folder can't be written.
    A file whose size and time of change stand is not read again; one that changed must have the content it had.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.known: dict[str, Known] = self._read()

    def hashes(self, paths: Iterable[Path]) -> Mapping[str, str]:
        """The SHA-256 of each file by its name in the folder; reads what isn't known, and remembers it.

        Raises:
            ModelError: a file is not what it was when it was first used.
        """
        names = {self._name(path): path for path in paths}
        stale = {name: path for name, path in names.items() if not self._stands(name, path)}
        found = _hashed_all(stale)
        for name, known in found.items():
            if name in self.known and self.known[name].sha256 != known.sha256:
                raise ModelError(
                    f"{names[name]} is not what it was when it was first used; get this file again or, if the change "
                    f"is meant, accept it with: unfade models verify {self.folder} --accept"
                )
        if found:
            self.known.update(found)
            self._write()
        return {name: self.known[name].sha256 for name in names}

    def verify(
        self, paths: Iterable[Path], accept: bool = False, told: Callable[[Verdict], None] | None = None
    ) -> list[Verdict]:
        """Reads every byte again and compares it with what was known, or with the hash that the hub published.

        Args:
            paths: the files.
            accept: take what differs for right from now on.
            told: hears each verdict as it comes.
        """
        verdicts: list[Verdict] = []
        fresh: dict[str, Known] = {}
        for path in paths:
            name = self._name(path)
            now = _hashed(path)
            earlier, published = self.known.get(name), _published(path)
            if (earlier and earlier.sha256 != now.sha256) or (
                published and not _matches(published, path, now)
            ):
                state = "differs"
            else:
                state = "as published" if published else "same" if earlier else "new"
            if state != "differs" or accept:
                fresh[name] = now
            verdicts.append(Verdict(name, state))
            if told:
                told(verdicts[-1])
        self.known.update(fresh)
        if fresh:
            self._write()
        return verdicts

    def _name(self, path: Path) -> str:
        return path.parent.resolve().joinpath(path.name).relative_to(self.folder).as_posix()

    def _stands(self, name: str, path: Path) -> bool:
        known, now = self.known.get(name), path.stat()
        return known is not None and (known.size, known.mtime) == (now.st_size, now.st_mtime_ns)

    def _elsewhere(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return (
            cache / "unfade" / "manifests" / f"{hashlib.sha256(str(self.folder).encode()).hexdigest()}.json"
        )

    def _read(self) -> dict[str, Known]:
        for path in (self.folder / NAME, self._elsewhere()):
            with suppress(OSError, ValueError, TypeError, AttributeError):
                told = json.loads(path.read_text(encoding="utf-8"))["files"]
                return {name: Known(**known) for name, known in told.items()}
        return {}

    def _write(self) -> None:
        """Remembers; where nothing can be written, hashes are taken again next time."""
        told = {
            name: asdict(known)
            for name, known in sorted(self.known.items())
            if (self.folder / name).is_file()
        }
        text = json.dumps({"files": told}, indent=1)
        path = self.folder / NAME if os.access(self.folder, os.W_OK) else self._elsewhere()
        from unfade.core import OutputError

        with suppress(OutputError), atomic_output(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _hashed_all(paths: Mapping[str, Path]) -> dict[str, Known]:
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(paths, pool.map(_hashed, paths.values()), strict=True))


def _hashed(path: Path) -> Known:
    try:
        with path.open("rb") as file:
            told = os.fstat(file.fileno())
            return Known(told.st_size, told.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise ModelError(f"{path} can't be read; get this file again") from error


def _published(path: Path) -> str | None:
    """The hash by which the hub's cache names the file a snapshot links to; None outside such a cache."""
    if not path.is_symlink():
        return None
    target = path.resolve()
    name = target.name.lower()
    wanted = target.parent.name == "blobs" and len(name) in (40, 64) and set(name) <= set("0123456789abcdef")
    return name if wanted else None


def _matches(published: str, path: Path, now: Known) -> bool:
    """Large files are named by their SHA-256, small ones by git's hash of them."""
    if len(published) == 64:
        return published == now.sha256
    data = path.read_bytes()
    return published == hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
