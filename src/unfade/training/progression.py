"""Progressive's training sequences, each with a prompt: streamed from clean photos, or read from a built set."""

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from unfade.core import InputError
from unfade.core import generator as dice_of
from unfade.degrade import Strength
from unfade.degrade.composition import PROGRESSIONS, Kinds
from unfade.degrade.framing import Size, framed, name_of, sides_of, turned
from unfade.degrade.progression import PHYSICS, STRENGTHS, Progression
from unfade.media.images import read_image
from unfade.media.png import picture_of
from unfade.media.remote import joined, read_bytes
from unfade.prompts.progressive import TASKS, Task, uniform_prompt
from unfade.prompts.scene import Captioner, ChosenPrompt, scene_prompt
from unfade.training.sequences import Sequences

KIND = "unfade progression 1"
MANIFEST = "manifest.json"
SHARDS = "shards"


class Prompted(Sequences, Protocol):
    """Training sequences with a prompt for each."""

    def prompt(self, index: int) -> str:
        """What the model is told when it is shown this sequence."""
        ...


class PhotoSource(Protocol):
    """Clean photos by number; `training.photos.Photos` holds them in memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor:
        """uint8 `[3, H, W]`."""
        ...


@dataclass(frozen=True, slots=True)
class PhotoFiles:
    """Photos read from their files each time, so that any number of them takes no memory.

    Attributes:
        paths: of the files.
    """

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """uint8 `[3, H, W]`, sRGB.

        Raises:
            InputError: the file can't be read.
        """
        return read_image(self.paths[index]).frames[0].mul(255).round().byte()

    def identity(self, index: int) -> str:
        """What tells a photo from any other: its file's path, size and time.

        Raises:
            InputError: the file is gone.
        """
        path = self.paths[index]
        try:
            found = path.stat()
        except OSError as error:
            raise InputError(
                f"{path} can't be found any more; bring it back and go on by the same command"
            ) from error
        return f"{path.resolve()} {found.st_size} {found.st_mtime_ns}"


@dataclass(frozen=True, slots=True)
class ProgressionSequences:
    """Progressions streamed from clean photos: each photo once with each task and strength.

    Attributes:
        photos: clean ones.
        tasks: which progressions.
        strengths: of the draws.
        centred: whether the crop is the photo's middle, as in a built set; else it lies anywhere.
        prompts: scene-adaptive ones, by name; a sequence without one has its task's uniform prompt.
        kinds: what each task's degradations are; names of their own tell those apart that draw from other ranges.
    """

    photos: PhotoSource
    tasks: tuple[Task, ...] = TASKS
    strengths: tuple[Strength, ...] = STRENGTHS
    centred: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])
    kinds: Mapping[str, Kinds] = field(default_factory=lambda: PROGRESSIONS)
    _names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.tasks or not self.strengths:
            raise ValueError("sequences need at least one task and one strength")
        names = tuple(
            f"{task}/photo-{index:05d}-{strength}"
            for index in range(len(self.photos))
            for task in self.tasks
            for strength in self.strengths
        )
        object.__setattr__(self, "_names", names)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __len__(self) -> int:
        return len(self._names)

    def task(self, index: int) -> Task:
        """Of a sequence."""
        return self.tasks[index // len(self.strengths) % len(self.tasks)]

    def strength(self, index: int) -> Strength:
        """Of a sequence's draw."""
        return self.strengths[index % len(self.strengths)]

    def prompt(self, index: int) -> str:
        """The scene-adaptive prompt where there is one, else the uniform one."""
        return self.prompts.get(self._names[index]) or uniform_prompt(self.task(index))

    def photo(self, index: int) -> Tensor:
        """The clean photo of a sequence, uint8 `[3, H, W]`."""
        return self.photos[index // (len(self.tasks) * len(self.strengths))]

    def identity(self, index: int) -> str:
        names = "+".join(kind.name for kind in self.kinds[self.task(index)])
        told = f"{self.task(index)} {self.strength(index)} {self.centred} {names} {PHYSICS}"
        if isinstance(self.photos, PhotoFiles):
            return f"{self.photos.identity(index // (len(self.tasks) * len(self.strengths)))} {told}"
        photo = self.photo(index).contiguous()
        digest = hashlib.sha256(f"{tuple(photo.shape)}".encode() + photo.numpy().tobytes())
        return f"{digest.hexdigest()} {told}"

    def enlarged(self, index: int, size: int | Size) -> bool:
        height, width = sides_of(size)
        across = turned(self.photo(index)[None], (height, width)).shape
        return across[2] < height or across[3] < width

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """`[T, 3, H, W]` in [0, 1]: degraded first, the truth itself last.

        Args:
            index: of the sequence.
            size: (height, width), or the side of a square.
            frames: how many.
            generator: of the crop, where it isn't centred, and then of the draw.
        """
        sides = sides_of(size)
        photo = turned(self.photo(index)[None], sides).float() / 255
        place = (0.5, 0.5)
        if not self.centred:
            down, across = torch.rand(2, generator=generator).tolist()
            place = (down, across)
        truth = framed(photo, sides, place).mul(255).round().div(255)
        progression = Progression.draw(
            self.task(index), truth, self.strength(index), generator, kinds=self.kinds
        )
        return torch.cat(list(progression.frames(frames)))


def scene_prompts(
    sequences: ProgressionSequences, size: int | Size, captioner: Captioner, seed: int = 0
) -> dict[str, ChosenPrompt]:
    """A scene-adaptive prompt for each sequence, from the degraded frame of its first draw in training.

    Args:
        sequences: whose names the prompts go by; give the texts to `ProgressionSequences.prompts`.
        size: of the frames to look at.
        captioner: what looks at them.
        seed: of the draws.
    """
    chosen: dict[str, ChosenPrompt] = {}
    for index, name in enumerate(sequences.names):
        # The dice of the first latents that are kept of it.
        first = sequences.draw(index, size, 2, dice_of(seed, "crop", name, name_of(size), 0))[0]
        chosen[name] = scene_prompt(first, sequences.task(index), captioner)
    return chosen


@dataclass(frozen=True, slots=True)
class Some:
    """Some of many sequences.

    Attributes:
        sequences: all of them.
        chosen: the numbers of those that are meant.
    """

    sequences: Prompted
    chosen: Sequence[int]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.sequences.names[index] for index in self.chosen)

    def __len__(self) -> int:
        return len(self.chosen)

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        return self.sequences.draw(self.chosen[index], size, frames, generator)

    def prompt(self, index: int) -> str:
        return self.sequences.prompt(self.chosen[index])

    def identity(self, index: int) -> str:
        return self.sequences.identity(self.chosen[index])

    def enlarged(self, index: int, size: int | Size) -> bool:
        return self.sequences.enlarged(self.chosen[index], size)


class ProgressionSet:
    """Sequences of a set that `unfade degrade --as progression` built, read clip by clip.

    Args:
        address: the set's folder, on this machine or anywhere that fsspec reaches ("s3://bucket/set").
        prompts: "uniform" or "scene".
        tasks: which progressions; all by default.
        shards: only the first so many of each task.

    Attributes:
        size: (height, width) of the frames.
        num_frames: of a clip.
        rows: what the set says of each clip.

    Raises:
        InputError: there is no set, or it is damaged.
    """

    def __init__(
        self,
        address: str | Path,
        prompts: str = "uniform",
        tasks: Sequence[str] = TASKS,
        shards: int | None = None,
    ) -> None:
        if prompts not in ("uniform", "scene"):
            raise ValueError(f"prompts must be uniform or scene, not {prompts!r}")
        self.address = address
        self._prompts = prompts
        manifest = _content(joined(address, MANIFEST))
        if manifest.get("kind") != KIND:
            raise InputError(
                f"{joined(address, MANIFEST)} is not that of a progression set; make one with unfade degrade DIR "
                "--as progression -o OUT"
            )
        self.size: Size = (manifest["size"][0], manifest["size"][1])
        self.num_frames: int = manifest["frames"]
        self.rows: list[dict[str, Any]] = []
        read = Counter[str]()
        for shard in manifest["shards"]:
            if shard["task"] in tasks and (shards is None or read[shard["task"]] < shards):
                read[shard["task"]] += 1
                rows = _content(joined(address, shard["index"]))["clips"]
                self.rows += [{**row, "file": shard["file"], "sha256": shard["sha256"]} for row in rows]
        self._names = tuple(f"{row['task']}/{row['key']}" for row in self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __len__(self) -> int:
        return len(self.rows)

    def prompt(self, index: int) -> str:
        """As the set has it, of the kind asked for."""
        return self.rows[index]["prompts"][self._prompts]

    def identity(self, index: int) -> str:
        return f"{self.rows[index]['sha256']} {self.rows[index]['key']}"

    def enlarged(self, index: int, size: int | Size) -> bool:
        """Never for sizes up to the set's own."""
        height, width = sides_of(size)
        return height > self.size[0] or width > self.size[1]

    def stored(self, index: int) -> Tensor:
        """A clip as it was stored, `[T, 3, H, W]` in [0, 1].

        Raises:
            InputError: it can't be read or is damaged.
        """
        row = self.rows[index]
        address = joined(self.address, row["file"])
        data = read_bytes(address, row["offset"], row["bytes"])
        name = f"{row['key']} in {address}"
        frames: list[Tensor] = []
        try:
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                for member in tar:
                    if member.name.endswith(".png") and (file := tar.extractfile(member)):
                        frames.append(picture_of(file.read(), name))
        except tarfile.TarError as error:
            raise InputError(f"{name} is damaged; build the set again") from error
        if len(frames) != self.num_frames:
            raise InputError(f"{name} has {len(frames)} frames, not {self.num_frames}; build the set again")
        return torch.stack(frames)

    def draw(self, index: int, size: int | Size, frames: int, generator: torch.Generator) -> Tensor:
        """A clip, or at a smaller size than the set's a crop of it that lies anywhere.

        Raises:
            InputError: the size is larger than the set's, the number of frames is another, or it can't be read.
        """
        height, width = sides_of(size)
        if frames != self.num_frames or self.enlarged(index, size):
            raise InputError(
                f"{self.address} holds {self.num_frames} frames of {self.size[1]} x {self.size[0]}, not {frames} of "
                f"{width} x {height}; build a set of that size, or train from the photos themselves"
            )
        clip = self.stored(index)
        down, across = torch.rand(2, generator=generator).tolist()
        top = round((clip.shape[2] - height) * down)
        left = round((clip.shape[3] - width) * across)
        return clip[:, :, top : top + height, left : left + width]


def _content(address: str) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(address))
    except ValueError as error:
        raise InputError(f"{address} is damaged; build the set again") from error
    if not isinstance(content, dict):
        raise InputError(f"{address} is damaged; build the set again")
    return content
