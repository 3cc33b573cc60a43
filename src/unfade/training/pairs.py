"""Pairs on disk, matched by name: FoundIR's groups, RealCE's focal lengths, or plain LQ and HQ folders."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from unfade.core import InputError, UsageError
from unfade.media.images import probe_image

Layout = Literal["auto", "foundir", "realce", "plain"]

_READ = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".avif", ".heic",
    ".heif", ".gif",
}  # fmt: skip
# Photos as well, but not to be read here; leaving them out in silence would change what is learnt.
_UNREAD = {
    ".3fr", ".arw", ".bmp", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".j2k", ".jp2", ".jxl", ".nef", ".orf", ".psd",
    ".raf", ".rw2", ".tga",
}  # fmt: skip
_LQ = ("lq", "lr", "input", "degraded", "low")
_HQ = ("hq", "gt", "hr", "target", "truth", "high")
# RealCE: the same scene at three focal lengths; the longest is the truth of the others (x4 and x2).
_FOCAL = ("13mm", "26mm", "52mm")
# A degraded photo that is to be enlarged may differ in shape by a rounding of its sides.
_SHAPE = 0.02


@dataclass(frozen=True, slots=True)
class PairFiles:
    """A degraded photo and its truth, as files.

    Attributes:
        lq, hq: the files.
        category: what was done to it, as its folder says.
        name: "category/stem", unlike any other pair's.
        height, width: of the truth as displayed.
        resized: the degraded one is smaller and is enlarged to the truth's size.
    """

    lq: Path
    hq: Path
    category: str
    name: str
    height: int
    width: int
    resized: bool = False


def find_pairs(folders: Iterable[Path], layout: str = "auto") -> tuple[PairFiles, ...]:
    """Every pair below the folders, in the order of their names; matched by stem, never by sorted order.

    Extensions of the two may differ, and EXIF orientation counts. Layouts:

    * "foundir": `GROUP/LQ/*` and `GROUP/GT/*`, or `LQ/GROUP/*` and `GT/GROUP/*`; the category is the group.
    * "realce": `13mm/*` and `26mm/*` with `52mm/*` as truth, perhaps below `train/`; category "RealCE". Where the
      folder has LQ and HQ folders instead, these are taken, and the smaller LQ is enlarged just the same.
    * "plain": `LQ/*` and `HQ/*` (or LR, input, degraded; GT, HR, target, truth); the category is the folder's name.
    * "auto": the first of these that the folder looks like.

    Raises:
        InputError: a folder is missing or holds no pairs, a group lacks one of its two folders, a photo has no partner,
            a partner has another size, two files share a stem, a photo is of a format that is not read, or a header
            can't be read.
        UsageError: the layout is unknown.
    """
    if layout not in get_args(Layout):
        raise UsageError(f"unknown layout {layout!r}; there is {', '.join(get_args(Layout))}")
    found: list[PairFiles] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder of pairs")
        sets = list(_sets(folder, layout))
        if not sets:
            raise InputError(
                f"{folder} holds no pairs in the {layout} layout; expected are LQ and GT (or HQ) folders in each "
                "group or at the top, or RealCE's 13mm, 26mm and 52mm"
            )
        for one in sets:
            found += _matched(one)
    taken: dict[str, PairFiles] = {}
    for pair in found:
        if pair.name in taken:
            raise InputError(
                f"{pair.lq} and {taken[pair.name].lq} are both called {pair.name}; rename a folder"
            )
        taken[pair.name] = pair
    return tuple(taken[name] for name in sorted(taken))


def by_category(pairs: Iterable[PairFiles]) -> Mapping[str, Sequence[PairFiles]]:
    """The pairs of each category, in order."""
    table: dict[str, list[PairFiles]] = {}
    for pair in pairs:
        table.setdefault(pair.category, []).append(pair)
    return table


@dataclass(frozen=True, slots=True)
class _Set:
    lq: Path
    hq: Path
    category: str
    prefix: str = ""
    enlarges: bool = False


def _sets(folder: Path, layout: str) -> Iterator[_Set]:
    # Sizes that differ are a fault unless somebody said otherwise, so "auto" knows RealCE by its focal lengths only.
    finders = {
        "auto": (_foundir, _focal_lengths, _plain),
        "foundir": (_foundir,),
        "realce": (_focal_lengths, _enlarging),
        "plain": (_plain,),
    }
    for finder in finders[layout]:
        sets = list(finder(folder))
        if sets:
            yield from sets
            return


def _foundir(folder: Path) -> Iterator[_Set]:
    sets: list[_Set] = []
    halves: list[tuple[Path, str]] = []
    for group in _folders(folder):
        lq, hq = _named(group, _LQ), _named(group, _HQ)
        if lq and hq:
            sets.append(_Set(lq, hq, group.name))
        elif lq or hq:
            halves.append((group, "truths (GT)" if lq else "degraded photos (LQ)"))
    lq, hq = _named(folder, _LQ), _named(folder, _HQ)
    if lq and hq:
        groups = _folders(lq)
        sets += [_Set(group, hq / group.name, group.name) for group in groups]
        names = {group.name for group in groups}
        halves += [
            (group, f"degraded photos in {lq}")
            for group in _folders(hq)
            if groups and group.name not in names
        ]
    if sets and halves:
        group, lacks = halves[0]
        raise InputError(f"{group} has no folder of {lacks}; add it or take the group out")
    yield from sets


def _focal_lengths(folder: Path) -> Iterator[_Set]:
    for place in (folder, folder / "train"):
        *shorter, longest = (place / name for name in _FOCAL)
        if longest.is_dir():
            for lq in shorter:
                if lq.is_dir():
                    yield _Set(lq, longest, "RealCE", f"{lq.name}-", enlarges=True)
            return


def _enlarging(folder: Path) -> Iterator[_Set]:
    for one in _plain(folder):
        yield _Set(one.lq, one.hq, "RealCE", enlarges=True)


def _plain(folder: Path) -> Iterator[_Set]:
    lq, hq = _named(folder, _LQ), _named(folder, _HQ)
    if lq and hq:
        yield _Set(lq, hq, folder.resolve().name)


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    there = {path.name.lower(): path for path in _folders(folder)}
    return next((there[name] for name in names if name in there), None)


def _photos(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder} is missing; each group of degraded photos needs the folder of its truths")
    photos: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in _UNREAD:
            raise InputError(
                f"{path} is of a format that training does not read; convert it (to PNG, say) or take it out"
            )
        if path.suffix.lower() in _READ:
            if path.stem in photos:
                raise InputError(
                    f"{path} and {photos[path.stem]} share a name, so their partner is not clear"
                )
            photos[path.stem] = path
    if not photos:
        raise InputError(f"{folder} holds no photos; add some or take the folder out")
    return photos


def _matched(one: _Set) -> Iterator[PairFiles]:
    lq, hq = _photos(one.lq), _photos(one.hq)
    for these, those, where in ((lq, hq, one.hq), (hq, lq, one.lq)):
        lonely = [these[stem] for stem in these if stem not in those]
        # RealCE's truths serve two focal lengths, and not every scene was taken with both.
        if lonely and not (one.prefix and these is hq):
            more = f" (and {len(lonely) - 1} more)" if len(lonely) > 1 else ""
            raise InputError(
                f"{lonely[0]}{more} has no partner of the same name in {where}; add it or take it out"
            )
    for stem in sorted(lq.keys() & hq.keys()):
        yield _checked(one, lq[stem], hq[stem])


def _checked(one: _Set, lq: Path, hq: Path) -> PairFiles:
    degraded, truth = probe_image(lq), probe_image(hq)
    sizes = f"{degraded.width}x{degraded.height} and {truth.width}x{truth.height}"
    alike = (degraded.width, degraded.height) == (truth.width, truth.height)
    if not alike:
        if not one.enlarges:
            raise InputError(
                f"{lq} and {hq} are not aligned: their sizes are {sizes}; where the degraded ones are meant to be "
                "enlarged, use --layout realce"
            )
        change = degraded.width * truth.height / (degraded.height * truth.width)
        if abs(change - 1) > _SHAPE or degraded.width > truth.width:
            raise InputError(f"{lq} can't be enlarged to {hq}: their sizes are {sizes}")
    return PairFiles(
        lq, hq, one.category, f"{one.category}/{one.prefix}{lq.stem}", truth.height, truth.width, not alike
    )
