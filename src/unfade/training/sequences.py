"""Pseudo-temporal sequences: one photo getting better, frame by frame, in float pixels and never through a codec."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from unfade.core import InputError
from unfade.degrade import View, draw_composition
from unfade.degrade.composition import Kinds
from unfade.degrade.degradation import Strength
from unfade.degrade.framing import Size, sides_of
from unfade.degrade.resample import resize
from unfade.degrade.trajectory import linear_frames
from unfade.media.images import read_image
from unfade.training.pairs import PairFiles
from unfade.training.photos import Photos

Way = Literal["linear", "fade"]


class Sequences(Protocol):
    """Where training sequences come from."""

    @property
    def names(self) -> tuple[str, ...]:
        """One for each sequence, as "category/name"."""
        ...

    def __len__(self) -> int: ...

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """`[T, 3, S, S]` in [0, 1]: degraded first, the truth itself last, one crop shared by all frames."""
        ...

    def identity(self, index: int) -> str:
        """What tells this sequence's content from any other, so that latents made from it can be kept."""
        ...

    def enlarged(self, index: int, size: int | Size) -> bool:
        """Whether the photo is smaller than the crop and is enlarged for it."""
        ...


def fitted(photo: Tensor, size: Size) -> Tensor:
    """A photo `[1, 3, H, W]` made as small as a crop of `size` allows, aspect kept; smaller photos are enlarged.

    Source: V-Bridge's "DownUp" (arXiv 2603.13089, eq. 4); its code drops photos smaller than the crop instead.
    """
    height, width = photo.shape[2:]
    scale = max(size[0] / height, size[1] / width)
    return resize(photo, max(size[0], round(height * scale)), max(size[1], round(width * scale))).clamp(0, 1)


def place_of(height: int, width: int, size: Size, generator: torch.Generator) -> tuple[int, int]:
    """(top, left) of a random crop of `size`."""
    free = height - size[0], width - size[1]
    top, left = (int(torch.randint(room + 1, (1,), generator=generator)) for room in free)
    return top, left


def is_smaller(height: int, width: int, size: int | Size) -> bool:
    """Whether a crop is larger than a photo in either direction."""
    down, across = sides_of(size)
    return height < down or width < across


@dataclass(frozen=True, slots=True)
class PhotoSequences:
    """Sequences of clean photos under drawn degradations: each photo once with each category.

    Attributes:
        photos: clean ones.
        kinds: degradations by category.
        trajectory: "linear" is V-Bridge's blend of pixels, "fade" the degradation itself falling.
        strength: of the degradations.
    """

    photos: Photos
    kinds: Mapping[str, Kinds]
    trajectory: Way = "linear"
    strength: Strength = "any"
    _names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.kinds:
            raise ValueError("sequences need at least one kind of degradation")
        names = (f"{kind}/photo-{index:04d}" for index in range(len(self.photos)) for kind in self.kinds)
        object.__setattr__(self, "_names", tuple(names))

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __len__(self) -> int:
        return len(self._names)

    def _photo(self, index: int) -> Tensor:
        return self.photos[index // len(self.kinds)]

    def category(self, index: int) -> str:
        """The name of a sequence's degradation."""
        return list(self.kinds)[index % len(self.kinds)]

    def identity(self, index: int) -> str:
        digest = hashlib.sha256(self._photo(index).contiguous().numpy().tobytes())
        kinds = ",".join(kind.__name__ for kind in self.kinds[self.category(index)])
        return f"{digest.hexdigest()} {kinds} {self.trajectory} {self.strength}"

    def enlarged(self, index: int, size: int | Size) -> bool:
        _, height, width = self._photo(index).shape
        return is_smaller(height, width, size)

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """The first frame is rounded to 8 bits, as a file would hold it."""
        down, across = sides_of(size)
        photo = fitted(self._photo(index)[None] / 255, (down, across))
        height, width = photo.shape[2:]
        top, left = place_of(height, width, (down, across), generator)
        truth = photo[..., top : top + down, left : left + across].contiguous()
        view = View(*(torch.tensor([float(x)]) for x in (top, left, down, across, height, width)))
        kinds = self.kinds[self.category(index)]
        drawn = draw_composition(kinds, generator, (1, down, across), self.strength, codec="torch")
        first = drawn(truth, 1.0, view).mul(255).round().div(255)
        if self.trajectory == "linear":
            made = list(linear_frames(first, truth, frames))
        else:
            # As `degrade.fade`, but for a window of the photo.
            last = frames - 1
            made = [first, *(drawn(truth, 1 - step / last, view) for step in range(1, frames))]
        return torch.cat(made)


@dataclass(frozen=True, slots=True)
class PairSequences:
    """Sequences of photographed pairs: V-Bridge's blend of pixels from the degraded to the true one.

    Attributes:
        pairs: what `pairs.find_pairs` found.
    """

    pairs: Sequence[PairFiles]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(pair.name for pair in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def identity(self, index: int) -> str:
        """Paths, sizes and times of both files.

        Raises:
            InputError: one of them is gone.
        """
        parts: list[str] = []
        for path in (self.pairs[index].lq, self.pairs[index].hq):
            try:
                found = path.stat()
            except OSError as error:
                raise InputError(
                    f"{path} can't be found any more; bring it back and go on by the same command"
                ) from error
            parts.append(f"{path.resolve()} {found.st_size} {found.st_mtime_ns}")
        return " ".join(parts)

    def enlarged(self, index: int, size: int | Size) -> bool:
        pair = self.pairs[index]
        return is_smaller(pair.height, pair.width, size)

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """A smaller degraded photo (RealCE) is first enlarged to its truth's size.

        Raises:
            InputError: a file can't be read any more, or has changed its size.
        """
        pair = self.pairs[index]
        lq, hq = (read_image(path).frames for path in (pair.lq, pair.hq))
        if pair.resized:
            lq = resize(lq, hq.shape[2], hq.shape[3]).clamp(0, 1)
        if lq.shape != hq.shape:
            raise InputError(f"{pair.lq} and {pair.hq} differ in size; a pair has to be aligned")
        down, across = sides_of(size)
        lq, hq = fitted(lq, (down, across)), fitted(hq, (down, across))
        top, left = place_of(hq.shape[2], hq.shape[3], (down, across), generator)
        lq, hq = (x[..., top : top + down, left : left + across] for x in (lq, hq))
        return torch.cat(list(linear_frames(lq, hq, frames)))
