"""Footage longer than a model can see at once: overlapping windows over one canvas of latents, merged by hard masks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from unfade.core import Condition, Denoiser


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of footage that a model sees at once.

    Attributes:
        start, stop: its frames in the footage.
        frames: how many it has with copies of the last one, a legal number.
        keep_start, keep_stop: the frames of the footage that it answers for.
        slots: its latents' places on the canvas, those in front and the first frame's own ones included. A place has
            the same number however long the windows are; places that only a later window has are below zero.
        owned: which of those (numbers in `slots`) it answers for.
        lead, tail: how many frames before and after those it answers for it has a say in, where windows fade into one
            another.
    """

    start: int
    stop: int
    frames: int
    keep_start: int
    keep_stop: int
    slots: tuple[int, ...]
    owned: tuple[int, ...]
    lead: int = 0
    tail: int = 0

    @property
    def padding(self) -> int:
        """Copies of the last frame that make the number legal."""
        return self.frames - (self.stop - self.start)

    @property
    def decoded(self) -> range:
        """The frames of the footage that it has a say in."""
        return range(self.keep_start - self.lead, self.keep_stop + self.tail)


@dataclass(frozen=True, slots=True)
class Timeline:
    """All windows of one shot.

    Each window's first latent stands for a single frame, and copies of it in front make pairs complete, so no other
    window has those: they have places of their own. All other latents stand for `stride` frames each and are shared by
    the windows that overlap there; the cut lies in the middle of the overlap.

    Attributes:
        windows: in their order.
        slots: places of the whole canvas.

    Source: Vivid-VR's released code, which joins overlapping clips so after every step.
    """

    windows: tuple[Window, ...]
    slots: int

    @staticmethod
    def of(frames: int, longest: int, stride: int, rule: int, front: int, crossfade: int = 0) -> "Timeline":
        """The windows over a number of frames.

        Args:
            frames: of the shot.
            longest: frames of a window, `rule` k + 1; two windows overlap by half of that and one.
            stride: frames to a latent.
            rule: legal numbers of frames are multiples of it and one.
            front: copies of its first latent before a window's own.
            crossfade: frames around each cut in which one window fades into the next.

        Raises:
            ValueError: there are no frames, the longest window is not legal or too short to overlap, or the overlap is
                too short to fade in.
        """
        if frames < 1:
            raise ValueError("footage needs at least one frame")
        step = (longest - 1) // 2
        if longest % rule != 1 or step < stride or step % stride:
            raise ValueError(
                f"a window must have a multiple of {rule} frames and one, and at least {2 * stride + 1}, not {longest}"
            )
        if not 0 <= crossfade <= step:
            raise ValueError(
                f"windows of {longest} frames fade over 0 to {step} of them, not over {crossfade}"
            )
        count = max(1, -(-(frames - longest) // step) + 1)
        heads, shared = front + 1, step // stride
        windows: list[Window] = []
        for index in range(count):
            start, stop = index * step, min(frames, index * step + longest)
            legal = stop - start + (1 - (stop - start)) % rule
            own = range(-index * heads, (1 - index) * heads)
            first, latents = index * shared, (legal - 1) // stride
            common = range(heads + first, heads + first + latents)
            begin = shared // 2 if index else 0
            end = latents if index == count - 1 else shared + shared // 2
            windows.append(
                Window(
                    start,
                    stop,
                    legal,
                    start + (step // 2 + 1 if index else 0),
                    frames if index == count - 1 else start + step + step // 2 + 1,
                    (*own, *common),
                    (*range(heads), *range(heads + begin, heads + end)),
                    crossfade // 2 if index else 0,
                    crossfade - crossfade // 2 if index < count - 1 else 0,
                )
            )
        return Timeline(tuple(windows), 1 + max(windows[-1].slots) + (count - 1) * heads)


def by_window(
    denoiser: Denoiser,
    windows: Sequence[Window],
    read: Callable[[Sequence[int]], Tensor],
    t: float,
    told: Callable[[int], Condition],
    done: Callable[[int], bool] = lambda index: False,
) -> Iterator[tuple[int, Tensor]]:
    """What each window answers for, one window at a time.

    As solvers work value by value, this hard-mask merge of predictions commutes with them: it is the published joining
    of states and of their history after every step, where all windows share one noise.

    Args:
        denoiser: what to call on every window.
        windows: of the canvas.
        read: gives the canvas at some places, `[B, z, k, h, w]`.
        t: diffusion time.
        told: the condition of a window.
        done: whether a window is to be left out.

    Yields:
        The window's number, and the prediction at the places it owns.
    """
    for index, window in enumerate(windows):
        if not done(index):
            yield index, denoiser(read(window.slots), t, told(index))[:, :, list(window.owned)]
