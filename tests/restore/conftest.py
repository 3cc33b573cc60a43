"""Real clips, made by PyAV alone."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """Encodes a small clip of a moving gradient: `make_clip(path, times, size, sound, rotation, codec)`."""

    def make(
        path: Path,
        times: Sequence[int] = tuple(range(8)),
        size: tuple[int, int] = (64, 48),
        sound: str | None = None,
        rotation: int = 0,
        codec: str = "libx264",
    ) -> Path:
        base = Fraction(1, 10)
        flags = {"video_track_timescale": "10"} if path.suffix in (".mp4", ".mov") else {}
        with av.open(str(path), "w", options=flags) as container:
            options = {"threads": "1", "crf": "8", "bf": "0"} if codec == "libx264" else {}
            video = container.add_stream(codec, rate=10, options=options)
            video.width, video.height, video.pix_fmt = *size, "yuv420p"
            video.codec_context.time_base = video.time_base = base
            if rotation:
                video.set_display_rotation(rotation)
            audio = container.add_stream(sound, rate=48000, layout="mono") if sound else None
            if audio is not None:
                audio.bit_rate = 48000
            container.start_encoding()
            lasting = dict(zip(times, [later - when for when, later in pairwise(times)] + [1], strict=True))
            for index, when in enumerate(times):
                picture = av.VideoFrame.from_ndarray(_gradient(*size, index), "rgb24").reformat(
                    format="yuv420p"
                )
                picture.pts, picture.time_base = when, base
                for packet in video.encode(picture):
                    packet.duration = lasting.get(packet.pts, 1)
                    container.mux(packet)
            for packet in _hum(audio, len(times) / 10) if audio else ():
                container.mux(packet)
            for stream in (video, audio) if audio else (video,):
                container.mux(stream.encode(None))
        return path

    return make


def _gradient(width: int, height: int, index: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    planes = (x * 160 / width + 4 * index, y * 160 / height + 30, (x + 2 * y + 3 * index) % 97 + 60)
    return np.ascontiguousarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8))


def _hum(audio: Any, seconds: float) -> list[Any]:
    size = audio.codec_context.frame_size or 1024
    packets = []
    for start in range(0, int(seconds * 48000), size):
        wave = (np.sin(np.arange(start, start + size) * 0.05) * 0.3).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, start
        packets += audio.encode(frame)
    return packets
