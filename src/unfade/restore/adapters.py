"""What a base model was taught: the adapter that restores, and the one that corrects the restored."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from unfade.backbones.wan import Wan
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

    def attach(self, wan: Wan) -> None:
        """Puts the adapters on the model's transformer.

        Raises:
            ModelError: a file is damaged, made for another base, or for something else than it is used for.
        """
        from unfade.conditioning.lora import load_adapter

        for name, path in ((RESTORE, self.restore), (DRIFT, self.drift)):
            if path is None:
                continue
            told = load_adapter(wan.denoiser.model, path, name)
            if (role := told.get("role", name)) != name:
                raise ModelError(
                    f"{path} is an adapter for {role}, not for {name}; give it by the other option"
                )
        wan.denoiser.model.eval()

    def use(self, wan: Wan, name: str) -> None:
        """Switches to the adapter of that name, or to the base alone where there is none."""
        if self.restore is None and self.drift is None:
            return
        from unfade.conditioning.lora import use_adapter

        there = self.drift if name == DRIFT else self.restore
        use_adapter(wan.denoiser.model, name if there is not None else None)

    def told(self) -> dict[str, str]:
        """Names and hashes, for provenance."""
        named = (("adapter", self.restore), ("drift_adapter", self.drift))
        return {key: f"{path.name} {_hashed(path)}" for key, path in named if path is not None}

    def sha256(self, base: str) -> str:
        """Of base and adapters together; without adapters, the base's own hash."""
        hashes = [base, *self.told().values()]
        return base if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


NO_ADAPTERS = Adapters()


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
