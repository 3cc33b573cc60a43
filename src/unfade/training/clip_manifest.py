"""The manifest of curated footage: a line of JSON for each video, of which a kill takes one at most."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unfade.core import InputError, OutputError, UsageError
from unfade.media.atomic import atomic_output
from unfade.media.seek import Mark

_KIND = "unfade footage 1"
# Frames between two marks of a clip. With fewer the manifest grows, with more a draw counts more frames.
MARK_EVERY = 16


@dataclass(frozen=True, slots=True)
class CuratedClip:
    """A part of one shot that is worth learning from.

    Attributes:
        first: number of its first frame in the video, from 0.
        count: of its frames.
        begin, seconds: when it begins after the video's first frame, and how long it is.
        quality: as the judge said, or None without one.
        marks: when frames `first`, `first + 16`, `first + 32`, ... are shown, in ticks.
    """

    first: int
    count: int
    begin: float
    seconds: float
    quality: float | None
    marks: tuple[int, ...]

    def mark(self, frame: int) -> Mark:
        """The last mark not after a frame of the video."""
        place = (frame - self.first) // MARK_EVERY
        return Mark(self.first + place * MARK_EVERY, self.marks[place])


@dataclass(frozen=True, slots=True)
class Probed:
    """What a video said about itself and what was counted in it.

    Attributes:
        width, height: of a frame as displayed.
        fps: on average, as a fraction ("30000/1001").
        seconds: as promised, or None.
        frames: counted; None where nobody looked.
        codec, pix_fmt: how it is coded.
    """

    width: int
    height: int
    fps: str
    seconds: float | None
    frames: int | None
    codec: str
    pix_fmt: str


@dataclass(frozen=True, slots=True)
class CuratedVideo:
    """One file: its clips, or why there are none.

    Attributes:
        path: absolute.
        size, mtime_ns: of the file when it was curated; both 0 where it couldn't be looked up.
        probed: None where nothing could be read.
        clips: in their order.
        shots_left: how many shots, or parts of them, were left out, by reason.
        reason: why it has no clips, in a few words; None where it has some.
        told: the same as a sentence.
    """

    path: Path
    size: int
    mtime_ns: int
    probed: Probed | None = None
    clips: tuple[CuratedClip, ...] = ()
    shots_left: Mapping[str, int] = field(default_factory=dict[str, int])
    reason: str | None = None
    told: str | None = None

    def check_unchanged(self) -> None:
        """Whether the file is still the one that was curated.

        Raises:
            InputError: it is gone or has changed.
        """
        size, mtime_ns = stamp_of(self.path)
        if (size, mtime_ns) == (0, 0):
            raise InputError(
                f"{self.path} can't be found any more; bring it back, or curate the footage again to leave it out"
            )
        if (size, mtime_ns) != (self.size, self.mtime_ns):
            raise InputError(f"{self.path} has changed since it was curated; curate the footage again")


def stamp_of(path: Path) -> tuple[int, int]:
    """Size and time of change in nanoseconds of a file; (0, 0) where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Terms:
    """What a manifest was made by; to go on with it takes the same.

    Attributes:
        rules: by name.
        judge: name of the metric, or None.
        higher_is_better: which way the judge counts, or None.
        shard: (index, count) of the share of the videos that is in it; (0, 1) is all of them.
    """

    rules: Mapping[str, float | None]
    judge: str | None = None
    higher_is_better: bool | None = None
    shard: tuple[int, int] = (0, 1)

    def check_same(self, path: Path, before: "Terms") -> None:
        """Whether a manifest made by other terms can be gone on with by these.

        Raises:
            UsageError: it can't, which says what is different.
        """
        pairs = [("the judge", before.judge, self.judge), ("the shard", before.shard, self.shard)]
        pairs.append(("the judge's higher_is_better", before.higher_is_better, self.higher_is_better))
        names = sorted(before.rules.keys() | self.rules.keys())
        pairs += [(name.replace("_", " "), before.rules.get(name), self.rules.get(name)) for name in names]
        for name, old, new in pairs:
            if old != new:
                raise UsageError(
                    f"{path} was curated with {name} {_told(old)}, not {_told(new)}; give that again, or write another "
                    "manifest"
                )


@dataclass(frozen=True, slots=True)
class Totals:
    """What a curation came to.

    Attributes:
        videos: seen.
        kept: of these, how many have clips.
        clips: in all.
        hours: of the clips together.
        reasons: videos left out, by reason.
        shots_left: shots left out, by reason, of all videos.
    """

    videos: int
    kept: int
    clips: int
    hours: float
    reasons: Mapping[str, int]
    shots_left: Mapping[str, int]


def totals_of(videos: Iterable[CuratedVideo]) -> Totals:
    """Counts, the commonest reason first."""
    reasons: Counter[str] = Counter()
    shots: Counter[str] = Counter()
    seen = kept = clips = 0
    seconds = 0.0
    for video in videos:
        seen += 1
        kept += bool(video.clips)
        clips += len(video.clips)
        seconds += sum(clip.seconds for clip in video.clips)
        shots.update(video.shots_left)
        if video.reason is not None:
            reasons[video.reason] += 1
    return Totals(seen, kept, clips, seconds / 3600, dict(reasons.most_common()), dict(shots.most_common()))


def read_manifest(path: Path) -> tuple[Terms, tuple[CuratedVideo, ...]]:
    """What a manifest says, in the order of the paths; of a video that is in it twice, what was said last.

    A last line that was cut off is passed over.

    Raises:
        InputError: the file is missing, is no manifest of footage, or a line is damaged.
    """
    try:
        header, *lines = path.read_bytes().rpartition(b"\n")[0].split(b"\n")
        content = json.loads(header)
        if content["kind"] != _KIND:
            raise ValueError("another kind")
        index, count = content["shard"]
        terms = Terms(content["rules"], content["judge"], content["higher_is_better"], (index, count))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a manifest of curated footage; curate some first") from error
    videos: dict[Path, CuratedVideo] = {}
    for number, line in enumerate(lines, 2):
        try:
            video = _video(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"line {number} of {path} is damaged; delete the line and curate again"
            ) from error
        videos[video.path] = video
    return terms, tuple(videos[one] for one in sorted(videos))


def write_manifest(path: Path, terms: Terms, videos: Iterable[CuratedVideo]) -> None:
    """Writes a whole manifest, or none.

    Raises:
        OutputError: it can't be written.
    """
    with atomic_output(path) as temporary, temporary.open("w", encoding="ascii", newline="\n") as file:
        file.write(json.dumps({"kind": _KIND, **asdict(terms)}) + "\n")
        for video in videos:
            file.write(_line(video))


def go_on(path: Path, terms: Terms) -> tuple[CuratedVideo, ...]:
    """Begins a manifest, or finds out what is done of one: gives the videos that need not be curated again.

    What a kill left half-written, and files that are gone or have changed, are taken out of it.

    Raises:
        UsageError: it was made by other terms.
        InputError: there is a file, but it is no such manifest.
        OutputError: it can't be written.
    """
    if not path.exists():
        write_manifest(path, terms, ())
        return ()
    before, videos = read_manifest(path)
    terms.check_same(path, before)
    kept = tuple(video for video in videos if (video.size, video.mtime_ns) == stamp_of(video.path))
    if len(kept) < len(videos) or not path.read_bytes().endswith(b"\n"):
        write_manifest(path, terms, kept)
    return kept


def append(path: Path, video: CuratedVideo) -> None:
    """Adds a video, which is on the disk when this returns.

    Raises:
        OutputError: it can't be written.
    """
    try:
        with path.open("ab") as file:
            file.write(_line(video).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(
            f"{path} can't be written ({error.strerror or error}); make room and go on by the same command"
        ) from error


def shard_path(manifest: Path, shard: tuple[int, int]) -> Path:
    """The manifest of a share of the videos: beside the whole one, and for (0, 1) that itself.

    Raises:
        UsageError: there is no such share.
    """
    index, count = shard
    if not 0 <= index < count:
        raise UsageError(f"there is no share {index} of {count}; shares are counted from 0")
    name = f"{manifest.stem}.{index:04d}-of-{count:04d}{manifest.suffix}"
    return manifest if count == 1 else manifest.with_name(name)


def merge_shards(manifest: Path, count: int) -> Totals:
    """Puts the manifests of all shares into one, which can be drawn from and gone on with like any other.

    Raises:
        InputError: the manifest of a share is missing or damaged.
        UsageError: they were made by different terms, or what is in the place of the whole one was.
        OutputError: it can't be written.
    """
    if count < 1:
        raise UsageError(f"there are no {count} shares; merge as many as were made")
    paths = [shard_path(manifest, (index, count)) for index in range(count)]
    found = [read_manifest(path) for path in paths]
    shares = [Terms(terms.rules, terms.judge, terms.higher_is_better) for terms, _ in found]
    for share in shares[1:]:
        share.check_same(paths[0], shares[0])
    if count > 1 and manifest.exists():
        shares[0].check_same(manifest, read_manifest(manifest)[0])
    videos = {video.path: video for _, videos in found for video in videos}
    rows = [videos[path] for path in sorted(videos)]
    write_manifest(manifest, shares[0], rows)
    return totals_of(rows)


def _line(video: CuratedVideo) -> str:
    return json.dumps({**asdict(video), "path": str(video.path)}) + "\n"


def _video(row: Mapping[str, Any]) -> CuratedVideo:
    probed = row["probed"]
    return CuratedVideo(
        Path(row["path"]),
        row["size"],
        row["mtime_ns"],
        None if probed is None else Probed(**probed),
        _clips(row["clips"]),
        row["shots_left"],
        row["reason"],
        row["told"],
    )


def _clips(rows: Sequence[Mapping[str, Any]]) -> tuple[CuratedClip, ...]:
    return tuple(CuratedClip(**{**row, "marks": tuple(row["marks"])}) for row in rows)


def _told(value: object) -> str:
    if value is None:
        return "none"
    return f"{value[0]} of {value[1]}" if isinstance(value, tuple) else str(value)
