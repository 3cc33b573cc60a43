"""EXIF, XMP, IPTC, density and notes come back; strip takes away all but the colours."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from unfade.core import Clip, InputError, Metadata
from unfade.media.images import read_image, write_image
from unfade.media.metadata import (
    check_notes,
    iptc_for_jpeg,
    iptc_records,
    notes_of_xmp,
    upright_exif,
    upright_xmp,
    xmp_with_notes,
)
from unfade.media.notes import read_notes

_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/'
    b'tiff/1.0/" tiff:Orientation="6" tiff:ImageWidth="9999"><dc:creator>Ann</dc:creator></rdf:Description>'
    b"</rdf:RDF></x:xmpmeta>"
)
_NOTES = {"version": "0.1.0", "prompt": 'make "it" <clean> & bright ☃ é', "weights-hash": "abc"}
_IPTC = b"\x1c\x02\x05\x00\x05title\x1c\x02\x78\x00\x07caption"


def _exif(orientation: int = 6, thumbnail: bool = True) -> bytes:
    """EXIF with a make, an orientation, dimensions, a date, a comment and a thumbnail directory."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x0132] = "Camera", orientation, "2001:02:03 04:05:06"
    inner = exif.get_ifd(0x8769)
    inner[0xA002], inner[0xA003], inner[0x9003] = 9999, 70000, "2001:02:03 04:05:06"
    exif.get_ifd(0x8825)[1] = "N"
    body = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    if thumbnail:
        order = "<" if body[:2] == b"II" else ">"
        (first,) = struct.unpack_from(order + "I", body, 4)
        (count,) = struct.unpack_from(order + "H", body, first)
        struct.pack_into(order + "I", body, first + 2 + 12 * count, len(body))
        place = len(body) + 2 + 24 + 4
        body += struct.pack(order + "HHHII", 2, 0x0201, 4, 1, place)
        body += struct.pack(order + "HHIII", 0x0202, 4, 1, 20, 0) + b"\xff\xd8THUMBNAIL-BYTES\xff\xd9\0"
    return b"Exif\0\0" + bytes(body)


def _clip(smooth: Callable[..., Tensor], notes: Mapping[str, str] = _NOTES) -> Clip:
    blobs = {"exif": _exif(), "xmp": _XMP, "iptc": _IPTC, "density": b"11.811 11.811"}
    return replace(Clip.of(smooth()), metadata=Metadata(blobs=blobs, notes=notes))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif"])
def test_metadata_survives_in_its_new_shape(
    tmp_path: Path, suffix: str, smooth: Callable[..., Tensor]
) -> None:
    path = tmp_path / f"x{suffix}"
    write_image(_clip(smooth), path)
    back = read_image(path).metadata
    with Image.open(path) as image:
        exif = image.getexif()
        if suffix != ".tif":
            assert (exif[0x010F], exif.get(0x0112, 1), exif[0x0132]) == ("Camera", 1, "2001:02:03 04:05:06")
            inner = exif.get_ifd(0x8769)
            assert (inner[0xA002], inner[0xA003], inner[0x9003]) == (64, 48, "2001:02:03 04:05:06")
            assert exif.get_ifd(0x8825)[1] == "N"
        if suffix not in (".avif", ".webp"):
            assert image.info["dpi"] == pytest.approx((300, 300), abs=1)
    assert b"THUMBNAIL" not in path.read_bytes()
    xmp = back.blobs["xmp"]
    assert b"Ann" in xmp and b'tiff:Orientation="1"' in xmp and b'tiff:ImageWidth="64"' in xmp
    if suffix in (".jpg", ".tif"):
        assert back.blobs["iptc"].rstrip(b"\0") == _IPTC
    assert back.notes == _NOTES == read_notes(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tif"])
def test_strip_takes_all_but_the_profile(
    tmp_path: Path, suffix: str, smooth: Callable[..., Tensor], profile: Callable[[str], bytes]
) -> None:
    clip = _clip(smooth)
    clip = replace(clip, metadata=replace(clip.metadata, icc=profile("p3")))
    write_image(clip, tmp_path / f"x{suffix}", strip_metadata=True)
    back, raw = read_image(tmp_path / f"x{suffix}").metadata, (tmp_path / f"x{suffix}").read_bytes()
    assert back.icc == profile("p3") and back.notes == {}
    assert b"Camera" not in raw and b"Ann" not in raw and b"caption" not in raw and b"0.1.0" not in raw
    assert "xmp" not in back.blobs and "iptc" not in back.blobs


def test_notes_are_replaced_not_piled_up(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    for suffix in (".jpg", ".png"):
        write_image(_clip(smooth), tmp_path / f"a{suffix}")
        clip = read_image(tmp_path / f"a{suffix}")
        write_image(
            replace(clip, metadata=replace(clip.metadata, notes={"only": "this"})), tmp_path / f"b{suffix}"
        )
        assert read_notes(tmp_path / f"b{suffix}") == {"only": "this"}
        assert b"weights-hash" not in (tmp_path / f"b{suffix}").read_bytes()


def test_notes_elsewhere(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    notes = {"version": "0.1.0", "prompt": "é ☃ = #"}
    write_image(_clip(smooth, notes), tmp_path / "x.ppm")
    assert read_notes(tmp_path / "x.ppm") == notes == read_image(tmp_path / "x.ppm").metadata.notes
    with Image.open(tmp_path / "x.ppm") as image:
        assert image.size == (64, 48)
    write_image(_clip(smooth), tmp_path / "x.gif")
    assert read_notes(tmp_path / "x.gif") == {}
    write_image(Clip.of(smooth()), tmp_path / "plain.jpg")
    assert read_notes(tmp_path / "plain.jpg") == {}
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(InputError, match="neither an image nor a video"):
        read_notes(tmp_path / "text.txt")


def test_a_key_that_is_no_name_is_refused(tmp_path: Path) -> None:
    clip = Clip(torch.zeros(1, 3, 8, 8), metadata=Metadata(notes={"two words": "x"}))
    with pytest.raises(ValueError, match="two words"):
        write_image(clip, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


@settings(max_examples=60, deadline=None)
@given(
    notes=st.dictionaries(
        st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,20}\Z"), st.text(max_size=40), max_size=4
    )
)
def test_any_text_survives_in_xmp(notes: dict[str, str]) -> None:
    clean = check_notes(notes)
    for base in (None, _XMP, xmp_with_notes(_XMP, {"old": "note"})):
        packet = xmp_with_notes(base, clean)
        assert notes_of_xmp(packet) == clean
        if base is not None:
            assert packet is not None and packet.count(b"Ann") == 1
            assert xmp_with_notes(packet, {}) == _XMP


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=60), cut=st.integers(0, 400), kind=st.sampled_from(["exif", "iptc", "raw"]))
def test_damaged_blocks_never_raise(data: bytes, cut: int, kind: str) -> None:
    block = {"exif": _exif()[:cut] + data, "iptc": iptc_for_jpeg(_IPTC)[:cut] + data, "raw": data}[kind]
    upright_exif(block, (10, 20))
    upright_xmp(block, (10, 20))
    iptc_records(block)
    notes_of_xmp(block)
    xmp_with_notes(block, {"a": "b"})


def test_exif_changes_nothing_else() -> None:
    before = _exif(orientation=8, thumbnail=False)
    after = upright_exif(before)
    assert after is not None and len(after) == len(before)
    assert sum(a != b for a, b in zip(after, before, strict=True)) == 1
    assert upright_exif(after) == after == upright_exif(before.removeprefix(b"Exif\0\0"))
    assert upright_exif(b"nonsense") is None
    assert iptc_records(iptc_for_jpeg(_IPTC)) == _IPTC == iptc_records(_IPTC)
