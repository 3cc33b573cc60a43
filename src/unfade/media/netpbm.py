"""The netpbm family (PBM, PGM, PPM), which the libvips wheel can't read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unfade.core import InputError

_HEADER_BYTES = 64 * 1024
_TOKEN = re.compile(rb"(?:\s|#[^\n\r]*[\n\r])*([^\s#]+)")
_NOTE = re.compile(rb"#\s*unfade:([^=\s]+)=([^\n\r]*)")


@dataclass(frozen=True, slots=True)
class NetpbmHeader:
    """What a netpbm file says first; `kind` is the digit after the P, `offset` where the pixels start."""

    kind: int
    width: int
    height: int
    white: int
    offset: int

    @property
    def num_bands(self) -> int:
        return 3 if self.kind in (3, 6) else 1


def read_header(path: Path) -> NetpbmHeader:
    """The header of a netpbm file.

    Raises:
        InputError: the header makes no sense.
    """
    with open(path, "rb") as file:
        head = file.read(_HEADER_BYTES)
    kind = int(head[1:2])
    position, numbers = 2, []
    for _ in range(2 if kind in (1, 4) else 3):
        match = _TOKEN.match(head, position)
        if match is None or not match[1].isdigit() or len(match[1]) > 9:
            raise InputError(f"{path} is damaged: its PPM header is not readable")
        numbers.append(int(match[1]))
        position = match.end()
    width, height, white = (*numbers, 1)[:3]
    if width < 1 or height < 1 or not 1 <= white <= 65535:
        raise InputError(f"{path} is damaged: its PPM header says {width} x {height} with maximum {white}")
    return NetpbmHeader(kind, width, height, white, position + 1)


def read_pixels(path: Path, header: NetpbmHeader) -> np.ndarray:
    """All pixels as integers `[H, W, bands]` between 0 and `header.white` (1 in a bitmap is black, here 0).

    Raises:
        InputError: there are fewer pixels than the header says, or larger ones.
    """
    with open(path, "rb") as file:
        file.seek(header.offset if header.kind > 3 else header.offset - 1)
        raw = file.read()
    count = header.width * header.height * header.num_bands
    wide = header.white > 255
    try:
        if header.kind == 1:
            digits = re.sub(rb"#[^\n\r]*|\s", b"", raw)
            flat = 1 - (np.frombuffer(digits, np.uint8)[:count] - ord("0"))
        elif header.kind <= 3:
            tokens = re.sub(rb"#[^\n\r]*", b"", raw).split(maxsplit=count)[:count]
            flat = np.array(tokens, np.uint16)
        elif header.kind == 4:
            stride = (header.width + 7) // 8
            packed = np.frombuffer(raw, np.uint8, stride * header.height).reshape(header.height, stride)
            flat = 1 - np.unpackbits(packed, axis=1)[:, : header.width].reshape(-1)
        else:
            flat = np.frombuffer(raw, ">u2" if wide else np.uint8, count)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path} is damaged or cut short and can't be read to its end") from error
    if flat.size != count:
        raise InputError(f"{path} is damaged or cut short and can't be read to its end")
    if int(flat.max()) > header.white:
        raise InputError(f"{path} is damaged: it holds pixels above its own maximum {header.white}")
    return flat.reshape(header.height, header.width, header.num_bands)


def write_pixels(path: Path, pixels: np.ndarray, notes: Mapping[str, str]) -> None:
    """Integers `[H, W, 1 or 3]`, uint8 or uint16, as PGM or PPM; notes become comment lines of the header."""
    height, width, bands = pixels.shape
    comments = "".join(f"# unfade:{key}={' '.join(value.split())}\n" for key, value in notes.items())
    white = 255 if pixels.dtype == np.uint8 else 65535
    header = f"P{6 if bands == 3 else 5}\n{comments}{width} {height}\n{white}\n"
    with open(path, "wb") as file:
        file.write(header.encode())
        file.write(np.ascontiguousarray(pixels, np.uint8 if white == 255 else ">u2").data)


def read_comments(path: Path) -> dict[str, str]:
    """The notes in the comment lines of the header."""
    header = read_header(path)
    with open(path, "rb") as file:
        head = file.read(header.offset)
    return {key.decode(): value.decode(errors="replace").strip() for key, value in _NOTE.findall(head)}
