"""Classical filters behind the `Restorer` contract, measured by the same lines as our models.

All work on 8-bit pixels as their users call them. OpenCV and bm3d are optional (`pip install unfade[bench]`)
and imported only when a filter runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from unfade.core import Clip, Plan, Restoration, Trajectory
from unfade.core.contracts import Progress

_PLAN = Plan()


def _filtered(name: str, clip: Clip, progress: Progress | None, apply: Callable[[Any], Any]) -> Restoration:
    """Every frame through `apply`, which takes and gives contiguous uint8 `[H, W, 3]` RGB arrays."""
    started = perf_counter()
    frames: list[Tensor] = []
    for index, frame in enumerate(clip.frames):
        pixels = frame.detach().cpu().clamp(0, 1).mul(255).round().to(torch.uint8)
        result = torch.from_numpy(apply(pixels.permute(1, 2, 0).contiguous().numpy()))
        frames.append(result.permute(2, 0, 1).to(clip.frames.dtype) / 255)
        if progress is not None:
            progress((index + 1) / clip.num_frames)
    restored = clip.with_frames(torch.stack(frames))
    way = Trajectory((0.0, 1.0), (clip, restored))
    return Restoration(way, {"model": name}, perf_counter() - started)


@dataclass(frozen=True, slots=True)
class Identity:
    """Gives back what came, bit for bit."""

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = _PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The same clip at both ends; prompt and plan change nothing."""
        if progress is not None:
            progress(1.0)
        return Restoration(Trajectory((0.0, 1.0), (clip, clip)), {"model": "identity"})


@dataclass(frozen=True, slots=True)
class NonLocalMeans:
    """OpenCV's `fastNlMeansDenoisingColored`, template 7, search window 21.

    Attributes:
        strength: OpenCV's `h`, for luma and chroma alike; 10 is the value of its tutorial.

    Source: Buades, Coll and Morel 2011, Non-Local Means Denoising.
    """

    strength: float = 10.0

    @staticmethod
    def for_sigma(sigma: float) -> "NonLocalMeans":
        """The filter for Gaussian noise of known `sigma` on the 0 to 255 scale, by the best factor."""
        return NonLocalMeans(0.8 * sigma)

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = _PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The clip filtered frame by frame; prompt and plan change nothing."""
        import cv2

        def apply(pixels: Any) -> Any:
            # OpenCV reads BGR; the order matters, as it filters luma apart from colour.
            bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
            bgr = cv2.fastNlMeansDenoisingColored(bgr, None, self.strength, self.strength, 7, 21)
            return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

        return _filtered(f"nlm-{self.strength:g}", clip, progress, apply)


@dataclass(frozen=True, slots=True)
class Bilateral:
    """OpenCV's bilateral filter.

    Attributes:
        colour: standard deviation between colours, 0 to 255 scale.
        space: standard deviation between places, pixels.
        diameter: of the neighbourhood, pixels.

    Source: Tomasi and Manduchi 1998.
    """

    colour: float = 75.0
    space: float = 3.0
    diameter: int = 9

    @staticmethod
    def for_sigma(sigma: float) -> "Bilateral":
        """The filter for Gaussian noise of known `sigma` on the 0 to 255 scale, by the best factor."""
        return Bilateral(4 * sigma)

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = _PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The clip filtered frame by frame; prompt and plan change nothing."""
        import cv2

        return _filtered(
            f"bilateral-{self.colour:g}",
            clip,
            progress,
            lambda pixels: cv2.bilateralFilter(pixels, self.diameter, self.colour, self.space),
        )


@dataclass(frozen=True, slots=True)
class Bm3d:
    """Colour BM3D by the authors' own package, told the true noise level.

    Attributes:
        sigma: of the noise on the 0 to 255 scale.

    Source: Dabov et al. 2007; Mäkinen, Azzari and Foi 2020.
    """

    sigma: float

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = _PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The clip filtered frame by frame, about a minute a megapixel; prompt and plan change nothing."""
        import bm3d
        import numpy as np

        def apply(pixels: Any) -> Any:
            restored = bm3d.bm3d_rgb(pixels.astype(np.float64) / 255, self.sigma / 255)
            return np.rint(np.clip(restored, 0, 1) * 255).astype(np.uint8)

        return _filtered(f"bm3d-{self.sigma:g}", clip, progress, apply)


@dataclass(frozen=True, slots=True)
class Clahe:
    """Contrast-limited adaptive histogram equalisation of CIELAB lightness: brightening without a model.

    Attributes:
        limit: OpenCV's clip limit.
        tiles: tiles along each side.

    Source: Zuiderveld 1994.
    """

    limit: float = 2.0
    tiles: int = 8

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = _PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The clip equalised frame by frame; prompt and plan change nothing."""
        import cv2

        equaliser = cv2.createCLAHE(self.limit, (self.tiles, self.tiles))

        def apply(pixels: Any) -> Any:
            lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
            lab[..., 0] = equaliser.apply(lab[..., 0])
            return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)

        return _filtered("clahe", clip, progress, apply)
