"""Metadata blocks (EXIF, XMP, IPTC) made to fit other pixels, byte for byte the same elsewhere.

EXIF is a TIFF structure: numbers are changed in place, so maker notes and unknown tags stay where they point.
"""

import re
import struct
from collections.abc import Mapping
from xml.sax.saxutils import escape, unescape

EXIF_PREFIX = b"Exif\0\0"
_NAMESPACE = "urn:unfade:notes:1"
_EMPTY_XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    b'</rdf:RDF></x:xmpmeta>\n<?xpacket end="w"?>'
)
_OURS = re.compile(rb'<(\w+:)?Description [^>]*xmlns:unfade="[^"]*">.*?</(\w+:)?Description>\n?', re.DOTALL)
_ITEM = re.compile(r"<unfade:([\w.-]+)>(.*?)</unfade:\1>", re.DOTALL)
_END = re.compile(rb"</(\w+:)?RDF\s*>")
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,59}")
_QUOTES = {'"': "&quot;"}

_ORIENTATION, _EXIF_IFD, _WIDTH, _HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003
_SHORT, _LONG = 3, 4


def check_notes(notes: Mapping[str, str]) -> dict[str, str]:
    """The notes without characters that XML and PNG forbid.

    Raises:
        ValueError: a key is not a short ASCII name such as "model_hash".
    """
    for key in notes:
        if not _KEY.fullmatch(key):
            raise ValueError(
                f"a note's key is an ASCII name of up to 60 letters, digits and _ . -, not {key!r}"
            )
    return {key: _ILLEGAL.sub("", value) for key, value in notes.items()}


def upright_exif(exif: bytes, size: tuple[int, int] | None = None) -> bytes | None:
    """An EXIF block with orientation 1, starting with "Exif\\0\\0"; None if it can't be parsed.

    With `size` (width, height) it also states these dimensions and no longer holds the thumbnail, which shows
    the image as it was.
    """
    body = bytearray(exif[6:] if exif.startswith(EXIF_PREFIX) else exif)
    order = {b"II": "<", b"MM": ">"}.get(bytes(body[:2]))
    if order is None:
        return None
    try:
        (first,) = struct.unpack_from(order + "I", body, 4)
        main, link = _entries(body, first, order)
        _store(body, main.get(_ORIENTATION), 1, order)
        if size is not None:
            struct.pack_into(order + "I", body, link, 0)
            if _EXIF_IFD in main:
                (second,) = struct.unpack_from(order + "I", body, main[_EXIF_IFD] + 8)
                inner, _ = _entries(body, second, order)
                _store(body, inner.get(_WIDTH), size[0], order)
                _store(body, inner.get(_HEIGHT), size[1], order)
    except struct.error:
        return None
    return EXIF_PREFIX + bytes(body)


def _entries(body: bytearray, offset: int, order: str) -> tuple[dict[int, int], int]:
    """Where each tag's 12-byte entry of a directory starts, and where its link to the next directory is."""
    (count,) = struct.unpack_from(order + "H", body, offset)
    places = {}
    for index in range(count):
        place = offset + 2 + 12 * index
        (tag,) = struct.unpack_from(order + "H", body, place)
        places.setdefault(tag, place)
    link = offset + 2 + 12 * count
    struct.unpack_from(order + "I", body, link)
    return places, link


def _store(body: bytearray, place: int | None, value: int, order: str) -> None:
    if place is None:
        return
    (kind,) = struct.unpack_from(order + "H", body, place + 2)
    if kind == _SHORT and value < 65536:
        struct.pack_into(order + "HH", body, place + 8, value, 0)
    elif kind in (_SHORT, _LONG):
        struct.pack_into(order + "H", body, place + 2, _LONG)
        struct.pack_into(order + "I", body, place + 8, value)


def upright_xmp(xmp: bytes, size: tuple[int, int] | None = None) -> bytes:
    """An XMP packet with orientation 1 and, if given, the dimensions (width, height)."""
    xmp = re.sub(rb"""(tiff:Orientation(?:\s*=\s*["']|>\s*))[2-8]""", rb"\g<1>1", xmp)
    if size is not None:
        for names, value in ((rb"exif:PixelXDimension|tiff:ImageWidth", size[0]),
                             (rb"exif:PixelYDimension|tiff:ImageLength", size[1])):  # fmt: skip
            pattern = rb"((?:" + names + rb""")(?:\s*=\s*["']|>\s*))\d+"""
            xmp = re.sub(pattern, rb"\g<1>" + str(value).encode(), xmp)
    return xmp


def xmp_with_notes(xmp: bytes | None, notes: Mapping[str, str]) -> bytes | None:
    """An XMP packet whose notes are exactly these; everything else in it stays. None if nothing is left to
    say.

    A packet that is not in UTF-8 is given back unchanged.
    """
    kept = _OURS.sub(b"", xmp) if xmp else None
    if not notes:
        return kept
    base = kept or _EMPTY_XMP
    ends = list(_END.finditer(base))
    if not ends:
        return kept
    prefix = (ends[-1][1] or b"").decode()
    items = "".join(f"<unfade:{key}>{escape(value, _QUOTES)}</unfade:{key}>" for key, value in notes.items())
    block = (
        f'<{prefix}Description {prefix}about="" xmlns:unfade="{_NAMESPACE}">{items}</{prefix}Description>\n'
    )
    place = ends[-1].start()
    return base[:place] + block.encode() + base[place:]


def notes_of_xmp(xmp: bytes | None) -> dict[str, str]:
    """The notes that `xmp_with_notes` stored."""
    match = _OURS.search(xmp) if xmp else None
    if match is None:
        return {}
    back = {text: char for char, text in _QUOTES.items()}
    return {key: unescape(text, back) for key, text in _ITEM.findall(match[0].decode(errors="replace"))}


def iptc_records(blob: bytes) -> bytes | None:
    """The bare IPTC records, which JPEG wraps in a Photoshop block; None if there are none."""
    if not blob.startswith(b"Photoshop 3.0\0"):
        return blob if blob.startswith(b"\x1c") else None
    position = 14
    while blob[position : position + 4] == b"8BIM" and len(blob) >= position + 12:
        (kind,) = struct.unpack_from(">H", blob, position + 4)
        name = blob[position + 6] + 1
        position += 6 + name + name % 2
        (length,) = struct.unpack_from(">I", blob.ljust(position + 4, b"\0"), position)
        if kind == 0x0404:
            return blob[position + 4 : position + 4 + length]
        position += 4 + length + length % 2
    return None


def iptc_for_jpeg(records: bytes) -> bytes:
    """IPTC records in the Photoshop block that JPEG files carry them in."""
    padding = b"\0" * (len(records) % 2)
    return b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", len(records)) + records + padding
