"""A folder of clips that a concept distillation made: nearly lossless videos, captions, and how they were made."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from torch import Tensor

from unfade.core import InputError, OutputError, UsageError
from unfade.media.atomic import atomic_output
from unfade.media.metadata import check_notes
from unfade.media.notes import container_tags, read_notes
from unfade.media.video import frame_times, main_stream, open_footage, probe_video
from unfade.media.video_writer import tag_stream
from unfade.media.yuv import ColourTags, rgb_to_picture
from unfade.training.clip_captions import append_caption, read_captions
from unfade.training.clip_manifest import (
    MARK_EVERY,
    CuratedClip,
    CuratedVideo,
    Probed,
    Terms,
    Totals,
    append,
    go_on,
    merge_shards,
    read_manifest,
    shard_path,
    stamp_of,
)
from unfade.training.footage_clips import caption_key
from unfade.version import __version__

NOTE, MANIFEST, CAPTIONS, CLIPS = "concepts.json", "manifest.jsonl", "captions.jsonl", "clips"
_KIND = "unfade concepts 1"
# Ten bits and all of the colours, judged by no eye: photos that move come back at 56 to 58 dB in about one bit a pixel
# (measured on two), with grain of 2 % at 48 dB. One thread and no macroblock tree, because x264 may give another stream
# in another run otherwise.
_PIXELS = "yuv444p10le"
_X264 = {"crf": "4", "preset": "medium", "threads": "1", "x264-params": "mbtree=0:psy=0:aq-mode=0"}


class ConceptStore:
    """Clips of one distillation, to be gone on with; several processes may fill one folder, a shard each.

    `clips/` has a video for each, `manifest.jsonl` lists them as curated footage, `captions.jsonl` says what is in them
    and `concepts.json` how they were made. A video appears whole or not at all and carries its caption, so one that a
    kill left unlisted is listed when it is asked for, and not made again.

    Args:
        folder: of all this.
        made_of: what decides the clips, ready for JSON; `captioner` in it is the identity of who captioned.
        shard: (index, count): which of several processes this is.

    Attributes:
        manifest, captions: the files of this shard.

    Raises:
        UsageError: the folder holds clips that were made otherwise.
        InputError: one of its files is damaged.
        OutputError: it can't be written.
    """

    def __init__(self, folder: Path, made_of: Mapping[str, Any], shard: tuple[int, int] = (0, 1)) -> None:
        self._folder = Path(os.path.abspath(folder))
        self._made_of = json.loads(json.dumps(dict(made_of)))
        told = json.dumps(self._made_of, sort_keys=True)
        self._identity = hashlib.sha256(told.encode()).hexdigest()[:24]
        self.manifest = shard_path(self._folder / MANIFEST, shard)
        self.captions = shard_path(self._folder / CAPTIONS, shard)
        _begin(self._folder / NOTE, self._made_of)
        self._rows = {row.path: row for row in go_on(self.manifest, Terms({}, shard=shard))}
        self._told = read_captions(self.captions)

    def path(self, key: str) -> Path:
        """The video that is made of a clip, by the clip's `caption_key`."""
        return self._folder / CLIPS / f"{key}.mp4"

    def has(self, key: str) -> bool:
        """Whether what was made of a clip is there and whole; lists it where it isn't yet.

        Raises:
            OutputError: the lists can't be written.
        """
        row = self._rows.get(self.path(key))
        if row is not None and _key(row) in self._told:
            return True
        return self.path(key).is_file() and self._adopted(self.path(key))

    def keep(self, key: str, frames: Tensor, fps: str, caption: str) -> None:
        """Writes a clip, its caption and its line of the manifest, in this order.

        Args:
            key: the `caption_key` of the clip it was made of.
            frames: `[T, 3, H, W]` in [0, 1].
            fps: a fraction, such as "30000/1001".
            caption: what it was told.

        Raises:
            OutputError: something can't be written.
            ValueError: a pixel is not finite.
        """
        caption = check_notes({"caption": caption})["caption"]
        notes = {
            "software": f"unfade {__version__}",
            "method": "Vivid-VR concept distillation",
            "made_of": self._identity,
            "frames": str(len(frames)),
            "caption": caption,
        }
        write_nearly_lossless(frames, self.path(key), Fraction(fps), notes)
        self._list(self.path(key), caption)

    def _adopted(self, path: Path) -> bool:
        """Whether a video that isn't listed is one of these, which is then listed."""
        try:
            notes, count = read_notes(path), _whole_frames(path)
        except InputError:
            return False
        if (notes.get("made_of"), notes.get("frames")) != (self._identity, str(count)):
            return False
        self._list(path, notes.get("caption", ""))
        return True

    def _list(self, path: Path, caption: str) -> None:
        row = _row(path)
        if _key(row) not in self._told:
            append_caption(self.captions, _key(row), caption, self._made_of["captioner"])
            self._told[_key(row)] = caption
        if path not in self._rows:
            append(self.manifest, row)
            self._rows[path] = row


def merge_concepts(folder: Path, shards: int) -> Totals:
    """Puts captions and manifests of all shards together; the clips lie where they are.

    Args:
        folder: of the store.
        shards: how many there are.

    Raises:
        InputError: a shard was not begun yet, or a file is damaged.
        UsageError: there is no such number of shards.
        OutputError: something can't be written.
    """
    if shards < 1:
        raise UsageError(f"there are no {shards} shards; merge as many as were made")
    folder = Path(os.path.abspath(folder))
    captioner = _read_note(folder / NOTE)["captioner"]
    captions: dict[str, str] = {}
    for index in range(shards):
        path = shard_path(folder / MANIFEST, (index, shards))
        if not path.exists():
            raise InputError(f"{path} is missing; run --shard {index}/{shards} first")
        told = read_captions(shard_path(folder / CAPTIONS, (index, shards)))
        keys = [_key(row) for row in read_manifest(path)[1]]
        captions |= {key: told[key] for key in keys if key in told}
    with atomic_output(folder / CAPTIONS) as temporary:
        rows = ({"key": key, "caption": captions[key], "captioner": captioner} for key in sorted(captions))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        temporary.write_text(text, encoding="utf-8")
    return merge_shards(folder / MANIFEST, shards)


def write_nearly_lossless(frames: Tensor, path: Path, fps: Fraction, notes: Mapping[str, str]) -> None:
    """Writes a clip as H.264 of 10 bits without chroma subsampling; the same frames give the same bytes.

    Args:
        frames: `[T, 3, H, W]` in [0, 1], sRGB.
        path: .mp4.
        fps: frames a second.
        notes: kept in the file.

    Raises:
        OutputError: it can't be written.
        ValueError: a pixel is not finite.
    """
    flags = {"movflags": "+faststart+use_metadata_tags", "fflags": "+bitexact"}
    with atomic_output(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4", options=flags) as container:
                container.metadata.update(container_tags(notes))
                stream = container.add_stream("libx264", rate=fps, options=_X264)
                stream.height, stream.width = frames.shape[2:]
                stream.pix_fmt = _PIXELS
                tag_stream(stream, ColourTags())
                for number, frame in enumerate(frames):
                    picture = rgb_to_picture(frame, _PIXELS, ColourTags())
                    picture.pts, picture.time_base = number, 1 / fps
                    container.mux(stream.encode(picture))
                container.mux(stream.encode(None))
        except FFmpegError as error:
            raise OutputError(f"{path} can't be written: the encoder says {error}") from error


def _row(path: Path) -> CuratedVideo:
    """A whole video as one clip of curated footage."""
    info, times = probe_video(path), frame_times(path)
    step = (times.last - times.first) // max(1, times.count - 1)
    marks = tuple(range(times.first, times.first + step * times.count, step * MARK_EVERY)) if step else (0,)
    seconds = float(times.count / info.fps)
    fps = f"{info.fps.numerator}/{info.fps.denominator}"
    probed = Probed(info.width, info.height, fps, seconds, times.count, info.codec, info.pix_fmt)
    clip = CuratedClip(0, times.count, 0.0, seconds, None, marks)
    return CuratedVideo(path, *stamp_of(path), probed, (clip,))


def _whole_frames(path: Path) -> int:
    """How many frames of a video are in its file from their first byte to their last.

    Raises:
        InputError: it can't be opened.
    """
    count = 0
    with open_footage(path) as container, suppress(FFmpegError):
        for packet in container.demux(main_stream(path, container)):
            count += bool(packet.size) and not packet.is_corrupt
    return count


def _key(row: CuratedVideo) -> str:
    (clip,) = row.clips
    return caption_key(row.path, clip.first, clip.count)


def _begin(path: Path, made_of: Mapping[str, Any]) -> None:
    """Writes down how clips are made, or finds out whether those that are there were made so."""
    if not path.exists():
        note = {"kind": _KIND, "software": f"unfade {__version__}", "made_of": made_of}
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(note, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return
    before, now = _flat(_read_note(path)), _flat(made_of)
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old != new:
            raise UsageError(
                f"the clips of {path.parent} are made with {name} {old}, not {new}; give that again, or choose another "
                "folder"
            )


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if note["kind"] != _KIND:
            raise ValueError("another kind")
        return {"captioner": None, **note["made_of"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not say how clips were made; choose another folder") from error


def _flat(made_of: Mapping[str, Any]) -> dict[str, Any]:
    """With what lies inside beside the rest, since sentences name one thing."""
    flat: dict[str, Any] = {}
    for name, value in made_of.items():
        flat |= value if isinstance(value, Mapping) else {name: value}
    return flat
