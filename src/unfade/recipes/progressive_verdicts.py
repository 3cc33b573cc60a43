"""What the proof of Progressive says about the paper's trends, in sentences."""

from collections.abc import Mapping
from typing import Any

from unfade.prompts.progressive import TASKS

# A film rises where Spearman's correlation of frame and metric is at least this, and its last frame is better than
# its first with at most this probability of chance.
LEAST_RHO, MOST_P = 0.9, 0.01
# A control is flat where its last frame is within this many dB of its first, for certain.
FLAT = 0.5


def passes(found: Mapping[str, Any]) -> bool:
    """The trend test, of one metric along the films of one task; what is not a number does not pass."""
    return found["rho"] >= LEAST_RHO and found["p"] < MOST_P


def verdicts(figures: Mapping[str, Any]) -> list[str]:
    """One sentence for each trend, saying whether it holds.

    Args:
        figures: "films" by variant and task, "over_untuned" and "over_input" by task, "text" by task and other task,
            and of how many steps those films are that are "sampled".
    """
    adapter = figures["films"]["adapter"]
    rising = {task: _rises(adapter[task]) for task in TASKS}
    told = [f"{task}: films {_told(rising[task])} ({_along(adapter[task])})." for task in TASKS]
    for task in TASKS:
        found = figures["films"]["sampled"][task]
        told.append(
            f"{task}: drawn in {figures['sampled']} steps, films {_told(_rises(found))} ({_along(found)})."
        )
    for task in TASKS:
        found = figures["films"]["untuned"][task]
        gap = figures["over_untuned"][task]
        flat = abs(found["psnr"]["gain"]) <= FLAT
        told.append(
            f"{task}: the base without the adapter {'stays flat' if flat else 'does NOT stay flat'} ({_along(found)}); "
            f"with it the last frame is {gap['mean']:+.2f} dB ({gap['low']:+.2f} to {gap['high']:+.2f}, p "
            f"{gap['p']:.2g}) from the base's."
        )
    for task in TASKS:
        for other, gap in figures["text"][task].items():
            used = gap["p"] < MOST_P and gap["low"] > 0
            told.append(
                f"{task}: its own prompt is {'better' if used else 'NOT better'} than that of {other} by "
                f"{gap['mean']:.2f} dB ({gap['low']:.2f} to {gap['high']:.2f}, p {gap['p']:.2g})."
            )
    for task in TASKS:
        gap = figures["over_input"][task]
        better = gap["low"] > 0
        told.append(
            f"{task}: the last frame is {'better' if better else 'NOT better'} than the input ({gap['mean']:+.2f} dB, "
            f"{gap['low']:+.2f} to {gap['high']:+.2f})."
        )
    if all(rising.values()):
        shares = {task: _early(adapter[task]["psnr"]["mean"]) for task in TASKS}
        agrees = shares["resolution"] >= max(shares["blur"], shares["lowlight"])
        told.append(
            "Shape: of the whole rise frame 5 has "
            + ", ".join(f"{100 * share:.0f} % ({task})" for task, share in shares.items())
            + f"; that enlargement gains early {'agrees' if agrees else 'DISAGREES'} with the paper."
        )
    else:
        told.append("Shape: can't be told, since not all films rise.")
    dark = adapter["lowlight"]["psnr"]["mean"]
    strictly = all(after > before for before, after in zip(dark, dark[1:], strict=False))
    told.append(f"lowlight: brightening is {'strictly monotone' if strictly else 'NOT strictly monotone'}.")
    return told


def _rises(found: Mapping[str, Any]) -> bool:
    return all(passes(found[metric]) for metric in ("psnr", "ssim"))


def _told(rises: bool) -> str:
    return "rise" if rises else "do NOT rise"


def _along(found: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{name.upper()}: rho {one['rho']:.2f}, {one['gain']:+.{digits}f}, p {one['p']:.2g}"
        for name, one, digits in (("psnr", found["psnr"], 2), ("ssim", found["ssim"], 3))
    )


def _early(mean: list[float]) -> float:
    """The share of the rise from the first to the last frame that the middle one has."""
    return (mean[len(mean) // 2] - mean[0]) / (mean[-1] - mean[0])
