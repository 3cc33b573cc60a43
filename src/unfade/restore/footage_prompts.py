"""What Vivid-VR would be told of a piece of footage, and why; how many captions it takes."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from unfade.backbones.cogvideox_config import T2V_1_5_5B
from unfade.core import InputError
from unfade.media.images import read_image
from unfade.media.source import read_head, sniff_image
from unfade.media.video import frame_times, probe_video, read_video
from unfade.prompts.footage import FootageCaptioner, MeasuredFootage, caption_times, measure_footage
from unfade.prompts.scene import own_prompt
from unfade.prompts.vividvr import NEGATIVE_PROMPT, SUFFIX
from unfade.restore.vividvr import VividSettings

PUBLISHED = VividSettings()


@dataclass(frozen=True, slots=True)
class CaptionGrid:
    """How many captions a piece of footage takes: one for each tile of each clip.

    Attributes:
        height, width: of the enlarged footage in pixels.
        num_frames: of the footage.
        rows, columns: of tiles.
        clips: of 121 frames, half of them shared with the next.
    """

    height: int
    width: int
    num_frames: int
    rows: int
    columns: int
    clips: int

    @property
    def captions(self) -> int:
        return self.rows * self.columns * self.clips


@dataclass(frozen=True, slots=True)
class FootagePrompt:
    """What Vivid-VR would be told.

    Attributes:
        caption: of whole frames of the first clip, or the user's own prompt.
        suffix: what follows every caption.
        negative: what guidance goes away from.
        source: "user", or the captioner's name.
        why: one clause.
        query: what the captioner was asked; empty if nothing.
        looks: which frames it was shown.
        measured: what their pixels say.
        grid: how many captions there would be.
    """

    caption: str
    suffix: str
    negative: str
    source: str
    why: str
    query: str
    looks: tuple[int, ...]
    measured: MeasuredFootage
    grid: CaptionGrid

    @property
    def text(self) -> str:
        """The whole prompt, as long as the text encoder has room for it."""
        return f"{self.caption} {self.suffix}"


def caption_grid(height: int, width: int, num_frames: int) -> CaptionGrid:
    """The captions of footage enlarged to a shorter side of 1024 pixels.

    Args:
        height, width: of the footage as it is.
        num_frames: of the footage.

    Source: Vivid-VR (arXiv 2508.14483), released code.
    """
    tall, wide = PUBLISHED.target(height, width)
    rows, columns = PUBLISHED.tiles(T2V_1_5_5B, PUBLISHED.fit(T2V_1_5_5B, tall, wide))
    clips = PUBLISHED.timeline(T2V_1_5_5B, num_frames).windows
    return CaptionGrid(tall, wide, num_frames, len(rows), len(columns), len(clips))


def footage_prompt(
    path: Path, captioner: FootageCaptioner, own: str | None = None, max_megapixels: float = 200.0
) -> FootagePrompt:
    """What Vivid-VR would be told of footage, or of a photo, which is footage of one frame.

    Args:
        path: of the file; only its first clip is read.
        captioner: is shown whole frames of the first clip, in their own size.
        own: the user's prompt, which always wins; the captioner is not asked then.
        max_megapixels: larger frames are refused.

    Raises:
        InputError: the file is missing, damaged or too large.
        ModelError: the captioner can't be loaded.
    """
    frames, looks, fps, num_frames = _first_clip(path, max_megapixels)
    times = [look / fps for look in looks]
    chosen = own_prompt(own)
    if chosen is not None:
        caption, source, why, query = chosen.text, "user", chosen.why, ""
    else:
        caption, source, query = captioner.describe(frames, times), captioner.name, captioner.query
        seen = (
            f"{len(looks)} of the first {min(num_frames, PUBLISHED.window)} frames"
            if num_frames > 1
            else "the one frame"
        )
        why = f"it looked at {seen}" if query else f"it measured {seen}, which needs no model"
    return FootagePrompt(
        caption,
        SUFFIX,
        NEGATIVE_PROMPT,
        source,
        why,
        query,
        looks,
        measure_footage(frames, times),
        caption_grid(frames.shape[2], frames.shape[3], num_frames),
    )


def _first_clip(path: Path, max_megapixels: float) -> tuple[Tensor, tuple[int, ...], float, int]:
    """The frames `[T, 3, H, W]` to be shown, which they are, frames a second, and how many frames there are."""
    if sniff_image(read_head(path)) not in (None, "gif"):
        return read_image(path, max_megapixels=max_megapixels).frames, (0,), 1.0, 1
    info = probe_video(path)
    megapixels = info.width * info.height / 1e6
    if megapixels > max_megapixels:
        raise InputError(
            f"{path} is too large: a frame of {info.width} x {info.height} is {megapixels:.2g} megapixels, the limit "
            f"is {max_megapixels:g}"
        )
    fps, num_frames = float(info.fps), frame_times(path).count
    wanted = caption_times(min(num_frames, PUBLISHED.window), fps)
    frames: list[Tensor] = []
    for frame in read_video(path):
        if frame.index in wanted:
            frames.append(frame.image)
        if frame.index >= wanted[-1]:
            break
    if not frames:
        raise InputError(f"{path} holds no frame")
    return torch.stack(frames), wanted[: len(frames)], fps, num_frames
