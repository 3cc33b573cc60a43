"""What came out of the CPU-sized proof: figures, tables, and where they agree with the paper's trends."""

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.conditioning.lora import load_adapter, use_adapter
from unfade.core import Clip
from unfade.degrade.framing import sides_of
from unfade.media.images import write_image
from unfade.recipes.run_tiny import commit
from unfade.recipes.stages import spent
from unfade.recipes.vbridge_judging import write_json, write_text
from unfade.recipes.vbridge_proof import DRIFT, VBridgeProof
from unfade.recipes.vbridge_tables import Row, markdown_table, verdicts
from unfade.restore.drift import worth_keeping
from unfade.training.walks import Walk, gains, held_sequences, judged, summary, walked

_SHOWN = 2


def report_proof(proof: VBridgeProof, folder: Path) -> dict[str, Any]:
    """Judges everything that was trained on the held-out photos and writes `README.md`, `figures.json`, pictures.

    Args:
        proof: with all its stages done.
        folder: to write to.

    Returns:
        What `figures.json` holds.
    """
    recipe = proof.recipe
    figures = _figures(proof, folder)
    figures["tables"] = {
        table: [{"name": row.name, "sizes": proof.judge_row(row)} for row in rows]
        for table, rows in recipe.tables.items()
    }
    figures["verdicts"] = verdicts(figures)
    figures["seconds"] = {stage: one.seconds for stage, one in spent(proof.folder).items()}
    figures["commit"] = commit()
    figures["machine"] = f"{platform.machine()}, torch {torch.__version__}"
    write_json(folder / "figures.json", figures)
    _curves(proof, figures, folder)
    write_text(folder / "README.md", _page(proof, figures))
    for log, name in (
        (proof.folder / "vae.jsonl", "vae.jsonl"),
        (proof.folder / "base" / "log.jsonl", "base.jsonl"),
        (proof.folder / "drift" / "log.jsonl", "drift.jsonl"),
    ):
        write_text(folder / name, log.read_text())
    return figures


def _figures(proof: VBridgeProof, folder: Path) -> dict[str, Any]:
    """Base at every size, numbers of steps, drift correction; pictures on the way."""
    recipe, frames = proof.recipe, proof.recipe.base.frames
    wan = load_wan(open_wan(proof.model), torch.float32)
    parameters = sum(part.numel() for part in wan.denoiser.model.parameters())
    coder = sum(part.numel() for part in wan.vae.model.parameters())
    load_adapter(wan.denoiser.model, proof.adapter, DRIFT)
    wan.denoiser.model.eval()
    use_adapter(wan.denoiser.model, None)
    sizes: dict[str, Any] = {}
    for size in sorted(
        {*(max(sides_of(crop)) for _, crop in recipe.base.stages), *recipe.table_sizes, recipe.size}
    ):
        sizes[str(size)], _, _ = proof.judge(wan, size, frames)
    base, clips, made = proof.judge(wan, recipe.size, frames)
    sweep = {
        str(steps): base if steps == recipe.steps else proof.judge(wan, recipe.size, frames, steps)[0]
        for steps in recipe.sweep
    }
    use_adapter(wan.denoiser.model, DRIFT)
    names, _ = held_sequences(proof.sequences(proof.material.held_out), recipe.size, frames, seed=1)
    again = walked(
        wan, made[:, -1], names, proof.text, Walk(frames=recipe.drift.frames, steps=recipe.steps, seed=1)
    )
    corrected = summary(judged(wan, names, clips, again))
    chosen, taken = gated(names, made, again)
    kept = summary(judged(wan, names, clips, chosen))
    _sheet(folder / "held-out.png", clips, made, again, len(recipe.kinds))
    return {
        "parameters": {"vae": coder, "transformer": parameters},
        "sizes": sizes,
        "steps": sweep,
        "drift": {
            "w/o DC": base,
            "with DC": corrected,
            "gated": kept,
            "gain": gains(base, corrected),
            "gated gain": gains(base, kept),
            "taken": taken,
        },
    }


def gated(names: Sequence[str], made: Tensor, again: Tensor) -> tuple[Tensor, dict[str, float]]:
    """The results with the correction only where the gate of `--drift gated` takes it, sequence by sequence.

    Args:
        names: "category/...", one for each sequence.
        made, again: frames of the first and the second pass, `[N, T, 3, H, W]`; T may differ.

    Returns:
        `[N, 1, 3, H, W]`, and the share of sequences that were corrected, by category and over everything as "all".
    """
    # Results are compared as restoring compares them, each by itself.
    taken = [worth_keeping(one[-1:], two[-1:]) for one, two in zip(made, again, strict=True)]
    pairs = zip(taken, made, again, strict=True)
    chosen = torch.stack([(two if take else one)[-1:] for take, one, two in pairs])
    groups: dict[str, list[bool]] = {}
    for name, take in zip(names, taken, strict=True):
        groups.setdefault(name.rpartition("/")[0], []).append(take)
    groups["all"] = taken
    return chosen, {name: round(sum(group) / len(group), 3) for name, group in groups.items()}


def _sheet(path: Path, clips: Tensor, made: Tensor, again: Tensor, kinds: int) -> None:
    """Rows of frames: degraded, every second generated one, result, corrected, truth; photos far apart."""
    count = len(clips) // kinds
    photos = sorted({round((index + 0.5) * count / _SHOWN - 0.5) for index in range(min(_SHOWN, count))})
    rows = [
        torch.cat([clips[index, 0], *made[index, 1::2], again[index, -1], clips[index, -1]], dim=2)
        for photo in photos
        for index in range(photo * kinds, (photo + 1) * kinds)
    ]
    write_image(Clip(torch.cat(rows, dim=1)[None].clamp(0, 1)), path)


def _curves(proof: VBridgeProof, figures: Mapping[str, Any], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    rows = [json.loads(line) for line in (proof.folder / "vae.jsonl").read_text().splitlines()]
    left.plot([row["step"] for row in rows], [row["psnr"] for row in rows])
    left.set(title="VAE in training", xlabel="step", ylabel="PSNR, dB")
    for name in ("base", "drift"):
        rows = [json.loads(line) for line in (proof.folder / name / "log.jsonl").read_text().splitlines()]
        rows = [row for row in rows if "loss" in row]
        middle.plot([row["step"] for row in rows], [row["loss"] for row in rows], label=name)
    middle.set(title="transformer: flow loss", xlabel="step", yscale="log")
    middle.legend()
    base = figures["drift"]["w/o DC"]
    for name, group in base.items():
        if name != "all":
            line = right.plot([group["input"], *group["frames"]], label=name)[0]
            right.axhline(group["ceiling"], color=line.get_color(), linestyle=":", linewidth=0.8)
    right.set(title="held out: PSNR along the frames (dotted: VAE)", xlabel="frame", ylabel="PSNR, dB")
    right.legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "curves.png", dpi=110)
    pyplot.close(figure)


def _page(proof: VBridgeProof, figures: Mapping[str, Any]) -> str:
    recipe = proof.recipe
    drift = figures["drift"]
    base, corrected = drift["w/o DC"], drift["with DC"]
    categories = [*recipe.kinds, "all"]
    millions = {name: f"{count / 1e6:.1f}M" for name, count in figures["parameters"].items()}
    lines = [
        "# V-Bridge at CPU size",
        "",
        f"A VAE of {millions['vae']} and a transformer of {millions['transformer']} parameters, both of the real "
        f"classes, from nothing; {len(proof.material.held_out)} held-out photos at {recipe.size}x{recipe.size} under "
        f"each degradation ({recipe.strength}); {recipe.steps} steps, no guidance. PSNR in dB over RGB.",
        "",
        "| degradation | input | result | gain | share better | with drift correction | VAE of the sequence | of the "
        "truth alone |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in categories:
        group = base[name]
        lines.append(
            f"| {name} | {group['input']:.2f} | {group['result']:.2f} | {group['gain']:+.2f} | "
            f"{100 * group['better']:.0f} % | {corrected[name]['result']:.2f} "
            f"({drift['gain'][name]:+.2f}) | {group['ceiling']:.2f} | {group['photo']:.2f} |"
        )
    lines += ["", "## Drift correction", ""]
    lines.append(
        markdown_table(
            "",
            [Row(name, drift[name]) for name in ("w/o DC", "with DC", "gated")],
            categories,
            [
                Row(name, {group: {"result": value} for group, value in drift[name].items()})
                for name in ("gain", "gated gain")
            ],
        )
    )
    shares = ", ".join(f"{name} {100 * drift['taken'][name]:.0f} %" for name in categories)
    lines.append(f"The gate (`--drift gated`) took the correction in: {shares}.")
    lines += ["", "Along the frames:", ""]
    frames = len(base["all"]["frames"])
    lines.append("| degradation | " + " | ".join(str(index) for index in range(frames + 1)) + " |")
    lines.append("| --- |" + " --- |" * (frames + 1))
    for name in categories:
        figures_of = [base[name]["input"], *base[name]["frames"]]
        lines.append(f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures_of) + " |")
    lines += ["", "![curves](curves.png)", "", "![held out](held-out.png)", ""]
    lines.append("Rows: degraded, frames 2, 4, 6, ... of the generated clip, after drift correction, truth.")
    lines += ["", "## By size and by steps", ""]
    lines.append(
        markdown_table(
            "", [Row(f"{size}x{size}", group) for size, group in figures["sizes"].items()], categories
        )
    )
    lines.append(
        markdown_table(
            "", [Row(f"{steps} steps", group) for steps, group in figures["steps"].items()], categories
        )
    )
    for table, rows in figures["tables"].items():
        lines += [f"## Ablation: {table}", ""]
        for size in (str(size) for size in recipe.table_sizes):
            told = [Row(row["name"], row["sizes"][size]) for row in rows]
            lines.append(markdown_table(f"judged at {size}x{size}", told, categories))
    lines += ["## Against the paper's trends", ""]
    lines += [f"* {sentence}" for sentence in figures["verdicts"]]
    lines += ["", "## How it was made", "", f"Commit {figures['commit']}, {figures['machine']}. Seconds:", ""]
    lines += [f"* {stage}: {seconds:.0f}" for stage, seconds in figures["seconds"].items()]
    return "\n".join(lines) + "\n"
