"""Captions kept on disk, so that a picture is looked at once."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from unfade.media.atomic import atomic_output
from unfade.prompts.progressive import Task
from unfade.prompts.scene import Captioner


def default_captions() -> Path:
    """Where captions are kept that belong to no set: `unfade/captions` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unfade" / "captions"


def remembered(path: Path, make: Callable[[], str], notes: Mapping[str, Any]) -> tuple[str, bool]:
    """The caption that a file keeps, or else a new one, which it keeps from then on; and whether it is new.

    Args:
        path: of the file; a damaged one is made again.
        make: gives the caption.
        notes: what is written beside it, for people.

    Raises:
        OutputError: the caption can't be kept.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_text(encoding="utf-8"))["caption"]
        if isinstance(kept, str):
            return kept, False
    caption = make()
    row = {"caption": caption, **notes}
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(row, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return caption, True


class KeptCaptions:
    """A captioner that remembers what it said, one small JSON file a picture and task.

    A file's name is the hash of the pixels, the task and the captioner's identity, so that neither a changed
    picture nor another model ever gets an old caption. A damaged file is made again.

    Attributes:
        captioner: that looks at what isn't known.
        folder: of the files.
        made: how many captions were made so far.
        before: called before the captioner is asked, e.g. to make room for its model; None for nothing.
    """

    def __init__(self, captioner: Captioner, folder: Path) -> None:
        self.captioner = captioner
        self.folder = folder
        self.made = 0
        self.before: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        return self.captioner.name

    @property
    def identity(self) -> str:
        return self.captioner.identity

    @property
    def instructed(self) -> bool:
        return self.captioner.instructed

    def __call__(self, picture: Tensor, task: Task) -> str:
        """As `Captioner.__call__`.

        Raises:
            OutputError: the caption can't be kept.
        """
        caption, new = remembered(
            self.path(picture, task),
            lambda: self._look(picture, task),
            {"captioner": self.name, "task": task},
        )
        self.made += new
        return caption

    def _look(self, picture: Tensor, task: Task) -> str:
        if self.before is not None:
            self.before()
        return self.captioner(picture, task)

    def unload(self) -> None:
        """Lets go of the model behind it, if there is one; it comes back when it is asked again."""
        if (unload := getattr(self.captioner, "unload", None)) is not None:
            unload()

    def path(self, picture: Tensor, task: Task) -> Path:
        """The file of one caption; pictures are told apart as 8 bits show them."""
        pixels = picture.detach().cpu().mul(255).round().clamp(0, 255).byte().contiguous()
        digest = hashlib.sha256(json.dumps([list(pixels.shape), task, self.identity]).encode())
        digest.update(pixels.numpy().tobytes())
        return self.folder / f"{digest.hexdigest()}.json"
