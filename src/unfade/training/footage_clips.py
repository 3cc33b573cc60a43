"""Training clips out of curated footage, and the pairs that are made of them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from unfade.core import InputError, UsageError
from unfade.degrade.framing import Size, check_fits, sides_of
from unfade.media.seek import FrameReader
from unfade.training.clip_manifest import CuratedClip, CuratedVideo, read_manifest
from unfade.training.sequences import fitted, is_smaller, place_of

# The VAE of CogVideoX1.5 takes 8k + 1 frames.
_EVERY = 8
# Throws the dice once and gives what does the same to every frame of a clip `[T, 3, H, W]`.
Degrade = Callable[[torch.Generator], Callable[[Tensor], Tensor]]


def drawn_frames(least: int, most: int, dice: torch.Generator) -> int:
    """How many frames a training step takes: 8k + 1 between `least` and `most`, each as likely.

    Source: Vivid-VR (arXiv 2508.14483), section 4: 17 to 37 frames. Which between them is not said; these are what the
        VAE can take, 17, 25 or 33.

    Raises:
        UsageError: there is none.
    """
    legal = [frames for frames in range(max(1, least), most + 1) if frames % _EVERY == 1]
    if not legal:
        raise UsageError(
            f"there is no number of frames 8k + 1 between {least} and {most}; 17 to 37 holds 17, 25 and 33"
        )
    return legal[int(torch.randint(len(legal), (1,), generator=dice))]


def caption_key(path: Path, first: int, count: int) -> str:
    """What the caption of a clip is kept under, the same on every machine where the file has this path."""
    return hashlib.sha256(
        f"{path.as_posix()}\n{first}\n{count}".encode(errors="surrogateescape")
    ).hexdigest()[:24]


def _called(paths: Iterable[Path]) -> dict[Path, str]:
    """What files are called, wherever they lie: by their folder and name, and by more folders those that share both."""
    found: dict[Path, str] = {}
    left, folders = set(paths), 1
    while left:
        ends = {path: "/".join(path.parts[-1 - folders :]) for path in left}
        shared = Counter(ends.values())
        found |= {path: end for path, end in ends.items() if shared[end] == 1}
        left, folders = {path for path in left if shared[ends[path]] > 1}, folders + 1
    return found


@dataclass(frozen=True, slots=True)
class FootageClips:
    """Clips of curated videos, decoded as they are drawn.

    Attributes:
        parts: each clip with the video it is in.
        captions: by `caption_key`.
        centred: whether the crop is the frame's middle, as published; else it lies anywhere.
        made_of: names of the clips that videos were made of, by the videos' `path.stem`; empty for footage itself.
    """

    parts: tuple[tuple[CuratedVideo, CuratedClip], ...]
    captions: Mapping[str, str] = field(default_factory=dict[str, str])
    centred: bool = True
    made_of: Mapping[str, str] = field(default_factory=dict[str, str])
    _names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        called = _called(video.path for video, _ in self.parts)
        anew = {stem: f"{name} anew" for stem, name in self.made_of.items()}
        names = [
            f"{anew.get(video.path.stem, called[video.path])}-{clip.first:06d}" for video, clip in self.parts
        ]
        object.__setattr__(self, "_names", tuple(names))

    @classmethod
    def of(
        cls,
        manifest: Path,
        frames: int,
        captions: Mapping[str, str] | None = None,
        centred: bool = True,
        sources: "FootageClips | None" = None,
    ) -> Self:
        """All clips of a manifest that have at least so many frames, in the order of their paths.

        Args:
            manifest: of `training.curation`, or of a distillation.
            frames: that a clip must have.
            captions, centred: see the class.
            sources: what the clips of a distillation were made of, after which they are named.

        Raises:
            InputError: the manifest can't be read, or holds no such clip.
        """
        _, videos = read_manifest(manifest)
        parts = tuple((video, clip) for video in videos for clip in video.clips if clip.count >= frames)
        if not parts:
            raise InputError(
                f"{manifest} holds no clip of {frames} frames or more; add footage or loosen the rules of its curation"
            )
        made_of = (
            {} if sources is None else {sources.caption_key(i): sources.names[i] for i in range(len(sources))}
        )
        return cls(parts, captions or {}, centred, made_of)

    @property
    def names(self) -> tuple[str, ...]:
        """One for each clip, unlike any other's; what is drawn of it depends on that and not on where the files lie."""
        return self._names

    def __len__(self) -> int:
        return len(self.parts)

    def caption_key(self, index: int) -> str:
        """What the caption of a clip is kept under."""
        video, clip = self.parts[index]
        return caption_key(video.path, clip.first, clip.count)

    def prompt(self, index: int) -> str:
        """The clip's caption.

        Raises:
            InputError: it has none.
        """
        found = self.captions.get(self.caption_key(index))
        if found is None:
            video, clip = self.parts[index]
            raise InputError(
                f"frames {clip.first} to {clip.first + clip.count} of {video.path} have no caption yet"
            )
        return found

    def identity(self, index: int) -> str:
        """Path, size and time of the file, and which frames.

        Raises:
            InputError: the file is gone or has changed since it was curated.
        """
        video, clip = self.parts[index]
        video.check_unchanged()
        return f"{video.path} {video.size} {video.mtime_ns} {clip.first}+{clip.count} {self.centred}"

    def enlarged(self, index: int, size: int | Size) -> bool:
        """Whether the frames are smaller than the crop; such clips are not drawn."""
        return is_smaller(*self._sides(index), size)

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """Consecutive frames `[T, 3, H, W]` in [0, 1], reduced as far as the crop allows, one crop for all of them.

        Args:
            index: of the clip.
            size: (height, width), or the side of a square; never larger than the footage.
            frames: how many, at the footage's own rate.
            generator: of where in the shot they begin and, where it isn't centred, of the crop.

        Raises:
            InputError: the clip is too small or too short, or the file is gone, has changed or is damaged.
        """
        video, clip = self.parts[index]
        sides = sides_of(size)
        check_fits(*self._sides(index), sides, video.path)
        if frames > clip.count:
            raise InputError(
                f"a shot of {video.path} has {clip.count} frames, fewer than the {frames} asked for; draw fewer, or "
                "curate with a longer least"
            )
        video.check_unchanged()
        start = clip.first + int(torch.randint(clip.count - frames + 1, (1,), generator=generator))
        place: tuple[int, int] | None = None
        made: list[Tensor] = []
        with FrameReader(video.path) as reader:
            for frame in reader.read(start, start + frames, clip.mark(start)):
                small = fitted(frame.image[None], sides)
                height, width = small.shape[2:]
                if place is None:
                    middle = (height - sides[0]) // 2, (width - sides[1]) // 2
                    place = middle if self.centred else place_of(height, width, sides, generator)
                top, left = place
                made.append(small[..., top : top + sides[0], left : left + sides[1]].clone())
        return torch.cat(made)

    def _sides(self, index: int) -> Size:
        video, _ = self.parts[index]
        if video.probed is None:
            raise ValueError(f"{video.path} has clips but was never probed")
        return video.probed.height, video.probed.width


class Clips(Protocol):
    """Where clean clips and what is said of them come from."""

    @property
    def names(self) -> tuple[str, ...]:
        """One for each clip."""
        ...

    def __len__(self) -> int: ...

    def prompt(self, index: int) -> str:
        """The clip's caption."""
        ...

    def identity(self, index: int) -> str:
        """What tells this clip's content from any other."""
        ...

    def enlarged(self, index: int, size: int | Size) -> bool:
        """Whether the frames are smaller than the crop."""
        ...

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """Consecutive frames `[T, 3, H, W]` in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True)
class FootagePairs:
    """Clips with what a degradation made of them, in the form of sequences: first all degraded, then all clean frames.

    Attributes:
        clips: clean ones.
        degrade: throws the dice of a degradation.
        settings: what tells this degradation from any other.
    """

    clips: Clips
    degrade: Degrade
    settings: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return self.clips.names

    def __len__(self) -> int:
        return len(self.clips)

    def prompt(self, index: int) -> str:
        """The clip's caption.

        Raises:
            InputError: it has none.
        """
        return self.clips.prompt(index)

    def identity(self, index: int) -> str:
        """Of the clip and the degradation."""
        return f"{self.clips.identity(index)} {self.settings}"

    def enlarged(self, index: int, size: int | Size) -> bool:
        """Whether the frames are smaller than the crop."""
        return self.clips.enlarged(index, size)

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """`[2T, 3, H, W]` in [0, 1]: the degraded clip, and after it the clean one.

        Raises:
            InputError: as for `FootageClips.draw`.
            ValueError: the degradation changed the size.
        """
        clean = self.clips.draw(index, size, frames, generator)
        low = self.degrade(generator)(clean)
        if low.shape != clean.shape:
            raise ValueError(
                f"a degradation keeps the size, but made {tuple(low.shape)} of {tuple(clean.shape)}"
            )
        return torch.cat([low, clean])
