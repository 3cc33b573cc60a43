"""Captions of training clips: said once, kept in a file of JSON lines, of which a kill takes one at most."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from unfade.core import InputError, OutputError
from unfade.media.seek import FrameReader
from unfade.prompts.footage import FootageCaptioner, caption_times
from unfade.training.clip_manifest import CuratedClip, CuratedVideo
from unfade.training.footage_clips import FootageClips

# Hears how many captions there are of how many.
Heard = Callable[[int, int], None]


def caption_clips(
    clips: FootageClips,
    captioner: FootageCaptioner,
    path: Path,
    heard: Heard | None = None,
    unread: Callable[[str], None] | None = None,
) -> dict[str, str]:
    """The captions of all clips by `FootageClips.caption_key`; those that the file lacks are made and added to it.

    Args:
        clips: to be captioned.
        captioner: is shown a frame a second of each, and the last one, as published.
        path: of the captions; another captioner's stay in it and are not taken.
        heard: told after each new one.
        unread: told why a clip can't be read, which then has no caption; without it that is an error.

    Raises:
        InputError: a clip can't be read, or the file isn't one of captions.
        OutputError: the file can't be written.
    """
    found = read_captions(path, captioner.identity)
    keys = [clips.caption_key(index) for index in range(len(clips))]
    for index, key in enumerate(keys):
        if key not in found:
            try:
                frames, times = looks_at(*clips.parts[index])
            except InputError as error:
                if unread is None:
                    raise
                unread(str(error))
                continue
            found[key] = captioner.describe(frames, times)
            append_caption(path, key, found[key], captioner.identity)
            if heard:
                heard(index + 1, len(keys))
    return {key: found[key] for key in keys if key in found}


def looks_at(video: CuratedVideo, clip: CuratedClip) -> tuple[Tensor, list[float]]:
    """What a captioner is shown of a clip: frames `[T, 3, H, W]` in [0, 1], and their times in seconds.

    Raises:
        InputError: the file is gone, has changed or is damaged.
    """
    video.check_unchanged()
    fps = clip.count / clip.seconds
    looks = caption_times(clip.count, fps)
    with FrameReader(video.path) as reader:
        frames = [
            frame.image
            for look in looks
            for frame in reader.read(clip.first + look, clip.first + look + 1, clip.mark(clip.first + look))
        ]
    return torch.stack(frames), [look / fps for look in looks]


def read_captions(path: Path, captioner: str | None = None) -> dict[str, str]:
    """Captions by key; of a key that is there twice, the last. Empty if there is no file.

    A last line that was cut off is passed over.

    Args:
        path: of the file.
        captioner: identity of the captioner whose captions are wanted; None takes all.

    Raises:
        InputError: a line is damaged.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    except OSError as error:
        raise InputError(f"{path} can't be read; delete it and the captions are made again") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line.decode("utf-8"))
            if captioner in (None, row["captioner"]):
                found[row["key"]] = row["caption"]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"line {number} of {path} is no caption; delete the line and it is made again"
            ) from error
    return found


def append_caption(path: Path, key: str, caption: str, captioner: str) -> None:
    """Adds a caption to the file; what a kill left half-written before it is taken out.

    Args:
        path: of the file; made where there is none.
        key: of the clip.
        caption: what is said of it.
        captioner: identity of who says so.

    Raises:
        OutputError: it can't be written.
    """
    row = json.dumps({"key": key, "caption": caption, "captioner": captioner}, ensure_ascii=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            if file.read() not in (b"", b"\n"):
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
            file.write(row.encode("utf-8"))
    except OSError as error:
        raise OutputError(
            f"{path} can't be written ({error.strerror or error}); make room and go on by the same command"
        ) from error
