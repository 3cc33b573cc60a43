"""Outputs that exist whole or not at all."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unfade.core import OutputError, UnfadeError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_BELOW = 32 * 1024
_REASONS = {
    errno.EACCES: "permission is denied; choose a folder you may write to",
    errno.EPERM: "permission is denied; choose a folder you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOENT: "the folder can't be created; choose another one",
    errno.ENOTDIR: "a part of its path is a file, not a folder; choose another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EFBIG: "the file system does not allow files this large; choose another folder",
    errno.EIO: "the device reports an error; choose another folder",
}


@contextmanager
def atomic_output(path: Path, overwrite: bool = True) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` when the block ends without an exception.

    The temporary lies hidden in the same folder (parents are created) and has the same suffix, so encoders
    choose the same format. It is deleted after any exception, Ctrl-C included. A file that is replaced passes
    its permissions on; a symbolic link stays one and its target is replaced.

    Raises:
        OutputError: the folder can't be created or written, the disk is full, the path is a folder or a
        device, or
            it exists and `overwrite` is False.
    """
    path = Path(path)
    try:
        target = Path(os.path.realpath(path))
    except ValueError as error:
        raise OutputError(f"{path} is not a possible file name; choose another one") from error
    mode = _check_target(path, target, overwrite)
    temporary = target.with_name(f".unfade-{secrets.token_hex(6)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise _explain(path, error) from error

    try:
        yield temporary
        if mode is not None:
            temporary.chmod(mode)
        _sync(temporary)
        _publish(temporary, target, overwrite)
    except UnfadeError as error:
        if isinstance(error, OutputError) and _is_full(error, target.parent):
            raise _full(path) from error
        raise
    except FileExistsError as error:
        raise OutputError(f"{path} exists already; choose another name or allow overwriting") from error
    except Exception as error:
        if _is_full(error, target.parent):
            raise _full(path) from error
        if isinstance(error, OSError) and error.filename in (None, str(temporary), str(target)):
            raise _explain(path, error) from error
        raise
    finally:
        # After a success the temporary has moved away; after a failure nothing may be left behind.
        with suppress(OSError):
            temporary.unlink()
    with suppress(OSError):
        _sync(target.parent)


def _check_target(path: Path, target: Path, overwrite: bool) -> int | None:
    """The permissions of the file to be replaced, or None where there is none."""
    try:
        status = target.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _explain(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise OutputError(f"{path} is a folder; add a file name")
    if not stat.S_ISREG(status.st_mode):
        raise OutputError(f"{path} is a device or a pipe, not a file; choose a file name")
    if not overwrite:
        raise OutputError(f"{path} exists already; choose another name or allow overwriting")
    return stat.S_IMODE(status.st_mode)


def _publish(temporary: Path, target: Path, overwrite: bool) -> None:
    if not overwrite:
        # A hard link fails if somebody made the target meanwhile; a rename would replace it.
        try:
            os.link(temporary, target)
            return
        except FileExistsError:
            raise
        except OSError:
            if target.exists():
                raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
    os.replace(temporary, target)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether a failure means a full disk; encoders say so in words, in a cause, or not at all."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if "no space left" in str(seen).lower():
            return True
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, (ValueError, TypeError, AssertionError)):
        return False
    try:
        return shutil.disk_usage(folder).free < _FULL_BELOW
    except OSError:
        return False


def _full(path: Path) -> OutputError:
    return OutputError(f"{path} can't be written: the disk is full; free some space or choose another disk")


def _explain(path: Path, error: OSError) -> OutputError:
    if error.errno in _FULL:
        return _full(path)
    reason = _REASONS.get(
        error.errno or 0, f"{(error.strerror or str(error)).lower()}; choose another folder"
    )
    return OutputError(f"{path} can't be written: {reason}")
