"""Real-ESRGAN's second-order degradation for footage: drawn once a clip, with real video codecs at its end."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unfade.core import generator
from unfade.degrade.blur import convolve
from unfade.degrade.degradation import Codec, Draw
from unfade.degrade.grain import Grain, GrainRanges
from unfade.degrade.jpeg import jpeg_round_trip
from unfade.degrade.kernels import BlurKernel, KernelRanges, Range, chosen
from unfade.degrade.resample import resize
from unfade.media.compression import Preset, VideoCodec, compressed

Size = tuple[int, int]
Filter = Literal["area", "bilinear", "bicubic"]
_FILTERS: tuple[Filter, ...] = ("area", "bilinear", "bicubic")
_KERNELS, _GRAIN = KernelRanges(), GrainRanges()


@dataclass(frozen=True, slots=True)
class StageSettings:
    """What one of the two passes through blur, resize, noise and JPEG is drawn from.

    Attributes:
        blur: chance of any blur.
        kernels: what it is drawn from.
        resizes: shares of enlarging, reducing and keeping the size.
        factors: the smallest and the largest factor of the sides; 1 lies between.
        grain: noise.
        jpeg: chance of JPEG.
        quality: of JPEG.
    """

    blur: float = 1.0
    kernels: KernelRanges = _KERNELS
    resizes: tuple[float, float, float] = (0.2, 0.7, 0.1)
    factors: Range = (0.15, 1.5)
    grain: GrainRanges = _GRAIN
    jpeg: float = 1.0
    quality: Range = (30.0, 95.0)


FIRST = StageSettings()
SECOND = StageSettings(
    blur=0.8,
    kernels=KernelRanges(sigma=(0.2, 1.5)),
    resizes=(0.3, 0.4, 0.3),
    factors=(0.3, 1.2),
    grain=GrainRanges(sigma=(1.0, 25.0), scale=(0.05, 2.5)),
)
_NO_STAGE = StageSettings(blur=0.0, resizes=(0.0, 0.0, 1.0), grain=GrainRanges(chance=0.0), jpeg=0.0)


@dataclass(frozen=True, slots=True)
class FootageSettings:
    """What the compression of the whole clip is drawn from; ranges are this project's.

    Attributes:
        chance: of any.
        codecs: as likely as one another.
        h264, h265, mpeg4: ranges of `quality` in `media.compression.compressed`.
        preset: of x264 and x265.
        fps: frames a second of the clip.
    """

    chance: float = 0.5
    codecs: tuple[VideoCodec, ...] = ("h264", "h265")
    h264: Range = (18.0, 36.0)
    h265: Range = (20.0, 38.0)
    mpeg4: Range = (2.0, 16.0)
    preset: Preset = "medium"
    fps: float = 25.0


@dataclass(frozen=True, slots=True)
class SecondOrderSettings:
    """What a degradation is drawn from.

    The defaults are those that Real-ESRGAN's x4 network was trained with, and `FootageSettings` after them.

    Attributes:
        first, second: the two passes. The second's JPEG is the one that trades places with the last filter.
        sinc: chance that there is a last sinc filter.
        sides: of its kernel.
        footage: compression of the clip.
        frozen: whether all frames have the first one's field of noise, as if it stuck to the lens.
        rounded: whether the small frames are rounded to 8 bits.
        jpeg: the JPEG implementation.
    """

    first: StageSettings = FIRST
    second: StageSettings = SECOND
    sinc: float = 0.8
    sides: tuple[int, ...] = _KERNELS.sides
    footage: FootageSettings = FootageSettings()
    frozen: bool = False
    rounded: bool = True
    jpeg: Codec = "libjpeg"


OFF = SecondOrderSettings(_NO_STAGE, _NO_STAGE, sinc=0.0, footage=FootageSettings(chance=0.0), rounded=False)
"""Nothing at all happens, but for the reduction by `scale` and back."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One pass as it was drawn.

    Attributes:
        kernel: of the blur, or None.
        factor: of the sides; for the second pass relative to the size that the small clip will have.
        filter: that resizes.
        grain: noise, or None.
        quality: of JPEG, or None.
    """

    kernel: BlurKernel | None
    factor: float
    filter: Filter
    grain: Grain | None
    quality: float | None

    @staticmethod
    def draw(dice: torch.Generator, settings: StageSettings) -> "Stage":
        draw = Draw(dice, 1, 1, 1)
        is_blurred, kernel = bool(draw.chance(settings.blur)), BlurKernel.draw(draw, settings.kernels)
        low, high = settings.factors
        if not 0 < low <= 1 <= high:
            raise ValueError(f"factors reach from above 0 to 1 and on, not {settings.factors}")
        factors = (float(draw.uniform(1, high)), float(draw.uniform(low, 1)), 1.0)
        factor = factors[chosen(draw, settings.resizes)]
        filter = _FILTERS[int(draw.choice(len(_FILTERS)))]
        grain = Grain.draw(draw, settings.grain)
        has_jpeg, quality = bool(draw.chance(settings.jpeg)), float(draw.uniform(*settings.quality))
        return Stage(kernel if is_blurred else None, factor, filter, grain, quality if has_jpeg else None)

    def until_jpeg(self, x: Tensor, size: Size, dice: torch.Generator) -> Tensor:
        """A frame blurred, brought to a size, and noisy; it may leave [0, 1] where there is no noise."""
        x = _resized(_blurred(x, self.kernel), size, self.filter)
        return x if self.grain is None else self.grain(x, dice)


@dataclass(frozen=True, slots=True)
class Footage:
    """A compression of the clip as it was drawn: the arguments of `media.compression.compressed`."""

    codec: VideoCodec
    quality: float
    preset: Preset
    fps: float

    @staticmethod
    def draw(dice: torch.Generator, settings: FootageSettings) -> "Footage | None":
        draw = Draw(dice, 1, 1, 1)
        is_there, index, share = (
            draw.chance(settings.chance),
            draw.choice(len(settings.codecs)),
            draw.uniform(0, 1),
        )
        if not bool(is_there):
            return None
        codec = settings.codecs[int(index)]
        low, high = {"h264": settings.h264, "h265": settings.h265, "mpeg4": settings.mpeg4}[codec]
        return Footage(codec, low + (high - low) * float(share), settings.preset, settings.fps)


@dataclass(frozen=True, slots=True)
class SecondOrder:
    """A second-order degradation of a clip whose every number is already drawn.

    Blur, resize, noise and JPEG; all that again; a sinc filter at the size of the small clip, before or after the
    second JPEG; a video codec. Numbers hold for the whole clip, as one camera and one site would have it; only the
    noise is fresh in every frame. It takes a clip of any size.

    Attributes:
        scale: by which the small clip is smaller than the clip.
        first, second: the two passes.
        sinc: the last filter, or None.
        is_jpeg_last: whether the second JPEG follows the last filter and resize, or goes before them.
        filter: of the last resize.
        footage: the codec that the small clip goes through, or None.
        seed: of the noise.
        frozen, rounded, jpeg: as in the settings.

    Source: Wang et al. 2021, Real-ESRGAN (arXiv 2107.10833), sections 3.1 to 3.3, and the published configuration of
    its x4 network. Vivid-VR (arXiv 2508.14483) takes that model for footage and says no more of it.
    """

    scale: float
    first: Stage
    second: Stage
    sinc: BlurKernel | None
    is_jpeg_last: bool
    filter: Filter
    footage: Footage | None
    seed: int
    frozen: bool = False
    rounded: bool = True
    jpeg: Codec = "libjpeg"

    @staticmethod
    def draw(
        dice: torch.Generator, scale: float = 4.0, settings: SecondOrderSettings = SecondOrderSettings()
    ) -> "SecondOrder":
        """One draw.

        A single number of `dice` seeds all others, each part by its own name, so that a change of one part's settings
        leaves the other parts' numbers as they were.

        Args:
            dice: a generator on any device.
            scale: by which the small clip is smaller, 1 or more.
            settings: what is drawn from.

        Raises:
            ValueError: the scale is below 1, or a setting is impossible.
        """
        if not scale >= 1:
            raise ValueError(f"a clip is reduced by 1 or more, not {scale}")
        # Within what every reader of JSON holds exactly.
        seed = int(torch.randint(1 << 48, (), generator=dice, device=dice.device))
        ending = Draw(generator(seed, "ending"), 1, 1, 1)
        has_sinc, is_jpeg_last = bool(ending.chance(settings.sinc)), bool(ending.chance(0.5))
        filter = _FILTERS[int(ending.choice(len(_FILTERS)))]
        sinc = BlurKernel.draw_sinc(ending, settings.sides)
        return SecondOrder(
            scale=float(scale),
            first=Stage.draw(generator(seed, "first"), settings.first),
            second=Stage.draw(generator(seed, "second"), settings.second),
            sinc=sinc if has_sinc else None,
            is_jpeg_last=is_jpeg_last,
            filter=filter,
            footage=Footage.draw(generator(seed, "footage"), settings.footage),
            seed=seed,
            frozen=settings.frozen,
            rounded=settings.rounded,
            jpeg=settings.jpeg,
        )

    def told(self) -> dict[str, Any]:
        """All that was drawn, as JSON can hold it."""
        return asdict(self)

    def without_footage(self) -> "SecondOrder":
        """The same without the video codec: then every frame depends on itself and its index only."""
        return replace(self, footage=None)

    def small_size(self, height: int, width: int) -> Size:
        """(height, width) of the small clip."""
        return _scaled((height, width), 1 / self.scale)

    def reduced(self, clip: Tensor, start: int = 0) -> Tensor:
        """The small clip, `[T, 3, h, w]` in [0, 1].

        Args:
            clip: `[T, 3, H, W]` in [0, 1].
            start: index of its first frame in the footage that the draw is for. Without a video codec, part of a clip
                so gives the same part of the whole clip's result.

        Raises:
            ValueError: the shape is another.
            UsageError, OutputError: as for `media.compression.compressed`.
        """
        if clip.ndim != 4 or clip.shape[1] != 3 or not clip.numel():
            raise ValueError(f"a clip is [T, 3, H, W] and not empty, not {tuple(clip.shape)}")
        small = self.small_size(clip.shape[2], clip.shape[3])
        # One at a time: a result must not depend on how many there are, and memory is that of one frame.
        frames = [self._frame(frame[None], start + index, small) for index, frame in enumerate(clip)]
        result = torch.cat(frames)
        if self.footage is None:
            return result
        footage = self.footage
        return compressed(result, footage.codec, footage.quality, footage.fps, footage.preset)

    def __call__(self, clip: Tensor, start: int = 0) -> Tensor:
        """The small clip enlarged back to the size of the clip by bicubic interpolation; as `reduced` otherwise."""
        return resize(self.reduced(clip, start), clip.shape[2], clip.shape[3]).clamp(0, 1)

    def _frame(self, x: Tensor, index: int, small: Size) -> Tensor:
        dice = [
            generator(self.seed, "noise", stage, 0 if self.frozen else index) for stage in ("first", "second")
        ]
        size = _scaled((x.shape[2], x.shape[3]), self.first.factor)
        x = self._compressed(self.first.until_jpeg(x, size, dice[0]), self.first.quality)
        x = self.second.until_jpeg(x, _scaled(small, self.second.factor), dice[1])
        if self.is_jpeg_last:
            x = self._compressed(self._finished(x, small), self.second.quality)
        else:
            x = self._finished(self._compressed(x, self.second.quality), small)
        x = x.clamp(0, 1)
        return x.mul(255).round().div(255) if self.rounded else x

    def _finished(self, x: Tensor, small: Size) -> Tensor:
        return _blurred(_resized(x, small, self.filter), self.sinc)

    def _compressed(self, x: Tensor, quality: float | None) -> Tensor:
        if quality is None:
            return x
        return jpeg_round_trip(x.clamp(0, 1), torch.tensor([quality], device=x.device), self.jpeg)


def _scaled(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _blurred(x: Tensor, kernel: BlurKernel | None) -> Tensor:
    return x if kernel is None else convolve(x, kernel.weights().to(x)[None])


def _resized(x: Tensor, size: Size, filter: Filter) -> Tensor:
    """As the published model does: bilinear and bicubic look at the nearest pixels only, so reduction aliases."""
    if size == tuple(x.shape[2:]):
        return x
    if filter == "area":
        return functional.interpolate(x, size, mode="area")
    return functional.interpolate(x, size, mode=filter, align_corners=False)
