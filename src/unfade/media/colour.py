"""Colour profiles: from a file's colours to sRGB on the way in, and back on the way out.

Relative colorimetric intent with black point compensation, in 16 bits. A profile that can't be used (damaged,
or made for another kind of pixels) counts as absent. Colours outside sRGB are clipped to it.
"""

import os
import tempfile
from functools import lru_cache

import numpy as np

from unfade.core.clip import Colour
from unfade.media.vips import pyvips, set_blob

_FIELD = "icc-profile-data"
_SPACES: dict[bytes, Colour] = {b"GRAY": "grey", b"RGB ": "rgb", b"CMYK": "cmyk"}
_INTENT = {"intent": "relative", "black_point_compensation": True}
_HALF_A_LEVEL = 128


def fitting_profile(icc: bytes | None, colour: Colour) -> bytes | None:
    """The profile if it is one for this kind of pixels and the colour engine can use it, else None."""
    if icc is None or len(icc) < 128 or icc[36:40] != b"acsp" or _SPACES.get(icc[16:20]) != colour:
        return None
    return icc if _patches_in_srgb(icc, colour) is not None else None


def is_srgb(icc: bytes | None, colour: Colour) -> bool:
    """Whether the profile changes no 8-bit colour by half a level; absent counts as sRGB except for CMYK."""
    if colour == "cmyk":
        return False
    if icc is None:
        return True
    converted = _patches_in_srgb(icc, colour)
    if converted is None:
        return True
    return bool(np.abs(converted - _patches(colour).astype(np.int64) * 257).max() < _HALF_A_LEVEL)


def to_srgb(image: pyvips.Image, colour: Colour, icc: bytes | None) -> pyvips.Image:
    """Pixels without alpha in a file's colours as 16-bit sRGB: three bands, or one for grey."""
    image = image.copy()
    image.remove(_FIELD)
    if icc is not None:
        set_blob(image, _FIELD, icc)
    fallback = {} if colour != "cmyk" else {"input_profile": "cmyk"}
    converted = image.icc_transform("srgb", embedded=True, depth=16, **fallback, **_INTENT)
    converted.remove(_FIELD)
    return converted.extract_band(1) if colour == "grey" else converted


def from_srgb(image: pyvips.Image, colour: Colour, icc: bytes | None, bits: int) -> pyvips.Image | None:
    """16-bit sRGB (three bands) in the colours of the profile, at 8 or 16 bits.

    Without a profile CMYK means the one built into libvips. The result is None if the profile only works from
    the device to colours, as those of scanners do.
    """
    if icc is None:
        return _export(image, "cmyk", bits) if colour == "cmyk" else None
    handle, path = tempfile.mkstemp(suffix=".icc")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(icc)
        # A few pixels first: a profile may open well and fail in use.
        if _export(image.crop(0, 0, 1, 1), path, bits, draw=True) is None:
            return None
        return _export(image, path, bits)
    finally:
        os.unlink(path)


def _export(image: pyvips.Image, profile: str, bits: int, draw: bool = False) -> pyvips.Image | None:
    try:
        result = image.icc_transform(profile, input_profile="srgb", depth=bits, **_INTENT)
        if draw:
            result.write_to_memory()
    except pyvips.Error:
        return None
    result.remove(_FIELD)
    return result


@lru_cache(maxsize=8)
def _patches_in_srgb(icc: bytes, colour: Colour) -> np.ndarray | None:
    patches = _patches(colour)
    height, width, bands = patches.shape
    space = {"grey": "b-w", "rgb": "srgb", "cmyk": "cmyk"}[colour]
    image = pyvips.Image.new_from_memory(patches.tobytes(), width, height, bands, "uchar")
    try:
        converted = to_srgb(image.copy(interpretation=space), colour, icc)
        raw = bytes(converted.write_to_memory())
    except pyvips.Error:
        return None
    return np.frombuffer(raw, np.uint16).reshape(height, width, -1).astype(np.int64)


def _patches(colour: Colour) -> np.ndarray:
    """A lattice of device colours `[1, N, bands]`."""
    if colour == "grey":
        return np.arange(256, dtype=np.uint8).reshape(1, -1, 1)
    levels = np.linspace(0, 255, 9 if colour == "rgb" else 4).round().astype(np.uint8)
    axes = np.meshgrid(*[levels] * (3 if colour == "rgb" else 4), indexing="ij")
    return np.stack(axes, axis=-1).reshape(1, -1, len(axes))
