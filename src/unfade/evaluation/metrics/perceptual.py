"""Full-reference perceptual metrics that need no weights, from libraries that keep them.

Both count full-range luma (0.299, 0.587, 0.114) on the scale 0 to 255, not rounded. They come with
`pip install ".[evaluate]"`; without it each is absent with one line.
"""

from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from unfade.evaluation.metrics.fidelity import full_luma
from unfade.evaluation.metrics.metric import Absence, Metric, of_pairs

SMALLEST_GMSD = 8
SMALLEST_VIF = 41


def gmsd(x: Tensor, truth: Tensor) -> float:
    """Gradient magnitude similarity deviation: 0 for equal pictures, larger is worse, rarely above 0.35.

    OpenCV averages 2x2 pixels, takes every second one, compares Prewitt gradients (constant 170 on the scale
    0 to 255, zeros outside the picture) and takes the standard deviation of their similarity. The last row or
    column of an odd side may go uncounted.

    Args:
        x, truth: `[3, H, W]` in [0, 1], sides at least 8.

    Raises:
        ValueError: the shapes differ, or a side is shorter than 8.
        ImportError: OpenCV is missing or lacks its contrib modules.

    Source: Xue et al. 2014, Gradient Magnitude Similarity Deviation, eq. 4 to 6; OpenCV's `quality` module.
    """
    import cv2

    planes = [_plane(picture, SMALLEST_GMSD, "GMSD").to(torch.float32).numpy() for picture in _pair(x, truth)]
    deviations, _ = _quality(cv2).QualityGMSD_compute(planes[1], planes[0])
    return float(deviations[0])


def vif(x: Tensor, truth: Tensor) -> float | None:
    """Visual information fidelity in the pixel domain: 1 for equal pictures, 0 for nothing left.

    It is above 1 where contrast was enhanced, and None where the truth is constant, as it then holds no
    information.

    Args:
        x, truth: `[3, H, W]` in [0, 1], sides at least 41 (four scales, windows of 17, 9, 5 and 3 pixels).

    Raises:
        ValueError: the shapes differ, or a side is shorter than 41.
        ImportError: torchmetrics is missing.

    Source: Sheikh and Bovik 2006, Image Information and Visual Quality, eq. 16, as VIFp of the authors with
    noise variance 2; torchmetrics.
    """
    from torchmetrics.functional.image import visual_information_fidelity

    first, second = (_plane(picture, SMALLEST_VIF, "VIF") for picture in _pair(x, truth))
    if float(second.max() - second.min()) == 0:
        return None
    # Only variances count, so a common level may go; without it single precision, some 15 times faster, is exact to
    # about 1e-5.
    level = second.mean()
    first, second = ((plane - level).to(torch.float32)[None, None] for plane in (first, second))
    return float(visual_information_fidelity(first, second))


def perceptual_metrics() -> tuple[tuple[Metric, ...], tuple[Absence, ...]]:
    """GMSD and VIF, and why one of them can't be had."""
    found = (_gmsd_metric(), _vif_metric())
    return (
        tuple(item for item in found if isinstance(item, Metric)),
        tuple(item for item in found if isinstance(item, Absence)),
    )


def _gmsd_metric() -> Metric | Absence:
    try:
        import cv2

        _quality(cv2)
    except ImportError as error:
        return Absence("gmsd", f'{error}; pip install ".[evaluate]" in the clone of unfade')
    return Metric(
        name="gmsd",
        label="GMSD",
        unit="",
        higher_is_better=False,
        of="pair",
        convention="full-range luma on 0 to 255, halved, Prewitt gradients; frames averaged",
        source=f"OpenCV {cv2.__version__}; Xue et al. 2014",
        measure=of_pairs(gmsd, SMALLEST_GMSD),
    )


def _vif_metric() -> Metric | Absence:
    try:
        import torchmetrics.functional.image  # noqa: F401
    except ImportError as error:
        return Absence("vif", f'{error}; pip install ".[evaluate]" in the clone of unfade')
    return Metric(
        name="vif",
        label="VIF",
        unit="",
        higher_is_better=True,
        of="pair",
        convention="pixel domain, full-range luma on 0 to 255, noise variance 2; frames averaged",
        source=f"torchmetrics {version('torchmetrics')}; Sheikh and Bovik 2006",
        measure=of_pairs(vif, SMALLEST_VIF),
        cheap=False,
    )


def _quality(cv2: Any) -> Any:
    if not hasattr(cv2, "quality"):
        raise ImportError("this OpenCV lacks its contrib modules (opencv-contrib-python-headless has them)")
    return cv2.quality


def _pair(x: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if x.shape != truth.shape or x.dim() != 3 or x.shape[0] != 3:
        raise ValueError(
            f"two pictures [3, H, W] of one size are compared, not {tuple(x.shape)} and {tuple(truth.shape)}"
        )
    return x, truth


def _plane(picture: Tensor, smallest: int, name: str) -> Tensor:
    height, width = picture.shape[-2:]
    if min(height, width) < smallest:
        raise ValueError(f"{name} needs at least {smallest}x{smallest} pixels, not {height}x{width}")
    return full_luma(picture.detach().cpu())[0]
