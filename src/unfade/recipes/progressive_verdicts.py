"""What the proof of Progressive says about the paper's trends, in sentences."""

from collections.abc import Mapping
from typing import Any

from unfade.prompts.progressive import TASKS

# A film rises where Spearman's correlation of frame and metric is at least this, and its last frame is better than
# its first with at most this probability of chance.
LEAST_RHO, MOST_P = 0.9, 0.01


def rises(found: Mapping[str, Any]) -> bool:
    """The trend test, of one metric along the films of one task; what is not a number does not pass."""
    return found["rho"] >= LEAST_RHO and found["p"] < MOST_P


def verdicts(figures: Mapping[str, Any]) -> list[str]:
    """One sentence for each trend, saying whether it holds.

    Args:
        figures: "films" by variant and task, "text" and "over_input" by task.
    """
    told: list[str] = []
    for task in TASKS:
        found = figures["films"]["adapter"][task]
        holds = all(rises(found[metric]) for metric in ("psnr", "ssim"))
        told.append(
            f"{task}: films {'rise' if holds else 'do NOT rise'} (PSNR: rho {found['psnr']['rho']:.2f}, "
            f"{found['psnr']['gain']:+.2f} dB, p {found['psnr']['p']:.2g}; SSIM: rho {found['ssim']['rho']:.2f}, "
            f"{found['ssim']['gain']:+.3f}, p {found['ssim']['p']:.2g})."
        )
    for task in TASKS:
        found = figures["films"]["untuned"][task]["psnr"]
        told.append(
            f"{task}: the base without the adapter {'RISES' if rises(found) else 'does not rise'} (rho "
            f"{found['rho']:.2f}, {found['gain']:+.2f} dB, p {found['p']:.2g})."
        )
    for task in TASKS:
        gap = figures["text"][task]
        used = gap["p"] < MOST_P and gap["low"] > 0
        told.append(
            f"{task}: its own prompt is {'better' if used else 'NOT better'} than another task's by "
            f"{gap['mean']:.2f} dB ({gap['low']:.2f} to {gap['high']:.2f}, p {gap['p']:.2g})."
        )
    for task in TASKS:
        gap = figures["over_input"][task]
        better = gap["low"] > 0
        told.append(
            f"{task}: the last frame is {'better' if better else 'NOT better'} than the input ({gap['mean']:+.2f} dB, "
            f"{gap['low']:+.2f} to {gap['high']:+.2f})."
        )
    shares = {task: _early(figures["films"]["adapter"][task]["psnr"]["mean"]) for task in TASKS}
    agrees = shares["resolution"] >= max(shares["blur"], shares["lowlight"])
    told.append(
        "Shape: of the whole rise frame 5 has "
        + ", ".join(f"{100 * share:.0f} % ({task})" for task, share in shares.items())
        + f"; that enlargement gains early {'agrees' if agrees else 'DISAGREES'} with the paper."
    )
    dark = figures["films"]["adapter"]["lowlight"]["psnr"]["mean"]
    strictly = all(after > before for before, after in zip(dark, dark[1:], strict=False))
    told.append(f"lowlight: brightening is {'strictly monotone' if strictly else 'NOT strictly monotone'}.")
    return told


def _early(mean: list[float]) -> float:
    """The share of the rise from the first to the last frame that the middle one has."""
    rise = mean[-1] - mean[0]
    return (mean[len(mean) // 2] - mean[0]) / rise if rise else float("nan")
