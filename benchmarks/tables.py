"""Writes the measured tables into the README and the model card, from the JSON results and nothing else.

python benchmarks/tables.py
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
TITLES = {
    "cbsd68 noise-15": "CBSD68, colour noise, sigma 15",
    "cbsd68 noise-25": "CBSD68, colour noise, sigma 25",
    "cbsd68 noise-50": "CBSD68, colour noise, sigma 50",
    "set5 x2": "Set5, enlarged 2x (Y)",
    "set5 x4": "Set5, enlarged 4x (Y)",
    "set14 x2": "Set14, enlarged 2x (Y)",
    "set14 x4": "Set14, enlarged 4x (Y)",
    "cbsd68 jpeg-10": "CBSD68, JPEG quality 10",
    "cbsd68 jpeg-20": "CBSD68, JPEG quality 20",
    "cbsd68 jpeg-40": "CBSD68, JPEG quality 40",
    "cbsd68 motion-15": "CBSD68, 15 px motion blur",
    "cbsd68 defocus-3": "CBSD68, defocus of 3 px radius",
    "cbsd68 dark-0.2": "CBSD68, a fifth of the light, noise 3",
    "cbsd68 dark-0.1": "CBSD68, a tenth of the light, noise 3",
    "set14 clean": "Set14, nothing wrong",
    "cbsd68 clean": "CBSD68, nothing wrong",
    "examples clean": "example photos, nothing wrong",
}


def number(value: float | str) -> str:
    """Two decimals; a perfect input has an infinite PSNR, which JSON holds as the text "inf"."""
    return f"{value:.2f}" if isinstance(value, float) else "∞"


def read(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name).read_text())


def quality(rows: dict[tuple[str, str], dict[str, Any]], model: str) -> list[str]:
    """A line for each classic test."""
    lines = [
        "| test | input, dB | tiny, dB | gain, dB | films that rise |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for key, title in TITLES.items():
        row = rows.get((key, model))
        if row:
            clean = key.endswith("clean")
            gain = "" if clean else f"{row['gain']:+.2f}"
            rising = "" if clean else f"{row['rising']:.0%}"
            cells = (title, number(row["input_psnr"]), number(row["output_psnr"]), gain, rising)
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def groups(rows: dict[tuple[str, str], dict[str, Any]], model: str) -> list[str]:
    """A line for each of FoundIR's groups, made from clean photos, and for snow."""
    lines = ["| synthetic group | input, dB | tiny, dB | gain, dB |", "| --- | ---: | ---: | ---: |"]
    for (key, restorer), row in rows.items():
        if restorer == model and key not in TITLES and not key.endswith("clean"):
            cells = (number(row["input_psnr"]), number(row["output_psnr"]), f"{row['gain']:+.2f}")
            lines.append(f"| {key.removeprefix('cbsd68 ')} | {' | '.join(cells)} |")
    return lines


def peers(measured: dict[str, Any], model: str) -> list[str]:
    """The model and its peers on the photos that the peers were measured on."""
    by_case: dict[str, dict[str, dict[str, float]]] = {}
    for task in measured["tasks"]:
        key = f"{task['photos']} {task['task']}"
        by_case.setdefault(key, {})[task["restorer"]] = {
            row["image"]: row["output_psnr"] for row in task["rows"]
        }
    lines = ["| test | photos | " + " | ".join(("tiny", "NLM (tuned)", "bilateral", "BM3D")) + " |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for key, found in by_case.items():
        if "bm3d" not in found:
            continue
        photos = list(found["bm3d"])
        cells = [
            sum(found[name][photo] for photo in photos) / len(photos)
            for name in (model, "nlm", "bilateral", "bm3d")
        ]
        lines.append(
            f"| {TITLES[key]} | {len(photos)} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |"
        )
    return lines if len(lines) > 2 else []


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
    model = found["model"]
    rows = {(f"{task['photos']} {task['task']}", task["restorer"]): task for task in found["tasks"]}
    fast = read("speed.json")
    return {
        "quality": [*quality(rows, model), "", told(found)],
        "groups": groups(rows, model),
        "peers": peers(found, model),
        "speed": [*speed(fast), told(fast)],
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
