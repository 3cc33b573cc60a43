"""What a base model was taught: the adapter that restores, and the one that corrects the restored."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unfade.backbones.video import VideoConfig, VideoModel
from unfade.core import ModelError

RESTORE, DRIFT = "restore", "drift-correction"


@dataclass(frozen=True, slots=True)
class Weights:
    """What identifies a model's weights.

    Attributes:
        sha256: of the base's files and, where there are any, of its adapters'.
    """

    sha256: str


@dataclass(frozen=True, slots=True)
class Adapters:
    """Files of adapters, by what they are for.

    Attributes:
        restore: turns the base into a restorer; None for a base that is one already.
        drift: the drift correction, applied to the first pass's result with the other one switched off.

    Raises:
        ModelError: a file is missing.
    """

    restore: Path | None = None
    drift: Path | None = None

    def __post_init__(self) -> None:
        for path in (self.restore, self.drift):
            if path is not None and not path.is_file():
                raise ModelError(f"no adapter at {path}; name the .safetensors file that training wrote")

    def check(self, config: VideoConfig, base: Mapping[str, str] | None = None) -> None:
        """What can be known to be wrong from the files' headers, before any weights are read.

        Args:
            config: of the base.
            base: where its weights came from, if that is known.

        Raises:
            ModelError: a file is damaged, made for another base, or for something else than it is used for.
        """
        from unfade.conditioning.lora import check_adapter

        for name, path in self._named():
            role = check_adapter(path, config.transformer, base).get("role", name)
            if role != name:
                raise ModelError(
                    f"{path} is an adapter for {role}, not for {name}; give it by the other option"
                )

    def attach(self, model: VideoModel) -> None:
        """Puts the adapters on the model's transformer.

        Raises:
            ModelError: a file is damaged, made for another base, or for something else than it is used for.
        """
        from unfade.conditioning.lora import load_adapter

        self.check(model.config, model.provenance)
        for name, path in self._named():
            load_adapter(model.denoiser.model, path, name, model.provenance)
        model.denoiser.model.eval()

    def num_parameters(self) -> int:
        """Of all adapters together, as their files' headers tell.

        Raises:
            ModelError: a file is damaged.
        """
        if not self._named():
            return 0
        from unfade.conditioning.lora_file import read_header

        return sum(math.prod(shape) for _, path in self._named() for shape in read_header(path)[1].values())

    def use(self, model: VideoModel, name: str) -> None:
        """Switches to the adapter of that name, or to the base alone where there is none."""
        if self.restore is None and self.drift is None:
            return
        from unfade.conditioning.lora import use_adapter

        there = self.drift if name == DRIFT else self.restore
        use_adapter(model.denoiser.model, name if there is not None else None)

    def drift_frames(self, otherwise: int) -> int:
        """How many frames the drift correction's clips have: as many as it learnt from.

        Args:
            otherwise: of an adapter that doesn't say what it learnt from.

        Raises:
            ModelError: the file is damaged.
        """
        if self.drift is None:
            return otherwise
        from unfade.conditioning.lora_file import read_notes

        try:
            return int(json.loads(read_notes(self.drift)["notes.run"])["frames"])
        except (KeyError, ValueError, TypeError):
            return otherwise

    def told(self) -> dict[str, str]:
        """Names and hashes, for provenance."""
        named = (("adapter", self.restore), ("drift_adapter", self.drift))
        return {key: f"{path.name} {_hashed(path)}" for key, path in named if path is not None}

    def sha256(self, base: str) -> str:
        """Of base and adapters together; without adapters, the base's own hash.

        Of an adapter its weights count, not its file: the same training writes other notes at another commit.
        """
        from unfade.conditioning.lora_file import weights_hash

        hashes = [base, *(weights_hash(path) for path in (self.restore, self.drift) if path is not None)]
        return base if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    def _named(self) -> list[tuple[str, Path]]:
        return [
            (name, path) for name, path in ((RESTORE, self.restore), (DRIFT, self.drift)) if path is not None
        ]


NO_ADAPTERS = Adapters()


def _hashed(path: Path) -> str:
    told = path.stat()
    return _hash_of(path, told.st_size, told.st_mtime_ns)


@lru_cache(8)
def _hash_of(path: Path, size: int, changed: int) -> str:
    """Taken again when size or time of change are others."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
