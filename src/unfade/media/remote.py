"""Bytes of a file on this machine or, with the extra `remote`, of any address that fsspec knows."""

from pathlib import Path

from unfade.core import InputError, UsageError


def is_remote(address: str | Path) -> bool:
    """Whether an address names a protocol, e.g. "s3://bucket/set"."""
    return "://" in str(address)


def joined(folder: str | Path, name: str) -> str:
    """The address of a file in a folder."""
    return f"{str(folder).rstrip('/')}/{name}"


def read_bytes(address: str | Path, start: int = 0, count: int | None = None) -> bytes:
    """A file's bytes, or `count` of them from `start`; of a remote file only those are transferred.

    Raises:
        InputError: the file is missing, shorter, or can't be read.
        UsageError: the address is remote and fsspec, or what it needs for the protocol, is not installed.
    """
    try:
        data = (
            _remote(str(address), start, count) if is_remote(address) else _local(Path(address), start, count)
        )
    except ImportError as error:
        raise UsageError(
            f"{address} needs more than is installed ({error}): pip install '.[remote]' in the clone of unfade, and "
            "what fsspec asks for beyond that"
        ) from error
    except FileNotFoundError as error:
        raise InputError(f"{address} does not exist") from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"{address} can't be read: {' '.join(str(error).split()) or type(error).__name__}"
        ) from error
    if count is not None and len(data) != count:
        raise InputError(f"{address} is cut short: it ends before byte {start + count}; copy it again")
    return data


def _local(path: Path, start: int, count: int | None) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(-1 if count is None else count)


def _remote(address: str, start: int, count: int | None) -> bytes:
    from fsspec.core import url_to_fs

    system, path = url_to_fs(address)
    return bytes(system.cat_file(path, start=start, end=None if count is None else start + count))
