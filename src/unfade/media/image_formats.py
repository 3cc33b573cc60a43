"""What each image format that can be written is able to carry."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """What a format can carry.

    Attributes:
        depths: bits a sample it can store, ascending.
        alpha, grey, cmyk: whether it stores these.
        profile: whether it stores a colour profile; others get sRGB.
        longest: side in pixels that it can't exceed.
        quality: 1 to 100 where nothing else is asked for; None where there is no such setting.
        lossless: whether it can be lossless.
    """

    depths: tuple[int, ...]
    alpha: bool = True
    grey: bool = False
    cmyk: bool = False
    profile: bool = True
    longest: int = 2**31 - 1
    quality: int | None = None
    lossless: bool = True


FORMATS = {
    "jpeg": ImageFormat((8,), alpha=False, grey=True, cmyk=True, longest=65500, quality=95, lossless=False),
    "png": ImageFormat((8, 16), grey=True),
    "tiff": ImageFormat((8, 16), grey=True, cmyk=True),
    "webp": ImageFormat((8,), longest=16383, quality=95),
    "heif": ImageFormat((8, 10, 12), longest=16384, quality=90),
    "gif": ImageFormat((8,), profile=False, longest=65535, lossless=False),
    "ppm": ImageFormat((8, 16), alpha=False, grey=True, profile=False),
}
SUFFIXES = {
    ".jpg": "jpeg", ".jpeg": "jpeg", ".jpe": "jpeg", ".png": "png", ".tif": "tiff", ".tiff": "tiff",
    ".webp": "webp", ".avif": "heif", ".gif": "gif", ".ppm": "ppm", ".pgm": "ppm", ".pnm": "ppm",
}  # fmt: skip
