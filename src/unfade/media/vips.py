"""libvips as this package wants it: quiet, without an operation cache, with few threads.

Import pyvips from here and nowhere else, so that the settings are made before the first operation.
"""

import logging
import os
from typing import Any

# Photos are handled one at a time, and a thread costs memory for each tile it holds.
os.environ.setdefault("VIPS_CONCURRENCY", str(min(4, os.cpu_count() or 1)))

import pyvips

# Without a handler of its own, Python prints the library's warnings on the user's terminal.
logging.getLogger("pyvips").addHandler(logging.NullHandler())
# A cached operation keeps its pixels and its file alive, and would hide that a file has changed.
pyvips.cache_set_max(0)

__all__ = ["FAILURES", "blob_of", "fields_of", "first_line", "number_of", "pyvips", "set_blob"]

FAILURES = (pyvips.Error, UnicodeDecodeError)
"""What pyvips raises for a bad file: the second where libvips quotes bytes of the file that are not UTF-8.

Whoever catches it calls `first_line`, or the quotation would spoil every later message.
"""


def number_of(image: pyvips.Image, field: str, default: int) -> int:
    """A header field that is a whole number."""
    value: Any = image.get(field) if image.get_typeof(field) else default
    return int(value)


def blob_of(image: pyvips.Image, field: str) -> bytes | None:
    """A header field that is a block of bytes."""
    value: Any = image.get(field) if image.get_typeof(field) else None
    return None if value is None else bytes(value)


def fields_of(image: pyvips.Image) -> list[str]:
    """The names of all header fields.

    Some contain words of the file, which need not be UTF-8; pyvips' own `get_fields` fails there.
    """
    library: Any = pyvips
    names = library.vips_lib.vips_image_get_fields(image.pointer)
    fields: list[str] = []
    while (name := names[len(fields)]) != library.ffi.NULL:
        fields.append(library.ffi.string(name).decode(errors="replace"))
        library.glib_lib.g_free(name)
    library.glib_lib.g_free(names)
    return fields


def set_blob(image: pyvips.Image, field: str, value: bytes) -> None:
    """Add a block of bytes to the header of an image that nobody else uses."""
    block: Any = value
    image.set_type(pyvips.GValue.blob_type, field, block)


def first_line(error: pyvips.Error | UnicodeDecodeError) -> str:
    """The first line of what libvips says about a failure, without its operation's name."""
    if isinstance(error, UnicodeDecodeError):
        library: Any = pyvips
        library.vips_lib.vips_error_clear()
        text = error.object.decode(errors="replace")
    else:
        text = str(error.detail or error.message or "")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].split(": ", 1)[-1] if lines else "unknown error"
