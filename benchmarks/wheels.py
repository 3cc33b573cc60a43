"""Packages carried to a machine that has PyTorch and no registry, as a folder of wheels."""

import sys
import tempfile
import zipfile
from pathlib import Path


def use_wheels(folder: Path) -> list[str]:
    """Unpacks every wheel of a folder and puts the place before everything else that is imported.

    The video models need diffusers, transformers, tokenizers, huggingface-hub with what it asks for, safetensors, peft,
    accelerate, psutil, regex, pyyaml, requests and pillow; `tiny` needs none. Leave out what the machine has and must
    keep (torch, numpy). The place lasts as long as the system's temporary
    folder. Compiled packages have to be built for the machine's Python.

    Args:
        folder: with `*.whl` in it, as `pip download -d FOLDER --no-deps diffusers transformers ...` fills it.

    Returns:
        The names of the wheels.

    Raises:
        SystemExit: there are no wheels.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise SystemExit(
            f"no wheels in {folder}; fill it by pip download -d {folder} --no-deps diffusers ..."
        )
    place = tempfile.mkdtemp(prefix="unfade-wheels-")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place)
    sys.path.insert(0, place)
    return [wheel.name for wheel in wheels]
