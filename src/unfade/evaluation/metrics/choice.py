"""Which figures are taken in a run: fidelity by conventions, perceptual, learned, masked and of footage."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from unfade.core import UsageError
from unfade.evaluation.metrics.convention import Convention
from unfade.evaluation.metrics.fidelity import (
    SMALLEST,
    border_of,
    masked_psnr,
    psnr_by,
    ssim_by,
    weighted_psnr,
    weighted_ssim,
)
from unfade.evaluation.metrics.footage import footage_metrics
from unfade.evaluation.metrics.learned import learned_metric
from unfade.evaluation.metrics.metric import Absence, Measure, Metric, of_pairs
from unfade.evaluation.metrics.perceptual import perceptual_metrics


def metrics_for(
    conventions: Sequence[Convention],
    *,
    scale: int = 1,
    footage: bool = False,
    learned: Sequence[str] = (),
    masked: bool = False,
) -> tuple[tuple[Metric, ...], tuple[Absence, ...]]:
    """The metrics of a run in the order of a table, and those that can't be had with the reason.

    Args:
        conventions: each gives `psnr-NAME` and `ssim-NAME`.
        scale: enlargement, for conventions that leave out a border of it.
        footage: whether clips have several frames: adds warping error and flicker.
        learned: names of networks that judge; each is loaded here.
        masked: whether masks come with the pairs: adds the masked and weighted figures.

    Raises:
        UsageError: a learned metric is unknown, or two metrics have the same name.
    """
    metrics = [metric for convention in conventions for metric in fidelity_metrics(convention, scale)]
    if masked:
        metrics += masked_metrics()
    absences: list[Absence] = []
    for found, lacking in (perceptual_metrics(), footage_metrics() if footage else ((), ())):
        metrics += found
        absences += lacking
    for name in learned:
        item = learned_metric(name)
        if isinstance(item, Metric):
            metrics.append(item)
        else:
            absences.append(item)
    names = [item.name for item in (*metrics, *absences)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"the metric {name} was asked for twice")
    return tuple(metrics), tuple(absences)


def fidelity_metrics(convention: Convention, scale: int = 1) -> tuple[Metric, Metric]:
    """PSNR and SSIM as a convention counts them; SSIM is None where no window fits inside the border."""
    border = border_of(convention, scale)
    counts = f"{convention.describe()}; frames averaged"
    if convention.border == "scale":
        counts = f"{replace(convention, border=border).describe()}; frames averaged"
    source = f"unfade; {convention.source}" if convention.source else "unfade"
    return (
        Metric(
            name=f"psnr-{convention.name}",
            label=f"PSNR ({_label(convention)})",
            unit="dB",
            higher_is_better=True,
            of="pair",
            convention=counts,
            source=source,
            measure=of_pairs(lambda x, truth: psnr_by(convention, x, truth, scale), 2 * border + 1),
        ),
        Metric(
            name=f"ssim-{convention.name}",
            label=f"SSIM ({_label(convention)})",
            unit="",
            higher_is_better=True,
            of="pair",
            convention=counts,
            source=source,
            measure=of_pairs(
                lambda x, truth: ssim_by(convention, x, truth, scale), 2 * border + convention.window
            ),
        ),
    )


def masked_metrics() -> tuple[Metric, ...]:
    """Figures of the part of a picture that a mask marks; None where it marks nothing."""
    shared = {"higher_is_better": True, "of": "mask", "source": "unfade; Li et al. 2023 (ReLoBlur)"}
    return (
        Metric(
            name="psnr-masked",
            label="PSNR (mask)",
            unit="dB",
            convention="RGB, squared error where the mask is above one half; frames averaged",
            measure=_within(masked_psnr, threshold=0.5),
            **shared,
        ),
        Metric(
            name="psnr-weighted",
            label="PSNR (weighted)",
            unit="dB",
            convention="RGB, squared error weighted by the mask; frames averaged",
            measure=_within(weighted_psnr),
            **shared,
        ),
        Metric(
            name="ssim-weighted",
            label="SSIM (weighted)",
            unit="",
            convention="RGB, SSIM map weighted by the mask at the windows' centres; frames averaged",
            measure=_within(weighted_ssim, edge=SMALLEST // 2),
            **shared,
        ),
    )


def _label(convention: Convention) -> str:
    words = {"rgb": "RGB", "y": "Y", "foundir": "FoundIR", "vbridge": "V-Bridge"}
    return " ".join(words.get(word, word) for word in convention.name.split("-"))


def _within(
    count: Callable[[Tensor, Tensor, Tensor], float], *, threshold: float = 0.0, edge: int = 0
) -> Measure:
    """A masked figure of clips; None where a frame's mask is nowhere above the threshold inside the edge."""

    def measure(x: Tensor, truth: Tensor | None = None, mask: Tensor | None = None) -> float | None:
        if truth is None or mask is None:
            raise ValueError("this metric needs the truth and a mask")
        height, width = mask.shape[-2:]
        inner = mask[..., edge : height - edge, edge : width - edge]
        if min(inner.shape[-2:]) < 1 or not bool((inner > threshold).flatten(-3).any(-1).all()):
            return None
        return count(x, truth, mask)

    return measure
