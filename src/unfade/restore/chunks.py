"""What a long restoration has done so far, piece by piece: in memory, or on disk where a killed run finds it again."""

import hashlib
import json
import os
import shutil
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from unfade.core import InputError, UsageError
from unfade.media.atomic import atomic_output

_NOTES = "work.json"
# A file is read in blocks, all of them or so many.
_BLOCK = 1 << 20
_BLOCKS = 4096


class Chunks(Protocol):
    """Named groups of tensors; each is there whole or not at all."""

    def get(self, name: str) -> dict[str, Tensor] | None:
        """The tensors of that name, or None."""
        ...

    def has(self, name: str) -> bool:
        """Whether there are tensors of that name."""
        ...

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keeps tensors, instead of any there were."""
        ...

    def drop(self, name: str) -> None:
        """Forgets what is no longer needed."""
        ...


class MemoryChunks:
    """Chunks of a short clip, gone with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Tensor]] = {}

    def get(self, name: str) -> dict[str, Tensor] | None:
        return self._kept.get(name)

    def has(self, name: str) -> bool:
        return name in self._kept

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self._kept[name] = dict(tensors)

    def drop(self, name: str) -> None:
        self._kept.pop(name, None)


class FolderChunks:
    """Chunks as safetensors in a folder; a run that is killed at any moment loses the chunk under way and no more.

    Args:
        folder: of the run, made if need be.
        identity: everything the chunks depend on; a folder of another run is refused.

    Raises:
        UsageError: the folder is of another run, or another process works in it.
        OutputError: it can't be written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(identity, sort_keys=True, default=str)
        told = {"run": hashlib.sha256(text.encode()).hexdigest(), "of": json.loads(text)}
        path = folder / _NOTES
        if path.is_file():
            run, before = _run_of(path)
            if run != told["run"]:
                differ = [name for name, value in told["of"].items() if before.get(name) != value]
                raise UsageError(
                    f"{folder} keeps the work of another run (other {', '.join(differ) or 'notes'}); go on with that "
                    "one's command, or delete the folder to begin anew"
                )
        else:
            with atomic_output(path) as temporary:
                temporary.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        if (lock := _locked(folder)) is not None:
            weakref.finalize(self, os.close, lock)

    def get(self, name: str) -> dict[str, Tensor] | None:
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self._path(name)
        if not path.is_file():
            return None
        try:
            # Read, not mapped: what is mapped counts as memory, and the file may go before the tensors do.
            return load(path.read_bytes())
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is damaged; delete {self.folder} and begin anew") from error

    def has(self, name: str) -> bool:
        return self._path(name).is_file()

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        from safetensors.torch import save_file

        with atomic_output(self._path(name)) as temporary:
            save_file({key: one.cpu().contiguous() for key, one in tensors.items()}, temporary)

    def drop(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def fingerprint(path: Path) -> str:
    """What tells a file from others, wherever it lies and whenever it was written: a hash of its size and its bytes.

    Of more than 4 GiB, that many bytes are read, in blocks of a megabyte from its first to its last at even distances.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(f"{size} ".encode())
    whole = -(-size // _BLOCK)
    read = min(whole, _BLOCKS)
    with path.open("rb") as file:
        for index in range(read):
            file.seek(index * (whole - 1) // max(1, read - 1) * _BLOCK)
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def as_levels(frames: Tensor) -> Tensor:
    """Frames in [0, 1] in 16 bits, as chunks keep them."""
    return (frames.float().clamp(0, 1) * 65535).round().to(torch.uint16)


def from_levels(levels: Tensor) -> Tensor:
    """Frames in [0, 1] of what `as_levels` gave."""
    return levels.float() / 65535


def _run_of(path: Path) -> tuple[str, Mapping[str, Any]]:
    """What identifies the run that a folder is of, and what that was made of."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return str(kept["run"]), dict(kept["of"])
    except (OSError, ValueError, KeyError, TypeError):
        return "damaged", {}


def _locked(folder: Path) -> int | None:
    """A lock that other processes respect until the file is closed or the process ends; None where there are none.

    Raises:
        UsageError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        return None
    file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise UsageError(f"another process is at work in {folder}; wait for it to end, or stop it") from error
    return file
