"""unfade restores photos and footage as a short film of getting better.

    import unfade
    restoration = unfade.load("tiny").restore("old.jpg", prompt="remove the noise", frames=9)
    unfade.write_image(restoration.result, "new.jpg")
    film = list(restoration.film())  # nine clips, from as degraded to restored

Everything is imported on first use, so that `import unfade` and `unfade --help` stay fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unfade.version import __version__

if TYPE_CHECKING:
    from unfade.core import Clip, Plan, Restoration, Trajectory
    from unfade.media.images import read_image, write_image
    from unfade.recipes.evaluate import evaluate
    from unfade.restore.load import load

_HOMES = {
    "Clip": "unfade.core",
    "Plan": "unfade.core",
    "Restoration": "unfade.core",
    "Trajectory": "unfade.core",
    "evaluate": "unfade.recipes.evaluate",
    "load": "unfade.restore.load",
    "read_image": "unfade.media.images",
    "write_image": "unfade.media.images",
}

__all__ = [
    "Clip",
    "Plan",
    "Restoration",
    "Trajectory",
    "__version__",
    "evaluate",
    "load",
    "read_image",
    "write_image",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'unfade' has no attribute {name!r}")
