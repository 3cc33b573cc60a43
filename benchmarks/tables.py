"""Writes the measured tables into the README and the model card, from the JSON results and nothing else.

python benchmarks/tables.py
"""

import json
import math
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
TITLES = {
    ("CBSD68", "noise-15"): "CBSD68, colour noise, sigma 15",
    ("CBSD68", "noise-25"): "CBSD68, colour noise, sigma 25",
    ("CBSD68", "noise-50"): "CBSD68, colour noise, sigma 50",
    ("Set5", "x2"): "Set5, enlarged 2x (Y)",
    ("Set5", "x4"): "Set5, enlarged 4x (Y)",
    ("Set14", "x2"): "Set14, enlarged 2x (Y)",
    ("Set14", "x4"): "Set14, enlarged 4x (Y)",
    ("CBSD68, JPEG", "jpeg-10"): "CBSD68, JPEG quality 10",
    ("CBSD68, JPEG", "jpeg-20"): "CBSD68, JPEG quality 20",
    ("CBSD68, JPEG", "jpeg-40"): "CBSD68, JPEG quality 40",
    ("Everyday damage on CBSD68", "motion-15"): "CBSD68, 15 px motion blur",
    ("Everyday damage on CBSD68", "defocus-3"): "CBSD68, defocus of 3 px radius",
    ("Everyday damage on CBSD68", "dark-0.2"): "CBSD68, a fifth of the light, noise 3",
    ("Everyday damage on CBSD68", "dark-0.1"): "CBSD68, a tenth of the light, noise 3",
    ("Set14", "clean"): "Set14, nothing wrong",
    ("Everyday damage on CBSD68", "clean"): "CBSD68, nothing wrong",
    ("Example photos", "clean"): "example photos, nothing wrong",
}


def number(value: float | str) -> str:
    """Two decimals; a perfect input has an infinite PSNR, which JSON holds as the text "inf"."""
    return "∞" if math.isinf(float(value)) else f"{value:.2f}"


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text())


def quality(found: dict[str, Any]) -> list[str]:
    """A line for each classic test."""
    rows = {(row["benchmark"], row["group"]): row for row in found["groups"]}
    lines = [
        "| test | input, dB | tiny, dB | gain, dB | films that rise |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for key, title in TITLES.items():
        row = rows.get(key)
        if row:
            clean = key[1] == "clean"
            gain = "" if clean else f"{row['gain']:+.2f}"
            rising = "" if clean else f"{row['rising']:.0%}"
            cells = (title, number(row["input"]), number(row["output"]), gain, rising)
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def groups(found: dict[str, Any]) -> list[str]:
    """A line for each of FoundIR's groups, made from clean photos, and for snow."""
    lines = ["| synthetic group | input, dB | tiny, dB | gain, dB |", "| --- | ---: | ---: | ---: |"]
    for row in found["groups"]:
        if row["synthetic"]:
            cells = (number(row["input"]), number(row["output"]), f"{row['gain']:+.2f}")
            lines.append(f"| {row['group']} | {' | '.join(cells)} |")
    return lines


def peers(found: dict[str, Any]) -> list[str]:
    """The model and its peers on the same photos in the same run: mean PSNR over a benchmark's groups, and cost."""
    parts: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in found["peers"]:
        if row["group"] != "clean":
            parts.setdefault(row["benchmark"], {}).setdefault(row["restorer"], []).append(row)
    lines = ["| benchmark | photos | restorer | groups | input, dB | output, dB | s/MP |"]
    lines.append("| --- | ---: | --- | --- | ---: | ---: | ---: |")
    for title, restorers in parts.items():
        for restorer, rows in restorers.items():
            mark = " (synthetic)" if rows[0]["synthetic"] else ""
            names = ", ".join(row["group"] for row in rows) if len(rows) < 5 else f"{len(rows)} groups"
            mean = {side: sum(row[side] for row in rows) / len(rows) for side in ("input", "output")}
            cost = rows[0]["seconds_per_megapixel"]
            cells = (
                f"{title}{mark}",
                f"{sum(row['images'] for row in rows)}",
                f"**{restorer}**" if restorer == found["model"] else restorer,
                names,
                f"{mean['input']:.2f}",
                f"{mean['output']:.2f}",
                f"{cost:.2f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def speed(result: dict[str, Any]) -> list[str]:
    """Seconds a megapixel and ratios."""
    measured = result["seconds_per_megapixel"]
    lines = ["| on the same photo, in the same run | s/MP |", "| --- | ---: |"]
    for name, figures in measured.items():
        lines.append(f"| {name.replace('model', 'tiny')} | {figures['median']:.3f} |")
    sizes = result["seconds_per_megapixel_by_size"]
    shown = ", ".join(f"{name}: {figures['median']:.2f}" for name, figures in sizes.items())
    ratios = result["ratios"]
    peak = result["memory"]["unfade restore"]["peak_gigabytes"]
    lines += [
        "",
        f"{ratios['nlm']:.1f} times as fast as OpenCV's non-local means, {ratios['bm3d']:.0f} times as fast as BM3D.",
        f"Seconds a megapixel over size: {shown}. Peak memory of the whole command at "
        f"{result['memory']['megapixels']:g} MP: {peak:.2f} GB.",
    ]
    return lines


def words(found: dict[str, Any]) -> list[str]:
    """A line for each mixture and wish."""
    lines = [
        "| damage | prompt | input, dB | without the prompt | with it | the wish granted alone | of the rest is left |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found["words"]:
        figures = " | ".join(f"{row[name]:.2f}" for name in ("input", "blind", "asked", "alone"))
        lines.append(f"| {row['damage']} | {row['prompt']} | {figures} | {row['kept']:.0%} |")
    return lines


def brightness(found: dict[str, Any]) -> list[str]:
    """A line for each kind of darkness."""
    lines = [
        "| damage | input, dB | nothing said | the brightness named |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in found["brightness"]:
        figures = " | ".join(f"{row[name]:.2f}" for name in ("input", "blind", "named"))
        lines.append(f"| {row['task']} | {figures} |")
    return lines


def steps(found: dict[str, Any]) -> list[str]:
    """PSNR and sharpness by task and number of steps."""
    counts = sorted({row["steps"] for row in found["steps"]})
    lines = ["| task | " + " | ".join(f"{count} step{'s' if count > 1 else ''}" for count in counts) + " |"]
    lines.append("| --- |" + " ---: |" * len(counts))
    for task in dict.fromkeys(row["task"] for row in found["steps"]):
        mine = sorted((row for row in found["steps"] if row["task"] == task), key=lambda row: row["steps"])
        lines.append(
            f"| {task} | " + " | ".join(f"{row['psnr']:.2f} ({row['sharpness']:.2f})" for row in mine) + " |"
        )
    return lines


def footage(found: dict[str, Any]) -> list[str]:
    """A line for each clip and damage; warping errors are in thousandths, flicker in grey levels."""
    lines = [
        "| clip | damage | input, dB | frame by frame | over time | warping error of the truth "
        "| frame by frame | over time | flicker frame by frame | over time |",
        "| --- | --- |" + " ---: |" * 8,
    ]
    columns = (
        *(f"{way}_psnr" for way in ("input", "frame_by_frame", "over_time")),
        *(f"{way}_warping_error" for way in ("truth", "frame_by_frame", "over_time")),
        *(f"{way}_flicker" for way in ("frame_by_frame", "over_time")),
    )
    for row in found["clips"]:
        figures = " | ".join(number(row[column]) for column in columns)
        lines.append(f"| {row['name']} | {row['damage']} | {figures} |")
    return lines


def footage_in_short(found: dict[str, Any]) -> list[str]:
    """A line for each damage: means over the clips."""
    columns = ("input_psnr", "frame_by_frame_psnr", "over_time_psnr")
    ways = ("frame_by_frame_warping_error", "over_time_warping_error")
    lines = [
        "| damage of footage | input, dB | frame by frame, dB | tiny over time, dB | warping error left |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for damage in dict.fromkeys(row["damage"] for row in found["clips"]):
        mine = [row for row in found["clips"] if row["damage"] == damage]
        figures = [number(sum(float(row[column]) for row in mine) / len(mine)) for column in columns]
        left = sum(row[ways[1]] / row[ways[0]] for row in mine) / len(mine)
        lines.append(f"| {damage} | {' | '.join(figures)} | {left:.0%} |")
    return lines


def confidence(found: dict[str, Any]) -> list[str]:
    """A line for each task."""
    lines = [
        "| task | rank correlation, pixels | of the true error of each 8x8 block | blocks "
        "| off by a factor, photo by photo | expected over true error where least is expected | where most is |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    columns = ("pixels", "true_blocks", "blocks", "off_by", "least", "most")
    for row in found["tasks"]:
        lines.append(f"| {row['task']} | {' | '.join(f'{row[column]:.2f}' for column in columns)} |")
    return lines


def told(result: dict[str, Any]) -> str:
    """What was measured where."""
    hardware = result["hardware"]
    bf16 = "AMX" if hardware["amx_bf16"] else "avx512_bf16" if hardware["avx512_bf16"] else "no fast bf16"
    where = f"{hardware['cores']} cores of an {hardware['cpu']} ({bf16}), torch {hardware['torch']}"
    return f"Measured at commit `{str(result['commit'])[:10]}` on {where}."


def replaced(text: str, name: str, lines: list[str]) -> str:
    """The text with what stands between the two markers of this name exchanged."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(text):
        return text
    body = "\n".join(lines) + "\n"
    return pattern.sub(lambda found: found.group(1) + body + found.group(2), text)


def parts() -> dict[str, list[str]]:
    """Every table by the name of its markers."""
    found = read("quality.json")
    fast = read("speed.json")
    steered = read("steering.json")
    moving, sure = read("footage.json"), read("confidence.json")
    return {
        "quality": [*quality(found), "", told(found)],
        "groups": [*groups(found), "", told(found)],
        "peers": [*peers(found), "", told(found)],
        "speed": [*speed(fast), told(fast)],
        "words": [*words(steered), "", told(steered)],
        "brightness": [*brightness(steered), "", told(steered)],
        "steps": [*steps(steered), "", told(steered)],
        "footage": [*footage(moving), "", told(moving)],
        "footage in short": [*footage_in_short(moving), "", told(moving)],
        "confidence": [*confidence(sure), "", told(sure)],
    }


def main() -> None:
    made = parts()
    for path in (ROOT / "README.md", ROOT / "src/unfade/backbones/weights/README.md"):
        text = path.read_text()
        for name, lines in made.items():
            text = replaced(text, name, lines)
        path.write_text(text)
        print(f"written: {path}")


if __name__ == "__main__":
    main()
