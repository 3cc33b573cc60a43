"""Footage whose file ends before it says: a copy, a download or a recording that was broken off."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from unfade.media.source import read_head

# The boxes that MP4's and QuickTime's files are made of at their outermost level.
_BOXES = (
    b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"free", b"skip", b"wide", b"pnot", b"uuid", b"udta", b"meta", b"styp",
    b"sidx", b"ssix", b"prft", b"pdin",
)  # fmt: skip
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# Lengths of a transport stream's packets, and where in them the byte lies that all begin with.
_PACKETS = ((188, 0), (192, 4), (204, 0))


def cut_off(path: Path) -> bool:
    """Whether a file is shorter than its own container says; False where the container doesn't say how long it is.

    Looks at lengths and at no picture: those of boxes of MP4 and QuickTime, of Matroska's segment, of AVI's chunks, and
    whether a transport stream ends with a whole packet. Live recordings of Matroska give none.

    Raises:
        InputError: the file can't be read.

    Source: ISO 14496-12, 4.2; RFC 9559, 4.5 and RFC 8794, 4 and 5; the RIFF chunks of AVI; ISO 13818-1, 2.4.3.2.
    """
    head = read_head(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        if head[4:8] in _BOXES:
            return any(end > size for end in _boxes(file, size))
        if head.startswith(_EBML):
            end = _segment_end(file)
            return end is not None and end > size
        if head[:4] == b"RIFF":
            return any(end > size for end in _chunks(file, size))
        length = _packet(file)
        return length is not None and size % length != 0


def _boxes(file: BinaryIO, size: int) -> Iterator[int]:
    """Where each outermost box ends; what is no box ends them."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:])
        if head[4:8] not in _BOXES or length < 8:
            return
        place += length
        yield place


def _chunks(file: BinaryIO, size: int) -> Iterator[int]:
    """Where each of AVI's outermost chunks ends; large files have several."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(8)
        if head[:4] != b"RIFF":
            return
        length = int.from_bytes(head[4:], "little")
        place += 8 + length + length % 2
        # The last one's filling byte may be missing.
        yield place - length % 2


def _segment_end(file: BinaryIO) -> int | None:
    """Where Matroska's segment ends; None where it doesn't say."""
    file.seek(len(_EBML))
    header = _number(file)
    if header is None:
        return None
    file.seek(header, 1)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return None
    length = _number(file)
    return None if length is None else file.tell() + length


def _number(file: BinaryIO) -> int | None:
    """A length as EBML writes it; None for the one that stands for "unknown"."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more)) & (1 << 7 * (more + 1)) - 1
    return None if value == (1 << 7 * (more + 1)) - 1 else value


def _packet(file: BinaryIO) -> int | None:
    """How long a transport stream's packets are; None for what is none."""
    file.seek(0)
    begun = file.read(4 * 204)
    for length, place in _PACKETS:
        if len(begun) > place + 2 * length and all(
            begun[place + number * length] == 0x47 for number in range(3)
        ):
            return length
    return None
