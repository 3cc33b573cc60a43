"""What Vivid-VR is told of each tile of each window: captions of the degraded footage, embedded once."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from unfade.backbones.captioner import LanguageCaptioner
from unfade.backbones.prompt_embeddings import Embed
from unfade.backbones.video_captioner import CogVLMCaptioner, KeptDescriptions
from unfade.conditioning.control_denoiser import ControlCondition
from unfade.prompts.footage import FootageCaptioner, FootageRules, caption_times
from unfade.prompts.vividvr import (
    NEGATIVE_PROMPT,
    SUFFIX,
    TOKENS,
    CaptionPlace,
    caption_places,
    place_prompts,
)
from unfade.restore.shot_walk import FrameOf, ShotWalk, Tell


class VividTexts:
    """Prompts of a run: the user's own everywhere, or a caption for each place.

    Args:
        embed: makes embeddings `[1, L, D]`.
        count: how many tokens the encoder makes of a text.
        limit: tokens it reads.
        captioner: says what is in the footage where the user doesn't.
        own: the user's prompt.
        guided: whether the negative prompt is needed too.
    """

    def __init__(
        self,
        embed: Embed,
        count: Callable[[str], int],
        limit: int = TOKENS,
        captioner: FootageCaptioner | None = None,
        own: str | None = None,
        guided: bool = True,
    ) -> None:
        self._embed = embed
        self._count = count
        self._limit = limit
        self.captioner = captioner or FootageRules()
        self.own = " ".join(own.split()) if own else None
        self._guided = guided

    def see(self, walk: ShotWalk, index: int, frame_of: FrameOf, fps: float) -> None:
        """Decides the prompts of a window while its frames are at hand, and keeps them with the walk's work.

        Args:
            walk: of the shot.
            index: of the window.
            frame_of: gives frames of the shot in the size of the result.
            fps: of the footage.
        """
        name = _name(walk, index)
        if walk.chunks.has(name):
            return
        config, window = walk.model.config, walk.timeline.windows[index]
        rows, columns = _tiles(walk)
        first = window.start // config.temporal_stride
        latents = (window.frames - 1) // config.temporal_stride + 1
        places = caption_places(
            rows,
            columns,
            [(first, first + latents)],
            size=(walk.fit.height, walk.fit.width),
            num_frames=walk.timeline.windows[-1].stop,
            stride=config.stride,
            temporal_stride=config.temporal_stride,
        )
        shown = caption_times(window.stop - window.start, fps)
        frames = torch.stack([frame_of(window.start + number) for number in shown]) if not self.own else None

        def describe(place: CaptionPlace) -> str:
            assert frames is not None
            part = frames[:, :, place.top : place.bottom, place.left : place.right]
            return self.captioner.describe(part, [number / fps for number in shown])

        suffix = SUFFIX if walk.settings.suffix else ""
        prompts = place_prompts(places, describe, self._count, self._limit, own=self.own, suffix=suffix)
        told = {
            f"{row[0]} {column[0]}": _as_bytes(prompts[place.key])
            for place, (row, column) in zip(places, ((r, c) for r in rows for c in columns), strict=True)
        }
        walk.chunks.put(name, told)

    def prompts(self, walk: ShotWalk, index: int) -> dict[tuple[int, int], str]:
        """The prompts of a window by the (top, left) of their tiles in latents."""
        kept = walk.chunks.get(_name(walk, index))
        if kept is None:
            raise ValueError(f"window {index} of {walk.name} was not seen yet")
        return {_corner(key): _as_text(value) for key, value in kept.items()}

    def told(self, walk: ShotWalk, device: torch.device) -> Tell:
        """What the walk asks for in every step; all is embedded now, but only what a window needs is held."""
        windows = range(len(walk.timeline.windows))
        wanted = {NEGATIVE_PROMPT: None}
        for index in windows:
            wanted.update(dict.fromkeys(self.prompts(walk, index).values()))
        if (prepare := getattr(self._embed, "prepare", None)) is not None:
            prepare(wanted, device)

        @lru_cache(2)
        def embedded(text: str) -> Tensor:
            return self._embed([text], torch.device("cpu"))[0]

        @lru_cache(2)
        def places_of(index: int) -> dict[tuple[int, int], Tensor]:
            texts = self.prompts(walk, index)
            each = list(dict.fromkeys(texts.values()))
            kept = dict(zip(each, self._embed(each, torch.device("cpu")), strict=True))
            return {corner: kept[text] for corner, text in texts.items()}

        def tell(index: int, low: Tensor) -> tuple[ControlCondition, ControlCondition | None]:
            places = places_of(index)
            positive = ControlCondition(low, next(iter(places.values())), places)
            return positive, ControlCondition(low, embedded(NEGATIVE_PROMPT)) if self._guided else None

        return tell


def move_captioner(captioner: FootageCaptioner, device: torch.device) -> None:
    """Has a captioner that is a model work on a device, in the precision it takes there; others stay as they are."""
    model = captioner.captioner if isinstance(captioner, KeptDescriptions) else captioner
    if isinstance(model, (LanguageCaptioner, CogVLMCaptioner)) and model.device.type != device.type:
        model.unload()
        model.device = device
        model.dtype = torch.float32 if device.type == "cpu" else torch.bfloat16


def _tiles(walk: ShotWalk) -> list[list[tuple[int, int]]]:
    """(start, stop) of rows and columns in latents, as the model sees them."""
    found = walk.settings.tiles(walk.model.config, walk.fit)
    return [[(tile.outer_start, tile.outer_stop) for tile in tiles] for tiles in found]


def _name(walk: ShotWalk, index: int) -> str:
    return f"{walk.name}/texts-{index:05d}"


def _corner(key: str) -> tuple[int, int]:
    top, left = key.split()
    return int(top), int(left)


def _as_bytes(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def _as_text(data: Tensor) -> str:
    return bytes(data.tolist()).decode()
