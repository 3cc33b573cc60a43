"""Real files for the media room's tests, made by independent encoders where that is possible."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unfade.media.video import VideoFrame, read_video


@pytest.fixture(scope="session")
def profile() -> Callable[[str], bytes]:
    """libvips' built-in profiles by name: "p3", "cmyk", "srgb"; and "grey", a gamma of 1.8."""

    def load(name: str) -> bytes:
        from unfade.media.vips import pyvips

        return _grey_profile(1.8) if name == "grey" else bytes(pyvips.Operation.call("profile_load", name))

    return load


def _grey_profile(gamma: float) -> bytes:
    """The smallest ICC v2 profile for grey pixels: white point, description and a gamma curve."""
    text = b"grey\0"
    description = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    blocks = [(b"desc", description), (b"wtpt", white), (b"kTRC", curve), (b"cprt", b"text\0\0\0\0none\0")]
    offset, table, body = 128 + 4 + 12 * len(blocks), struct.pack(">I", len(blocks)), b""
    for name, block in blocks:
        block += bytes(-len(block) % 4)
        table += name + struct.pack(">II", offset + len(body), len(block))
        body += block
    header = struct.pack(">I4sI4s4s4s", offset + len(body), b"none", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + body


@pytest.fixture(scope="session")
def smooth() -> Callable[..., Tensor]:
    """A smooth colourful picture `[3, H, W]` without any symmetry, away from the borders of [0, 1]."""

    def make(height: int = 48, width: int = 64, shift: float = 0.0) -> Tensor:
        y = torch.linspace(0, 1, height).view(-1, 1).expand(height, width)
        x = torch.linspace(0, 1, width).view(1, -1).expand(height, width)
        return torch.stack([0.15 + 0.7 * x, 0.2 + 0.5 * y + 0.1 * shift, 0.3 + 0.3 * x * y]).clamp(0, 1)

    return make


@pytest.fixture(scope="session")
def real_clips(shared: Path) -> dict[str, list[tuple[VideoFrame, Tensor]]]:
    """Every frame of the sample clips, read once: with a corner of its picture, and area averages of all of it."""
    folder = shared / "clips"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the sample clips are not on this machine")
    clips: dict[str, list[tuple[VideoFrame, Tensor]]] = {}
    for path in sorted(folder.glob("*.mp4")):
        clips[path.name] = []
        for frame in read_video(path):
            thumbnail = functional.interpolate(frame.image[None], (32, 32), mode="area")
            corner = replace(frame, image=frame.image[:, :96, :128].clone())
            clips[path.name].append((corner, thumbnail))
    return clips


@pytest.fixture(scope="session")
def make_video(smooth: Callable[..., Tensor]) -> Callable[..., Path]:
    """Encode a small video: `make(path, pts, time_base, size, rotation, sound, pix_fmt, matrix, full)`."""

    def make(
        path: Path,
        pts: Sequence[int] = tuple(range(8)),
        time_base: Fraction = Fraction(1, 10),
        size: tuple[int, int] = (64, 48),
        rotation: int = 0,
        sound: str | None = None,
        pix_fmt: str = "yuv420p",
        matrix: int = 6,
        full: bool = False,
        codec: str = "libx264",
        pictures: bool = True,
        options: dict[str, str] | None = None,
    ) -> Path:
        import av

        flags: dict[str, str] = {}
        if path.suffix == ".mp4":
            flags = {"video_track_timescale": str(time_base.denominator), "movflags": "+faststart"}
        with av.open(str(path), "w", options=flags) as container:
            container.metadata.update({"title": "A test", "artist": "Nobody"})
            video = audio = None
            if pictures:
                options = options or ({"crf": "4", "threads": "1"} if codec == "libx264" else {})
                video = container.add_stream(codec, rate=10, options=options)
                video.width, video.height, video.pix_fmt = *size, pix_fmt
                video.codec_context.time_base = video.time_base = time_base
                context = video.codec_context
                context.colorspace, context.color_range = matrix, 2 if full else 1
                if rotation:
                    video.set_display_rotation(rotation)
            if sound:
                audio = container.add_stream(sound, rate=48000, layout="mono")
            container.start_encoding()
            for index, when in enumerate(pts):
                if video is not None:
                    picture = _picture(smooth(size[1], size[0], index / 8), pix_fmt, matrix, full)
                    picture.pts, picture.time_base = when, time_base
                    container.mux(video.encode(picture))
            if audio is not None:
                for packet in _tone(audio, float((pts[-1] - pts[0] + 1) * time_base) if pts else 0.5):
                    container.mux(packet)
            for stream in (video, audio):
                if stream is not None:
                    container.mux(stream.encode(None))
        return path

    return make


def _picture(image: Tensor, pix_fmt: str, matrix: int, full: bool) -> Any:
    import av

    array = np.ascontiguousarray((image * 255).round().permute(1, 2, 0).numpy().astype(np.uint8))
    return av.VideoFrame.from_ndarray(array, "rgb24").reformat(
        format=pix_fmt, dst_colorspace={6: 5}.get(matrix, matrix), dst_color_range=2 if full else 1
    )


def _tone(stream: Any, seconds: float) -> list[Any]:
    import av

    packets = []
    for start in range(0, int(seconds * 48000), 1024):
        samples = np.sin(np.arange(start, start + 1024) * 0.05).astype(np.float32)[None] * 0.3
        frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
        frame.sample_rate, frame.pts = 48000, start
        packets += stream.encode(frame)
    return packets
