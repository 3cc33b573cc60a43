"""Several degradations one after another, and the twenty groups FoundIR tests on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unfade.degrade.blur import Blur, Defocus, DirectionalBlur, GaussianBlur, LocalBlur, MotionBlur
from unfade.degrade.compression import H264
from unfade.degrade.degradation import Codec, Degradation, Draw, Strength
from unfade.degrade.jpeg import Jpeg
from unfade.degrade.light import Haze, LowLight
from unfade.degrade.noise import GaussianNoise, Noise, SensorNoise
from unfade.degrade.resample import Downsample, Resolution
from unfade.degrade.view import View
from unfade.degrade.weather import Rain, Raindrops, Snow

Kinds = tuple[type[Degradation], ...]

SINGLE: dict[str, Kinds] = {
    kind.name: (kind,)
    for kind in (
        GaussianBlur,
        Defocus,
        MotionBlur,
        LocalBlur,
        GaussianNoise,
        SensorNoise,
        Downsample,
        Blur,
        Noise,
        Jpeg,
        Haze,
        LowLight,
        Rain,
        Raindrops,
        Snow,
        H264,
    )
}

# Progressive's three progressions. "blur" means its long directional blur there, not the group's mixture.
PROGRESSIONS: dict[str, Kinds] = {
    "resolution": (Resolution,),
    "blur": (DirectionalBlur,),
    "lowlight": (LowLight,),
}

# FoundIR's test groups, named as its folders (numbers left out), in the order light travels: scene, lens,
# exposure, sensor, file.
FOUNDIR: dict[str, Kinds] = {
    "Blur": (Blur,),
    "Blur_Noise": (Blur, Noise),
    "Blur_JPEG": (Blur, Jpeg),
    "Blur_Noise_JPEG": (Blur, Noise, Jpeg),
    "Noise": (Noise,),
    "JPEG": (Jpeg,),
    "Noise_JPEG": (Noise, Jpeg),
    "Haze": (Haze,),
    "Lowlight_Haze": (Haze, LowLight),
    "Rain": (Rain,),
    "Raindrop": (Raindrops,),
    "NightRain": (Rain, LowLight),
    "Rain_Haze": (Rain, Haze),
    "Lowlight": (LowLight,),
    "Lowlight_Blur": (Blur, LowLight),
    "Lowlight_Noise": (LowLight, Noise),
    "Lowlight_JPEG": (LowLight, Jpeg),
    "Lowlight_Blur_Noise": (Blur, LowLight, Noise),
    "Lowlight_Blur_JPEG": (Blur, LowLight, Jpeg),
    "Lowlight_Noise_JPEG": (LowLight, Noise, Jpeg),
}

# Never trained on.
UNSEEN = frozenset({Snow, H264})


@dataclass(frozen=True, slots=True)
class Composition:
    """Drawn degradations applied in order, all at one severity."""

    parts: tuple[Degradation, ...]

    def __call__(self, x: Tensor, severity: float | Tensor = 1.0, view: View | None = None) -> Tensor:
        """As `Degradation.__call__`."""
        for part in self.parts:
            x = part(x, severity, view)
        return x

    def anew(self, generator: torch.Generator) -> "Composition":
        """The same in another frame of footage, as `Degradation.anew`."""
        return Composition(tuple(part.anew(generator) for part in self.parts))

    def without(self, kinds: Kinds) -> "Composition":
        """What is left when some kinds never happened; the rest happened exactly as before."""
        return Composition(tuple(part for part in self.parts if not isinstance(part, kinds)))


def named(name: str) -> Kinds:
    """The degradations a name stands for: a progression, a single one, a FoundIR group, or several joined by "+".

    The exact name wins ("Blur" is FoundIR's mixture of kinds, "blur" Progressive's long directional one); without
    one, upper and lower case are alike.

    Raises:
        ValueError: the name is unknown; the message lists those that are known.
    """
    known = {**FOUNDIR, **SINGLE, **PROGRESSIONS}
    if "+" in name:
        parts = name.split("+")
        if not all(parts):
            raise ValueError(f"there is a name missing beside a + in {name!r}")
        return tuple(kind for part in parts for kind in named(part))
    if name in known:
        return known[name]
    alike = {key.lower(): kinds for key, kinds in known.items()}
    if name.lower() not in alike:
        raise ValueError(f"unknown degradation {name!r}; known: {', '.join(sorted(known, key=str.lower))}")
    return alike[name.lower()]


def draw_composition(
    kinds: Kinds,
    generator: torch.Generator,
    shape: tuple[int, int, int],
    strength: Strength = "any",
    codec: Codec = "libjpeg",
) -> Composition:
    """One draw of each kind for `shape` = (batch, height, width)."""
    draw = Draw(generator, *shape, strength=strength, codec=codec)
    return Composition(tuple(kind.draw(draw) for kind in kinds))
