"""What came out of the CPU-sized proof of Progressive: films judged frame by frame, and whether the trends hold."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.cogvideox import CogVideoX
from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox
from unfade.conditioning.lora import load_adapter, use_adapter
from unfade.core import Clip, generator
from unfade.degrade import PROGRESSIONS
from unfade.degrade.composition import Kinds
from unfade.degrade.framing import name_of
from unfade.evaluation.curves import curve, trend
from unfade.evaluation.metrics.fidelity import psnr, ssim
from unfade.evaluation.report.figures import json_safe
from unfade.media.images import write_image
from unfade.prompts.progressive import TASKS, Task, uniform_prompt
from unfade.recipes.progressive_proof import ProgressiveProof
from unfade.recipes.progressive_verdicts import verdicts
from unfade.recipes.run_tiny import commit
from unfade.recipes.stages import Spent, spent
from unfade.recipes.vbridge_judging import write_json, write_text
from unfade.training.films import Shooting, shot
from unfade.training.walks import seen_through

TOLD = {
    "adapter": "adapter, its task's prompt",
    "sampled": "adapter, its task's prompt, drawn in several steps",
    "untuned": "the base without the adapter",
    "wrong": "adapter, another task's prompt",
    "empty": "adapter, no prompt",
}
_SHOWN = 2
# What the kinds call their ranges.
_RANGES = ("shares", "qualities", "lengths", "spreads")


class HeldOut:
    """The films to be made of the held-out photos: every task, every strength.

    Attributes:
        names: "task/photo-strength".
        tasks: of each.
        photos: which photo each is of.
        clips: the true films `[N, T, 3, S, S]`.
    """

    def __init__(self, proof: ProgressiveProof) -> None:
        recipe, sequences = proof.recipe, proof.films(proof.material.held_out)
        self.names = sequences.names
        self.tasks: list[Task] = [sequences.task(index) for index in range(len(sequences))]
        each = len(sequences) // len(proof.material.held_out)
        self.photos = [f"photo {index // each}" for index in range(len(sequences))]
        self.clips = torch.stack(
            [
                sequences.draw(
                    index,
                    recipe.size,
                    recipe.adapter.frames,
                    generator(1, "held out", name, name_of(recipe.size)),
                )
                for index, name in enumerate(self.names)
            ]
        )

    @property
    def first(self) -> Tensor:
        """What restoration sees, `[N, 3, S, S]`."""
        return self.clips[:, 0]

    @property
    def truths(self) -> Tensor:
        """`[N, 3, S, S]`."""
        return self.clips[:, -1]


def report_proof(proof: ProgressiveProof, folder: Path) -> dict[str, Any]:
    """Judges base and adapter on the held-out photos and writes `README.md`, `figures.json`, logs and pictures.

    Args:
        proof: with all its stages done.
        folder: to write to.

    Returns:
        What `figures.json` holds.
    """
    proof.needs(proof.adapter, "adapter")
    begun, before = time.time(), sum(os.times()[:4])
    recipe, held = proof.recipe, HeldOut(proof)
    video = load_cogvideox(open_cogvideox(proof.model), torch.float32)
    count = {
        "vae": sum(part.numel() for part in video.vae.model.parameters()),
        "transformer": sum(part.numel() for part in video.denoiser.model.parameters()),
    }
    load_adapter(video.denoiser.model, proof.adapter, "restore", video.provenance)
    named = video.denoiser.model.named_parameters()
    count["adapter"] = sum(part.numel() for name, part in named if ".lora_" in name)
    video.denoiser.model.eval()
    how = Shooting(recipe.adapter.frames, recipe.steps)
    films = _films(proof, video, held, how)
    own = _texts(proof, [uniform_prompt(task) for task in held.tasks])
    known = {recipe.steps: films["adapter"], recipe.sampled: films["sampled"]}
    swept = {
        str(steps): known[steps]
        if steps in known
        else shot(video, held.first, held.names, own, replace(how, steps=steps))
        for steps in recipe.sweep
    }
    through = seen_through(video, held.clips).mul(255).round().div(255)
    figures: dict[str, Any] = {
        "parameters": count,
        "input": {task: _of(held, task, held.first[:, None]) for task in TASKS},
        "ceiling": {task: _of(held, task, through[:, None]) for task in TASKS},
        "films": {name: {task: _judged(held, task, made) for task in TASKS} for name, made in films.items()},
        "text": {
            task: {
                other: _difference(held, task, films["adapter"], _told(films["wrong"], held, task, other))
                for other in TASKS
                if other != task
            }
            for task in TASKS
        },
        "over_input": {
            task: _difference(held, task, films["adapter"], held.first[:, None]) for task in TASKS
        },
        "over_untuned": {task: _difference(held, task, films["adapter"], films["untuned"]) for task in TASKS},
        "steps": {steps: {task: _of(held, task, made) for task in TASKS} for steps, made in swept.items()},
    }
    figures["sampled"] = recipe.sampled
    figures["verdicts"] = verdicts(figures)
    stages = {stage: one for stage, one in spent(proof.folder).items() if stage != "report"}
    stages["report"] = Spent(
        round(time.time() - begun, 1), round(sum(os.times()[:4]) - before, 1), (commit(),)
    )
    figures["spent"] = {stage: asdict(one) for stage, one in stages.items()}
    figures["commit"] = commit()
    figures["machine"] = f"{platform.machine()}, torch {torch.__version__}"
    write_json(folder / "figures.json", json_safe(figures))
    _sheet(folder / "held-out.png", held, films)
    _curves(proof, figures, folder / "curves.png")
    write_text(folder / "README.md", _page(proof, figures, stages))
    for log, name in (
        (proof.folder / "vae.jsonl", "vae.jsonl"),
        (proof.folder / "base" / "log.jsonl", "base.jsonl"),
        (proof.folder / "adapter" / "log.jsonl", "adapter.jsonl"),
    ):
        write_text(folder / name, log.read_text())
    return figures


def _told(wrong: Tensor, held: HeldOut, task: str, other: str) -> Tensor:
    """Of films with wrong prompts, those of a task that were told another one's."""
    return wrong[(TASKS.index(other) - TASKS.index(task)) % len(TASKS) - 1]  # type: ignore[arg-type]


def _texts(proof: ProgressiveProof, prompts: Sequence[str]) -> list[Tensor]:
    known = {prompt: proof.texts([prompt])[0] for prompt in set(prompts)}
    return [known[prompt] for prompt in prompts]


def _films(proof: ProgressiveProof, video: CogVideoX, held: HeldOut, how: Shooting) -> dict[str, Tensor]:
    """`[N, T, 3, S, S]` by the names of `TOLD`; with a wrong prompt, `[2, N, T, 3, S, S]`: both other tasks'."""

    def made(prompts: Sequence[str], how: Shooting = how) -> Tensor:
        return shot(video, held.first, held.names, _texts(proof, prompts), how)

    own = [uniform_prompt(task) for task in held.tasks]
    others = [
        [uniform_prompt(TASKS[(TASKS.index(task) + turn) % len(TASKS)]) for task in held.tasks]
        for turn in (1, 2)
    ]
    use_adapter(video.denoiser.model, None)
    untuned = made(own)
    use_adapter(video.denoiser.model, "restore")
    return {
        "adapter": made(own),
        "sampled": made(own, replace(how, steps=proof.recipe.sampled)),
        "untuned": untuned,
        "wrong": torch.stack([made(prompts) for prompts in others]),
        "empty": made([""] * len(own)),
    }


def _values(
    held: HeldOut, task: str, made: Tensor, measure: Any = psnr
) -> tuple[list[list[float]], list[str]]:
    """A measure of every frame of the films of one task, `[films][frames]`, and the photo of each."""
    chosen = [index for index, one in enumerate(held.tasks) if one == task]
    sets = made if made.ndim == 6 else made[None]
    each = [
        [[measure(frame, held.truths[index]) for frame in films[index]] for index in chosen] for films in sets
    ]
    means = [
        [sum(column) / len(column) for column in zip(*films, strict=True)]
        for films in zip(*each, strict=True)
    ]
    return means, [held.photos[index] for index in chosen]


def _of(held: HeldOut, task: str, made: Tensor) -> float:
    """Mean PSNR in dB of the last frame."""
    values, _ = _values(held, task, made[..., -1:, :, :, :])
    return round(sum(film[-1] for film in values) / len(values), 3)


def _judged(held: HeldOut, task: str, made: Tensor) -> dict[str, Any]:
    """How PSNR and SSIM run along the films of a task."""
    told: dict[str, Any] = {}
    for name, measure in (("psnr", psnr), ("ssim", ssim)):
        values, photos = _values(held, task, made, measure)
        found = curve(values, photos=photos)
        told[name] = {
            "mean": [round(value, 4) for value in found.mean],
            "low": [round(value, 4) for value in found.low],
            "high": [round(value, 4) for value in found.high],
            "rho": found.trend.rho,
            "p": found.trend.improved,
            "gain": round(found.mean[-1] - found.mean[0], 4),
        }
    return told


def _difference(held: HeldOut, task: str, made: Tensor, other: Tensor) -> dict[str, float]:
    """By how many dB last frames are better than others', with a 95 % interval and a one-sided p over photos."""
    (ours, photos), (theirs, _) = (_values(held, task, part[..., -1:, :, :, :]) for part in (made, other))
    gaps = [[mine[-1] - yours[-1]] for mine, yours in zip(ours, theirs, strict=True)]
    found = curve(gaps, photos=photos)
    by_photo = {
        photo: [gap[0] for gap, one in zip(gaps, photos, strict=True) if one == photo] for photo in photos
    }
    return {
        "mean": found.mean[0],
        "low": found.low[0] if found.low else found.mean[0],
        "high": found.high[0] if found.high else found.mean[0],
        "p": trend([[0.0, sum(values) / len(values)] for values in by_photo.values()]).improved,
        "better": sum(gap[0] > 0 for gap in gaps) / len(gaps),
    }


def _sheet(path: Path, held: HeldOut, films: Mapping[str, Tensor]) -> None:
    """Rows of frames: degraded, every second generated one, truth; strong degradations of photos far apart."""
    strong = [index for index, name in enumerate(held.names) if name.endswith("strong")]
    rows: list[Tensor] = []
    for task in TASKS:
        mine = [index for index in strong if held.tasks[index] == task]
        for place in range(min(_SHOWN, len(mine))):
            index = mine[round((place + 0.5) * len(mine) / _SHOWN - 0.5)]
            made = films["adapter"][index, ::2]
            rows.append(torch.cat([held.first[index], *made, held.truths[index]], dim=2))
    write_image(Clip(torch.cat(rows, dim=1)[None].clamp(0, 1)), path)


def _curves(proof: ProgressiveProof, figures: Mapping[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.8), layout="constrained")
    for axis, task in zip(axes, TASKS, strict=False):
        for name, told in TOLD.items():
            found = figures["films"][name][task]["psnr"]
            frames = range(1, len(found["mean"]) + 1)
            line = axis.plot(frames, found["mean"], label=told)[0]
            if found["low"]:
                axis.fill_between(frames, found["low"], found["high"], color=line.get_color(), alpha=0.15)
        axis.axhline(figures["input"][task], color="grey", linestyle="--", linewidth=0.8, label="input")
        axis.axhline(figures["ceiling"][task], color="grey", linestyle=":", linewidth=0.8, label="VAE")
        axis.set(title=task, xlabel="frame", ylabel="PSNR, dB")
    axes[0].legend(fontsize=7)
    for name in ("base", "adapter"):
        rows = [json.loads(line) for line in (proof.folder / name / "log.jsonl").read_text().splitlines()]
        rows = [row for row in rows if "loss" in row]
        axes[3].plot([row["step"] for row in rows], [row["loss"] for row in rows], label=name)
    axes[3].set(title="loss of v", xlabel="step", yscale="log")
    axes[3].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _page(proof: ProgressiveProof, figures: Mapping[str, Any], stages: Mapping[str, Spent]) -> str:
    recipe = proof.recipe
    millions = {name: f"{count / 1e6:.1f}M" for name, count in figures["parameters"].items()}
    adapter = recipe.adapter.lora
    assert adapter is not None
    lines = [
        "# Progressive at CPU size",
        "",
        f"A VAE of {millions['vae']} and a transformer of {millions['transformer']} parameters, both of CogVideoX1.5's "
        f"real classes and from nothing. The transformer first learnt to copy its input, whatever it is told, from "
        f"{recipe.copied} photos; then one LoRA (rank {adapter.rank}, alpha {adapter.alpha:g}, {millions['adapter']} "
        f"parameters: at this width as many as the matrices it sits on have) learnt the three tasks from {recipe.few} "
        f"others. Judged on {len(proof.material.held_out)} held-out photos at "
        f"{recipe.size}x{recipe.size}, each mild and strong, no guidance. PSNR in dB over RGB, with 95 % intervals "
        "over photos.",
        "",
        _ranges(recipe.kinds),
        "",
        f"Films are made in {recipe.steps} step{'s' * (recipe.steps > 1)} unless another number is given. The schedule "
        "ends in pure noise, so one step answers with the mean of all that a film may be, which is what PSNR asks for; "
        f"{recipe.sampled} steps draw one of these films, whose squared error is about twice as large where little is "
        "known.",
        "",
        "| task | input | frame 1 | frame 9 | over the input | share better | rho PSNR / SSIM | VAE of the true film |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task in TASKS:
        found, over = figures["films"]["adapter"][task], figures["over_input"][task]
        mean = found["psnr"]["mean"]
        lines.append(
            f"| {task} | {figures['input'][task]:.2f} | {mean[0]:.2f} | {mean[-1]:.2f} | {over['mean']:+.2f} "
            f"({over['low']:+.2f} to {over['high']:+.2f}) | {100 * over['better']:.0f} % | "
            f"{found['psnr']['rho']:.2f} / {found['ssim']['rho']:.2f} | {figures['ceiling'][task]:.2f} |"
        )
    lines += ["", "![curves](curves.png)", "", "![held out](held-out.png)", ""]
    lines.append(
        "Rows: degraded, frames 1, 3, 5, 7, 9 of the generated film, truth; two photos of each task."
    )
    for name, told in TOLD.items():
        lines += ["", f"## Along the frames: {told}", ""]
        frames = len(figures["films"][name][TASKS[0]]["psnr"]["mean"])
        lines.append("| task | " + " | ".join(str(index + 1) for index in range(frames)) + " |")
        lines.append("| --- |" + " --- |" * frames)
        for task in TASKS:
            for metric, digits in (("psnr", 2), ("ssim", 3)):
                mean = figures["films"][name][task][metric]["mean"]
                cells = " | ".join(f"{value:.{digits}f}" for value in mean)
                lines.append(f"| {task}{'' if metric == 'psnr' else ', SSIM'} | {cells} |")
    lines += [
        "",
        "## By steps",
        "",
        "| steps | " + " | ".join(TASKS) + " |",
        "| --- |" + " --- |" * len(TASKS),
    ]
    for steps, groups in figures["steps"].items():
        lines.append(f"| {steps} | " + " | ".join(f"{groups[task]:.2f}" for task in TASKS) + " |")
    lines += ["", "## Against the paper's trends", ""]
    lines += [f"* {sentence}" for sentence in figures["verdicts"]]
    lines += [
        "",
        "## How it was made",
        "",
        f"Judged at commit {figures['commit']}, {figures['machine']}.",
        "",
    ]
    lines += [f"* {stage}: {one.told()}" for stage, one in stages.items()]
    cores = [one.core_seconds for one in stages.values() if one.core_seconds is not None]
    lines.append(f"* all: {sum(cores):.0f} s of one core, {sum(cores) / 120:.0f} minutes of two")
    return "\n".join(lines) + "\n"


def _ranges(kinds: Mapping[str, Kinds]) -> str:
    """Which ranges of the degradations are not those of `unfade degrade`."""
    told: list[str] = []
    for task, parts in kinds.items():
        for here, usual in zip(parts, PROGRESSIONS[task], strict=True):
            for name in _RANGES:
                ranges = [getattr(kind, name, None) for kind in (here, usual)]
                if ranges[0] != ranges[1]:
                    told.append(f"{task}: {name} {_range(ranges[0])} instead of {_range(ranges[1])}")
    return (
        f"Ranges, mild and strong, that fit photos this small ({'; '.join(told)}; pixels are those of a photo 1360 "
        "wide)."
        if told
        else "Ranges are those of `unfade degrade`."
    )


def _range(ranges: Any) -> str:
    return " and ".join(f"{low:.3g} to {high:.3g}" for low, high in ranges)
