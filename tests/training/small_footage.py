"""Small films whose every frame says its number in eight dark or bright squares, for the tests of curated footage."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

WIDTH, HEIGHT = 64, 48
_BIT = 8


def film(
    path: Path,
    shots: Sequence[int],
    fps: Fraction = Fraction(24),
    times: Sequence[int] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    rotation: int = 0,
) -> Path:
    """Writes shots of so many frames, each unlike the one before, moving by a pixel a frame.

    Args:
        path: of the file.
        shots: frames of each.
        fps: of the stream; the clock ticks once a frame.
        times: when each frame is shown, in ticks of `1 / fps`; one after the other by default.
        codec, options: of the encoder.
        rotation: degrees, as a display matrix.
    """
    total = sum(shots)
    base = 1 / fps
    with av.open(str(path), "w") as container:
        settings = {"crf": "6", "threads": "1", "g": "25"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=fps, options={**settings, **(options or {})})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        container.start_encoding()
        for index in range(total):
            picture = av.VideoFrame.from_ndarray(_picture(index, shots), "rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = times[index] if times else index, base
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def sound_only(path: Path) -> Path:
    """A file with a sound track and nothing else."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        for start in range(0, 48000, 1024):
            samples = np.sin(np.arange(start, start + 1024) * 0.05).astype(np.float32)[None] * 0.3
            frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def number_of(image: Tensor) -> int:
    """The number that a frame `[3, 48, 64]` says it has, modulo 256."""
    squares = image[:, 2:6].mean((0, 1)).reshape(8, _BIT)[:, 2:6].mean(1)
    gray = int((squares > 0.5).long() @ torch.tensor([1 << bit for bit in range(8)]))
    return gray ^ gray >> 1 ^ gray >> 2 ^ gray >> 3 ^ gray >> 4 ^ gray >> 5 ^ gray >> 6 ^ gray >> 7


def _picture(index: int, shots: Sequence[int]) -> np.ndarray:
    scene, begin = 0, 0
    while index >= begin + shots[scene]:
        begin, scene = begin + shots[scene], scene + 1
    dice = np.random.default_rng(scene)
    blocks = dice.integers(20, 210, (HEIGHT // 8, WIDTH // 8, 1)) + dice.integers(
        0, 46, (HEIGHT // 8, WIDTH // 8, 3)
    )
    picture = np.roll(blocks.repeat(8, 0).repeat(8, 1), index - begin, 1).astype(np.uint8)
    # Gray's code: from frame to frame one square changes, and little enough to be no cut.
    gray = (index % 256) ^ (index % 256) >> 1
    bits = [90 + 76 * (gray >> bit & 1) for bit in range(8)]
    picture[:8] = np.repeat(bits, _BIT)[None, :, None]
    return np.ascontiguousarray(picture)
