"""Memory while a video model trains: the VAE in tiles where it would not fit whole, and what to do where it ran out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_memory import cogvideox_footprint
from unfade.backbones.footprint import Footprint
from unfade.backbones.free_memory import usable
from unfade.backbones.video import VideoModel
from unfade.backbones.wan_footprint import footprint_of
from unfade.core import UnfadeError
from unfade.degrade.framing import Size, name_of
from unfade.training.video_run import VideoRun

# Twice the bytes that any of the published VAEs takes for a pixel of its canvas.
_PER_PIXEL = 200_000


class Tiled(Protocol):
    """A VAE that can work in tiles (CogVideoX's: in strips) with the same answer up to rounding."""

    tile: int


def needs_of(video: VideoModel, canvas: tuple[int, int], frames: int) -> Footprint:
    """What a model needs for one clip that is encoded and decoded; takes seconds for large models.

    Wan encodes frames in turns and has no tiles for it, so that encoding decides nothing about them.

    Args:
        video: the model.
        canvas: (height, width).
        frames: of the clip.
    """
    dtype = video.vae.dtype
    if isinstance(video, CogVideoX):
        return cogvideox_footprint(video.config, canvas, frames, vae_dtype=dtype, strips=True, clip=True)
    return footprint_of(video.config, canvas, frames, vae_dtype=dtype)


def tile_for(video: VideoModel, canvas: tuple[int, int], frames: int, free_bytes: int) -> int:
    """The side of the largest tiles in which a VAE is predicted to fit beside weights that are there; 0 for none.

    Where nothing fits, the side that needs least.

    Args:
        video: the model.
        canvas: (height, width) of what is encoded and decoded.
        frames: of the clip.
        free_bytes: on the device, beside the weights.
    """
    if _PER_PIXEL * canvas[0] * canvas[1] <= usable(free_bytes):
        return 0  # small beyond doubt
    footprint = needs_of(video, canvas, frames)
    needs = {0: max(footprint.encode, footprint.decode)}
    for side, decode in footprint.decode_tiled.items():
        needs[side] = max(footprint.encode_tiled.get(side, footprint.encode), decode)
    fitting = (side for side, need in needs.items() if need <= usable(free_bytes))
    return next(fitting, min(needs, key=lambda side: needs[side]))


@contextmanager
def in_tiles(vae: Tiled, side: int) -> Iterator[None]:
    """While it lasts, a VAE works in tiles of a side; outside, where latents are made to learn from, as before."""
    before, vae.tile = vae.tile, side
    try:
        yield
    finally:
        vae.tile = before


def short_to_learn(
    run: VideoRun, step: int, size: int | Size, processes: int, whole: bool, kept: str
) -> UnfadeError:
    """What a user is told where memory ran out in a step: what of the run is kept, and what needs less.

    Args:
        run: that ran out.
        step: in which.
        size: of its crops.
        processes: how many there are.
        whole: whether all weights learn.
        kept: which state is kept, and where.
    """
    together = run.batch // (run.accumulation * processes)
    ways = ["smaller crops", "fewer frames"]
    if together > 1:
        ways.append(f"a larger --accumulation (each process takes {together} samples at once)")
    if not run.gradient_checkpointing:
        ways.append("gradient checkpointing")
    if whole:
        ways.append("--lora in another folder")
    return UnfadeError(
        f"memory ran out at step {step}, on crops of {name_of(size)} pixels; {kept}: "
        f"take {', '.join(ways[:-1])} or {ways[-1]}"
    )


def short_to_validate(step: int, kept: str) -> UnfadeError:
    """The same where memory ran out after a step, on held-out sequences."""
    return UnfadeError(
        f"memory ran out while validating after step {step}; {kept}: the same command goes on from there; "
        "a larger --validate-every validates less often, smaller crops need less"
    )
