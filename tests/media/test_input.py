"""Every kind of image file is read as it is shown, and every bad one is refused in a sentence."""

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, features
from torch import Tensor

from unfade.core import InputError
from unfade.media.images import probe_image, read_image, write_image


def _array(image: Tensor) -> np.ndarray:
    return (image * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)


def _shown(path: Path) -> np.ndarray:
    return (read_image(path).frames[0] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_baked_once(
    tmp_path: Path, suffix: str, orientation: int, smooth: Callable[..., Tensor]
) -> None:
    path, exif = tmp_path / f"o [Q=1]{suffix}", Image.Exif()
    exif[0x0112] = orientation
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow can't make the AVIF")
    options = {
        ".avif": {"quality": 90, "subsampling": "4:4:4"},
        ".jpg": {"quality": 95, "subsampling": 0},
        ".webp": {"lossless": True},
    }.get(suffix, {})
    Image.fromarray(_array(smooth(40, 56))).save(path, exif=exif, **options)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))

    assert np.abs(_shown(path).astype(int) - expected).max() <= 1
    info = probe_image(path)
    assert (info.height, info.width) == expected.shape[:2]
    write_image(read_image(path), path, quality=100)
    with Image.open(path) as image:
        assert image.getexif().get(0x0112, 1) == 1
        again = np.asarray(ImageOps.exif_transpose(image))
    assert again.shape == expected.shape and np.abs(again.astype(int) - expected).mean() < 2
    assert _shown(path).shape == expected.shape


def test_every_kind_of_pixel_is_read(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    rgb = Image.fromarray(_array(smooth()))
    bitmap = rgb.convert("1")
    for name in ("bit.png", "bit.tif", "bit.pbm"):
        bitmap.save(tmp_path / name)
        assert np.array_equal(_shown(tmp_path / name)[..., 0], np.asarray(bitmap) * 255), name
        assert read_image(tmp_path / name).metadata.colour == "grey"
        assert probe_image(tmp_path / name).bit_depth == 1
    palette = rgb.quantize(16)
    for name in ("palette.png", "palette.gif", "palette.tif"):
        palette.save(tmp_path / name)
        assert np.array_equal(_shown(tmp_path / name), np.asarray(palette.convert("RGB"))), name
    palette.save(tmp_path / "clear.png", transparency=3)
    clip = read_image(tmp_path / "clear.png")
    assert clip.alpha is not None
    assert np.array_equal(clip.alpha[0, 0].numpy() == 0, np.asarray(palette) == 3)
    deep = (np.arange(48 * 64, dtype=np.uint16) * 21).reshape(48, 64)
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        assert np.array_equal((read_image(tmp_path / name).frames[0, 0] * 65535).round().numpy(), deep), name
    rgb.convert("LA").save(tmp_path / "la.png")
    clip = read_image(tmp_path / "la.png")
    assert clip.metadata.colour == "grey" and clip.alpha is not None and bool((clip.alpha == 1).all())
    rgb.save(tmp_path / "progressive.jpg", progressive=True, quality=95)
    rgb.save(tmp_path / "interlaced.webp", lossless=True)
    assert np.array_equal(_shown(tmp_path / "interlaced.webp"), np.asarray(rgb))
    with Image.open(tmp_path / "progressive.jpg") as image:
        assert np.abs(_shown(tmp_path / "progressive.jpg").astype(int) - np.asarray(image)).max() <= 1


def test_netpbm_in_all_its_kinds(tmp_path: Path) -> None:
    files = {
        b"P1\n# a comment\n3 2\n1 0 1\n010\n": [[0, 1, 0], [1, 0, 1]],
        b"P2 3 2 4\n0 1 2 # more\n3 4 0": [[0, 0.25, 0.5], [0.75, 1, 0]],
        b"P5\n#c\n3 2\n# d\n2\n\0\1\2\2\1\0": [[0, 0.5, 1], [1, 0.5, 0]],
        b"P5 3 1 65535\n\0\0\x80\0\xff\xff": [[0, 32768 / 65535, 1]],
        b"P4 3 2\n\xa0\x40": [[0, 1, 0], [1, 0, 1]],
    }
    for data, expected in files.items():
        (tmp_path / "x.pnm").write_bytes(data)
        assert torch.allclose(
            read_image(tmp_path / "x.pnm").frames[0, 1], torch.tensor(expected, dtype=torch.float32)
        ), data
    for data in (
        b"P6\n2 2\n255\n123",
        b"P5\n2 2\n3\n\0\1\2\4",
        b"P2\n2 2\n9\n1 2 3",
        b"P6\nx y\n",
        b"P5\n0 1\n9\n",
    ):
        (tmp_path / "x.pnm").write_bytes(data)
        with pytest.raises(InputError, match=r"x\.pnm"):
            read_image(tmp_path / "x.pnm")


def test_content_decides_not_the_extension(tmp_path: Path, smooth: Callable[..., Tensor]) -> None:
    Image.fromarray(_array(smooth())).save(tmp_path / "really.png")
    (tmp_path / "really.png").rename(tmp_path / "wrong [page=1].jpg")
    clip = read_image(tmp_path / "wrong [page=1].jpg")
    assert clip.metadata.format == "png" and np.array_equal(
        _shown(tmp_path / "wrong [page=1].jpg"), _array(smooth())
    )


@pytest.mark.parametrize("function", [probe_image, read_image])
def test_what_is_no_image_is_refused_in_one_sentence(
    tmp_path: Path, function: Callable[[Path], object]
) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
    (tmp_path / "page.pdf").write_bytes(b"%PDF-1.4\n")
    os.mkfifo(tmp_path / "pipe.png")
    cases = {
        tmp_path / "missing.png": "does not exist",
        tmp_path / "text.png" / "below.png": "does not exist",
        tmp_path: "folder",
        tmp_path / "empty.jpg": "empty",
        tmp_path / "text.png": "not an image",
        tmp_path / "drawing.svg": "not an image",
        tmp_path / "page.pdf": "not an image",
        tmp_path / "pipe.png": "a pipe or a device",
        Path("/dev/zero"): "a pipe or a device",
        tmp_path / "nul\0.png": "can't be read",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            function(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif", ".gif", ".ppm"])
def test_a_truncated_file_is_refused_not_filled_with_grey(tmp_path: Path, suffix: str) -> None:
    noise = torch.rand(1, 3, 90, 90, generator=torch.Generator().manual_seed(1))
    from unfade.core import Clip

    whole, part = tmp_path / f"whole{suffix}", tmp_path / f"part{suffix}"
    write_image(Clip(noise), whole)
    data = whole.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9):
        part.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match="part") as caught:
            read_image(part)
        assert "\n" not in str(caught.value)


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_the_size_limit_holds_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(60_000, 60_000))
    for function in (probe_image, read_image):
        with pytest.raises(InputError, match=r"60000 x 60000 is 3600 megapixels, the limit is 200"):
            function(path)
    (tmp_path / "bomb.ppm").write_bytes(b"P6\n60000 60000\n255\n" + bytes(100))
    (tmp_path / "bomb.gif").write_bytes(b"GIF89a" + struct.pack("<HH", 60_000, 60_000) + bytes(60))
    for name in ("bomb.ppm", "bomb.gif"):
        with pytest.raises(InputError, match="3600 megapixels"):
            read_image(tmp_path / name)
    Image.new("RGB", (100, 100)).save(tmp_path / "small.jpg")
    with pytest.raises(InputError, match=r"the limit is 0\.005"):
        read_image(tmp_path / "small.jpg", max_megapixels=0.005)


_MEMORY = """
import sys
from pathlib import Path
from unfade.core import InputError
from unfade.media.images import read_image, write_image

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

small, bomb, large, copy = map(Path, sys.argv[1:])
write_image(read_image(small), copy)
before = peak()
try:
    read_image(bomb)
    raise SystemExit("the bomb was read")
except InputError:
    pass
refused = peak()
clip = read_image(large)
read = peak()
write_image(clip, copy)
print(refused - before, read - refused, peak() - read)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_memory_stays_near_the_result(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png_header(60_000, 60_000))
    Image.new("RGB", (64, 64), (9, 99, 199)).save(tmp_path / "small.jpg")
    Image.new("RGB", (4000, 3000), (9, 99, 199)).save(tmp_path / "large.jpg")
    paths = [tmp_path / name for name in ("small.jpg", "bomb.png", "large.jpg", "copy.jpg")]
    command = [sys.executable, "-c", _MEMORY, *map(str, paths)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    refusal, reading, writing = map(float, answer.split())
    megabytes = 4000 * 3000 * 3 * 4 / 2**20
    assert refusal < 16
    assert reading < megabytes + 64
    assert writing < megabytes / 4 + 64


def test_a_name_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(b"whatever")
    with pytest.raises(InputError, match="not UTF-8"):
        probe_image(path)


def test_text_that_is_not_utf8_is_no_obstacle(tmp_path: Path) -> None:
    path, text = tmp_path / "latin.png", b"Caf\xe9\0d\xe9j\xe0 vu"
    Image.new("RGB", (9, 9), (1, 2, 3)).save(path)
    data, chunk = path.read_bytes(), b"tEXt" + text
    chunk = struct.pack(">I", len(text)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(data[:33] + chunk + data[33:])
    assert _shown(path)[0, 0].tolist() == [1, 2, 3] and read_image(path).metadata.notes == {}


@pytest.mark.parametrize(
    ("name", "coder"),
    [
        ("a.mp3", "libmp3lame"), ("a.aac", "aac"), ("a.m4a", "aac"), ("a.wav", "pcm_s16le"), ("a.flac", "flac"),
        ("a.ogg", "libopus"), ("a.opus", "libopus"), ("a.aiff", "pcm_s16be"), ("a.jpg", "libmp3lame"), ("b.m4a", "aac"),
    ],
)  # fmt: skip
def test_sound_is_told_as_sound(
    tmp_path: Path, make_video: Callable[..., Path], name: str, coder: str
) -> None:
    """Whatever it is called, and a video without pictures too."""
    kinds = {"a.jpg": "made.mp3", "b.m4a": "made.mp4"}
    made = make_video(tmp_path / kinds.get(name, name), sound=coder, pictures=False).rename(tmp_path / name)
    for function in (probe_image, read_image):
        with pytest.raises(InputError, match="holds sound only, no pictures"):
            function(made)
    # Without the notes in front that most MP3s have, and Vorbis as others write it.
    for head in (b"\xff\xfb\x90\x64", b"OggS\0\x02" + bytes(20) + b"\x01\x1e\x01vorbis"):
        made.write_bytes(head.ljust(100, b"\0"))
        with pytest.raises(InputError, match="holds sound only, no pictures"):
            probe_image(made)


def test_footage_named_as_a_photo_is_not_sound(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    footage = make_video(tmp_path / "a.mp4", sound="aac").rename(tmp_path / "a.jpg")
    part = tmp_path / "b.jpg"
    part.write_bytes(footage.read_bytes()[:40])
    for path in (footage, part):
        with pytest.raises(InputError, match="is not an image of a known format"):
            probe_image(path)
