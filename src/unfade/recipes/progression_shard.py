"""One shard of a progression set: the clips of a few photos for one task, as a tar that webdataset reads."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unfade.core import OutputError, UnfadeError
from unfade.core.seeds import subseed
from unfade.degrade import Strength
from unfade.degrade.framing import Size, check_fits, framed, is_turned, turned
from unfade.degrade.progression import FRAMES, PHYSICS, SIZE, STRENGTHS, Progression, dice_of
from unfade.media.atomic import atomic_output
from unfade.media.hidden import filled
from unfade.media.images import probe_image, read_image
from unfade.media.png import png_bytes
from unfade.prompts.measured import MeasuredCaptioner
from unfade.prompts.progressive import TASKS, Task
from unfade.prompts.scene import Captioner, ChosenPrompt, plain_prompt, scene_prompt


@dataclass(frozen=True, slots=True)
class SetSettings:
    """What a set is made of, besides its photos.

    Attributes:
        tasks: which progressions.
        size: (height, width) of every frame.
        frames: of a clip.
        seed: of all draws.
        captioner: identity of what writes the scene-adaptive prompts.
        photos_per_shard: how many photos share a file.
        max_megapixels: the largest photo that is read.
    """

    tasks: tuple[Task, ...] = TASKS
    size: Size = SIZE
    frames: int = FRAMES
    seed: int = 0
    captioner: str = MeasuredCaptioner.identity
    photos_per_shard: int = 16
    max_megapixels: float = 200.0


@dataclass(frozen=True, slots=True)
class Photo:
    """A clean photo: its file, and its name inside the folder it came from, which seeds its draws."""

    path: Path
    name: str

    def key(self, strength: str) -> str:
        """The name of a clip in its tar; webdataset takes what follows the first dot for the kind of content."""
        return f"{self.name.replace('.', '_')}-{strength}"


@dataclass(frozen=True, slots=True)
class Shard:
    """What one file is to hold.

    Attributes:
        task: of all its clips.
        index: counted from 0 for each task.
        photos: whose clips.
    """

    task: Task
    index: int
    photos: tuple[Photo, ...]

    @property
    def name(self) -> str:
        return f"{self.task}-{self.index:05d}"


Prompts = Mapping[tuple[str, str], ChosenPrompt]


def request_of(shard: Shard, settings: SetSettings) -> str:
    """The hash of everything a shard's content depends on, files' sizes standing for their content."""
    photos = [[photo.name, photo.path.stat().st_size] for photo in shard.photos]
    parts = [shard.name, asdict(settings), photos, PHYSICS]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_truth(photo: Photo, settings: SetSettings) -> Tensor:
    """The photo in the set's frame, `[1, 3, H, W]`, in sRGB at 8 bits.

    Raises:
        InputError: it can't be read or is smaller than the frame.
    """
    check_photo(photo, settings)
    clip = read_image(photo.path, max_megapixels=settings.max_megapixels)
    frames = clip.frames if clip.alpha is None else filled(clip.frames, clip.alpha)
    return framed(turned(frames, settings.size), settings.size).mul(255).round().div(255)


def check_photo(photo: Photo, settings: SetSettings) -> None:
    """What the header already tells to be wrong.

    Raises:
        InputError: the file is no photo, or smaller than the frame.
    """
    info = probe_image(photo.path, settings.max_megapixels)
    height, width = info.height, info.width
    if is_turned(height, width, settings.size):
        height, width = width, height
    check_fits(height, width, settings.size, photo.path)


def drawn(photo: Photo, truth: Tensor, task: Task, strength: Strength, settings: SetSettings) -> Progression:
    """The one draw of a clip."""
    return Progression.draw(task, truth, strength, dice_of(settings.seed, photo.name, task, strength))


def captions_truth(photo: Photo, task: str, strength: str, settings: SetSettings) -> bool:
    """Whether a model captions the clean frame of this training clip rather than the degraded one: half of them,
    so that the model meets both, while only degraded ones are captioned when restoring."""
    return subseed(settings.seed, "caption", photo.name, task, strength) % 2 == 0


def prompts_of(shard: Shard, settings: SetSettings, captioner: Captioner) -> Prompts:
    """Scene-adaptive prompts by a model, by photo and strength; photos that can't be read are left out."""
    chosen: dict[tuple[str, str], ChosenPrompt] = {}
    for photo in shard.photos:
        try:
            truth = read_truth(photo, settings)
        except UnfadeError:
            continue
        for strength in STRENGTHS:
            picture = truth
            if not captions_truth(photo, shard.task, strength, settings):
                picture = next(drawn(photo, truth, shard.task, strength, settings).frames(settings.frames))
            chosen[photo.name, strength] = scene_prompt(picture[0], shard.task, captioner)
    return chosen


def build_shard(
    shard: Shard, settings: SetSettings, folder: Path, prompts: Prompts | None = None
) -> dict[str, Any]:
    """Writes a shard's tar and its index, and gives the index; one frame is held at a time.

    Args:
        shard: what to make.
        settings: of the set.
        folder: where to.
        prompts: by a model; without them the rule-based captioner looks at each clip's first frame.

    Returns:
        `{"request", "file", "bytes", "sha256", "clips": [...], "failed": [...]}`.

    Raises:
        OutputError: the shard can't be written.
    """
    clips: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    path = folder / f"{shard.name}.tar"
    with atomic_output(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            for photo in shard.photos:
                try:
                    truth = read_truth(photo, settings)
                except OutputError:
                    raise
                except UnfadeError as error:
                    failed.append({"photo": photo.name, "error": str(error)})
                    continue
                clips += [
                    _add_clip(tar, shard, photo, truth, strength, settings, prompts) for strength in STRENGTHS
                ]
        with temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = temporary.stat().st_size
    index = {
        "request": request_of(shard, settings), "file": path.name, "bytes": size, "sha256": sha256,
        "clips": clips, "failed": failed,
    }  # fmt: skip
    with atomic_output(folder / f"{shard.name}.json") as temporary:
        temporary.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return index


def built(shard: Shard, settings: SetSettings, folder: Path) -> dict[str, Any] | None:
    """The index of a shard that was finished earlier, or None.

    Raises:
        OutputError: what lies there was made from other photos or with other settings.
    """
    path = folder / f"{shard.name}.json"
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        whole = (folder / index["file"]).stat().st_size == index["bytes"]
        request = index["request"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if request != request_of(shard, settings):
        raise OutputError(
            f"{path} belongs to a set of other photos or settings; add --overwrite or choose another folder"
        )
    return index if whole else None


def _add_clip(
    tar: tarfile.TarFile,
    shard: Shard,
    photo: Photo,
    truth: Tensor,
    strength: Strength,
    settings: SetSettings,
    prompts: Prompts | None,
) -> dict[str, Any]:
    progression = drawn(photo, truth, shard.task, strength, settings)
    start, key = tar.offset, photo.key(strength)
    first: Tensor | None = None
    for number, frame in enumerate(progression.frames(settings.frames)):
        first = frame if first is None else first
        _add(tar, f"{key}.{number:04d}.png", png_bytes(frame[0]))
    assert first is not None, "a clip has at least two frames"
    if prompts is None:
        seen, chosen = "degraded", scene_prompt(first[0], shard.task, MeasuredCaptioner())
    else:
        seen = "clean" if captions_truth(photo, shard.task, strength, settings) else "degraded"
        chosen = prompts[photo.name, strength]
    row = {
        "key": key,
        "photo": photo.name,
        "task": shard.task,
        "strength": strength,
        "degradations": progression.parameters(),
        "prompts": {"uniform": plain_prompt(shard.task).text, "scene": chosen.text},
        "scene": {"source": chosen.source, "why": chosen.why, "seen": seen},
    }
    _add(tar, f"{key}.json", json.dumps(row).encode())
    return {**row, "offset": start, "bytes": tar.offset - start}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """With no time, owner or place, so that the same clip has the same bytes everywhere."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
