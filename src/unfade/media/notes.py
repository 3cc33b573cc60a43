"""Provenance notes: where each kind of file keeps them, and how to get them back."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from unfade.core import InputError
from unfade.media import netpbm
from unfade.media.metadata import check_notes, notes_of_xmp
from unfade.media.source import damaged, read_head, sniff_image
from unfade.media.vips import FAILURES, blob_of, fields_of, first_line, pyvips

CONTAINER_TAG = "unfade"
_COMMENT = re.compile(r"png-comment-\d+-unfade:(.*)", re.DOTALL)


def read_notes(path: Path) -> dict[str, str]:
    """The notes stored with an image or a film; empty where there are none or the format can't carry any
    (GIF).

    Raises:
        InputError: the file is neither an image nor footage, or can't be opened.
    """
    path = Path(path)
    format = sniff_image(read_head(path))
    if format is None:
        return _notes_of_footage(path)
    if format == "ppm":
        return netpbm.read_comments(path)
    try:
        return notes_of_image(getattr(pyvips.Image, f"{format}load")(str(path), access="sequential"))
    except FAILURES as error:
        raise damaged(path, first_line(error)) from error


def notes_of_image(image: pyvips.Image) -> dict[str, str]:
    """The notes in an open image's text chunks or XMP packet."""
    notes = notes_of_xmp(blob_of(image, "xmp-data"))
    for field in fields_of(image):
        match = _COMMENT.fullmatch(field)
        if match is not None:
            notes[match[1]] = str(image.get(field))
    return notes


def container_tags(notes: Mapping[str, str]) -> dict[str, str]:
    """The notes as one tag of a film's container.

    One tag, because containers change the letters of tag names.
    """
    return {CONTAINER_TAG: json.dumps(check_notes(notes), ensure_ascii=False)} if notes else {}


def notes_of_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The notes in a container's tags."""
    for name, text in tags.items():
        if name.lower() == CONTAINER_TAG:
            try:
                return {str(key): str(value) for key, value in json.loads(text).items()}
            except (ValueError, AttributeError):
                return {}
    return {}


def _notes_of_footage(path: Path) -> dict[str, str]:
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            return notes_of_tags(container.metadata)
    except (FFmpegError, OSError) as error:
        raise InputError(f"{path} is neither an image nor a video of a known format") from error
