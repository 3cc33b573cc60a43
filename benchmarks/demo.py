"""`make demo`: damages the example photos in five ways, restores them, and shows the way.

Writes the damaged photos, the restored ones with film, contact sheet and frames, and one picture of all pairs.
The damage is drawn from fixed seeds; the restoration is the `unfade restore` command a user would type.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from unfade.core import Clip, generator
from unfade.degrade.classic import compressed, darkened, defocused, enlarged, noisy
from unfade.evaluation.metrics.fidelity import psnr
from unfade.media.images import read_image, write_image
from unfade.media.sheet import contact_sheet

ROOT = Path(__file__).parent.parent
DAMAGE = {
    "noise": ("astronaut.png", noisy(35)),
    "darkness": ("rocket.jpg", darkened(0.2)),
    "defocus": ("chelsea.png", defocused(2)),
    "low-resolution": ("coffee.png", enlarged(3)),
    "jpeg": ("astronaut.png", compressed(10)),
}


def multiple_of(image: Tensor, sides: int) -> Tensor:
    """The photo without the last rows and columns that don't fit."""
    return image[..., : image.shape[-2] // sides * sides, : image.shape[-1] // sides * sides]


def make_damaged(folder: Path) -> dict[str, Tensor]:
    """Writes each damaged photo and gives the clean ones."""
    clean: dict[str, Tensor] = {}
    for name, (photo, damage) in DAMAGE.items():
        original = multiple_of(read_image(ROOT / "examples" / photo).frames, 6)
        clean[name] = original
        write_image(Clip(damage(original, generator(7, "demo", name))), folder / f"{name}.png")
    return clean


def squares(images: list[Tensor], side: int = 288) -> list[Tensor]:
    """The middle of each photo at its own resolution, where damage can be seen."""
    cut: list[Tensor] = []
    for image in images:
        top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
        cut.append(image[:, top : top + side, left : left + side])
    return cut


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"))
    parser.add_argument("--model", default="tiny")
    options = parser.parse_args()
    damaged = options.output / "damaged"
    restored = options.output / "restored"
    shutil.rmtree(options.output, ignore_errors=True)
    damaged.mkdir(parents=True)
    clean = make_damaged(damaged)
    begun = time.perf_counter()
    command = [sys.executable, "-m", "unfade", "restore", str(damaged), "--output", str(restored)]
    subprocess.run([*command, "--model", options.model, "--film", "--sheet", "--save-frames"], check=True)
    seconds = time.perf_counter() - begun
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    labels: tuple[list[str], list[str]] = ([], [])
    print(f"\n{'damage':16s}{'before':>9s}{'after':>9s}   (dB, RGB PSNR to the original)")
    for name, original in clean.items():
        figures: list[float] = []
        for row, texts, folder in zip(rows, labels, (damaged, restored), strict=True):
            image = read_image(folder / f"{name}.png").frames
            figures.append(float(psnr(image, original)))
            row.append(image[0])
            texts.append(f"{name if folder is damaged else 'restored'}: {figures[-1]:.1f} dB")
        print(f"{name:16s}{figures[0]:9.2f}{figures[1]:9.2f}")
    cells = squares([*rows[0], *rows[1]])
    sheet = contact_sheet(cells, columns=len(clean), labels=[*labels[0], *labels[1]], width=1460)
    write_image(Clip.of(sheet), options.output / "pairs.png")
    film = [read_image(path).frames[0] for path in sorted((restored / "noise_frames").glob("*.png"))]
    strip = contact_sheet(squares(film, 240), columns=len(film), width=1600)
    write_image(Clip.of(torch.clamp(strip, 0, 1)), options.output / "film.png")
    print(
        f"\n{len(clean)} photos with films in {seconds:.1f} s, everything is in {options.output}/: look at pairs.png"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
