"""The page of the CPU-sized proof of Vivid-VR."""

from collections.abc import Mapping, Sequence
from typing import Any

from unfade.recipes.stages import spent
from unfade.recipes.vivid_proof import VividProof

BLURRED = "input, blurred"


def page(proof: VividProof, figures: Mapping[str, Any]) -> str:
    """`README.md`, of what `figures.json` holds.

    Args:
        proof: with all its stages done.
        figures: of the report.
    """
    recipe, best = proof.recipe, figures["chosen"]["told"]
    millions = {name: f"{count / 1e6:.1f}M" for name, count in figures["parameters"].items()}
    clips = figures["clips"]
    lines = [
        "# Vivid-VR at CPU size",
        "",
        f"A VAE of {millions['vae']} and a text-to-video transformer of {millions['transformer']} parameters, both of "
        f"CogVideoX1.5's real classes and from nothing, learnt captioned footage of {recipe.size}x{recipe.size}: "
        f"{clips['learnt from']} clips of gliding photos and real footage, captioned by rules. Control "
        f"({millions['control']} parameters) then learnt beside the frozen base, {recipe.control.iterations} steps in "
        f"every variant alike, from {recipe.control.frames} frames under a second-order degradation with H.264; all "
        f"but one variant had {clips['made anew']} clips mixed in that the base had made anew (strength "
        f"{recipe.concepts.strength:g}, one for every {1 / recipe.ratio:.0f} real ones).",
        "",
        f"Judged on {clips['held out']} held-out clips, each told its caption and no suffix, as in training; DDIM, no "
        f"guidance. The setting was chosen by PSNR on {clips['chosen on']} clips of videos like those learnt from, of "
        f"which nothing learnt and on which nothing is judged: **{best}**. As published means "
        f"{recipe.published.told()}; the "
        "paper takes 50 steps.",
        "",
        "| | PSNR, dB | over the input | SSIM | texture | warping error, 1e-3 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, mean in figures["means"].items():
        over = figures["over_input"].get(name)
        told = "" if over is None else f"{over['mean']:+.2f} ({over['low']:+.2f} to {over['high']:+.2f})"
        warping = "" if mean["warping"] is None else f"{mean['warping']:.2f}"
        lines.append(
            f"| {name} | {mean['psnr']:.2f} | {told} | {mean['ssim']:.3f} | {mean['texture']:.2f} | {warping} |"
        )
    changed = figures["concepts"]
    took = {stage: one for stage, one in spent(proof.folder).items() if stage != "report"}
    lines += [
        "",
        "PSNR and SSIM are means over RGB frames; texture is the mean step between neighbouring pixels beside the "
        "truth's; the warping error follows the truth's flow. Intervals are 1.96 standard errors over clips.",
        "",
        "![held out](held-out.png)",
        "",
        f"Middle frames: degraded, {', '.join(recipe.variants)}, truth.",
        "",
        "![steps](steps.png)",
        "",
        "The way of the first, as published: the input, the clean clip as predicted after some of the steps, the "
        "result, the truth.",
        "",
        f"Clips made anew differ from their originals by {changed['psnr']:.1f} dB (texture {changed['texture']:.2f} of "
        "theirs).",
        "",
        "## Settings",
        "",
        "PSNR of the whole in dB, on the clips to choose on and, behind the stroke, on those held out, by how colours "
        "are brought back.",
        "",
        f"| steps | fidelity | {' | '.join(recipe.colours)} |",
        f"| --- | --- | {' | '.join('---' for _ in recipe.colours)} |",
        *_settings(figures["settings"], len(recipe.colours)),
        "",
        "## What holds",
        "",
        *(f"* {sentence}" for sentence in figures["verdicts"]),
        "",
        "NIQE, MUSIQ, CLIP-IQA and DOVER, which the paper's table 2 is made of, say nothing about frames of "
        f"{recipe.size} pixels; so the comparison is of directions only.",
        "",
        "Steps across borders are compared with those at other places in the same phase of the grid that codec and "
        "model work on, beside the same in the truth. Tiles meet in clips of "
        f"{recipe.wide}x{recipe.wide}, windows in clips of {2 * recipe.control.frames - 1} frames with a cross-fade of "
        f"{recipe.crossfade}, one of each from every held-out photo. Their intervals are 95 % of 2000 drawings of the "
        "clips.",
        "",
        "## Time",
        "",
        *(f"* {stage}: {one.told()}" for stage, one in took.items()),
        "",
        f"In all {sum(one.core_seconds or 0 for one in took.values()):.0f} s of one core, that is "
        f"{sum(one.core_seconds or 0 for one in took.values()) / 120:.0f} minutes of two.",
        "",
    ]
    return "\n".join(lines)


def _settings(rows: Sequence[Mapping[str, Any]], colours: int) -> list[str]:
    """A line for each number of steps and fidelity; colours change fastest."""
    lines: list[str] = []
    for first in range(0, len(rows), colours):
        group = rows[first : first + colours]
        cells = [f"{row['choose']['psnr']:.2f} / {row['held']['psnr']:.2f}" for row in group]
        lines.append(f"| {group[0]['steps']} | {group[0]['fidelity']:g} | {' | '.join(cells)} |")
    return lines
