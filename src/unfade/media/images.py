"""Photos from files: what a header says, and whole images as clips.

Formats are told by content, and only these decoders are ever called: JPEG, PNG, TIFF, WebP, HEIF (AVIF; HEIC with
the extra `heic`), GIF, netpbm.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unfade.core import Clip, InputError, Metadata
from unfade.core.clip import Colour
from unfade.media import colour as colours
from unfade.media import heic, metadata, netpbm
from unfade.media.image_writer import write_image
from unfade.media.notes import notes_of_image
from unfade.media.pixels import Rows, displayed_size, read_planes
from unfade.media.source import damaged, read_head, sniff_image, sniff_mp4, sniff_sound
from unfade.media.vips import FAILURES, blob_of, first_line, number_of, pyvips

__all__ = ["ImageInfo", "probe_image", "read_image", "write_image"]

_KNOWN = "JPEG, PNG, TIFF, WebP, AVIF, HEIC, GIF, PPM"
_UNKNOWN_DENSITY = 1.0
_HEIF_DEPTHS = (10, 12)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What an image's header says.

    Attributes:
        path: of the file.
        format: "jpeg", "png", "tiff", "webp", "heif", "gif" or "ppm".
        width, height: as displayed, orientation applied.
        bit_depth: bits a sample as stored, 1 to 16.
        colour: "grey", "rgb" or "cmyk".
        has_alpha: whether there is transparency.
    """

    path: Path
    format: str
    width: int
    height: int
    bit_depth: int
    colour: Colour
    has_alpha: bool


def probe_image(path: Path, max_megapixels: float = 200.0) -> ImageInfo:
    """What an image's header says, without decoding a pixel.

    Raises:
        InputError: the file is missing, empty, a folder, a pipe or a device, sound, not an image of a known
            format, larger than `max_megapixels`, or HEIC without the extra `heic`.
    """
    path = Path(path)
    format, head = _sniff(path)
    if format == "ppm":
        header = netpbm.read_header(path)
        _check_size(path, header.width, header.height, max_megapixels)
        return _netpbm_info(path, header)
    return _info(path, format, _open(path, format, head, max_megapixels))


def read_image(path: Path, *, max_megapixels: float = 200.0, oriented: bool = True) -> Clip:
    """An image as a clip of one frame: upright, in sRGB, `[1, 3, H, W]` in [0, 1], with alpha and metadata.

    With `oriented` False the pixels stay as they are stored, whatever the orientation tag says.
    Of animations and multi-page files only the first picture is read. Colours outside sRGB are clipped.
    Besides the result a quarter of a megapixel is held at a time, except where a format can't be decoded in
    parts (WebP, HEIF, interlaced PNG, progressive JPEG).

    Raises:
        InputError: as for `probe_image`, or the pixels are damaged, cut short or floating-point.
    """
    path = Path(path)
    format, head = _sniff(path)
    if format == "ppm":
        return _read_netpbm(path, max_megapixels)
    image = _open(path, format, head, max_megapixels)
    info = _info(path, format, image)
    icc = colours.fitting_profile(blob_of(image, "icc-profile-data"), info.colour)
    pixels = image
    if format == "heif" and heic.read_boxes(path).needs_extra:
        pixels = heic.decode(path, image, info.bit_depth)
    prepared, white = _prepare(pixels, info, icc)
    region = pyvips.Region.new(prepared)

    def rows(top: int, count: int) -> np.ndarray:
        kind = np.uint8 if prepared.format == "uchar" else np.uint16
        raw = region.fetch(0, top, prepared.width, count)
        return np.frombuffer(raw, kind).reshape(count, prepared.width, prepared.bands)

    orientation = _orientation(image) if oriented else 1
    num_colours = 1 if info.colour == "grey" else 3
    try:
        frames, alpha = read_planes(
            rows, image.width, image.height, orientation, num_colours, info.has_alpha, white
        )
    except FAILURES as error:
        raise _damaged(path, error) from error
    return Clip(
        frames,
        alpha=alpha,
        metadata=Metadata(
            format=format,
            bit_depth=max(8, info.bit_depth),
            colour=info.colour,
            icc=icc,
            blobs=_blobs(image),
            notes=notes_of_image(image),
        ),
    )


def _sniff(path: Path) -> tuple[str, bytes]:
    head = read_head(path)
    format = sniff_image(head)
    if format is None:
        if sniff_sound(head) or (sniff_mp4(head) and _is_sound(path)):
            raise InputError(f"{path} holds sound only, no pictures")
        raise InputError(f"{path} is not an image of a known format ({_KNOWN})")
    return format, head


def _is_sound(path: Path) -> bool:
    from unfade.media.video import holds_sound_only

    return holds_sound_only(path)


def _open(path: Path, format: str, head: bytes, max_megapixels: float) -> pyvips.Image:
    announced = _announced_size(format, head)
    if format == "heif":
        boxes = heic.read_boxes(path)
        if not boxes.codings:
            raise InputError(f"{path} can't be read: its HEIF coding is not supported; save it as JPEG")
        if boxes.needs_extra:
            heic.require_extra(path)
        announced = boxes.largest
    if announced is not None:
        _check_size(path, *announced, max_megapixels)
    loader = getattr(pyvips.Image, f"{format}load")
    try:
        image = loader(str(path), access="sequential", fail_on="error")
    except FAILURES as error:
        raise _damaged(path, error) from error
    _check_size(path, image.width, image.height, max_megapixels)
    return image


def _announced_size(format: str, head: bytes) -> tuple[int, int] | None:
    """(width, height) where they stand in the first bytes, before any decoder is set up."""
    if format == "png" and len(head) >= 24:
        return struct.unpack_from(">II", head, 16)
    if format == "gif" and len(head) >= 10:
        return struct.unpack_from("<HH", head, 6)
    return None


def _check_size(path: Path, width: int, height: int, max_megapixels: float) -> None:
    if width * height > max_megapixels * 1e6:
        raise InputError(
            f"{path} is too large: {width} x {height} is {width * height / 1e6:.0f} megapixels, "
            f"the limit is {max_megapixels:g}"
        )


def _damaged(path: Path, error: pyvips.Error | UnicodeDecodeError) -> InputError:
    return damaged(path, first_line(error))


def _info(path: Path, format: str, image: pyvips.Image) -> ImageInfo:
    width, height = displayed_size(image.width, image.height, _orientation(image))
    if image.format not in ("uchar", "ushort"):
        raise InputError(f"{path} holds {image.format} pixels; only 8 and 16 bit integers can be read")
    colour: Colour
    match image.interpretation:
        case "b-w" | "grey16":
            colour, num_colours = "grey", 1
        case "srgb" | "rgb" | "rgb16":
            colour, num_colours = "rgb", 3
        case "cmyk":
            colour, num_colours = "cmyk", 4
        case other:
            raise InputError(f"{path} holds {other} colours; only grey, RGB and CMYK can be read")
    if not num_colours <= image.bands <= num_colours + 1:
        raise InputError(f"{path} has {image.bands} channels; {num_colours} and alpha were expected")
    depth = number_of(image, "bits-per-sample", 8)
    if format != "heif":
        depth = min(depth, 8) if image.format == "uchar" else 16
    return ImageInfo(path, format, width, height, depth, colour, image.bands > num_colours)


def _prepare(image: pyvips.Image, info: ImageInfo, icc: bytes | None) -> tuple[pyvips.Image, float]:
    """Pixels in sRGB with one or three colour bands and alpha, and the integer that stands for 1."""
    white = 255.0 if image.format == "uchar" else 65535.0
    if image.format == "ushort" and info.bit_depth in _HEIF_DEPTHS:
        # libheif's samples are shifted up into 16 bits, so white is not 65535.
        white = float((2**info.bit_depth - 1) << (16 - info.bit_depth))
    if colours.is_srgb(icc, info.colour):
        return image, white
    num_colours = image.bands - info.has_alpha
    pixels, alpha = image.extract_band(0, n=num_colours), None
    if info.has_alpha:
        alpha = (image.extract_band(num_colours) * (65535 / white)).rint().cast("ushort")
    if white not in (255.0, 65535.0):
        pixels = (pixels * (65535 / white)).rint().cast("ushort").copy(interpretation=image.interpretation)
    converted = colours.to_srgb(pixels, info.colour, icc)
    return (converted if alpha is None else converted.bandjoin(alpha)), 65535.0


def _orientation(image: pyvips.Image) -> int:
    return number_of(image, "orientation", 1)


def _blobs(image: pyvips.Image) -> dict[str, bytes]:
    exif, xmp, iptc = (blob_of(image, f"{kind}-data") for kind in ("exif", "xmp", "iptc"))
    blobs = {
        "exif": exif and metadata.upright_exif(exif),
        "xmp": xmp and metadata.upright_xmp(xmp),
        "iptc": iptc and metadata.iptc_records(iptc),
    }
    if image.xres != _UNKNOWN_DENSITY or image.yres != _UNKNOWN_DENSITY:
        blobs["density"] = f"{image.xres!r} {image.yres!r}".encode()
    return {kind: blob for kind, blob in blobs.items() if blob}


def _netpbm_info(path: Path, header: netpbm.NetpbmHeader) -> ImageInfo:
    colour: Colour = "grey" if header.num_bands == 1 else "rgb"
    return ImageInfo(
        path, "ppm", header.width, header.height, header.white.bit_length(), colour, has_alpha=False
    )


def _read_netpbm(path: Path, max_megapixels: float) -> Clip:
    header = netpbm.read_header(path)
    _check_size(path, header.width, header.height, max_megapixels)
    info = _netpbm_info(path, header)
    pixels = netpbm.read_pixels(path, header)
    rows: Rows = lambda top, count: pixels[top : top + count]  # noqa: E731
    frames, _ = read_planes(rows, header.width, header.height, 1, header.num_bands, False, header.white)
    return Clip(
        frames,
        metadata=Metadata(
            format="ppm",
            bit_depth=8 if header.white < 256 else 16,
            colour=info.colour,
            notes=netpbm.read_comments(path),
        ),
    )
