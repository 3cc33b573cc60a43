"""Photos to files: the depth, colours, profile, alpha and metadata of the original come back."""

from pathlib import Path
from typing import Any

import numpy as np

from unfade.core import Clip, Metadata, OutputError, UsageError
from unfade.core.clip import Colour
from unfade.media import colour as colours
from unfade.media import metadata, netpbm
from unfade.media.atomic import atomic_output
from unfade.media.image_formats import FORMATS, SUFFIXES, ImageFormat
from unfade.media.pixels import quantise
from unfade.media.vips import first_line, pyvips, set_blob

_DEFAULT_DENSITY = b"2.835 2.835"
_CLASSIC_TIFF_BYTES = 3_900_000_000


def write_image(
    clip: Clip,
    path: Path,
    *,
    frame: int = -1,
    format: str | None = None,
    bit_depth: int | None = None,
    quality: int | None = None,
    lossless: bool | None = None,
    strip_metadata: bool = False,
    overwrite: bool = True,
) -> None:
    """Write one frame of a clip as an image, whole or not at all.

    The format is that of the path's extension unless given. Depth and colours are those of `clip.metadata` as
    far as the format carries them (16 bits become 12 in AVIF, 8 in JPEG, WebP and GIF; CMYK stays in JPEG and
    TIFF), the values are rounded and clamped. EXIF, XMP and IPTC come back where the format has a place for
    them, with orientation 1, the new dimensions and no thumbnail; notes go to PNG text, PPM comments or XMP.
    Alpha of 0 and 1 is exact except in lossy AVIF.

    Args:
        clip: the pixels, sRGB in [0, 1].
        path: the file; missing parents are created.
        frame: which frame.
        format: "jpeg", "png", "tiff", "webp", "heif" (AVIF), "gif" or "ppm".
        bit_depth: bits a sample, 8, 10, 12 or 16.
        quality: 1 to 100, by default 95 (AVIF 90); without effect on formats that are always lossless.
        lossless: for WebP and AVIF; no by default.
        strip_metadata: leave EXIF, XMP, IPTC and notes out, but keep the colour profile.
        overwrite: replace an existing file.

    Raises:
        UsageError: the format is unknown or can't do what is asked.
        OutputError: the file can't be written, or the format has no place for this alpha or this size.
        ValueError: a pixel is not finite, or a note's key is not a short ASCII name.
    """
    path = Path(path)
    name = _choose_format(path, format)
    known = FORMATS[name]
    bits = _choose_depth(name, known, bit_depth, clip.metadata.bit_depth)
    saver = _saver(name, known, bits, quality, lossless)
    if name == "tiff":
        saver["bigtiff"] = clip.width * clip.height * 4 * bits // 8 > _CLASSIC_TIFF_BYTES
    notes = {} if strip_metadata else metadata.check_notes(clip.metadata.notes)
    alpha = None if clip.alpha is None else clip.alpha[frame]
    if alpha is not None and not known.alpha:
        if float(alpha.min()) < 1:
            raise OutputError(f"{path} can't hold transparency as {name}; choose PNG, WebP, TIFF or AVIF")
        alpha = None
    if max(clip.width, clip.height) > known.longest:
        raise OutputError(
            f"{path} can't be written: {name} ends at {known.longest} pixels a side; choose PNG or TIFF"
        )

    image = clip.frames[frame]
    colour = _choose_colour(known, clip.metadata.colour, has_alpha=alpha is not None)
    if name == "ppm":
        pixels = quantise(image, None, bits, colour == "grey")
        with atomic_output(path, overwrite) as temporary:
            netpbm.write_pixels(temporary, pixels, notes)
        return
    icc = clip.metadata.icc if known.profile and colour == clip.metadata.colour else None
    if colours.is_srgb(icc, colour):
        pixels = quantise(image, alpha, bits, colour == "grey")
        stored = _as_vips(pixels, colour)
    else:
        pixels = quantise(image, alpha, 16, grey=False)
        stored, icc = _in_file_colours(pixels, colour, icc, bits, alpha is not None)
    stored = _with_metadata(stored, clip.metadata, name, icc, notes, strip_metadata)
    with atomic_output(path, overwrite) as temporary:
        try:
            getattr(stored, f"{name}save")(str(temporary), keep="icc" if strip_metadata else "all", **saver)
        except pyvips.Error as error:
            raise OutputError(f"{path} can't be written as {name}: {first_line(error)}") from error


def _choose_format(path: Path, format: str | None) -> str:
    if format is not None:
        name = {"avif": "heif", "jpg": "jpeg", "tif": "tiff"}.get(format.lower(), format.lower())
        if name not in FORMATS:
            raise UsageError(f"the format {format!r} is not known; choose one of {', '.join(FORMATS)}")
        return name
    suffix = path.suffix.lower()
    if suffix in (".heic", ".heif"):
        raise UsageError(f"{path} can't be written: there is no encoder for HEIC; choose .avif")
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} has no known image extension; choose one of {', '.join(SUFFIXES)}")
    return SUFFIXES[suffix]


def _choose_depth(name: str, known: ImageFormat, asked: int | None, source: int) -> int:
    if asked is None:
        return next((depth for depth in known.depths if depth >= source), known.depths[-1])
    if asked not in known.depths:
        depths = ", ".join(map(str, known.depths))
        raise UsageError(f"{name} can't store {asked} bits a sample; choose from {depths}")
    return asked


def _choose_colour(known: ImageFormat, source: Colour, has_alpha: bool) -> Colour:
    if source == "grey":
        return "grey" if known.grey else "rgb"
    return "cmyk" if source == "cmyk" and known.cmyk and not has_alpha else "rgb"


def _saver(
    name: str, known: ImageFormat, bits: int, quality: int | None, lossless: bool | None
) -> dict[str, Any]:
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"quality must be 1 to 100, not {quality}")
    if lossless and not known.lossless:
        raise UsageError(f"{name} can't be lossless; choose PNG, TIFF, WebP or AVIF")
    grade = quality if quality is not None else known.quality
    match name:
        case "jpeg":
            return {"Q": grade, "subsample_mode": "off"}
        case "png":
            # Filters matter far more than effort: half the size of the default at the same speed.
            return {"compression": 3, "filter": "all", "bitdepth": bits}
        case "tiff":
            return {"compression": "deflate", "predictor": "horizontal", "level": 4}
        case "webp":
            return {"lossless": True, "exact": True} if lossless else {"Q": grade, "smart_subsample": True}
        case "heif":
            # Effort 2 is seven times as fast as the default for a tenth more bytes.
            settings = {"compression": "av1", "bitdepth": bits, "effort": 2, "subsample_mode": "off"}
            return settings | ({"lossless": True} if lossless else {"Q": grade})
        case _:
            return {}


def _as_vips(pixels: np.ndarray, colour: Colour) -> pyvips.Image:
    height, width, bands = pixels.shape
    deep = pixels.dtype != np.uint8
    kinds = {"grey": ("b-w", "grey16"), "rgb": ("srgb", "rgb16"), "cmyk": ("cmyk", "cmyk")}
    image = pyvips.Image.new_from_memory(pixels.data, width, height, bands, "ushort" if deep else "uchar")
    return image.copy(interpretation=kinds[colour][deep])


def _in_file_colours(
    pixels: np.ndarray, colour: Colour, icc: bytes | None, bits: int, has_alpha: bool
) -> tuple[pyvips.Image, bytes | None]:
    """16-bit sRGB in the colours of the profile, and the profile to embed."""
    image = _as_vips(pixels, "rgb")
    depth = 8 if bits == 8 else 16
    converted = colours.from_srgb(image.extract_band(0, n=3), colour, icc, depth)
    if converted is None:
        # A profile that can't be used backwards: the pixels stay sRGB, and must not claim to be anything
        # else.
        converted, icc = image.extract_band(0, n=3), None
        if colour == "grey":
            converted = converted.extract_band(1).copy(interpretation="grey16")
        if depth == 8:
            kind = "b-w" if colour == "grey" else "srgb"
            converted = (converted / 257).rint().cast("uchar").copy(interpretation=kind)
    if has_alpha:
        alpha = image.extract_band(3)
        converted = converted.bandjoin((alpha / 257).rint().cast("uchar") if depth == 8 else alpha)
    if 8 < bits < 16:
        # The encoder cuts the lower bits off, so they are rounded away before.
        levels = (converted * ((2**bits - 1) / 65535)).rint()
        kind = converted.interpretation
        converted = (levels * 2 ** (16 - bits)).cast("ushort").copy(interpretation=kind)
    return converted, icc


def _with_metadata(
    image: pyvips.Image, source: Metadata, name: str, icc: bytes | None, notes: dict[str, str], strip: bool
) -> pyvips.Image:
    """The image with all that is to be stored beside its pixels."""
    across, down = map(float, source.blobs.get("density", _DEFAULT_DENSITY).split())
    image = image.copy(xres=across, yres=down)
    blobs = {"icc-profile-data": icc}
    if not strip:
        size = (image.width, image.height)
        exif, xmp, iptc = (source.blobs.get(kind) for kind in ("exif", "xmp", "iptc"))
        xmp = xmp and metadata.upright_xmp(xmp, size)
        blobs["exif-data"] = exif and metadata.upright_exif(exif, size)
        blobs["xmp-data"] = metadata.xmp_with_notes(xmp, {} if name == "png" else notes)
        blobs["iptc-data"] = iptc and _iptc_for(name, iptc)
        if name == "png":
            for index, (key, value) in enumerate(notes.items()):
                image.set_type(pyvips.GValue.gstr_type, f"png-comment-{index}-unfade:{key}", value)
    for field, blob in blobs.items():
        if blob:
            set_blob(image, field, blob)
    return image


def _iptc_for(name: str, records: bytes) -> bytes:
    if name == "jpeg":
        return metadata.iptc_for_jpeg(records)
    # libvips 8.18 counts these bytes in fours but its libtiff stores them singly, so a quarter would survive.
    return records.ljust(4 * ((len(records) + 3) // 4) * 4, b"\0")
