"""How Vivid-VR samples: the settings, and the rules of sizes and windows that follow from them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal, get_args

from unfade.backbones.cogvideox_config import CogVideoXConfig
from unfade.core import UsageError
from unfade.diffusion.sizes import Fit, padded_fit
from unfade.diffusion.tiled import Tile, flush_tiles
from unfade.diffusion.v_schedule import Sampler, VSchedule
from unfade.diffusion.windows import Timeline

ColourFixing = Literal["adain", "wavelet", "none"]

# The least short side of a result.
_SHORTEST = 16


@dataclass(frozen=True, slots=True)
class VividSettings:
    """How Vivid-VR restores footage, besides what every plan says.

    Attributes:
        window: frames the model sees at once, 8k + 1; windows overlap by half.
        tile: side of what it sees at once in pixels, with strides of half of that; 0 for the whole frame.
        steps: of the sampler, where the plan names none; best a divisor of 1000.
        sampler: "dpm", which draws noise at every step, or "ddim", which draws none.
        guidance: scale of classifier-free guidance; 1 is none and halves the cost.
        dynamic: whether that scale swings with time, as CogVideoX's own pipelines can do.
        fidelity: 0 invents freely (as published), towards 1 the result is drawn to the input in every step. In the
            published terms the guidance scale is (1 - fidelity) / fidelity.
        colour: how colours are brought back to the input's.
        colour_window: over how many frames; 1 is the published way, which may flicker.
        short_side: of the result in pixels, where no scale is asked for; 0 keeps the input's.
        sampled: whether the degraded footage's latents are drawn from the encoder's posterior, as published, or are its
            mode.
        crossfade: frames around each cut between windows in which one fades into the next, up to (window - 1) / 2. 0
            is the published hard cut: windows of 121 frames share the latents around it, so that they differ by what
            the decoder remembers, but those of 9 share none.
        suffix: whether what is to be seen is followed by the published suffix, as published; control is trained
            without it.

    Raises:
        ValueError: a value is out of range.

    Source: Vivid-VR (arXiv 2508.14483) and its released inference code.
    """

    system: ClassVar[str] = "vivid-vr"
    method: ClassVar[str] = "Vivid-VR (arXiv 2508.14483)"

    window: int = 121
    tile: int = 1024
    steps: int = 50
    sampler: Sampler = "dpm"
    guidance: float = 6.0
    dynamic: bool = False
    fidelity: float = 0.0
    colour: ColourFixing = "adain"
    colour_window: int = 9
    short_side: int = 1024
    sampled: bool = True
    crossfade: int = 0
    suffix: bool = True

    def __post_init__(self) -> None:
        VSchedule(self.steps, self.sampler)
        if not 1 <= self.guidance < float("inf"):
            raise ValueError(f"guidance must be at least 1 (none) and finite, not {self.guidance}")
        if not 0 <= self.fidelity < 1:
            raise ValueError(f"fidelity must be at least 0 and below 1, not {self.fidelity}")
        if self.colour not in get_args(ColourFixing):
            raise ValueError(
                f"colour must be one of {', '.join(get_args(ColourFixing))}, not {self.colour!r}"
            )
        if self.colour_window < 1 or self.colour_window % 2 == 0:
            raise ValueError(f"colour_window must be an odd number of frames, not {self.colour_window}")
        if self.tile < 0 or self.window < 1 or self.crossfade < 0:
            raise ValueError("window, tile and crossfade can't be negative")
        if self.short_side != 0 and self.short_side < _SHORTEST:
            raise ValueError(f"short_side must be at least {_SHORTEST}, or 0, not {self.short_side}")

    @property
    def pull(self) -> float | None:
        """The published strength that `fidelity` means; None for none at all."""
        return None if self.fidelity == 0 else (1 - self.fidelity) / self.fidelity

    def target(self, height: int, width: int, scale: int = 1) -> tuple[int, int]:
        """(height, width) of the result: `scale` times the input, or its short side brought to `short_side`."""
        if scale > 1 or self.short_side == 0:
            return height * scale, width * scale
        ratio = self.short_side / min(height, width)
        return round(height * ratio), round(width * ratio)

    def of_part(self, part: tuple[int, int], whole: tuple[int, int]) -> "VividSettings":
        """Settings under which a part (height, width) of the picture is enlarged as the whole is under these."""
        if self.short_side == 0:
            return self
        return replace(self, short_side=max(_SHORTEST, round(self.short_side * min(part) / min(whole))))

    def fit(self, config: CogVideoXConfig, height: int, width: int) -> Fit:
        """The canvas for a result of this size: the next multiples, reached by reflection and exactly undone."""
        return padded_fit(height, width, config.size_multiple)

    def along(self, config: CogVideoXConfig, length: int) -> list[Tile]:
        """The tiles along an axis of so many places of latents."""
        tile = self.tile // config.stride
        if tile == 0 or length <= tile:
            return [Tile(0, length, 0, length)]
        patch = config.transformer["patch_size"]
        if tile % patch:
            raise UsageError(f"tile must be a multiple of {config.size_multiple}, not {self.tile}")
        return flush_tiles(length, tile, max(1, tile // 2))

    def tiles(self, config: CogVideoXConfig, fit: Fit) -> tuple[list[Tile], list[Tile]]:
        """The rows and the columns of tiles on a canvas, in places of latents.

        Raises:
            UsageError: the tile is not one that the model can see.
        """
        rows, columns = (
            self.along(config, side // config.stride) for side in (fit.canvas_height, fit.canvas_width)
        )
        return rows, columns

    def timeline(self, config: CogVideoXConfig, frames: int) -> Timeline:
        """The windows of a shot of so many frames.

        Raises:
            UsageError: the window is not one that the model can see.
        """
        rule, _ = config.frame_rule
        try:
            front = config.padding(min(self.window, 1 + rule))
            return Timeline.of(frames, self.window, config.temporal_stride, rule, front, self.crossfade)
        except ValueError as error:
            raise UsageError(str(error)) from error

    def told(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)


KNOWN = frozenset(field.name for field in fields(VividSettings))


def vivid_settings(changes: Mapping[str, Any] | None = None) -> VividSettings:
    """The published settings, some of them changed by name.

    Raises:
        UsageError: a name is unknown, or a value out of range.
    """
    if unknown := [name for name in changes or {} if name not in KNOWN]:
        told = "clip-frames (it has --window)" if unknown[0] == "frames" else unknown[0].replace("_", "-")
        raise UsageError(f"Vivid-VR has no use for {told}; leave it out")
    try:
        return VividSettings(**dict(changes or {}))
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
