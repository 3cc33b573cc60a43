"""A trajectory as a film for viewing."""

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.container import OutputContainer
from av.error import FFmpegError
from torch import Tensor
from torch.nn import functional as F

from unfade.core import Clip, OutputError
from unfade.media.atomic import atomic_output
from unfade.media.notes import container_tags
from unfade.media.video_writer import container_format, tag_stream
from unfade.media.yuv import ColourTags, rgb_to_picture


def write_film(
    frames: Iterable[Tensor | Clip],
    path: Path,
    fps: Fraction | float = 5,
    *,
    notes: Mapping[str, str] | None = None,
    longest: int = 3840,
    crf: int = 14,
    overwrite: bool = True,
) -> int:
    """Write frames as an H.264 film that plays everywhere (8 bits, 4:2:0, BT.709, fast start); gives their
    number.

    Frames are taken one at a time. Sides above `longest` are reduced, because common players stop at 4K. Odd
    sides are padded to even by repeating the last row or column, as 4:2:0 has no odd sizes. Alpha is ignored.

    Args:
        frames: tensors `[3, H, W]` in [0, 1], or clips, whose frames follow one another; all of one size.
        path: .mp4, .m4v, .mov or .mkv.
        fps: frames a second.
        notes: provenance, stored in the container.
        longest: side in pixels that the film doesn't exceed.
        crf: quality of H.264, 0 (lossless) to 51.
        overwrite: replace an existing file.

    Raises:
        UsageError: the extension is unknown.
        OutputError: the file can't be written.
        ValueError: there are no frames, they differ in size, or a pixel is not finite.
    """
    path = Path(path)
    format = container_format(path)
    rate = Fraction(fps).limit_denominator(1001)
    tags = container_tags(notes or {})
    if rate <= 0:
        raise ValueError(f"fps must be above 0, not {fps}")
    images = _images(frames)
    first = next(images, None)
    if first is None:
        raise ValueError("a film needs at least one frame")
    flags = {"movflags": "+faststart+use_metadata_tags"} if format in ("mp4", "mov") else {}
    with atomic_output(path, overwrite) as temporary:
        try:
            with av.open(str(temporary), "w", format=format, options=flags) as container:
                container.metadata.update(tags)
                return _encode(container, chain([first], images), rate, longest, crf)
        except FFmpegError as error:
            raise OutputError(f"{path} can't be written: the encoder says {error}") from error


def _encode(
    container: OutputContainer, images: Iterator[Tensor], rate: Fraction, longest: int, crf: int
) -> int:
    options = {"crf": str(crf), "preset": "medium"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.pix_fmt = "yuv420p"
    tags = ColourTags()
    tag_stream(stream, tags)
    size, count = None, 0
    for count, image in enumerate(images, start=1):
        if size is None:
            size = image.shape
        if image.shape != size:
            raise ValueError(f"a film's frames have one size, not {tuple(size)} and {tuple(image.shape)}")
        picture = rgb_to_picture(_fitted(image, longest), "yuv420p", tags)
        if count == 1:
            stream.width, stream.height = picture.width, picture.height
        picture.pts, picture.time_base = count - 1, 1 / rate
        container.mux(stream.encode(picture))
    container.mux(stream.encode(None))
    return count


def _images(frames: Iterable[Tensor | Clip]) -> Iterator[Tensor]:
    for frame in frames:
        if isinstance(frame, Clip):
            yield from frame.frames
        else:
            yield frame


def _fitted(image: Tensor, longest: int) -> Tensor:
    height, width = image.shape[-2:]
    batch = image.unsqueeze(0).float()
    if max(height, width) > longest:
        shrink = longest / max(height, width)
        size = (max(1, round(height * shrink)), max(1, round(width * shrink)))
        batch = F.interpolate(batch, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    height, width = batch.shape[-2:]
    return F.pad(batch, (0, width % 2, 0, height % 2), mode="replicate")[0]
