"""Where a video model's weights wait while others work: plans, and the memory they need."""

from dataclasses import dataclass
from typing import Literal

from unfade.backbones.footprint import TILES, Footprint
from unfade.backbones.free_memory import usable

Weights = Literal["resident", "offload", "group", "fp8"]
VaeTiles = Literal["auto", "on", "off"]
Phase = Literal["place", "encode", "denoise", "decode"]

_PHASES: tuple[Phase, ...] = ("encode", "denoise", "decode")


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A way to fit a model and one clip into memory. All but "fp8" give the same pixels.

    Attributes:
        weights: "resident" keeps everything on the device; with "offload" transformer and VAE take turns; with
            "group" they take turns and of the transformer's blocks only the current and the next are there; with
            "fp8" they take turns and the blocks' matrices are stored in 8 bits (which changes results).
        tile: side of the tiles the VAE works in, in pixels (of squares as large as CogVideoX's strips);
            0 for none.
        encode, denoise, decode: predicted bytes on the device in each phase.
        free: bytes there were to choose by.
        why: the choice in a few words.
        footprint: what the prediction was made from.
    """

    weights: Weights
    tile: int
    encode: int
    denoise: int
    decode: int
    free: int
    why: str
    footprint: Footprint

    @property
    def name(self) -> str:
        """For people and provenance: the way of the weights, and the VAE's tiles if there are any."""
        return self.weights + (f", VAE in tiles of {self.tile}" if self.tile else "")

    @property
    def place(self) -> int:
        """Bytes of weights that lie on the device before anything is computed; 0 where they come when they are used."""
        if self.weights != "resident":
            return 0
        return self.encode - self.footprint.encode_tiled.get(self.tile, self.footprint.encode)

    @property
    def peak(self) -> int:
        """The most bytes of any phase."""
        return max(self.encode, self.denoise, self.decode)

    @property
    def phase(self) -> Phase:
        """The one with the peak."""
        return max(_PHASES, key=lambda name: getattr(self, name))

    @property
    def fits(self) -> bool:
        """Whether the prediction, with something to spare, is within what is free."""
        return self.peak <= usable(self.free)


def smaller_plan(
    plan: MemoryPlan,
    free_bytes: int,
    tiles: VaeTiles = "auto",
    host: bool = False,
    phase: Phase | None = None,
) -> MemoryPlan | None:
    """The plan to go on with when `plan` ran out of memory: the quickest that needs less and fits, or the smallest.

    Weights that are stored in 8 bits stay so, since their real values are gone.

    Args:
        plan: that ran out.
        free_bytes: on the device, before the model is there.
        tiles: whether the VAE may decode in tiles.
        host: whether the device is the host itself, where there is nowhere to move weights to.
        phase: in which it ran out, which then has to need less; where that isn't known, the peak has to.

    Returns:
        None where nothing needs less.
    """
    extra = plan.denoise - _needs(plan.footprint, plan.weights, plan.tile, 0)[1]
    if plan.weights == "fp8":
        others = plans_with(plan.footprint, "fp8", free_bytes, tiles, extra)
    else:
        others = plans_of(plan.footprint, free_bytes, tiles, host=host, extra=extra)
    failed = phase or plan.phase
    less = [
        other
        for other in others
        if getattr(other, failed) < getattr(plan, failed)
        and all(getattr(other, each) <= getattr(plan, each) for each in _PHASES)
        and (phase is not None or other.peak < plan.peak)
    ]
    return first_that_fits(less) if less else None


def plans_of(
    footprint: Footprint, free_bytes: int, tiles: VaeTiles = "auto", *, host: bool = False, extra: int = 0
) -> list[MemoryPlan]:
    """All plans with the same pixels, the quickest first."""
    kinds: tuple[Weights, ...] = ("resident",) if host else ("resident", "offload", "group")
    plans = [plan for kind in kinds for plan in plans_with(footprint, kind, free_bytes, tiles, extra)]
    # Moving weights costs seconds, larger surroundings of smaller tiles cost more arithmetic in the VAE alone, and
    # bringing every block for every evaluation costs most.
    order = {"resident": 0, "offload": 0, "group": 1}
    return sorted(plans, key=lambda plan: (order[plan.weights], -plan.tile if plan.tile else -(1 << 20)))


def plans_with(
    footprint: Footprint, weights: Weights, free: int, tiles: VaeTiles = "auto", extra: int = 0
) -> list[MemoryPlan]:
    """All plans that keep the weights so, from the largest tiles to the smallest."""
    sides = {"auto": (0, *TILES), "on": TILES, "off": (0,)}[tiles]
    return [_plan(footprint, free, weights, side, extra) for side in sides]


def _plan(footprint: Footprint, free: int, weights: Weights, tile: int, extra: int) -> MemoryPlan:
    encode, denoise, decode = _needs(footprint, weights, tile, extra)
    peak = max(encode, denoise, decode)
    short = "" if peak <= usable(free) else ", which is not enough"
    why = f"needs {peak / 1e9:.1f} GB of {free / 1e9:.1f} GB free{short}"
    return MemoryPlan(weights, tile, encode, denoise, decode, free, why, footprint)


def _needs(footprint: Footprint, weights: Weights, tile: int, extra: int) -> tuple[int, int, int]:
    """Bytes while encoding, denoising, decoding."""
    own = {
        "resident": footprint.transformer,
        "offload": footprint.transformer,
        "group": footprint.around + 2 * min(footprint.block, footprint.transformer),
        # One block's matrices at most are in both precisions at once.
        "fp8": footprint.fp8 + footprint.block,
    }[weights] + extra
    both = weights == "resident"
    decode = footprint.decode_tiled[tile] if tile else footprint.decode
    return (
        footprint.vae + footprint.encode_tiled.get(tile, footprint.encode) + (own if both else 0),
        own + footprint.denoise + footprint.remembered + (footprint.vae if both else 0),
        footprint.vae + decode + (own if both else 0),
    )


def first_that_fits(plans: list[MemoryPlan]) -> MemoryPlan:
    """The first plan that is predicted to fit; if none does, the one that needs least."""
    return next((plan for plan in plans if plan.fits), None) or min(plans, key=lambda plan: plan.peak)
