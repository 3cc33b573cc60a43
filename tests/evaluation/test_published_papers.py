"""Published numbers against the papers' own texts, read independently of the tables."""

import re
from pathlib import Path

import pytest

from unfade.evaluation.published.cells import (
    Cell,
    every_cell,
)

# The same groups in the order of the papers' columns: seven single degradations, then thirteen coupled ones.
PRINTED = (
    "Blur", "Noise", "JPEG", "Haze", "Rain", "Raindrop", "Lowlight", "Blur_Noise", "Blur_JPEG", "Noise_JPEG",
    "Rain_Haze", "Lowlight_Haze", "NightRain", "Lowlight_Blur", "Lowlight_Noise", "Lowlight_JPEG",
    "Lowlight_Blur_Noise", "Lowlight_Blur_JPEG", "Lowlight_Noise_JPEG", "Blur_Noise_JPEG",
)  # fmt: skip


# Against the papers' texts, read independently of the tables


def the_text(shared: Path, name: str) -> str:
    path = shared.parent / "papers" / name
    if not path.is_file():
        pytest.skip(f"no {path}: the papers' texts are not on this machine")
    return re.sub(r"[\s|\[\]‘]+", " ", path.read_text(encoding="utf-8"))


def forms(cell: Cell) -> tuple[str, ...]:
    """How a value may stand in the text: as printed, with fewer zeros, or without its point."""
    full = f"{cell.value:.{2 if cell.metric == 'psnr' else 4}f}"
    return full, full.rstrip("0").rstrip("."), full.replace(".", "")


def test_vbridges_rows_stand_in_the_paper(shared: Path):
    text = the_text(shared, "v-bridge.txt")
    lines: dict[tuple[object, ...], list[Cell]] = {}
    for cell in every_cell():
        if "V-Bridge" in cell.paper:
            if cell.table in ("Table 1", "Table 2", "Table 6"):
                key, length = (
                    (cell.table, cell.benchmark, cell.group, cell.metric),
                    {"Table 1": 12, "Table 2": 10},
                )
                full = length.get(cell.table, 8)
            else:  # groups are the columns; the text breaks the lines where the table has its vertical rules
                place = "average" if cell.group is None else PRINTED.index(cell.group) < 7
                key, full = (cell.table, cell.system, cell.metric, place), {True: 7, False: 13}.get(place, 1)
            lines.setdefault((*key, full), []).append(cell)
    whole = 0
    for (*_, full), line in lines.items():
        pattern = " ".join("(?:" + "|".join(map(re.escape, forms(cell))) + ")" for cell in line)
        quoted = [re.findall(r"the text reads '([^']*)'", cell.caveat) for cell in line]
        if len(line) == full and not any(cell.damaged for cell in line) and "0 6808" not in quoted[0]:
            assert re.search(
                rf"(?<![^ ]){pattern}(?![^ ])", text.replace("(.6510", "0.6510").replace("05811", "0.5811")
            )
            whole += 1
        else:
            for cell, words in zip(line, quoted, strict=True):
                assert any(f" {word} " in text for word in [*words, *forms(cell)]), cell
    assert whole > 100


def test_vivid_vrs_rows_stand_in_the_paper(shared: Path):
    text = the_text(shared, "vivid-vr.txt")
    chosen = [cell for cell in every_cell() if "Vivid-VR" in cell.paper and cell.table == "Table 1"]
    rows: dict[tuple[str, str], list[float]] = {}
    for cell in chosen:
        rows.setdefault((cell.benchmark, cell.metric), []).append(cell.value)
    assert len(rows) == 3 * 8 + 3 * 5
    lines = re.findall(r"\\(?:up|down)arrow((?: \d+\.\d+){9})", text)
    assert sorted([float(word) for word in line.split()] for line in lines) == sorted(rows.values())
