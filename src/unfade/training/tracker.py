"""Where the figures of a run go besides its log: tensorboard, trackio or wandb."""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from unfade.core import Clip, UnfadeError, UsageError

Kind = Literal["none", "tensorboard", "trackio", "wandb"]


class Tracker(Protocol):
    """What a trainer tells of itself."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Figures by name."""
        ...

    def picture(self, name: str, picture: Clip, step: int) -> None:
        """One frame to look at."""
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


def check_tracker(kind: str) -> None:
    """Whether a tracker could be opened, without opening it.

    Raises:
        UsageError: the tracker is unknown or not installed.
    """
    if kind not in get_args(Kind):
        raise UsageError(f"unknown tracker {kind!r}; there is {', '.join(get_args(Kind))}")
    if kind == "none":
        return
    found = find_spec(kind)
    # A folder of that name, such as the one wandb keeps its runs in, is found as well, but has no code of its own.
    if found is None or found.origin is None:
        raise UsageError(
            f"{kind} is not installed; pip install {kind}, or leave --tracker out (log.jsonl has it all)"
        )


def open_tracker(kind: str, folder: Path, config: Mapping[str, Any]) -> Tracker | None:
    """A tracker for a run, or None for "none".

    Args:
        kind: which one; it is imported here and nowhere else.
        folder: of the run; its name becomes the run's name.
        config: all settings of the run.

    Raises:
        UsageError: the tracker is unknown or not installed.
        UnfadeError: it is installed but can't begin, as without an account or a connection.
    """
    check_tracker(kind)
    if kind == "none":
        return None
    try:
        return _TensorBoard(folder, config) if kind == "tensorboard" else _Hosted(kind, folder, config)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnfadeError(
            f"{kind} could not be started: {reason}; set it up, or leave --tracker out (log.jsonl has it all)"
        ) from error


class _TensorBoard:
    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("run", f"```\n{json.dumps(dict(config), indent=1)}\n```")

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, figure in figures.items():
            self._writer.add_scalar(name, figure, step)

    def picture(self, name: str, picture: Clip, step: int) -> None:
        self._writer.add_image(name, picture.frames[0], step)

    def close(self) -> None:
        self._writer.close()


class _Hosted:
    """trackio and wandb, which share one interface."""

    def __init__(self, kind: str, folder: Path, config: Mapping[str, Any]) -> None:
        from importlib import import_module

        self._module = import_module(kind)
        # wandb would write into the folder it is started in.
        place = {"dir": str(folder)} if kind == "wandb" else {}
        folder.mkdir(parents=True, exist_ok=True)
        self._module.init(project="unfade", name=folder.resolve().name, config=dict(config), **place)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self._module.log(dict(figures), step=step)

    def picture(self, name: str, picture: Clip, step: int) -> None:
        pixels = picture.frames[0].permute(1, 2, 0).mul(255).round().byte().cpu().numpy()
        self._module.log({name: self._module.Image(pixels)}, step=step)

    def close(self) -> None:
        self._module.finish()
