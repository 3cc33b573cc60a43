"""Latents of training sequences: encoded once for each of a few crops, then read from disk."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unfade.core import generator
from unfade.degrade.framing import Size, name_of
from unfade.media.atomic import atomic_output
from unfade.training.sequences import Sequences

_SAMPLE = 4096

# Latents `[1, z, k, h, w]` of a sequence `[1, 3, T, H, W]` in [0, 1]; the dice are for what is random in it.
Encode = Callable[[Tensor, torch.Generator], Tensor]


class LatentStore:
    """Gives the latents of a sequence's crop, from disk where they are kept.

    A file's name is the hash of everything its content depends on: the pair, the crop, its size, the number of frames
    and what encodes. Damaged files are made again, and several processes may share one folder.

    Attributes:
        encode: what gives a sequence's latents.
        sequences: where the frames come from.
        frames: of a sequence.
        crops: kept for each sequence and size; 0 makes a fresh one every epoch and keeps none.
        seed: of the crops.
        folder: of the files.
        encoded, found: how many latents were made and read so far.
        enlarged: how many of those made are of photos smaller than their crop.
    """

    def __init__(
        self,
        encode: Encode,
        identity: str,
        sequences: Sequences,
        frames: int,
        crops: int,
        seed: int,
        folder: Path,
    ) -> None:
        """A store of nothing yet, or of what its folder holds.

        Args:
            encode: gives a sequence's latents.
            identity: what tells its answers from those of any other.
            sequences, frames, crops, seed, folder: see the class.
        """
        self.encode = encode
        self._identity = identity
        self.sequences = sequences
        self.frames = frames
        self.crops = crops
        self.seed = seed
        self.folder = folder
        self.encoded = 0
        self.found = 0
        self.enlarged = 0

    def __call__(self, index: int, size: int | Size, epoch: int) -> Tensor:
        """Latents `[z, k, h, w]`, float32, on the CPU.

        Args:
            index: of the sequence.
            size: of the crop.
            epoch: counted from 0; decides which crop it is.
        """
        crop = epoch % self.crops if self.crops else epoch
        path = self.path(index, size, crop) if self.crops else None
        if path is not None and (kept := _read(path)) is not None:
            self.found += 1
            return kept
        made = self._encode(index, size, crop)
        if path is not None:
            from safetensors.torch import save

            with atomic_output(path) as temporary:
                temporary.write_bytes(save({"latents": made}))
        return made

    def path(self, index: int, size: int | Size, crop: int) -> Path:
        """The file of one crop."""
        name, identity = self.sequences.names[index], self.sequences.identity(index)
        parts = (name, identity, size, crop, self.seed, self.frames, self._identity, "fp32")
        return self.folder / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.safetensors"

    def _encode(self, index: int, size: int | Size, crop: int) -> Tensor:
        dice = generator(self.seed, "crop", self.sequences.names[index], name_of(size), crop)
        clip = self.sequences.draw(index, size, self.frames, dice)
        made = self.encode(clip.transpose(0, 1)[None], dice)[0]
        self.encoded += 1
        self.enlarged += self.sequences.enlarged(index, size)
        # Cloned, since what is made under inference mode can't take part in training.
        return made.cpu().clone(memory_format=torch.contiguous_format)


def vae_fingerprint(vae: Any) -> str:
    """A hash of a VAE's configuration, its precision and the beginning of each of its tensors."""
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=list).encode())
    for name, value in vae.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.flatten()[:_SAMPLE].float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Tensor | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        return None
    try:
        latents = load(path.read_bytes())["latents"]
    except (SafetensorError, OSError, KeyError):
        return None
    return latents if bool(torch.isfinite(latents).all()) else None
