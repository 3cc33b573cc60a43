"""By how many pixels a result lies beside its truth, and what is left of both once it is put back.

A test set's inputs may have been made smaller by another rule than restorers enlarge by: a pixel of SPMCS's stands for
the upper left one of a square, which enlarging takes for its middle, so that all results lie a few pixels too far down
and to the right. Figures that compare pixel with pixel then measure the offset. One whole-pixel shift a clip undoes it;
what is less than a pixel is estimated and told, not undone, as fetching between pixels would smooth the result.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unfade.evaluation.metrics.fidelity import full_luma

Place = tuple[int, int]

_DIGITS = 6
_BINOMIAL = (1, 8, 28, 56, 70, 56, 28, 8, 1)
_NEIGHBOURS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]


@dataclass(frozen=True, slots=True)
class Shift:
    """How far a clip lies below and to the right of its truth: pixel (y + down, x + right) shows the truth's (y, x).

    Attributes:
        down, right: whole pixels; negative where it lies above or to the left.
        rest_down, rest_right: what is left beyond them, estimated, within half a pixel.
    """

    down: int = 0
    right: int = 0
    rest_down: float = 0.0
    rest_right: float = 0.0

    def of_clip(self, frames: Tensor) -> Tensor:
        """The part of the shifted clip `[..., H, W]` that shows what is in the truth; a view."""
        return _cut(frames, self.down, self.right)

    def of_truth(self, frames: Tensor) -> Tensor:
        """The part of the truth (or of a mask of it) `[..., H, W]` that is in the shifted clip too; a view.

        It has the size of `of_clip` and shows the same.
        """
        return _cut(frames, -self.down, -self.right)


def find_shift(x: Tensor, truth: Tensor, reach: int) -> Shift:
    """The shift of a whole clip: proposed by phase correlation of luma, settled by the error that is left.

    The correlations of all frames are added up. From their peak within reach, or from no shift at all where that has
    the smaller error, the search goes on to the neighbour with the smallest error until none has a smaller one; of
    equal ones the shorter shift is taken, so that an aligned clip gets none. An error is the mean square of what a
    frame differs by from the truth once brightness and contrast are fitted, as a result's light would otherwise count
    as place; all errors are of the same pixels of the truth, those that every shift within reach leaves defined. The
    rest is fitted to the slopes of both, smoothed, by least squares.

    Args:
        x, truth: `[T, 3, H, W]` in [0, 1].
        reach: the longest shift that is looked for, in pixels each way; sides must have four times as many and 18.

    Raises:
        ValueError: the shapes differ, the reach is below 1, or a side is too short for it.

    Source: Kuglin and Hines 1975, The Phase Correlation Image Alignment Method; for the rest Lucas and Kanade 1981, An
    Iterative Image Registration Technique, one step of it.
    """
    if x.dim() != 4 or x.shape != truth.shape or x.shape[1] != 3:
        raise ValueError(f"two clips [T, 3, H, W] of one size are aligned, not {_shapes(x, truth)}")
    if reach < 1 or min(x.shape[2:]) < 4 * reach + 2 * len(_BINOMIAL):
        raise ValueError(f"a shift of up to {reach} pixels can't be found in {tuple(x.shape[2:])}")
    errors = _Errors(x, truth, reach)
    whole = Shift(*errors.descended(min((0, 0), _peak(x, truth, reach), key=errors.rank)))
    return Shift(whole.down, whole.right, *_rest(whole.of_clip(x), whole.of_truth(truth)))


def tally(shifts: Sequence[Shift]) -> dict[str, Any]:
    """How many clips lay where, the most frequent place first, and the mean of what was left, as JSON values.

    Args:
        shifts: of one model's results, one a clip; at least one.
    """
    places = Counter((shift.down, shift.right) for shift in shifts)
    return {
        "places": [
            {"down": down, "right": right, "clips": clips}
            for (down, right), clips in sorted(places.items(), key=lambda one: (-one[1], one[0]))
        ],
        "rest_down": sum(shift.rest_down for shift in shifts) / len(shifts),
        "rest_right": sum(shift.rest_right for shift in shifts) / len(shifts),
    }


class _Errors:
    """What luma still differs by, by shift; each is computed when it is first asked for."""

    def __init__(self, x: Tensor, truth: Tensor, reach: int) -> None:
        self._clips, self._reach = (x, truth), reach
        self._known: dict[Place, float] = {}

    def of(self, place: Place) -> float:
        if place not in self._known:
            self._known.update(self._measured([place]))
        return self._known[place]

    def rank(self, place: Place) -> tuple[float, int, Place]:
        """What is smaller for the better of two shifts."""
        return self.of(place), abs(place[0]) + abs(place[1]), place

    def descended(self, place: Place) -> Place:
        """Where the error is smaller than everywhere around."""
        while True:
            around = [(place[0] + down, place[1] + right) for down, right in _NEIGHBOURS]
            around = [(down, right) for down, right in around if max(abs(down), abs(right)) <= self._reach]
            self._known.update(self._measured([one for one in around if one not in self._known]))
            best = min([place, *around], key=self.rank)
            if self.of(best) >= self.of(place):
                return place
            place = best

    def _measured(self, places: list[Place]) -> dict[Place, float]:
        """Errors of several shifts in one pass over the frames."""
        sums = dict.fromkeys(places, 0.0)
        if not places:
            return sums
        reach = self._reach
        for plane, true in _planes(*self._clips):
            height, width = true.shape
            inner = true[reach : height - reach, reach : width - reach]
            for down, right in places:
                rows = slice(reach + down, height - reach + down)
                columns = slice(reach + right, width - reach + right)
                sums[down, right] += _unlike(plane[rows, columns], inner)
        # What float32 rounds is no difference.
        return {place: round(total / len(self._clips[0]), _DIGITS) for place, total in sums.items()}


def _unlike(plane: Tensor, true: Tensor) -> float:
    """The mean squared difference of two planes after fitting the second one's brightness and contrast to the first."""
    first, second = plane - plane.mean(), true - true.mean()
    own, others, both = (
        float((a * b).mean(dtype=torch.float64))
        for a, b in ((first, first), (second, second), (first, second))
    )
    return own - max(both, 0.0) ** 2 / others if others > 0 else own


def _peak(x: Tensor, truth: Tensor, reach: int) -> Place:
    """The shift within reach at which the phases of all frames agree best."""
    height, width = x.shape[2:]
    # Without a window the picture's edges, which don't move, would agree best at no shift.
    window = torch.outer(*(torch.hann_window(side) for side in (height, width)))
    total = torch.zeros(height, width // 2 + 1, dtype=torch.complex64)
    for plane, true in _planes(x, truth):
        first, second = (torch.fft.rfft2((one - one.mean()) * window) for one in (plane, true))
        product = first * second.conj()
        total += product / product.abs().clamp(min=torch.finfo(torch.float32).tiny)
    agreement = torch.fft.irfft2(total, s=(height, width))
    steps = torch.arange(-reach, reach + 1)
    near = agreement[steps][:, steps]
    down, right = divmod(int(near.argmax()), len(steps))
    return down - reach, right - reach


def _rest(x: Tensor, truth: Tensor) -> tuple[float, float]:
    """What is left of a shift once its whole pixels are undone, within half a pixel; 0 where nothing tells."""
    slopes, likeness = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for pair in _planes(x, truth):
        first, second = (_smoothed(plane) for plane in pair)
        # Moved down by d, a plane has lost d times its slope; the plane itself stands for a change of contrast.
        lost, middle = second - first, (first + second) / 2
        known = torch.stack((*torch.gradient(middle, dim=(0, 1)), middle - middle.mean()))
        along = known.flatten(1).to(torch.float64)
        slopes += along @ along.mT
        likeness += along @ (lost - lost.mean()).flatten().to(torch.float64)
    if int(torch.linalg.matrix_rank(slopes)) < 3 or not bool(likeness.any()):
        return 0.0, 0.0
    down, right, _ = torch.linalg.solve(slopes, likeness).clamp(-0.5, 0.5).tolist()
    return down, right


def _smoothed(plane: Tensor) -> Tensor:
    """`[H, W]` without the fine detail that one of two clips may lack: `[H - 8, W - 8]`."""
    for axis in (0, 1):
        size = plane.shape[axis] - len(_BINOMIAL) + 1
        parts = (plane.narrow(axis, start, size) * weight for start, weight in enumerate(_BINOMIAL))
        plane = sum(parts, torch.zeros(())) / sum(_BINOMIAL)
    return plane


def _planes(x: Tensor, truth: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Luma of both, frame by frame: `[H, W]` in 0 to 255."""
    for pair in zip(x, truth, strict=True):
        first, second = (full_luma(frame.detach().cpu())[0].to(torch.float32) for frame in pair)
        yield first, second


def _cut(frames: Tensor, down: int, right: int) -> Tensor:
    height, width = frames.shape[-2:]
    return frames[
        ...,
        max(0, down) : height + min(0, down),
        max(0, right) : width + min(0, right),
    ]


def _shapes(*clips: Tensor) -> str:
    return " and ".join(str(tuple(clip.shape)) for clip in clips)
