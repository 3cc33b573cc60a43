"""Paths and solvers: pure mathematics between a denoiser and a trajectory."""

from unfade.diffusion.bridge import bridge
from unfade.diffusion.tiled import tiled

__all__ = ["bridge", "tiled"]
