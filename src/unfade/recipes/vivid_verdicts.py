"""What the CPU-sized proof of Vivid-VR comes to, in sentences."""

from collections.abc import Mapping
from typing import Any

# What the paper's table 2 says of each variant: how much MUSIQ and DOVER it loses to the whole on UGC50.
PUBLISHED = {
    "without projector": (4.55, 0.48),
    "without cross-attention": (7.83, 1.42),
    "without distillation": (10.25, 1.47),
    "without MLP": None,
}
# How far steps across borders may be from those in like places.
_BAR = 0.05


def verdicts(figures: Mapping[str, Any]) -> list[str]:
    """Whether what was to be shown was, and whether each line of the paper's ablation holds here, in sentences."""
    found: list[str] = []
    for name, over in figures["over_input"].items():
        if over["low"] > 0:
            found.append(
                f"{name}: held-out footage is closer to the truth than its input, by {over['mean']:.2f} dB "
                f"({over['low']:.2f} to {over['high']:.2f}), on {100 * over['more']:.0f} % of the clips."
            )
        else:
            found.append(
                f"{name}: held-out footage is **not** closer to the truth than its input ({over['mean']:+.2f} dB, "
                f"{over['low']:.2f} to {over['high']:.2f})."
            )
    beside = figures["over_blurred"]
    closer = "closer" if beside["low"] > 0 else "**not** closer"
    found.append(
        f"whole: held-out footage is {closer} to the truth than its input under a Gaussian blur of sigma 1 "
        f"({beside['mean']:+.2f} dB, {beside['low']:.2f} to {beside['high']:.2f})."
    )
    for name, lost in figures["lost_to_whole"].items():
        published = PUBLISHED.get(name)
        paper = (
            "The paper says that training does not converge so"
            if published is None
            else f"The paper loses {published[0]:.2f} MUSIQ and {published[1]:.2f} DOVER so"
        )
        here = f"here {-lost['mean']:+.2f} dB beside the whole ({-lost['high']:.2f} to {-lost['low']:.2f})"
        if lost["low"] > 0:
            verdict = "which agrees"
            if not published and figures["over_input"][name]["low"] > 0:
                verdict = "which agrees in direction only: it does converge"
        elif lost["high"] < 0:
            verdict = "which **disagrees**"
        else:
            verdict = "which decides nothing"
        found.append(f"{name}: {paper}; {here}, {verdict}.")
    for setting, seen in figures["seams"].items():
        found += [
            _seam(setting, kind, seen[kind]["made"], seen[kind]["input"]) for kind in ("tiles", "windows")
        ]
    return found


def _seam(setting: str, kind: str, made: Mapping[str, float], given: Mapping[str, float]) -> str:
    """Whether borders between tiles or windows can be told from like places."""
    if abs(made["mean"] - 1) > _BAR:
        holds = "**not within**"
    elif made["low"] < 1 - _BAR or made["high"] > 1 + _BAR:
        holds = "within, but not beyond doubt,"
    else:
        holds = "within"
    return (
        f"{setting}: steps where {kind} meet are {made['mean']:.3f} ({made['low']:.3f} to {made['high']:.3f}) of those "
        f"in like places, {holds} {100 * _BAR:.0f} %; in the input they are {given['mean']:.3f} ({given['low']:.3f} to "
        f"{given['high']:.3f})."
    )
