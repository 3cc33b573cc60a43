"""Vivid-VR's words: what follows every caption, what it goes away from, and what each caption is made of."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Verbatim from the released code.
SUFFIX = (
    "Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper detailed photo - realistic "
    "maximum detail, 32k, Color Grading, ultra HD, extreme meticulous detailing, skin pore detailing, hyper "
    "sharpness, perfect without deformations."
)
NEGATIVE_PROMPT = (
    "painting, oil painting, illustration, drawing, art, sketch, oil painting, cartoon, CG Style, 3D render, unreal "
    "engine, blurring, dirty, messy, worst quality, low quality, frames, watermark, signature, jpeg artifacts, "
    "deformed, lowres, over-smooth"
)
# What the published captioner is asked.
QUERY = "Please describe this video in detail."
# What a captioner is asked that follows instructions. It sees the degraded footage, whose faults must not be told.
INSTRUCTION = (
    "Describe in plain English, in at most 90 words, what this video shows: subjects, setting, materials, colours and "
    "light, and how the subjects and the camera move. Say only what can be seen. Describe it as if it were sharp and "
    "clean: say nothing of blur, noise, compression or other faults. Answer with the description alone."
)
# Tokens that CogVideoX's text encoder reads of a prompt, its end mark included.
TOKENS = 226

Window = tuple[int, int]

# Ends of sentences, but for those of the few abbreviations that captioners use.
_SENTENCE = re.compile(
    r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\bvs)(?<!\be\.g)(?<!\bi\.e)[.!?…][\"'”’)\]]*(?=\s|$)|[。！？]"
)


@dataclass(frozen=True, slots=True)
class CaptionPlace:
    """What one caption is made of: the pixels of one tile in the frames of one clip.

    Attributes:
        clip, row, column: which clip and which tile, from 0.
        top, bottom, left, right: of the tile in pixels of the enlarged footage, `bottom` and `right` excluded.
        first, stop: of the frames, `stop` excluded.
    """

    clip: int
    row: int
    column: int
    top: int
    bottom: int
    left: int
    right: int
    first: int
    stop: int

    @property
    def key(self) -> str:
        """Names the place by its pixels and frames, however many other places there are."""
        return f"t{self.first}-{self.stop}.y{self.top}-{self.bottom}.x{self.left}-{self.right}"


def vividvr_prompt(
    caption: str,
    count: Callable[[str], int],
    limit: int = TOKENS,
    *,
    suffix: str = SUFFIX,
    published: bool = False,
) -> str:
    """A caption, a space and the suffix, the caption shortened until the text encoder reads all of it.

    As many whole sentences are kept as fit, or, where not one does, as many words. An encoder that has no room even for
    the suffix is given what was published.

    Args:
        caption: what is to be seen; may be empty.
        count: how many tokens the text encoder makes of a text, its end mark included.
        limit: tokens it reads; what comes later is cut off.
        suffix: what follows; "" for nothing.
        published: whether to join the two as they are, as the released code does; a long caption then pushes the
            suffix out of what is read.

    Source: Vivid-VR (arXiv 2508.14483), released code.
    """
    if published:
        return f"{caption} {suffix}"
    caption = " ".join(caption.split())
    for kept in _shortened(caption):
        prompt = f"{kept} {suffix}".strip()
        if count(prompt) <= limit:
            return prompt
    return f"{caption} {suffix}".strip()


def caption_places(
    rows: Sequence[Window],
    columns: Sequence[Window],
    clips: Sequence[Window],
    *,
    size: tuple[int, int],
    num_frames: int,
    stride: int = 8,
    temporal_stride: int = 4,
) -> tuple[CaptionPlace, ...]:
    """One place for each tile of each clip, clip after clip and in each row after row.

    The tiles are those of the latents, so captions and tiles can't disagree about how many there are. A clip of latents
    a to b is that of frames 4a to 4(b - 1): its first latent is that of one frame alone.

    Args:
        rows, columns: (start, stop) of the tiles in places of the latents, `stop` excluded.
        clips: (start, stop) in latents of the whole footage; the copies of the first latent that go in front of each
            clip are not counted.
        size: height and width of the enlarged footage in pixels; what was added to fill the last latents is left out.
        num_frames: of the footage; repeated frames at its end are left out.
        stride: pixels to a place of the latents.
        temporal_stride: frames to a latent after the first.

    Raises:
        ValueError: a window is empty or lies outside the footage.

    Source: Vivid-VR (arXiv 2508.14483), released code, which takes the tiles from the pixels instead.
    """
    heights = [_pixels(window, stride, size[0]) for window in rows]
    widths = [_pixels(window, stride, size[1]) for window in columns]
    spans = [_frames(window, temporal_stride, num_frames) for window in clips]
    return tuple(
        CaptionPlace(clip, row, column, *height, *width, *span)
        for clip, span in enumerate(spans)
        for row, height in enumerate(heights)
        for column, width in enumerate(widths)
    )


def place_prompts(
    places: Sequence[CaptionPlace],
    describe: Callable[[CaptionPlace], str],
    count: Callable[[str], int],
    limit: int = TOKENS,
    *,
    own: str | None = None,
    suffix: str = SUFFIX,
    published: bool = False,
) -> dict[str, str]:
    """The prompt of every place, by its key.

    Args:
        places: to be told about.
        describe: makes the caption of a place; called once for each, and never where the user has a prompt.
        own: the user's prompt, which stands for every caption.
        count, limit, suffix, published: as for `vividvr_prompt`.
    """
    own = " ".join(own.split()) if own else ""
    if own:
        prompt = vividvr_prompt(own, count, limit, suffix=suffix, published=published)
        return {place.key: prompt for place in places}
    return {
        place.key: vividvr_prompt(describe(place), count, limit, suffix=suffix, published=published)
        for place in places
    }


def _pixels(window: Window, stride: int, side: int) -> Window:
    start, stop = window[0] * stride, min(window[1] * stride, side)
    if not 0 <= start < stop:
        raise ValueError(f"the tile {window} shows nothing of a side of {side} pixels")
    return start, stop


def _frames(window: Window, stride: int, num_frames: int) -> Window:
    first, stop = window[0] * stride, min((window[1] - 1) * stride + 1, num_frames)
    if not 0 <= first < stop:
        raise ValueError(f"the clip {window} shows nothing of {num_frames} frames")
    return first, stop


def _shortened(caption: str) -> list[str]:
    """The caption and what may be kept of it, longest first, down to nothing."""
    sentences = [caption[: end.end()] for end in _SENTENCE.finditer(caption)]
    words = caption.split()
    first = len(sentences[0].split()) if sentences else len(words)
    cut = [" ".join(words[:length]).rstrip(",;:–—- ") + "." for length in range(first - 1, 0, -1)]
    return [caption, *reversed(sentences), *cut, ""]
