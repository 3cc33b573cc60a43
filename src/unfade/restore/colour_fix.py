"""Colours of generated footage brought back to those of its input, steadily over time."""

from collections import deque
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["none", "adain", "wavelet"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# A third of a second of most footage.
WINDOW = 9
# Levels of the wavelet: its low band is blurred with a standard deviation of 13 pixels.
LEVELS = 5
# Added to variances of colours in [0, 1], as published.
_EPSILON = 1e-5
# Of a low band every eighth place down and across says nearly all.
_GRID = 8
# Areas down and across, of which the median tells what happens to the whole frame from what happens in a part of it.
_AREAS = (12, 16)


class ColourFix:
    """A stream of restored frames, each given back with the colours of its input.

    "adain" sets the mean and the standard deviation of each channel, "wavelet" the low band of an undecimated wavelet,
    "none" nothing. What they are set to is decided from a window of frames centred on each. Statistics and low bands
    are averaged over it, which takes a flicker of the input away. Where a frame departs from the average, the
    departure is kept as far as input and restored frames agree on it, which is the lesser of the two where both go
    the same way: light that is switched on and things that move are in both, a flicker or a step of the restored
    frames is in one. With a window of 1 both are what is published.

    Windows end where the shot and the footage do. Held are `window // 2 + 1` frames and what little is known of
    `window`; a frame is finished when the `window // 2` frames after it have been pushed.

    Args:
        kind: "none", "adain" or "wavelet".
        window: frames, an odd number.

    Raises:
        ValueError: the kind is unknown or the window is not an odd number above 0.

    Source: AdaIN: Huang and Belongie, arXiv 1703.06868, eq. 8. The low band of the input under the high bands of the
    result: Wang et al. (StableSR), arXiv 2305.07015, colour correction. The windows are ours.
    """

    def __init__(self, kind: Kind, window: int = WINDOW) -> None:
        if kind not in KINDS:
            raise ValueError(f"colours are fixed by one of {', '.join(KINDS)}, not by {kind!r}")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"a window is an odd number of frames above 0, not {window}")
        self.kind: Kind = kind
        self.window = window
        self._waiting: deque[Tensor] = deque()
        self._known: deque[Tensor] = deque()

    def push(self, restored: Tensor, source: Tensor, *, cut: bool = False) -> list[Tensor]:
        """Takes the next frame and gives those that it finishes, in their order.

        Args:
            restored: `[3, H, W]` in [0, 1]; it may be held until it is finished, and is not changed.
            source: the same frame of the input, enlarged to the same size.
            cut: whether a new shot begins with this frame.

        Returns:
            Frames `[3, H, W]`, float32 in [0, 1], where the restored ones lie ("none" gives back what it was given):
            none at first, then one for each, and at a cut besides all that are left of the shot before it.

        Raises:
            ValueError: the two are not of one size, or not of that of the shot's other frames.
        """
        if restored.shape != source.shape or restored.dim() != 3:
            shapes = f"{tuple(restored.shape)} and {tuple(source.shape)}"
            raise ValueError(f"a restored frame and its input are both [3, H, W], not {shapes}")
        finished = self.flush() if cut else []
        if self.kind == "none":
            return [*finished, restored]
        if self._waiting and self._waiting[-1].shape != restored.shape:
            shapes = f"{tuple(self._waiting[-1].shape)} to {tuple(restored.shape)}"
            raise ValueError(f"frames of one shot are of one size; this one changes from {shapes}")
        restored, source = restored.float(), source.to(restored.device, torch.float32)
        measured = _adain_measured if self.kind == "adain" else _wavelet_measured
        frame, known = measured(restored, source)
        self._waiting.append(frame)
        self._known.append(known)
        if len(self._waiting) > self.window // 2:
            finished.append(self._next())
        return finished

    def flush(self) -> list[Tensor]:
        """The frames that are left when the footage has ended. What is pushed next begins a shot."""
        finished = [self._next() for _ in range(len(self._waiting))]
        self._known.clear()
        return finished

    def _next(self) -> Tensor:
        place = len(self._known) - len(self._waiting)
        if place > self.window // 2:
            self._known.popleft()
            place -= 1
        set_by = _adain_set if self.kind == "adain" else _wavelet_set
        return set_by(self._waiting.popleft(), torch.stack(tuple(self._known)), place).clamp_(0, 1)


def low_band(image: Tensor, levels: int = LEVELS) -> Tensor:
    """What is left of an image when the wavelet's high bands are taken away; edges are repeated outward.

    Level l smooths by (1, 2, 1) / 4 with holes, taking places `2 ** l` apart.

    Args:
        image: `[C, H, W]`.
        levels: of the wavelet; 0 leaves the image as it is.
    """
    for level in range(levels):
        step = 2**level
        for axis, padding in ((-1, (step, step, 0, 0)), (-2, (0, 0, step, step))):
            wide, length = functional.pad(image, padding, mode="replicate"), image.shape[axis]
            image = image * 0.5
            for start in (0, 2 * step):
                image.add_(wide.narrow(axis, start, length), alpha=0.25)
    return image


def _adain_measured(restored: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """The frame as it is, and mean, mean square and areas of both pictures, `[2, 3, 2 + areas]`."""
    return restored, torch.stack((_moments(restored), _moments(source)))


def _moments(image: Tensor) -> Tensor:
    variance, mean = (moment.double() for moment in torch.var_mean(image, (1, 2), correction=0))
    areas = functional.adaptive_avg_pool2d(image, _AREAS).flatten(1)
    return torch.cat((torch.stack((mean, variance + mean * mean), 1), areas.double()), 1)


def _adain_set(frame: Tensor, known: Tensor, place: int) -> Tensor:
    means, squares = known[..., :2].mean(0).unbind(-1)
    gain = _gain(squares - means * means)
    departure, agreed = _departures(known[..., 2:], place, gain[:, None])
    # What is seen in a part of the restored frames only must not change the colour of all the rest.
    flicker = (departure - agreed).median(-1).values
    offset = means[1] - means[0] * gain - flicker
    gain, offset = (values.float().reshape(3, 1, 1) for values in (gain, offset))
    return (frame * gain).add_(offset)


def _wavelet_measured(restored: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """The frame with the low band of its own input, and the low bands of both pictures, thinned out."""
    low, difference = low_band(source), low_band(restored - source)
    size = [-(-side // _GRID) for side in low.shape[-2:]]
    known = functional.interpolate(torch.stack((low + difference, low)), size, mode="area")
    return restored - difference, known


def _wavelet_set(frame: Tensor, known: Tensor, place: int) -> Tensor:
    gain = _gain(known.var((0, 3, 4), correction=0))
    _, agreed = _departures(known, place, gain[:, None, None])
    change = known[:, 1].mean(0) + agreed - known[place, 1]
    return frame + functional.interpolate(change[None], frame.shape[-2:], mode="bilinear")[0]


def _gain(variances: Tensor) -> Tensor:
    """By what restored colours are multiplied to vary as much as the input's, `[3]`; of variances `[2, 3]`."""
    deviations = (variances + _EPSILON).sqrt()
    return deviations[1] / deviations[0]


def _departures(known: Tensor, place: int, gain: Tensor) -> tuple[Tensor, Tensor]:
    """How far the restored frame at `place` departs from the window's average, and how much of it the input agrees on.

    Args:
        known: of the restored and the input frames of a window, `[frames, 2, 3, ...]`.
        gain: that makes departures of restored frames as large as the input's would be.
    """
    restored, source = known[place] - known.mean(0)
    restored = restored * gain
    lesser = torch.where(restored.abs() < source.abs(), restored, source)
    return restored, torch.where(restored * source > 0, lesser, torch.zeros_like(lesser))
