"""Frames of footage with their neighbours, those around them in their scene, and what these make of them."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from unfade.backbones.gather import Gather
from unfade.backbones.motion import Levels
from unfade.backbones.tiny import thumbnail_of
from unfade.media.cuts import is_other_scene


@dataclass(frozen=True, slots=True)
class Lent:
    """A frame as its neighbours look at it, on the device where they do.

    Attributes:
        image: `[1, 3, H, W]` in [0, 1], its last row and column repeated where their number is odd.
        levels: of it.
    """

    image: Tensor
    levels: Levels

    @classmethod
    def of(cls, image: Tensor, device: torch.device) -> "Lent":
        """That of a frame `[1, 3, H, W]`."""
        bottom, right = (side % 2 for side in image.shape[2:])
        even = functional.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image
        even = even.to(device)
        return cls(even, Levels.of(even))


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A frame that was taken from footage.

    Attributes:
        image: `[1, 3, H, W]` in [0, 1].
        thumbnail: of it, `[1, 3, 32, 32]`.
        lent: for its neighbours; None where none looks at it.
    """

    image: Tensor
    thumbnail: Tensor
    lent: Lent | None = None


def glimpses(frames: Iterable[Tensor], device: torch.device | None = None) -> Iterator[Glimpse]:
    """Frames `[3, H, W]` as they come.

    Args:
        frames: of the footage.
        device: where neighbours look at one another; None where they don't.

    Raises:
        ValueError: they differ in size.
    """
    size: torch.Size | None = None
    for frame in frames:
        image = frame[None]
        size = size or image.shape
        if image.shape != size:
            raise ValueError(f"footage has frames of one size, not {tuple(size)} and {tuple(image.shape)}")
        glimpse = Glimpse(image, thumbnail_of(image), None if device is None else Lent.of(image, device))
        # A generator keeps its variables while it waits.
        del frame, image
        yield glimpse
        del glimpse


def windows(
    taken: Iterable[Glimpse], reach: int
) -> Generator[tuple[Glimpse, tuple[Glimpse, ...]], None, None]:
    """Each frame in its turn, with up to `reach` frames before and as many after it, in their order.

    No neighbour lies beyond a change of scene. A frame is given as soon as its neighbours are there, and
    `2 * reach + 1` are held at most.
    """
    # Each with the number of its scene; the frame whose turn it is lies at `turn`.
    held: deque[tuple[Glimpse, int]] = deque()
    turn = scene = 0

    def given() -> tuple[Glimpse, tuple[Glimpse, ...]]:
        nonlocal turn
        frame, own = held[turn]
        near = [index for index in range(len(held)) if index != turn and abs(index - turn) <= reach]
        others = tuple(held[index][0] for index in near if held[index][1] == own)
        turn += 1
        if turn > reach:
            held.popleft()
            turn -= 1
        return frame, others

    for glimpse in taken:
        if held and is_other_scene(held[-1][0].thumbnail, glimpse.thumbnail):
            scene += 1
        held.append((glimpse, scene))
        del glimpse
        if len(held) > turn + reach:
            yield given()
    while turn < len(held):
        yield given()


def gathered(gather: Gather, frame: Glimpse, others: Sequence[Glimpse], context: Tensor) -> Tensor:
    """A frame made better by its neighbours, `[1, 3, H, W]` in [0, 1].

    Args:
        gather: what makes it better.
        frame: in question.
        others: its neighbours; without any it stays as it is.
        context: of the shot, on the device of `gather`.

    Raises:
        ValueError: a frame was taken for itself alone.
    """
    if not others:
        return frame.image
    lent = [glimpse.lent for glimpse in (frame, *others) if glimpse.lent is not None]
    if len(lent) <= len(others):
        raise ValueError("neighbours are looked at as they are lent; name the device to glimpses()")
    height, width = frame.image.shape[2:]
    own, *images = (one.image for one in lent)
    with torch.inference_mode():
        better = gather(own, images, [one.levels for one in lent], context)
        return better[:, :, :height, :width].clamp_(0, 1).to(frame.image.device)
