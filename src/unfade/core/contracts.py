"""The three seams: a denoiser in the middle, a restorer in front of it, a plan between user and restorer."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

from torch import Tensor

from unfade.core.clip import Clip
from unfade.core.trajectory import Trajectory

Device = Literal["auto", "cpu", "cuda", "mps"]
Dtype = Literal["auto", "bf16", "fp32"]
Progress = Callable[[float], None]


class Condition(Protocol):
    """What a denoiser is told besides its state; knows how to speak of a window of the canvas only."""

    def crop(self, top: int, left: int, height: int, width: int) -> "Condition":
        """The condition for the window; whatever concerns the whole canvas stays as it is."""
        ...


class Denoiser(Protocol):
    """The one call in the middle: `(x, t, condition) -> prediction`, `x` of shape `[B, C, H, W]`.

    Wrappers (tiles, guidance, windows, caches) have the same signature.
    """

    def __call__(self, x: Tensor, t: float, condition: Condition) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How a restoration is to be done.

    Attributes:
        steps: evaluations of the model, 1 being plain regression for a pixel model; None for the model's own
            number (`BackboneInfo.steps`).
        frames: length of the film, when one is asked for.
        scale: enlargement, 1 to 4.
        seed: of every random draw.
        device, dtype: where and in what precision; "auto" takes the fastest safe choice.
        tile: side of a tile in pixels, 0 for none, "auto" to choose from the size.
        keep: whether states between degraded and restored are kept for a film; without them a restoration in
            many steps takes no more memory than one in a single step.
        confidence: whether a map of how sure the result is is wanted besides; a restorer that can't make one
            refuses or leaves it out.
        neighbours: frames of footage before and after each, 0 to 2, that help a model to restore it that restores frame
            by frame otherwise; 0 for frame by frame.

    Raises:
        ValueError: a value is out of range.
    """

    steps: int | None = None
    frames: int = 9
    scale: int = 1
    seed: int = 0
    device: Device = "auto"
    dtype: Dtype = "auto"
    tile: int | Literal["auto"] = "auto"
    keep: bool = True
    confidence: bool = False
    neighbours: int = 2

    def __post_init__(self) -> None:
        for name in ("steps", "frames", "scale", "seed", "neighbours"):
            if name == "steps" and self.steps is None:
                continue
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name} must be a whole number, not {getattr(self, name)!r}")
        if self.device not in get_args(Device):
            raise ValueError(f"device must be one of {', '.join(get_args(Device))}, not {self.device!r}")
        if self.dtype not in get_args(Dtype):
            raise ValueError(f"dtype must be one of {', '.join(get_args(Dtype))}, not {self.dtype!r}")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise ValueError(f"steps must be 1 to 1000, not {self.steps}")
        if not 2 <= self.frames <= 1000:
            raise ValueError(f"frames must be 2 to 1000, not {self.frames}")
        if not 0 <= self.neighbours <= 2:
            raise ValueError(f"neighbours must be 0, 1 or 2, not {self.neighbours}")
        if not 1 <= self.scale <= 4:
            raise ValueError(f"scale must be 1, 2, 3 or 4, not {self.scale}")
        if self.tile != "auto" and (type(self.tile) is not int or (self.tile != 0 and self.tile < 64)):
            raise ValueError(f"a tile must be auto, 0 (none) or at least 64 pixels, not {self.tile!r}")


@dataclass(frozen=True, slots=True)
class Restoration:
    """What a restorer gives back.

    Attributes:
        trajectory: the way; its last clip is the result.
        provenance: how it was made, as short texts (version, model, weights hash, prompt, steps, ...).
        seconds: wall time of the restoration itself.
        frames: length of the film, as planned.
        confidence: how sure each pixel of the result is, `[T, 1, H, W]` in [0, 1], 1 being sure; None where it
            wasn't asked for or can't be told.
    """

    trajectory: Trajectory
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0
    frames: int = 9
    confidence: Tensor | None = None

    @property
    def result(self) -> Clip:
        return self.trajectory[-1]

    def film(self) -> Iterator[Clip]:
        """The planned number of clips from degraded to restored, made one at a time."""
        return self.trajectory.film(self.frames)


class Restorer(Protocol):
    """What the command, the studio and the evaluation see of any model, filter or peer."""

    def restore(
        self,
        clip: Clip,
        prompt: str | None = None,
        plan: Plan = ...,
        progress: Progress | None = None,
    ) -> Restoration: ...
