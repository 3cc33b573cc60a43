"""What only footage has: whether it moves as it should, whether its light flickers, whether its times are kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.evaluation.metrics.fidelity import full_luma
from unfade.evaluation.metrics.metric import Absence, Metric
from unfade.media.video import VideoFrame, read_video

SMALLEST = 32
"""Pixels a side must have for its optical flow to mean something."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How the times of two videos compare.

    Attributes:
        frames: how many frames each has.
        difference: the first difference in words, or None where there is none.
    """

    frames: tuple[int, int]
    difference: str | None

    @property
    def equal(self) -> bool:
        return self.difference is None


def timing_equal(first: Path, second: Path) -> Timing:
    """Whether two videos have the same number of frames at the same times.

    Times are compared exactly where both files count in the same ticks; otherwise within one tick of the coarser
    clock, as Matroska's milliseconds can't hold every time of another container. Decodes both to the end.

    Raises:
        InputError: one of the files is missing, no video, damaged or cut short.
    """
    counts = [0, 0]
    difference = None
    for index, frames in enumerate(zip_longest(read_video(first), read_video(second))):
        one, other = frames
        for side, frame in enumerate(frames):
            counts[side] += frame is not None
        if difference is None and one is not None and other is not None and not _same_time(one, other):
            times = " and ".join(f"{float(_time(frame)):.6f} s" for frame in (one, other))
            difference = f"frame {index} is shown at {times}"
    if difference is None and counts[0] != counts[1]:
        difference = f"{counts[0]} and {counts[1]} frames"
    return Timing((counts[0], counts[1]), difference)


def _time(frame: VideoFrame) -> Fraction:
    return frame.pts * frame.time_base


def _same_time(first: VideoFrame, second: VideoFrame) -> bool:
    same_ticks = first.time_base == second.time_base
    tolerance = Fraction(0) if same_ticks else max(first.time_base, second.time_base)
    return abs(_time(first) - _time(second)) <= tolerance


def flicker(x: Tensor, truth: Tensor | None = None) -> float:
    """Mean change of the whole picture's brightness from frame to frame that the truth doesn't have, in levels of 255.

    With m(t) the mean full-range luma of frame t: against a truth with n(t), the mean of
    |m(t+1) - m(t) - (n(t+1) - n(t))|, which is 0 for the truth itself and for a constant difference in
    brightness. Without a truth, the mean of |m(t+1) - 2 m(t) + m(t-1)| / 2, which is 0 for steady light and for
    a steady fade, and the same as above where brightness alternates around a steady truth.

    Args:
        x, truth: `[T, 3, H, W]` in [0, 1]; at least 2 frames, 3 without truth.

    Raises:
        ValueError: the shapes differ, or there are too few frames.

    Source: for the notion, Delon and Desolneux 2010, Stabilization of Flicker-Like Effects in Image Sequences.
    """
    light = _brightness(x)
    if truth is not None:
        if x.shape != truth.shape:
            raise ValueError(
                f"two clips of one size are compared, not {tuple(x.shape)} and {tuple(truth.shape)}"
            )
        return float((light - _brightness(truth)).diff().abs().mean())
    if len(light) < 3:
        raise ValueError(f"flicker without a truth needs at least 3 frames, not {len(light)}")
    return float(light.diff(n=2).abs().mean()) / 2


def _brightness(x: Tensor) -> Tensor:
    if x.dim() != 4 or x.shape[1] != 3 or x.shape[0] < 2:
        raise ValueError(f"footage is [T, 3, H, W] with at least 2 frames, not {tuple(x.shape)}")
    return torch.stack([full_luma(frame.detach().cpu()).mean() for frame in x])


def warping_error(x: Tensor, guide: Tensor | None = None) -> float:
    """How much a frame differs from the next one once its motion is undone: mean squared error on values in [0, 1].

    The next frame is warped back along the optical flow from the frame to it, and the squared difference averaged
    over the channels and the pixels that are visible in both; then over all pairs of neighbours. Not counted are
    pixels whose way leaves the picture, those whose forward and backward flow disagree, and motion boundaries.
    The pixels of clip `x` are compared; the flow is that of `guide`.

    Args:
        x: `[T, 3, H, W]` in [0, 1], at least 2 frames, sides at least 32.
        guide: the truth, or the degraded input, of the same shape; None takes the flow of `x` itself, which
            follows its artefacts too and so flatters.

    Raises:
        ValueError: the shapes differ, there are too few frames or pixels, or no pixel is visible in two frames.
        ImportError: OpenCV is missing.

    Source: Lai et al. 2018, Learning Blind Video Temporal Consistency, E_warp (section 4.2), with the occlusion
    mask of Ruder et al. 2016, eq. 5 and 6; flow by DIS, Kroeger et al. 2016 (OpenCV, preset medium, one thread)
    in place of FlowNet2. Only numbers of one flow method compare.
    """
    guide = x if guide is None else guide
    if x.dim() != 4 or x.shape[1] != 3 or x.shape[0] < 2 or x.shape != guide.shape:
        raise ValueError(f"footage is [T, 3, H, W] with at least 2 frames, not {tuple(x.shape)}")
    if min(x.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"optical flow needs at least {SMALLEST}x{SMALLEST} pixels, not {tuple(x.shape[-2:])}"
        )
    errors: list[float] = []
    with _one_thread() as cv2:
        method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        for index in range(len(x) - 1):
            planes = [_eight_bits(guide[at]) for at in (index, index + 1)]
            forward, backward = (
                torch.from_numpy(method.calc(a, b, None)).permute(2, 0, 1) for a, b in (planes, planes[::-1])
            )
            visible = _visible(forward, backward)
            if bool(visible.any()):
                frame, following = (x[at].detach().cpu().to(torch.float32) for at in (index, index + 1))
                squared = (frame - _warped(following, forward)) ** 2
                errors.append(float(squared[:, visible].mean(dtype=torch.float64)))
    if not errors:
        raise ValueError("no pixel is visible in two neighbouring frames")
    return sum(errors) / len(errors)


@contextmanager
def _one_thread() -> Iterator[Any]:
    """OpenCV on one thread: DIS cuts the picture into as many stripes as there are threads."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield cv2
    finally:
        cv2.setNumThreads(before)


def _eight_bits(frame: Tensor) -> Any:
    return full_luma(frame.detach().cpu()).round().clamp(0, 255).to(torch.uint8)[0].contiguous().numpy()


def _warped(picture: Tensor, flow: Tensor) -> Tensor:
    """`[C, H, W]` fetched bilinearly from where the flow `[2, H, W]` (right, down; pixels) leads."""
    grid = _ends(flow).permute(1, 2, 0)
    height, width = picture.shape[-2:]
    scaled = 2 * grid / torch.tensor([width - 1, height - 1], dtype=grid.dtype) - 1
    fetched = torch.nn.functional.grid_sample(
        picture[None], scaled[None], mode="bilinear", padding_mode="border", align_corners=True
    )
    return fetched[0]


def _ends(flow: Tensor) -> Tensor:
    """Where each pixel comes to lie: `[2, H, W]`, right and down."""
    height, width = flow.shape[-2:]
    down, right = torch.meshgrid(
        torch.arange(height, dtype=flow.dtype), torch.arange(width, dtype=flow.dtype), indexing="ij"
    )
    return torch.stack([right, down]) + flow


def _visible(forward: Tensor, backward: Tensor) -> Tensor:
    """`[H, W]`, true where a pixel can be found again in the next frame."""
    height, width = forward.shape[-2:]
    right, down = _ends(forward)
    inside = (right >= 0) & (right <= width - 1) & (down >= 0) & (down <= height - 1)
    back = _warped(backward, forward)
    lengths = (forward**2).sum(0), (back**2).sum(0)
    agree = ((forward + back) ** 2).sum(0) <= 0.01 * (lengths[0] + lengths[1]) + 0.5
    slopes = torch.stack(torch.gradient(forward, dim=(1, 2)))
    steady = (slopes**2).sum((0, 1)) <= 0.01 * lengths[0] + 0.002
    return inside & agree & steady


def footage_metrics() -> tuple[tuple[Metric, ...], tuple[Absence, ...]]:
    """Warping error and flicker, and why one of them can't be had."""
    light = Metric(
        name="flicker",
        label="Flicker",
        unit="levels",
        higher_is_better=False,
        of="footage",
        convention="changes of the mean luma that the truth lacks; without truth, half its second difference",
        source="unfade; the notion of Delon and Desolneux 2010",
        measure=_flicker_if_defined,
    )
    try:
        import cv2
    except ImportError as error:
        return (light,), (
            Absence("warping-error", f'{error}; pip install ".[evaluate]" in the clone of unfade'),
        )
    warping = Metric(
        name="warping-error",
        label="Warping error",
        unit="",
        higher_is_better=False,
        of="footage",
        convention="mean squared error in [0, 1] after DIS flow of the truth (of the input without truth), "
        "occlusions left out",
        source=f"OpenCV {cv2.__version__}; Lai et al. 2018",
        measure=_warping_if_defined,
        cheap=False,
        guided=True,
    )
    return (warping, light), ()


def _flicker_if_defined(x: Tensor, truth: Tensor | None = None, mask: Tensor | None = None) -> float | None:
    return flicker(x, truth) if x.shape[0] >= (3 if truth is None else 2) else None


def _warping_if_defined(x: Tensor, truth: Tensor | None = None, mask: Tensor | None = None) -> float | None:
    if x.shape[0] < 2 or min(x.shape[-2:]) < SMALLEST:
        return None
    return warping_error(x, truth)
