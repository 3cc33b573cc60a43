"""Where a Wan model's weights wait while others work: plans, the memory they need, and the choice among them."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from unfade.backbones.footprint import TILES, Footprint
from unfade.backbones.free_memory import usable
from unfade.backbones.wan_config import WanConfig
from unfade.backbones.wan_footprint import footprint_of

Weights = Literal["resident", "offload", "group", "fp8"]
VaeTiles = Literal["auto", "on", "off"]
Phase = Literal["encode", "denoise", "decode"]

_PHASES: tuple[Phase, ...] = ("encode", "denoise", "decode")


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A way to fit a model and one clip into memory. All but "fp8" give the same pixels.

    Attributes:
        weights: "resident" keeps everything on the device; with "offload" transformer and VAE take turns; with
            "group" they take turns and of the transformer's blocks only the current and the next are there; with
            "fp8" they take turns and the blocks' matrices are stored in 8 bits (which changes results).
        tile: side of the tiles the VAE decodes in, in pixels; 0 for none.
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


def choose_memory_plan(
    config: WanConfig,
    canvas: tuple[int, int],
    frames: int,
    free_bytes: int,
    wanted: Literal["auto"] | Weights = "auto",
    *,
    tiles: VaeTiles = "auto",
    device: str = "cuda",
    dtype: torch.dtype = torch.bfloat16,
    vae_dtype: torch.dtype = torch.float32,
    prompts: int = 2,
    denoised: tuple[int, int] | None = None,
    extra: int = 0,
) -> MemoryPlan:
    """The quickest plan that is predicted to fit; if none does, the one that needs least (see `fits`).

    Args:
        config: of the model.
        canvas: (height, width) of what is encoded and decoded.
        frames: of the generated clip.
        free_bytes: on the device, before the model is there.
        wanted: how weights are kept; "auto" never takes "fp8", since it changes results.
        tiles: whether the VAE decodes in tiles; "auto" only where the whole does not fit.
        device: type of the device; on the CPU there is nowhere to move weights to.
        dtype, vae_dtype: of transformer and VAE.
        prompts: in use; 2 with guidance.
        denoised: (height, width) of what is denoised at once, where that is less than the canvas.
        extra: bytes of adapters beside the transformer.

    Raises:
        ValueError: `wanted` or `tiles` is unknown, or the model can't have this size.
    """
    for name, value, legal in (
        ("memory", wanted, ("auto", *get_args(Weights))),
        ("tiles", tiles, get_args(VaeTiles)),
    ):
        if value not in legal:
            raise ValueError(f"{name} must be one of {', '.join(legal)}, not {value!r}")
    footprint = footprint_of(config, canvas, frames, dtype, vae_dtype, prompts, denoised=denoised)
    plans = plans_of(footprint, free_bytes, tiles, host=device == "cpu", extra=extra)
    if wanted == "fp8":
        plans = [plan for plan in _all(footprint, free_bytes, "fp8", tiles, extra)]
    elif wanted != "auto":
        plans = [plan for plan in plans if plan.weights == wanted] or plans
    return _first_that_fits(plans)


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
        others = _all(plan.footprint, free_bytes, "fp8", tiles, extra)
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
    return _first_that_fits(less) if less else None


def plans_of(
    footprint: Footprint, free_bytes: int, tiles: VaeTiles = "auto", *, host: bool = False, extra: int = 0
) -> list[MemoryPlan]:
    """All plans with the same pixels, the quickest first."""
    kinds: tuple[Weights, ...] = ("resident",) if host else ("resident", "offload", "group")
    plans = [plan for kind in kinds for plan in _all(footprint, free_bytes, kind, tiles, extra)]
    # Moving weights costs seconds, larger surroundings of smaller tiles cost more arithmetic in the VAE alone, and
    # bringing every block for every evaluation costs most.
    order = {"resident": 0, "offload": 0, "group": 1}
    return sorted(plans, key=lambda plan: (order[plan.weights], -plan.tile if plan.tile else -(1 << 20)))


def _all(footprint: Footprint, free: int, weights: Weights, tiles: VaeTiles, extra: int) -> list[MemoryPlan]:
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
        footprint.vae + footprint.encode + (own if both else 0),
        own + footprint.denoise + footprint.remembered + (footprint.vae if both else 0),
        footprint.vae + decode + (own if both else 0),
    )


def _first_that_fits(plans: list[MemoryPlan]) -> MemoryPlan:
    return next((plan for plan in plans if plan.fits), None) or min(plans, key=lambda plan: plan.peak)
