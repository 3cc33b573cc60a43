"""HEIF files (AVIF, HEIC): what their boxes say before any decoder runs, and the pixels of HEIC.

libvips opens every HEIF header, but the one that installs everywhere can't decode HEVC, which is what phones
call HEIC. Those pixels come from pillow-heif, the optional extra `heic`, imported when the first such file
comes. Phones store a photo as a grid of tiles; where a cut file lacks some, libheif leaves green areas and
reports nothing, so the places that the boxes point to are compared with the file's length before.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np

from unfade.core import InputError
from unfade.media.source import damaged
from unfade.media.vips import pyvips

_DEPTHS = (8, 10, 12)
_FULL_BOX = 4
_IN_THIS_FILE = 0


@dataclass(frozen=True, slots=True)
class HeifBoxes:
    """What the boxes of a HEIF file say.

    Attributes:
        codings: what its pictures are coded with, of {"av1", "hevc"}; empty where there are no others.
        largest: (width, height) of the largest picture inside as coded, which may be cropped for display.
    """

    codings: frozenset[str]
    largest: tuple[int, int]

    @property
    def needs_extra(self) -> bool:
        """Whether libvips can't decode the pixels, and pillow-heif can."""
        return self.codings == {"hevc"}


def read_boxes(path: Path) -> HeifBoxes:
    """What the boxes say, without a decoder.

    Raises:
        InputError: a box makes no sense, or data of a picture lies beyond the end of the file.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            meta = _meta(file, size)
        inside = {kind: (start, end) for kind, start, end in _boxes(meta, _FULL_BOX, meta.getbuffer().nbytes)}
        if b"iloc" in inside and _reach(meta, *inside[b"iloc"]) > size:
            raise damaged(path, "pixels lie beyond the end of the file")
        codings, sizes = set(), [(0, 0)]
        for kind, start, _ in _within(meta, inside, b"iprp", b"ipco"):
            if kind == b"ispe":
                meta.seek(start + _FULL_BOX)
                sizes.append((_integer(meta, 4), _integer(meta, 4)))
            elif kind in (b"hvcC", b"av1C"):
                codings.add({b"hvcC": "hevc", b"av1C": "av1"}[kind])
    except EOFError as error:
        raise damaged(path, str(error)) from error
    except OSError as error:
        raise InputError(f"{path} can't be read: {error}") from error
    return HeifBoxes(frozenset(codings), max(sizes, key=lambda pair: pair[0] * pair[1]))


def require_extra(path: Path) -> ModuleType:
    """pillow-heif.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise _missing(path) from error
    return pillow_heif


def decode(path: Path, header: pyvips.Image, bit_depth: int) -> pyvips.Image:
    """The pixels of the primary picture, in the form that libvips' own HEIF decoder would give them: upright,
    three bands and alpha, more than 8 bits in the upper bits of 16.

    Raises:
        InputError: they are damaged or neither 8, 10 nor 12 bits deep, or the extra is missing.
    """
    if bit_depth not in _DEPTHS:
        raise InputError(f"{path} holds {bit_depth} bits a sample; of HEIC only 8, 10 and 12 can be read")
    library = require_extra(path)
    try:
        picture = library.open_heif(path, convert_hdr_to_8bit=False)
        pixels, mode = np.asarray(picture), picture.mode
    except ImportError as error:
        raise _missing(path) from error
    except (ValueError, EOFError, SyntaxError, RuntimeError, OSError, IndexError) as error:
        raise damaged(path, str(error) or type(error).__name__) from error
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    kind = "uchar" if pixels.dtype == np.uint8 else "ushort"
    if pixels.shape[:2] != (header.height, header.width) or kind != header.format:
        raise damaged(path, "its pixels are not what its header says")
    image = pyvips.Image.new_from_memory(pixels.data, header.width, header.height, bands, kind)
    if bands == 1:
        image = image.bandjoin([image, image])
    image = image.copy(interpretation=header.interpretation)
    if image.bands != header.bands:
        raise damaged(path, "its channels are not what its header says")
    if mode.split(";")[0].endswith("a"):
        white = (2**bit_depth - 1) << (0 if kind == "uchar" else 16 - bit_depth)
        image = image.unpremultiply(max_alpha=white).rint().cast(kind)
    return image


def _missing(path: Path) -> InputError:
    return InputError(
        f"{path} is a HEIC photo: pip install '.[heic]' in the clone of unfade to read it, or save it as JPEG"
    )


def _meta(file: BinaryIO, size: int) -> BytesIO:
    """The content of the box that describes all pictures; empty where there is none."""
    for kind, start, end in _boxes(file, 0, size):
        if kind == b"meta":
            if end > size:
                break
            file.seek(start)
            return BytesIO(file.read(end - start))
        if end > size:
            break
    else:
        return BytesIO()
    raise EOFError("a box reaches beyond the end of the file")


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of the content of each box between two places."""
    while start + 8 <= end:
        file.seek(start)
        length, kind, header = _integer(file, 4), file.read(4), 8
        if length == 1:
            length, header = _integer(file, 8), 16
        stop = start + length if length else end
        if length and length < header:
            raise EOFError("a box is shorter than its own header")
        yield kind, start + header, stop
        start = stop


def _within(
    file: BinaryIO, inside: dict[bytes, tuple[int, int]], outer: bytes, inner: bytes
) -> Iterator[tuple[bytes, int, int]]:
    for kind, start, end in _boxes(file, *inside.get(outer, (0, 0))):
        if kind == inner:
            yield from _boxes(file, start, end)


def _reach(file: BinaryIO, start: int, end: int) -> int:
    """How far into the file the items go that an `iloc` box locates."""
    file.seek(start)
    version = _integer(file, 1)
    file.seek(start + _FULL_BOX)
    sizes, more = _integer(file, 1), _integer(file, 1)
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version in (1, 2) else 0
    wide = 2 if version < 2 else 4
    furthest = 0
    for _ in range(_integer(file, wide)):
        _integer(file, wide)
        where = _integer(file, 2) & 15 if version in (1, 2) else _IN_THIS_FILE
        other_file = _integer(file, 2)
        base, count = _integer(file, base_size), _integer(file, 2)
        if not index_size + offset_size + length_size:
            count = min(count, 1)
        for _ in range(count):
            _integer(file, index_size)
            offset, length = _integer(file, offset_size), _integer(file, length_size)
            if where == _IN_THIS_FILE and not other_file:
                furthest = max(furthest, base + offset + length)
    return furthest


def _integer(file: BinaryIO, size: int) -> int:
    data = file.read(size)
    if len(data) < size:
        raise EOFError("a box ends too early")
    return int.from_bytes(data, "big")
