"""Text kept as the input shows it: where there is some, a faithful picture replaces the generated one."""

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import InputError
from unfade.media.image_formats import SUFFIXES
from unfade.media.images import probe_image, read_image
from unfade.media.source import read_head, sniff_image
from unfade.media.video import frame_times, probe_video, read_video

Detector = Callable[[Tensor], Tensor]
"""Of a frame `[3, H, W]` in [0, 1], how sure it is that there is text: `[1, h, w]` in [0, 1], any h and w."""

Masks = Callable[[Tensor], Tensor]
"""Of a frame `[3, H, W]`, the soft mask `[1, H, W]` in [0, 1] of what is to be kept; frames are asked for in order."""

# Channels of a grey picture are nearer to each other than this even after a lossy codec.
_COLOURED = 0.1


def protect(restored: Tensor, source: Tensor, masks: Masks, faithful: Tensor | None = None) -> Tensor:
    """A restored frame in which a faithful picture stands where the mask says so.

    Args:
        restored: `[3, H, W]` in [0, 1], generated.
        source: the same frame of the input, enlarged to the same size; text is looked for in it.
        masks: a detector's (`DetectedMasks`) or from a file (`FileMasks`).
        faithful: what to show instead; the input itself if left out.

    Returns:
        `[3, H, W]`: `restored` where the mask is 0, `faithful` where it is 1, mixed between.

    Raises:
        ValueError: the pictures or the mask are of different sizes.
    """
    faithful = source if faithful is None else faithful
    if not restored.shape == source.shape == faithful.shape:
        shapes = ", ".join(str(tuple(picture.shape)) for picture in (restored, source, faithful))
        raise ValueError(f"restored frame, input and faithful picture are of one size, not {shapes}")
    mask = masks(source)
    if mask.shape != (1, *restored.shape[1:]):
        raise ValueError(f"a mask of {tuple(mask.shape)} does not fit a frame of {tuple(restored.shape)}")
    return torch.lerp(restored, faithful.to(restored), mask.to(restored).expand_as(restored))


@dataclass(frozen=True, slots=True)
class Softening:
    """How scores become a soft mask. Lengths are pixels of the frame.

    Attributes:
        threshold: from this score on there is text for certain; below, the mask is the score's share of it.
        speck: side of the smallest square that text fills; brighter spots in which none fits are levelled. 1
            leaves them, as published.
        denoise: what is not certain and has nothing certain within this distance is squared, that is weakened.
        dilate: how far the mask grows.
        blur: radius of the mean that softens its edge; what is certain stays so.

    Raises:
        ValueError: a value is out of range.

    Source: the text option of Vivid-VR's released inference code, but for `speck`.
    """

    threshold: float = 0.7
    speck: int = 2
    denoise: int = 5
    dilate: int = 5
    blur: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, not {self.threshold}")
        if self.speck < 1:
            raise ValueError(f"speck must be at least 1 (which leaves them), not {self.speck}")
        if min(self.denoise, self.dilate, self.blur) < 0:
            raise ValueError("denoise, dilate and blur can't be negative; 0 leaves a step out")

    def mask(self, score: Tensor, height: int, width: int) -> Tensor:
        """The soft mask `[1, height, width]` in [0, 1] of a score map `[1, h, w]`, enlarged bilinearly."""
        mask = (_resized(score.float(), height, width) / self.threshold).clamp(0, 1)
        # What is nearly certain stays nearly so when squared: text on the verge hardly blinks.
        mask = _opened(mask, self.speck)
        mask = torch.where(_grown(mask, self.denoise) < 1, mask * mask, mask) if self.denoise else mask
        mask = _grown(mask, self.dilate)
        side, radius = 2 * self.blur + 1, self.blur
        mean = functional.avg_pool2d(mask, side, 1, radius, count_include_pad=False)
        return torch.where(mask < 1, mean, mask)


@dataclass(frozen=True, slots=True)
class DetectedMasks:
    """Masks of what a detector finds.

    Attributes:
        detector: any callable from a frame `[3, H, W]` to scores `[1, h, w]`, both in [0, 1].
        softening: how scores become a mask.
    """

    detector: Detector
    softening: Softening = Softening()

    def __call__(self, frame: Tensor) -> Tensor:
        """The mask `[1, H, W]` of a frame.

        Raises:
            ValueError: the detector's answer is no score map.
        """
        score = self.detector(frame)
        if score.dim() != 3 or score.shape[0] != 1 or 0 in score.shape:
            raise ValueError(f"a text detector gives scores [1, h, w], not {tuple(score.shape)}")
        # A comparison with NaN is false.
        if not bool(((score >= 0) & (score <= 1)).all()):
            raise ValueError("a text detector gives scores from 0 to 1; those of this one are not")
        return self.softening.mask(score, frame.shape[1], frame.shape[2])


class FileMasks:
    """Masks from a file: a still picture for all frames, or a folder or a video with one for each. A context manager.

    Masks are grey, white where the input is to be kept; what is transparent is black. They have the proportions of
    the frames and are brought to their size bilinearly. Pictures of a folder are taken in the order of their
    names, numbers by their value. They are used as they are, with no threshold and nothing grown.

    Args:
        path: of a picture, a folder of pictures or a video.
        height, width: of the restored frames.
        num_frames: of the footage; None where nobody knows, and then too few masks are told when they run out.

    Raises:
        InputError: it can't be read, its size or the number of its masks does not fit; or later, that a mask is
            damaged or in colour.
    """

    def __init__(self, path: Path, height: int, width: int, num_frames: int | None = None) -> None:
        self.path = Path(path)
        self._size = (height, width)
        self._taken = 0
        if self.path.is_dir():
            pictures = _pictures_in(self.path)
            for picture in pictures:
                info = probe_image(picture)
                self._check_size(picture, info.height, info.width)
            self._check_count(len(pictures), num_frames)
            self._masks = self._from_pictures(pictures)
        elif sniff_image(read_head(self.path)) is not None:
            info = probe_image(self.path)
            self._check_size(self.path, info.height, info.width)
            self._masks = self._from_still()
        else:
            info = probe_video(self.path)
            self._check_size(self.path, info.height, info.width)
            self._check_count(frame_times(self.path).count, num_frames)
            self._masks = self._from_video()

    def __call__(self, frame: Tensor) -> Tensor:
        """The mask `[1, H, W]` of the next frame."""
        mask = next(self._masks, None)
        if mask is None:
            raise InputError(
                f"{self.path} holds {self._taken} masks, but the footage has more frames; give one for each, or a "
                "single picture for all"
            )
        self._taken += 1
        return mask.to(frame.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._masks.close()

    def _from_still(self) -> Generator[Tensor, None, None]:
        mask = self._read(self.path)
        while True:
            yield mask

    def _from_pictures(self, pictures: list[Path]) -> Generator[Tensor, None, None]:
        for picture in pictures:
            yield self._read(picture)

    def _from_video(self) -> Generator[Tensor, None, None]:
        for frame in read_video(self.path):
            yield self._fitted(frame.image, f"{self.path} (frame {frame.index})")

    def _read(self, path: Path) -> Tensor:
        clip = read_image(path)
        return self._fitted(
            clip.frames[0] if clip.alpha is None else clip.frames[0] * clip.alpha[0], str(path)
        )

    def _fitted(self, image: Tensor, name: str) -> Tensor:
        if float((image.amax(0) - image.amin(0)).max()) > _COLOURED:
            raise InputError(
                f"{name} is in colour, not a mask; save it in grey, white where the input is to be kept"
            )
        return _resized(image.mean(0, keepdim=True), *self._size)

    def _check_size(self, path: Path, height: int, width: int) -> None:
        wanted_height, wanted_width = self._size
        # Both sizes were rounded to whole pixels at some time.
        apart = abs(width * wanted_height - height * wanted_width)
        if apart > max(width, height, wanted_width, wanted_height):
            raise InputError(
                f"{path} is a mask of {width} x {height}, which has not the proportions of frames of "
                f"{wanted_width} x {wanted_height}; make it as large as the footage"
            )

    def _check_count(self, count: int, num_frames: int | None) -> None:
        if num_frames is not None and count != num_frames:
            raise InputError(
                f"{self.path} holds {count} masks, but the footage has {num_frames} frames; give one for each, or a "
                "single picture for all"
            )


def _pictures_in(folder: Path) -> list[Path]:
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{folder} can't be listed: {(error.strerror or str(error)).lower()}") from error
    pictures = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if not pictures:
        raise InputError(f"{folder} holds no pictures to be masks")
    return sorted(pictures, key=lambda path: [_as_number(part) for part in re.split(r"(\d+)", path.name)])


def _as_number(part: str) -> tuple[int, str]:
    return (int(part), part) if part.isdecimal() else (-1, part)


def _resized(values: Tensor, height: int, width: int) -> Tensor:
    if tuple(values.shape[1:]) == (height, width):
        return values
    return functional.interpolate(values[None], (height, width), mode="bilinear", antialias=True)[0]


def _opened(mask: Tensor, side: int) -> Tensor:
    """What is left of a mask where no square of `side` fits into what is bright; too small a mask stays as it is."""
    if side == 1 or min(mask.shape[1:]) < side:
        return mask
    darkest = -functional.max_pool2d(-mask, side, 1)
    margin = side - 1
    return functional.max_pool2d(functional.pad(darkest, (margin,) * 4), side, 1)


def _grown(mask: Tensor, radius: int) -> Tensor:
    return functional.max_pool2d(mask, 2 * radius + 1, 1, radius)
