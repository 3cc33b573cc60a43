"""From a model's name or file to a restorer."""

from importlib.resources import files
from pathlib import Path

from unfade.backbones.catalog import CATALOG
from unfade.backbones.tiny_weights import load_tiny
from unfade.core import ModelError
from unfade.restore.engine import PixelRestorer


def load(model: str | Path = "tiny") -> PixelRestorer:
    """A restorer for a model of the catalog, or for a `.safetensors` file of one's own.

    Raises:
        ModelError: the name is unknown or the file can't be used.
    """
    if str(model) in CATALOG:
        return PixelRestorer(
            str(model), load_tiny(Path(str(files("unfade.backbones"))) / CATALOG[str(model)].weights)
        )
    path = Path(model)
    if path.suffix or path.exists():
        return PixelRestorer(path.name, load_tiny(path))
    raise ModelError(
        f"unknown model {str(model)!r}; there is {', '.join(CATALOG)}, or name a .safetensors file"
    )
