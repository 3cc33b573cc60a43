"""Classical denoisers: non-local means, the bilateral filter and BM3D, on 8-bit pixels as their users call them."""

from dataclasses import dataclass
from typing import Any

from unfade.core import Clip, Plan, Restoration
from unfade.core.contracts import Progress
from unfade.evaluation.peers.framewise import PLAN, framewise, package


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
        return NonLocalMeans(0.65 * sigma)

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The (enlarged) clip filtered frame by frame; the prompt changes nothing."""
        cv2 = package("cv2", "nlm")

        def apply(pixels: Any) -> Any:
            # OpenCV reads BGR; the order matters, as it filters luma apart from colour.
            bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
            bgr = cv2.fastNlMeansDenoisingColored(bgr, None, self.strength, self.strength, 7, 21)
            return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

        return framewise({"model": f"nlm-{self.strength:g}"}, clip, plan, progress, apply)


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
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The (enlarged) clip filtered frame by frame; the prompt changes nothing."""
        cv2 = package("cv2", "bilateral")

        def apply(pixels: Any) -> Any:
            return cv2.bilateralFilter(pixels, self.diameter, self.colour, self.space)

        return framewise({"model": f"bilateral-{self.colour:g}"}, clip, plan, progress, apply)


@dataclass(frozen=True, slots=True)
class Bm3d:
    """Colour BM3D by the authors' own package (free for non-commercial use only), told the true noise level.

    Attributes:
        sigma: of the noise on the 0 to 255 scale.

    Source: Dabov et al. 2007; Mäkinen, Azzari and Foi 2020.
    """

    sigma: float

    def restore(
        self, clip: Clip, prompt: str | None = None, plan: Plan = PLAN, progress: Progress | None = None
    ) -> Restoration:
        """The (enlarged) clip filtered frame by frame, about a minute a megapixel; the prompt changes nothing."""
        bm3d = package("bm3d", "bm3d")
        import numpy as np

        def apply(pixels: Any) -> Any:
            restored = bm3d.bm3d_rgb(pixels.astype(np.float64) / 255, self.sigma / 255)
            return np.rint(np.clip(restored, 0, 1) * 255).astype(np.uint8)

        provenance = {"model": f"bm3d-{self.sigma:g}", "licence": "non-commercial use only"}
        return framewise(provenance, clip, plan, progress, apply)
