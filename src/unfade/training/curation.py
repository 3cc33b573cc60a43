"""What of a heap of footage is worth learning from: shots that are large, fast, long and good enough."""

import hashlib
import math
import os
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unfade.core import InputError, UsageError
from unfade.media.cuts import is_cut
from unfade.media.glances import glances
from unfade.media.seek import FrameReader
from unfade.media.source import FOOTAGE
from unfade.media.video import VideoInfo, main_stream, open_footage, probe_video
from unfade.training.clip_manifest import (
    MARK_EVERY,
    CuratedClip,
    CuratedVideo,
    Probed,
    Terms,
    Totals,
    append,
    go_on,
    shard_path,
    stamp_of,
    totals_of,
)

# Below this a frame rate is really lower: 24000/1001 is, 23.9999 out of rounded timestamps isn't.
_RATE = 0.9995
# PQ and HLG: light that is not sRGB's, and there is no tone mapping.
_HDR = (16, 18)


@dataclass(frozen=True, slots=True)
class CurationRules:
    """What footage must have to be learnt from; the defaults are Vivid-VR's, as far as they are published.

    Attributes:
        least_side: pixels of a frame's shorter side, as displayed.
        least_fps: frames a second, both on average and within a clip. The published 24 leaves out film at 23.976.
        least_seconds: a shorter shot is left out.
        most_seconds: a longer shot becomes several clips of one length.
        least_quality: what the judge must say at least, or at most where lower is better; None takes all.
        looks: how many frames of a clip the judge sees, evenly spaced.

    Raises:
        UsageError: a rule can't be kept.

    Source: Vivid-VR (arXiv 2508.14483), section 4: more than 1024 x 1024 pixels, 24 frames a second and 2 seconds,
        screened by DOVER and MD-VQA with thresholds that are not said. The longest clip is this project's.
    """

    least_side: int = 1024
    least_fps: float = 24.0
    least_seconds: float = 2.0
    most_seconds: float = 10.0
    least_quality: float | None = None
    looks: int = 3

    def __post_init__(self) -> None:
        if self.looks < 1 or self.least_seconds <= 0:
            raise UsageError("curation takes at least one look at a clip and leaves out clips of no length")
        if self.most_seconds < 2 * self.least_seconds:
            raise UsageError(
                f"clips of {self.least_seconds:g} to {self.most_seconds:g} seconds can't be cut out of every shot; the "
                "most has to be twice the least"
            )


@dataclass(frozen=True, slots=True)
class Judge:
    """A no-reference metric.

    Attributes:
        name: of the metric, which goes into the manifest.
        measure: from frames `[T, 3, H, W]` in [0, 1] to its figure, or None where it has none to give.
        higher_is_better: which way is up.
    """

    name: str
    measure: Callable[[Tensor], float | None]
    higher_is_better: bool = True

    def passes(self, quality: float, least: float) -> bool:
        """Whether a figure is as good as `least` or better."""
        return quality >= least if self.higher_is_better else quality <= least


# Hears of each video that was curated: how many are done of how many, and the video.
Heard = Callable[[int, int, CuratedVideo], None]


def find_footage(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Every file below the folders that is named like a video, absolute and sorted; hidden ones are passed over.

    Raises:
        InputError: a folder is missing, or there is no video at all.
    """
    folders = list(folders)
    found: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder of videos")
        for path in folder.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.suffix.lower() in FOOTAGE and not hidden and not path.is_dir():
                found.add(Path(os.path.abspath(path)))
    if not found:
        raise InputError(f"there is no video below {', '.join(map(str, folders))}")
    return tuple(sorted(found))


def curate(
    folders: Iterable[Path],
    manifest: Path,
    rules: CurationRules,
    judge: Judge | None = None,
    shard: tuple[int, int] = (0, 1),
    heard: Heard | None = None,
) -> Totals:
    """Curates every video below the folders that the manifest does not have yet, one after the other.

    Args:
        folders: to be walked.
        manifest: JSON lines; a share of the videos is written to `shard_path(manifest, shard)`.
        rules: what a clip must have.
        judge: measures quality; without one it is not asked about.
        shard: (index, count): which of several processes this is. A video's share depends on its path.
        heard: is told of the progress.

    Returns:
        The totals of the whole manifest, or of this share's.

    Raises:
        InputError: there is nothing to curate, or the manifest can't be read.
        UsageError: the manifest was made by other rules or another judge, or a quality is asked for without a judge.
        OutputError: the manifest can't be written.
    """
    if rules.least_quality is not None and judge is None:
        raise UsageError("a least quality needs a metric that judges it; name one or leave the quality out")
    target = shard_path(manifest, shard)
    files = [path for path in find_footage(folders) if _share(path, shard[1]) == shard[0]]
    name, better = (judge.name, judge.higher_is_better) if judge else (None, None)
    rows = list(go_on(target, Terms(asdict(rules), name, better, shard)))
    done = {row.path for row in rows}
    todo = [path for path in files if path not in done]
    for number, path in enumerate(todo, 1 + len(files) - len(todo)):
        row = curate_video(path, rules, judge)
        append(target, row)
        rows.append(row)
        if heard:
            heard(number, len(files), row)
    return totals_of(rows)


def curate_video(path: Path, rules: CurationRules, judge: Judge | None = None) -> CuratedVideo:
    """The clips of one video, or why it has none; it is decoded once, a frame at a time, and again to be judged."""
    size, mtime_ns = stamp_of(path)
    row = CuratedVideo(path, size, mtime_ns)
    reason = "not footage"
    try:
        with open_footage(path) as container:
            reason = "no pictures"
            main_stream(path, container)
        reason = "damaged"
        info = probe_video(path)
        row = replace(row, probed=_probed(info))
        if (unfit := _unfit(info, rules)) is not None:
            return replace(row, reason=unfit[0], told=unfit[1])
        footage = _looked_through(info)
        row = replace(row, probed=replace(_probed(info), frames=len(footage.times)))
        clips, left = _clips(footage, info, rules, judge)
    except InputError as error:
        return replace(row, reason=reason, told=str(error))
    if clips:
        return replace(row, clips=tuple(clips), shots_left=dict(left))
    told = f"{path} has no shot to learn from ({', '.join(f'{count} {why}' for why, count in left.items())})"
    return replace(row, shots_left=dict(left), reason="no clip", told=told)


@dataclass(frozen=True, slots=True)
class _Footage:
    """Times of all frames, in ticks, and of the end; where shots begin; which frames are interlaced."""

    times: "array[int]"
    end: int
    shots: list[int]
    interlaced: bytearray


def _looked_through(info: VideoInfo) -> _Footage:
    times, shots, interlaced = array("q"), list[int](), bytearray()
    before: Tensor | None = None
    end = 0
    for glance in glances(info):
        if before is None or is_cut(before, glance.thumbnail):
            shots.append(glance.index)
        times.append(glance.pts)
        interlaced.append(glance.interlaced)
        before, end = glance.thumbnail, glance.end
    return _Footage(times, end, shots, interlaced)


def _clips(
    footage: _Footage, info: VideoInfo, rules: CurationRules, judge: Judge | None
) -> tuple[list[CuratedClip], Counter[str]]:
    clips: list[CuratedClip] = []
    left: Counter[str] = Counter()
    times = (*footage.times, footage.end)
    tick = float(info.time_base)
    with FrameReader(info.path) as reader:
        for first, stop in zip(footage.shots, (*footage.shots[1:], len(footage.times)), strict=True):
            count, seconds = stop - first, (times[stop] - times[first]) * tick
            if seconds + tick < rules.least_seconds:
                left["short"] += 1
            elif count < _RATE * rules.least_fps * (seconds - tick):
                left["slow"] += 1
            elif any(footage.interlaced[first:stop]):
                left["interlaced"] += 1
            else:
                for begin, end in _pieces(first, stop, seconds, rules.most_seconds):
                    clip = CuratedClip(
                        begin,
                        end - begin,
                        (times[begin] - times[0]) * tick,
                        (times[end] - times[begin]) * tick,
                        None,
                        times[begin:end:MARK_EVERY],
                    )
                    quality, why = _judged(clip, reader, rules, judge)
                    if why is None:
                        clips.append(replace(clip, quality=quality))
                    else:
                        left[why] += 1
    return clips, left


def _pieces(first: int, stop: int, seconds: float, most: float) -> Iterator[tuple[int, int]]:
    """A shot in as few parts of one length as none is too long."""
    count = stop - first
    parts = math.ceil(count / max(1, math.floor(most * count / seconds)))
    for part in range(parts):
        yield first + part * count // parts, first + (part + 1) * count // parts


def _judged(
    clip: CuratedClip, reader: FrameReader, rules: CurationRules, judge: Judge | None
) -> tuple[float | None, str | None]:
    """The quality of a clip, and why it is left out, if it is."""
    if judge is None:
        return None, None
    looks = min(rules.looks, clip.count)
    chosen = [clip.first + (2 * look + 1) * clip.count // (2 * looks) for look in range(looks)]
    seen = [frame.image for one in chosen for frame in reader.read(one, one + 1, clip.mark(one))]
    quality = judge.measure(torch.stack(seen))
    if quality is None or not math.isfinite(quality):
        return None, "unjudged"
    poor = rules.least_quality is not None and not judge.passes(quality, rules.least_quality)
    return float(quality), "poor" if poor else None


def _unfit(info: VideoInfo, rules: CurationRules) -> tuple[str, str] | None:
    """Why a video need not be decoded: the reason in a word and as a sentence."""
    path = info.path
    if min(info.width, info.height) < rules.least_side:
        return (
            "small",
            f"{path} has frames of {info.width} x {info.height}, under {rules.least_side} on a side",
        )
    if info.fps < _RATE * rules.least_fps:
        return "slow", f"{path} has {float(info.fps):.3f} frames a second, fewer than {rules.least_fps:g}"
    if info.duration is not None and info.duration + float(info.time_base) < rules.least_seconds:
        return "short", f"{path} lasts {info.duration:.2f} seconds, less than {rules.least_seconds:g}"
    if info.tags.transfer in _HDR:
        return "high dynamic range", f"{path} is of high dynamic range; convert it to sRGB or BT.709 first"
    return None


def _probed(info: VideoInfo) -> Probed:
    fps = f"{info.fps.numerator}/{info.fps.denominator}"
    return Probed(info.width, info.height, fps, info.duration, None, info.codec, info.pix_fmt)


def _share(path: Path, count: int) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(path)).digest()[:8], "big") % count
