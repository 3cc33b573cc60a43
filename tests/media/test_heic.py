"""HEIC, as phones make it: pixels, depth, orientation, metadata; and what is refused, with and without the extra."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor

from unfade.core import Clip, InputError
from unfade.media.heic import read_boxes
from unfade.media.images import probe_image, read_image, write_image
from unfade.media.metadata import EXIF_PREFIX
from unfade.media.notes import read_notes

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")
pytestmark = pytest.mark.skipif(
    not pillow_heif.libheif_info()["HEIF"], reason="this pillow-heif has no encoder to make HEIC files with"
)

_EXACT = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def _save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    """A HEIC file from `[H, W]` or `[H, W, bands]`."""
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    mode = mode or {1: "L", 3: "RGB", 4: "RGBA"}[bands] + (";16" if pixels.dtype == np.uint16 else "")
    size = (pixels.shape[1], pixels.shape[0])
    pillow_heif.from_bytes(mode, size, pixels.tobytes()).save(path, **(_EXACT | options))
    return path


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", orientation
    return exif.tobytes()


def _array(image: Tensor, white: int = 255) -> np.ndarray:
    return (image * white).round().permute(1, 2, 0).numpy().astype(np.uint8 if white < 256 else np.uint16)


@pytest.fixture
def photo(smooth: Callable[..., Tensor]) -> np.ndarray:
    return _array(smooth(50, 70))


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Tiles of 128 x 128 pixels, as phones store a photo."""
    noise = np.random.default_rng(1).integers(0, 256, (300, 500, 3), np.uint8)
    return _save(tmp_path / "grid.heic", noise, quality=80, tile_size=128)


def test_pixels(tmp_path: Path, photo: np.ndarray) -> None:
    path = _save(tmp_path / "exact.heic", photo)
    info, clip = probe_image(path), read_image(path)
    assert (info.format, info.width, info.height, info.bit_depth, info.colour) == ("heif", 70, 50, 8, "rgb")
    assert not info.has_alpha and clip.alpha is None
    assert (clip.metadata.format, clip.metadata.bit_depth, clip.metadata.icc) == ("heif", 8, None)
    assert np.array_equal(_array(clip.frames[0]), photo)
    lossy = _save(tmp_path / "lossy.heic", photo, quality=85, chroma=420, matrix_coefficients=6)
    assert np.abs(_array(read_image(lossy).frames[0]).astype(int) - photo).mean() < 2
    grey = _save(tmp_path / "grey.heic", photo[..., 0], matrix_coefficients=6)
    assert np.array_equal(_array(read_image(grey).frames[0]), photo[..., :1].repeat(3, axis=2))


def test_a_grid_of_tiles(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    picture = _array(smooth(300, 500))
    path = _save(tmp_path / "tiles.heic", picture, tile_size=128)
    assert np.array_equal(_array(read_image(path).frames[0]), picture)


@pytest.mark.parametrize("bits", [10, 12])
def test_deep_pixels_keep_their_levels(tmp_path: Path, bits: int, profile: Callable[[str], bytes]) -> None:
    ramp = np.arange(2**bits, dtype=np.uint16).reshape(-1, 64)
    stored = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], -1) << (16 - bits)
    path = _save(tmp_path / "deep.heic", stored, bit_depth=bits)
    clip = read_image(path)
    assert probe_image(path).bit_depth == clip.metadata.bit_depth == bits
    levels = (clip.frames[0] * (2**bits - 1)).permute(1, 2, 0).numpy()
    assert np.abs(levels - (stored >> (16 - bits))).max() < 0.01
    assert clip.frames.min() == 0 and clip.frames.max() == 1
    wide = read_image(_save(tmp_path / "wide.heic", stored, bit_depth=bits, icc_profile=profile("p3")))
    assert len(wide.frames[0, 1].unique()) > 500
    write_image(clip, tmp_path / "copy.avif", lossless=True)
    back = read_image(tmp_path / "copy.avif")
    assert back.metadata.bit_depth == bits and torch.equal(back.frames, clip.frames)


def test_alpha(tmp_path: Path, photo: np.ndarray) -> None:
    cover = np.full(photo.shape[:2], 255, np.uint8)
    cover[:, ::2] = 128
    clip = read_image(_save(tmp_path / "a.heic", np.dstack([photo, cover])))
    assert clip.alpha is not None and np.array_equal(_array(clip.alpha[0])[..., 0], cover)
    assert np.array_equal(_array(clip.frames[0]), photo)
    dimmed = (photo * (cover[..., None] / 255)).round().astype(np.uint8)
    clip = read_image(_save(tmp_path / "p.heic", np.dstack([dimmed, cover]), "RGBa"))
    assert clip.alpha is not None and np.array_equal(_array(clip.alpha[0])[..., 0], cover)
    assert np.abs(_array(clip.frames[0]).astype(int) - photo).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path: Path, photo: np.ndarray, orientation: int) -> None:
    image = Image.fromarray(photo)
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    # The encoder turns the EXIF orientation into HEIF's own rotation and leaves it in the EXIF, as phones do.
    path = _save(tmp_path / "o.heic", photo, exif=_exif(orientation))
    clip = read_image(path)
    assert np.array_equal(_array(clip.frames[0]), expected)
    info = probe_image(path)
    assert (info.height, info.width) == expected.shape[:2]
    write_image(clip, tmp_path / "o.jpg", quality=100)
    with Image.open(tmp_path / "o.jpg") as copy:
        assert copy.getexif()[0x0112] == 1 and copy.size == (info.width, info.height)


def test_an_orientation_that_only_exif_states_is_not_applied(tmp_path: Path, photo: np.ndarray) -> None:
    path = _save(tmp_path / "e.heic", photo, exif=_exif(1))
    data, entry = path.read_bytes(), struct.pack(">HHIH", 0x0112, 3, 1, 1)
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, struct.pack(">HHIH", 0x0112, 3, 1, 6)))
    assert np.array_equal(_array(read_image(path).frames[0]), photo)


def test_metadata_and_colours(tmp_path: Path, photo: np.ndarray, profile: Callable[[str], bytes]) -> None:
    icc = profile("p3")
    path = _save(tmp_path / "m.heic", photo, exif=_exif(6), xmp=_XMP, icc_profile=icc)
    Image.fromarray(photo).transpose(Image.Transpose.ROTATE_270).save(tmp_path / "m.png", icc_profile=icc)
    clip, same = read_image(path), read_image(tmp_path / "m.png")
    assert torch.allclose(clip.frames, same.frames, atol=1e-4)
    assert clip.metadata.icc == icc and clip.metadata.blobs["exif"].startswith(EXIF_PREFIX)
    exif = Image.Exif()
    exif.load(clip.metadata.blobs["exif"])
    assert (exif[0x010F], exif[0x0112]) == ("Camera", 1)
    assert clip.metadata.blobs["xmp"] == _XMP.replace(b'Orientation="6"', b'Orientation="1"')
    write_image(clip, tmp_path / "m.avif")
    back = read_image(tmp_path / "m.avif").metadata
    assert back.icc == icc and back.blobs["xmp"] == clip.metadata.blobs["xmp"]
    exif.load(back.blobs["exif"])
    assert (exif[0x010F], exif[0x0112]) == ("Camera", 1)
    assert read_notes(path) == {}


def test_only_the_primary_picture_is_read(tmp_path: Path, photo: np.ndarray) -> None:
    file = pillow_heif.from_bytes("RGB", (70, 50), photo.tobytes())
    small = np.ascontiguousarray(photo[10:30, 20:60])
    file.add_frombytes("RGB", (40, 20), small.tobytes())
    file.save(tmp_path / "two.heic", primary_index=1, **_EXACT)
    assert np.array_equal(_array(read_image(tmp_path / "two.heic").frames[0]), small)
    assert probe_image(tmp_path / "two.heic").width == 40


def test_the_coding_decides_not_the_brand(tmp_path: Path, photo: np.ndarray) -> None:
    heic, avif = _save(tmp_path / "x.heic", photo), tmp_path / "x.avif"
    write_image(Clip.of(torch.from_numpy(photo).permute(2, 0, 1) / 255), avif, lossless=True)
    for path, coding in ((heic, "hevc"), (avif, "av1")):
        data = path.read_bytes()
        for brand in (b"mif1", b"avif", b"heic"):
            path.write_bytes(data[:8] + brand + data[12:])
            assert read_boxes(path).codings == {coding}
            assert np.array_equal(_array(read_image(path).frames[0]), photo)


@pytest.mark.parametrize("tiles", [False, True])
def test_a_truncated_file_is_refused(tmp_path: Path, photo: np.ndarray, grid: Path, tiles: bool) -> None:
    data = (grid if tiles else _save(tmp_path / "whole.heic", photo)).read_bytes()
    part, pixels = tmp_path / "part.heic", data.index(b"mdat")
    for length in (20, 40, pixels // 2, pixels - 5, pixels, pixels + 9, len(data) * 9 // 10, len(data) - 1):
        part.write_bytes(data[:length])
        for function in (read_image, probe_image):
            with pytest.raises(InputError, match="damaged or cut short") as caught:
                function(part)
            assert str(part) in str(caught.value) and "\n" not in str(caught.value)
    part.write_bytes(data)
    whole = read_image(part)
    part.write_bytes(data + b"trailing bytes that some phones add")
    assert torch.equal(read_image(part).frames, whole.frames)


def test_damaged_pixels_and_boxes_are_refused(tmp_path: Path, photo: np.ndarray) -> None:
    data, path = _save(tmp_path / "x.heic", photo).read_bytes(), tmp_path / "bad.heic"
    pixels = data.index(b"mdat") + 4
    path.write_bytes(data[:pixels] + bytes(len(data) - pixels))
    with pytest.raises(InputError, match=r"bad\.heic is damaged"):
        read_image(path)
    # libvips quotes the name of a box that it needs and doesn't know, and pyvips takes the quotation for UTF-8.
    path.write_bytes(data.replace(b"clap", b"c\xc0ap"))
    for function in (read_image, read_notes, probe_image):
        with pytest.raises(InputError, match=r"bad\.heic is damaged"):
            function(path)
    generator = np.random.default_rng(2)
    for _ in range(300):
        broken = bytearray(data)
        for place in generator.integers(0, pixels, 3):
            broken[place] = generator.integers(256)
        path.write_bytes(broken)
        try:
            read_image(path, max_megapixels=1)
        except InputError as error:
            assert "\n" not in str(error)


def test_the_size_limit_holds_before_decoding(tmp_path: Path, photo: np.ndarray) -> None:
    path = _save(tmp_path / "bomb.heic", photo)
    for function in (probe_image, read_image):
        with pytest.raises(InputError, match=r"the limit is 0\.003"):
            function(path, max_megapixels=0.003)
    data = path.read_bytes()
    size = data.index(b"ispe") + 8
    # The picture is coded in whole blocks and cropped, so the header of the cropped picture still says 70 x 50.
    path.write_bytes(data[:size] + struct.pack(">II", 60_000, 60_000) + data[size + 8 :])
    for function in (probe_image, read_image):
        with pytest.raises(InputError, match=r"60000 x 60000 is 3600 megapixels, the limit is 200"):
            function(path)


_WITHOUT = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pillow_heif", "_pillow_heif", "PIL"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nowhere())
from unfade.core import InputError
from unfade.media.images import probe_image, read_image
print(read_image(sys.argv[2]).frames.shape[-1])
for function in (probe_image, read_image):
    try:
        function(sys.argv[1])
    except InputError as error:
        print(error)
"""


def _python(code: str, *arguments: Path) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return answer.stdout.splitlines()


def test_without_the_extra_a_sentence_says_what_to_do(tmp_path: Path, photo: np.ndarray) -> None:
    path, avif = _save(tmp_path / "x.heic", photo), tmp_path / "x.avif"
    write_image(read_image(path), avif)
    sentence = (
        f"{path} is a HEIC photo: pip install '.[heic]' in the clone of unfade to read it, or save it as JPEG"
    )
    assert _python(_WITHOUT, path, avif) == ["70", sentence, sentence]


_LAZY = """
import sys
from unfade.media.images import read_image
loaded = lambda: [name for name in ("pillow_heif", "PIL") if name in sys.modules]
read_image(sys.argv[2])
print(loaded())
read_image(sys.argv[1])
print(loaded())
"""


def test_the_extra_is_loaded_for_heic_only(tmp_path: Path, photo: np.ndarray) -> None:
    path, avif = _save(tmp_path / "x.heic", photo), tmp_path / "x.avif"
    write_image(read_image(path), avif)
    assert _python(_LAZY, path, avif) == ["[]", "['pillow_heif', 'PIL']"]
