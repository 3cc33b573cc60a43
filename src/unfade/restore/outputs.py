"""Where every result goes, decided before any work starts, so that nothing is replaced by surprise.

Knows names only: it reads no pixel, and of a file's content only the first bytes where its name says nothing.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unfade.core import InputError, OutputError, UsageError
from unfade.media.image_formats import SUFFIXES
from unfade.media.source import FOOTAGE, read_head, sniff_image
from unfade.media.video_writer import CONTAINERS

# Extensions that are read but not written, and what is written instead.
FALLBACKS = {".heic": ".avif", ".heif": ".avif", ".hif": ".avif", ".jfif": ".jpg"}
_EXTENSIONS = {
    "jpeg": ".jpg", "png": ".png", "tiff": ".tif", "webp": ".webp",
    "heif": ".avif", "gif": ".gif", "ppm": ".ppm",
}  # fmt: skip
# What results beside their inputs are called; walking a folder doesn't take them for inputs.
_OWN_FILES = ("_unfaded", "_unfaded_sheet", "_unfaded_film", "_unfaded_confidence")
_OWN_FOLDERS = ("_unfaded", "_unfaded_frames")
_ALIASES = {"jpg": "jpeg", "tif": "tiff", "avif": "heif"}


@dataclass(frozen=True, slots=True)
class Job:
    """One photo or clip to restore and everything that will be written for it.

    Attributes:
        input: the photo or the clip.
        output: the restored image or clip, written last: where it exists, the other files are complete.
        film, sheet: of the way there, or None.
        frames_folder: for the single frames, or None.
        footage: whether the input is a clip.
        confidence: for the map of how sure the result is, or None; never of a clip.
    """

    input: Path
    output: Path
    film: Path | None = None
    sheet: Path | None = None
    frames_folder: Path | None = None
    footage: bool = False
    confidence: Path | None = None

    @property
    def shows_the_way(self) -> bool:
        """Whether what lies between input and result is written too."""
        return bool(self.film or self.sheet or self.frames_folder)

    def targets(self) -> list[Path]:
        """All paths this job writes."""
        extras = (self.film, self.sheet, self.frames_folder, self.confidence)
        return [self.output, *(path for path in extras if path is not None)]


@dataclass(frozen=True, slots=True)
class JobList:
    """Jobs in a fixed order, and how many files of folders were passed over because they are neither images nor
    footage."""

    jobs: tuple[Job, ...]
    ignored: int = 0


def plan_jobs(
    inputs: Sequence[Path | str],
    output: Path | str | None = None,
    *,
    format: str | None = None,
    film: bool = False,
    sheet: bool = False,
    frames: bool = False,
    confidence: bool = False,
    recursive: bool = False,
) -> JobList:
    """What is to be written for files and folders.

    Without `output` a file's result is `{stem}_unfaded{ext}` beside it, and a folder's results keep their
    names in `{folder}_unfaded` beside the folder. With `output`, one file goes to that file if the path has
    an extension; everything else goes into that folder under its own name. Footage whose container can't be
    written becomes .mp4.

    Args:
        inputs: files and folders. A file that doesn't exist is a job too: it fails when its turn comes.
        output: file or folder; a trailing slash always means a folder. A path with the extension of an image
            or of footage names a file, which only a single photo or clip can be restored to.
        format: of restored photos, e.g. "png", or of restored clips, e.g. "mkv"; by default that of the
            input's extension (HEIC becomes AVIF).
        film, sheet, frames: also plan `{stem}.mp4` (of a clip `{stem}_film.mp4`), `{stem}_sheet.png`,
            `{stem}_frames/` beside the output.
        confidence: also plan `{stem}_confidence.png` for photos.
        recursive: take folders inside folders too, and keep the tree.

    Raises:
        UsageError: two results would share a path, one would replace an input, several photos would go to
            one file, or the format can't be written or is that of none of the inputs.
        InputError: a folder holds neither images nor footage or can't be listed.
        OutputError: the output is a device, or a file where a folder is needed.
    """
    if not inputs:
        raise UsageError("nothing to restore was named; give a photo or a folder")
    # One photo named twice (say, by two patterns) is one job.
    named: dict[str, Path] = {}
    for source in map(Path, inputs):
        named.setdefault(_key(source), source)
    sources = list(named.values())
    if output is not None:
        _check_output(output, sources)
    extension = extension_of(format) if format else None
    planned: dict[tuple[str, str], Job] = {}
    ignored = 0
    for source in sources:
        if source.is_dir():
            base = Path(output) if output is not None else _beside(source)
            found, passed_over = photos_in(source, recursive, skip=base, clips=True)
            ignored += passed_over
            pairs = [
                (path, base / path.relative_to(source).with_suffix(_extension(path, extension)))
                for path in found
            ]
        elif output is not None and len(sources) == 1 and _names_a_file(output):
            pairs = [(source, _checked(source, Path(output), format))]
        else:
            suffix = _extension(source, extension)
            name = f"{source.stem}_unfaded{suffix}" if output is None else f"{source.stem}{suffix}"
            pairs = [(source, (source.parent if output is None else Path(output)) / name)]
        for path, target in pairs:
            planned[_key(path), _key(target)] = _job(path, target, film, sheet, frames, confidence)
    jobs = tuple(planned.values())
    if extension and all(job.footage != (extension in CONTAINERS) for job in jobs):
        kind, all_are = ("images", "clips") if jobs[0].footage else ("footage", "photos")
        raise UsageError(f"{format} is a format of {kind}, but what is to be restored are {all_are}")
    check_distinct((job.input, job.targets()) for job in jobs)
    return JobList(jobs, ignored)


def is_footage(path: Path) -> bool:
    """Whether a file is footage by its name, and no image by its content; it need not exist."""
    if path.suffix.lower() not in FOOTAGE:
        return False
    try:
        return sniff_image(read_head(path)) is None
    except InputError:
        return True


def photos_in(
    folder: Path, recursive: bool, skip: Path | None = None, clips: bool = False
) -> tuple[list[Path], int]:
    """The photos of a folder by extension, sorted, and the number of other files in it; with `clips` also footage.

    Hidden files count among the others, and so do results of earlier runs that lie beside their photos
    (`*_unfaded.*`). Hidden folders, folders of results and `skip` (where the results go) are not entered.

    Raises:
        InputError: there is nothing of the kind, or a folder can't be listed.
    """

    def unreadable(error: OSError) -> None:
        raise InputError(
            f"{error.filename} can't be listed: {(error.strerror or str(error)).lower()}"
        ) from error

    avoided = None if skip is None else _key(skip)
    photos: list[Path] = []
    others = results = 0
    deeper = False
    for root, folders, files in os.walk(folder, onerror=unreadable):
        inside = [
            name
            for name in folders
            if not name.startswith(".")
            and not name.endswith(_OWN_FOLDERS)
            and _key(Path(root, name)) != avoided
        ]
        deeper = deeper or bool(inside)
        folders[:] = sorted(inside) if recursive else []
        for name in files:
            suffix = Path(name).suffix.lower()
            known = suffix in SUFFIXES or suffix in FALLBACKS or (clips and suffix in FOOTAGE)
            if name.startswith(".") or not known:
                others += 1
            elif Path(name).stem.endswith(_OWN_FILES):
                results += 1
            else:
                photos.append(Path(root, name))
    if not photos:
        hint = "; add --recursive to look into its folders" if deeper and not recursive else ""
        if results:
            hint = f" but results of earlier runs (*_unfaded.*); name those as files to use them{hint}"
        raise InputError(f"{folder} holds no images{hint}")
    return sorted(photos, key=lambda photo: photo.relative_to(folder).as_posix()), others + results


def extension_of(format: str) -> str:
    """The extension that stands for a format of images or footage, e.g. ".jpg" for "jpeg".

    Raises:
        UsageError: the format can't be written.
    """
    name = format.lower().removeprefix(".")
    name = _ALIASES.get(name, name)
    if f".{name}" in CONTAINERS:
        return f".{name}"
    if name not in _EXTENSIONS:
        raise UsageError(
            f"images can't be written as {format!r}; choose one of {', '.join(_EXTENSIONS)} (heif means AVIF), "
            f"or for footage {', '.join(suffix.removeprefix('.') for suffix in CONTAINERS)}"
        )
    return _EXTENSIONS[name]


def check_distinct(plans: Iterable[tuple[Path, Sequence[Path]]]) -> None:
    """Sees to it that no input is a target or lies in one, and no target is another or lies in one.

    Raises:
        UsageError: one does; the message names both.
    """
    planned = list(plans)
    sources = {_key(source): source for source, _ in planned}
    taken: dict[str, Path] = {}
    for source, targets in planned:
        for target in targets:
            key = _key(target)
            if key in sources:
                raise UsageError(f"{target} would replace the input {sources[key]}; choose another output")
            if key in taken:
                raise UsageError(
                    f"{taken[key]} and {source} would both be written to {target}; "
                    "give them different output folders"
                )
            taken[key] = source
    folders = {_key(target): target for _, targets in planned for target in targets}
    for path in (*sources.values(), *folders.values()):
        for parent in Path(_key(path)).parents:
            if str(parent) in folders:
                raise UsageError(
                    f"{folders[str(parent)]} would be written for {taken[str(parent)]}, but {path} lies in it; "
                    "choose another output folder or leave one of the photos out"
                )


def _job(path: Path, target: Path, film: bool, sheet: bool, frames: bool, confidence: bool) -> Job:
    footage = is_footage(path)
    return Job(
        path,
        target,
        target.with_name(f"{target.stem}{'_film' if footage else ''}.mp4") if film else None,
        target.with_name(f"{target.stem}_sheet.png") if sheet else None,
        target.with_name(f"{target.stem}_frames") if frames else None,
        footage,
        target.with_name(f"{target.stem}_confidence.png") if confidence and not footage else None,
    )


def _beside(folder: Path) -> Path:
    whole = folder.resolve()
    if not whole.name:
        raise UsageError(f"{folder} has no place beside it; name an output folder with -o")
    return (folder.parent if folder.name not in ("", "..") else whole.parent) / f"{whole.name}_unfaded"


def _check_output(output: Path | str, sources: Sequence[Path]) -> None:
    """Before any work: what a result can never be written to."""
    path = Path(output)
    named = path.suffix.lower() in {**SUFFIXES, **FALLBACKS, **CONTAINERS}
    if named and _names_a_file(output) and (len(sources) > 1 or sources[0].is_dir()):
        raise UsageError(
            f"{output} names one file, but {'several photos' if len(sources) > 1 else 'a folder'} would be "
            "restored; name an output folder"
        )
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISDIR(mode):
        return
    if not stat.S_ISREG(mode):
        raise OutputError(
            f"{output} is a device or a pipe, not a file or a folder; choose one of those, or --dry-run to "
            "write nothing"
        )
    if not _names_a_file(output):
        raise OutputError(f"{output} is a file, not a folder; choose another output")


def _names_a_file(output: Path | str) -> bool:
    path = Path(output)
    ends_as_folder = str(output).endswith(tuple(_separators()))
    return bool(path.suffix) and not ends_as_folder and not path.is_dir()


def _separators() -> Iterator[str]:
    yield os.sep
    if os.altsep:
        yield os.altsep


def _checked(source: Path, output: Path, format: str | None) -> Path:
    suffix = output.suffix.lower()
    written = CONTAINERS if is_footage(source) else SUFFIXES
    if suffix in FALLBACKS and written is SUFFIXES:
        raise UsageError(f"{output} can't be written: choose {FALLBACKS[suffix]} instead of {suffix}")
    if suffix not in written:
        kind = "image" if written is SUFFIXES else "video"
        raise UsageError(f"{output} has no known {kind} extension; choose one of {', '.join(written)}")
    if format and written[suffix] != written.get(extension_of(format)):
        raise UsageError(
            f"{output} and the output format {format} contradict each other; leave one of them out"
        )
    return output


def _extension(path: Path, wanted: str | None) -> str:
    """The extension of the result: as wanted, else the input's own, else what its content asks for."""
    suffix = path.suffix.lower()
    if is_footage(path):
        if wanted in CONTAINERS and CONTAINERS[wanted] != CONTAINERS.get(suffix):
            return wanted
        return path.suffix if suffix in CONTAINERS else ".mp4"
    if wanted in SUFFIXES:
        return path.suffix if SUFFIXES.get(suffix) == SUFFIXES[wanted] else wanted
    if suffix in SUFFIXES:
        return path.suffix
    if suffix in FALLBACKS:
        return FALLBACKS[suffix]
    try:
        format = sniff_image(read_head(path))
    except InputError:
        format = None
    return _EXTENSIONS[format or "png"]


def _key(path: Path) -> str:
    """What two names of one file have in common."""
    key = os.path.normcase(os.path.realpath(path))
    return key.casefold() if sys.platform == "darwin" else key
