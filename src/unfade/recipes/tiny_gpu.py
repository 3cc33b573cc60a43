"""`python -m unfade.recipes.tiny_gpu`: continue the shipped `tiny` on a GPU that has nothing but PyTorch.

Needs torch, numpy, safetensors and a decoder (Pillow or pyvips); no typer, PyAV or diffusers. Every file it
leaves is under 16 MiB: weights, the fp32 average, the fp32 network, the log and a result in JSON. Without a GPU
it runs the smoke recipe, so that the command stays alive.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from unfade.recipes.run_tiny import run_tiny
from unfade.training.photos import pack


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders, or one packed file")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="other than the recipe's")
    parser.add_argument(
        "--pack", type=Path, help="only pack the photos into this file (under 50 MiB) and stop"
    )
    options = parser.parse_args()
    if options.pack:
        count = pack(options.photos, options.pack)
        sys.stdout.write(f"{options.pack}: {count} photos, {options.pack.stat().st_size / 2**20:.1f} MiB\n")
        return
    gpu = torch.cuda.is_available()
    shipped = Path(__file__).parent.parent / "backbones/weights/tiny.safetensors"
    working = Path("runs/gpu-work") if gpu else options.output / "work"
    begun = time.perf_counter()
    weights = run_tiny(
        options.photos,
        working,
        recipe="gpu" if gpu else "smoke",
        steps=options.steps,
        start=shipped if shipped.exists() else None,
        device="cuda" if gpu else "cpu",
        report=_report,
    )
    options.output.mkdir(parents=True, exist_ok=True)
    state = torch.load(working / "checkpoint.pt", map_location="cpu", weights_only=True)
    torch.save(state["average"], options.output / "average.pt")
    torch.save(state["model"], options.output / "model.pt")
    shutil.copy(weights, options.output / "tiny.safetensors")
    shutil.copy(working / "log.jsonl", options.output / "log.jsonl")
    result = {
        "device": torch.cuda.get_device_name() if gpu else "cpu (no GPU here: smoke recipe only)",
        "steps": state["step"],
        "seconds": round(time.perf_counter() - begun, 1),
        "torch": torch.__version__,
    }
    (options.output / "gpu-train.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result) + "\n")


def _report(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
