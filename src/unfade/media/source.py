"""Telling by a file's content what it is, before any decoder sees it."""

import os
import stat
from pathlib import Path

from unfade.core import InputError

_HEIF_BRANDS = {b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
HEAD_BYTES = 64

# File names that promise footage; what a file really holds, its content tells.
FOOTAGE = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".m2ts", ".wmv", ".y4m"}
)


def read_head(path: Path) -> bytes:
    """The first 64 bytes of a regular file that is not empty.

    Raises:
        InputError: the path is missing, a folder, a pipe or a device, empty, not named in UTF-8, or may not
            be read.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{os.fsencode(path)!r} has a name that is not UTF-8; rename the file") from error
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is a pipe or a device, not a file; save its content to a file first")
        if status.st_size == 0:
            raise InputError(f"{path} is empty")
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} does not exist") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read: permission is denied") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}") from error


def damaged(path: Path, reason: str) -> InputError:
    """What to raise where a file's pixels can't be had."""
    reason = " ".join(reason.split()) or "unknown error"
    return InputError(f"{path} is damaged or cut short and can't be read to its end ({reason})")


def sniff_image(head: bytes) -> str | None:
    """The format that first bytes announce: "jpeg", "png", "tiff", "webp", "heif", "gif", "ppm" or None."""
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "heif"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "ppm"
    return None


def sniff_mp4(head: bytes) -> bool:
    """Whether first bytes announce a container of MP4's kind; images in such a one are told by `sniff_image`."""
    return head[4:8] == b"ftyp"


def sniff_sound(head: bytes) -> bool:
    """Whether first bytes announce sound and nothing else: MP3, AAC, WAV, FLAC, Ogg's kinds, AIFF.

    MP4's don't: those of M4A are often the same as those of footage.
    """
    if head[:4] == b"RIFF":
        return head[8:12] == b"WAVE"
    if head[:4] == b"FORM":
        return head[8:12] in (b"AIFF", b"AIFC")
    if head[:4] == b"OggS":
        return any(name in head for name in (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   "))
    # What MP3 begins with where it has no ID3, with and without a check sum; then AAC.
    frames = (b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xf1", b"\xff\xf9")
    return head.startswith((b"ID3", b"fLaC", *frames))
