"""A pickle's tensors as safetensors: the only place where a pickle is opened, in a process of its own.

python -m unfade.backbones.unpickled SOURCE TARGET
"""

import subprocess
import sys
from pathlib import Path

from unfade.core import ModelError
from unfade.media.atomic import atomic_output

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")

# Exit codes of the other process.
_REFUSED, _NOT_TENSORS = 3, 4


def convert_pickle(source: Path, target: Path) -> None:
    """Writes the tensors of a pickled state dict as safetensors.

    The pickle is opened by another process, by torch's unpickler that makes tensors and plain containers only, so a
    file made to run commands is refused, and what it may break is not this process. Nothing is imported from the
    folder one happens to be in.

    Args:
        source: the pickle.
        target: `.safetensors`; replaced if it exists.

    Raises:
        ModelError: the file is missing, damaged, holds more than tensors by name, or would run code.
        OutputError: the target can't be written.
    """
    if not source.is_file():
        raise ModelError(f"no file at {source}; name a checkpoint ({', '.join(SUFFIXES)})")
    with atomic_output(target) as temporary:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "unfade.backbones.unpickled", str(source), str(temporary)],
            capture_output=True,
            text=True,
        )
        if done.returncode == _REFUSED:
            raise ModelError(
                f"{source} was refused: it is damaged, or holds more than tensors and would run code when opened; get "
                "a file from a source you trust"
            )
        if done.returncode == _NOT_TENSORS:
            raise ModelError(f"{source} does not hold tensors by name; only a state dict can be converted")
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"code {done.returncode}"]
            raise ModelError(f"{source} can't be converted: {last[0]}")


def _main(source: str, target: str) -> int:
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        found = torch.load(source, map_location="cpu", weights_only=True, mmap=_is_zip(source))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, AttributeError, KeyError):
        return _REFUSED
    while isinstance(found, dict) and len(found) == 1 and isinstance(next(iter(found.values())), dict):
        # Trainers like to wrap what they save: {"state_dict": ...}.
        found = next(iter(found.values()))
    if not isinstance(found, dict) or not found:
        return _NOT_TENSORS
    if not all(isinstance(key, str) and isinstance(one, torch.Tensor) for key, one in found.items()):
        return _NOT_TENSORS
    # Of tensors that share memory each gets its own.
    save_file({key: one.detach().clone().contiguous() for key, one in found.items()}, target)
    return 0


def _is_zip(source: str) -> bool:
    import zipfile

    return zipfile.is_zipfile(source)


if __name__ == "__main__":
    raise SystemExit(_main(*sys.argv[1:]))
