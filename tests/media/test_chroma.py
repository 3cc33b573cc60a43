"""Colours lie where the light lies, though footage stores them more coarsely: written, read, and in other hands."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from unfade.media.film import write_film
from unfade.media.video import probe_video, read_video
from unfade.media.video_writer import VideoWriter, copy_footage

_HEIGHT, _WIDTH, _FRAMES = 64, 96, 3
# Shares of red and blue in luma, by matrix.
_SHARES = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}
# The first chroma sample, in luma pixels to the right of and below the first luma sample: ITU-T H.273, figure 1.
_PLACES = {"left": (0.0, 0.5), "center": (0.5, 0.5), "topleft": (0.0, 0.0)}


def _pattern(when: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """RGB `[..., 3]` of waves that move; each colour has its own, and a value at every place between pixels."""
    waves = ((23, 31, 0), (17, 37, 2), (29, 19, 4))
    return np.stack(
        [
            0.5
            + 0.22 * np.sin(2 * np.pi * (x - 1.3 * when) / across + phase)
            + 0.18 * np.cos(2 * np.pi * (y + 0.7 * when) / down + phase)
            for across, down, phase in waves
        ],
        -1,
    )


def _at(when: float, right: float = 0, below: float = 0, step_x: int = 1, step_y: int = 1) -> np.ndarray:
    y, x = np.mgrid[0:_HEIGHT:step_y, 0:_WIDTH:step_x].astype(np.float64)
    return _pattern(when, x + right, y + below)


def _image(when: float) -> Tensor:
    return torch.from_numpy(_at(when)).permute(2, 0, 1).float()


def _yuv(rgb: np.ndarray, matrix: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In limited range at 8 bits, by the formula, not rounded."""
    kr, kb = _SHARES[matrix]
    luma = rgb @ np.array([kr, 1 - kr - kb, kb])
    blue, red = (rgb[..., 2] - luma) / (2 - 2 * kb), (rgb[..., 0] - luma) / (2 - 2 * kr)
    return 16 + 219 * luma, 128 + 224 * blue, 128 + 224 * red


def _sampled(when: int, pix_fmt: str, place: tuple[float, float], matrix: int) -> av.VideoFrame:
    """The pattern as a picture, each chroma sample taken at its own place; nothing was ever converted."""
    frame = av.VideoFrame(_WIDTH, _HEIGHT, pix_fmt)
    steps = (2, 2 if "420" in pix_fmt else 1)
    down = place[1] if "420" in pix_fmt else 0
    planes = [_yuv(_at(when), matrix)[0], *_yuv(_at(when, place[0], down, *steps), matrix)[1:]]
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows[:, : plane.width] = values.round()
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range, frame.pts = matrix, 1, when
    return frame


def _footage(
    path: Path, codec: str, pix_fmt: str, place: tuple[float, float], options: dict[str, str]
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, pix_fmt
        # Where no matrix can be named, readers take small footage for BT.601.
        matrix = 6 if codec in ("rawvideo", "mpeg1video") else 1
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 1
        for when in range(_FRAMES):
            container.mux(stream.encode(_sampled(when, pix_fmt, place, matrix)))
        container.mux(stream.encode(None))
    return path


def _decibels(images: list[Tensor]) -> float:
    """Against the pattern, the border left out, beyond which nobody knows the colours."""
    inner = (slice(None), slice(4, -4), slice(4, -4))
    errors = [(image - _image(when))[inner].square().mean() for when, image in enumerate(images)]
    return float(-10 * torch.stack(errors).mean().log10())


def _read(path: Path) -> list[Tensor]:
    return [frame.image for frame in read_video(path)]


@pytest.fixture(scope="module")
def written(
    tmp_path_factory: pytest.TempPathFactory, make_video: Callable[..., Path]
) -> Callable[[str], Path]:
    """The pattern in a pixel format, written by us with as little loss as possible."""
    folder = tmp_path_factory.mktemp("written")

    def write(pix_fmt: str) -> Path:
        path = folder / f"{pix_fmt}.mkv"
        if not path.exists():
            source = make_video(folder / f"source_{pix_fmt}.mp4", (0,), pix_fmt=pix_fmt, matrix=1)
            with VideoWriter(path, source, crf=0, preset="ultrafast") as writer:
                for when in range(_FRAMES):
                    writer.write(_image(when), when)
        return path

    return write


@pytest.mark.parametrize(
    ("pix_fmt", "least"),
    [("yuv420p", 46), ("yuv420p10le", 46), ("yuv422p", 46), ("yuv422p10le", 46), ("yuv444p", 51)],
)
def test_what_is_written_and_read_lies_where_it_lay(
    pix_fmt: str, least: float, written: Callable[[str], Path]
) -> None:
    """Half a pixel of shift leaves 33 dB."""
    assert probe_video(written(pix_fmt)).pix_fmt == pix_fmt
    assert _decibels(_read(written(pix_fmt))) > least


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
def test_chroma_is_written_where_every_decoder_looks_for_it(
    pix_fmt: str, written: Callable[[str], Path]
) -> None:
    """Decoded by ffmpeg alone: the stored samples are the pattern's at the places of the standard."""
    quartered, halved = "420" in pix_fmt, "444" not in pix_fmt
    steps = (2 if halved else 1, 2 if quartered else 1)
    with av.open(str(written(pix_fmt))) as container:
        for when, frame in enumerate(container.decode(video=0)):
            truth = _yuv(_at(when, 0, 0.5 if quartered else 0, *steps))
            shifted = _yuv(_at(when, 0.5, 0.5 if quartered else 0, *steps))
            for plane, right, wrong in zip(frame.planes[1:], truth[1:], shifted[1:], strict=True):
                stored = np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width]
                errors = [np.abs(stored - x)[4:-4, 4:-4].mean() for x in (right, wrong)]
                assert errors[0] < 0.6 and errors[1] > 2


def test_an_edge_stays_at_its_place_to_a_fraction_of_a_pixel(
    tmp_path: Path, make_video: Callable[..., Path]
) -> None:
    """From red to blue at one luma, in columns and in rows, wherever between two pixels it lies."""
    source = make_video(tmp_path / "source.mp4", (0,), matrix=1)
    places = [(axis, 30 + quarter / 4) for axis in (1, 2) for quarter in range(8)]
    images = []
    kr, kb = _SHARES[1]
    for axis, place in places:
        size = (1, -1, 1) if axis == 1 else (1, 1, -1)
        blue = torch.sigmoid((torch.arange((_HEIGHT, _WIDTH)[axis - 1]) - place) / 1.5).view(size)
        # Green makes up for the luma that blue has less of than red.
        red_end, blue_end = (0.7, 0.3, 0.3), (0.3, 0.3 + 0.4 * (kr - kb) / (1 - kr - kb), 0.7)
        ends = [torch.tensor(end).view(3, 1, 1) for end in (red_end, blue_end)]
        images.append((ends[0] + (ends[1] - ends[0]) * blue).expand(3, _HEIGHT, _WIDTH))
    with VideoWriter(tmp_path / "edges.mp4", source, crf=0) as writer:
        for index, image in enumerate(images):
            writer.write(image, index)
    for (axis, place), image in zip(places, _read(tmp_path / "edges.mp4"), strict=True):
        profile = (image[0] - image[2])[8:-8, 8:-8].mean(2 - axis)
        first = int((profile < 0).nonzero()[0])
        crossing = 8 + first - 1 + float(profile[first - 1] / (profile[first - 1] - profile[first]))
        assert abs(crossing - place) < 0.06, (axis, place, crossing)


def test_the_file_says_where_its_chroma_lies(tmp_path: Path, written: Callable[[str], Path]) -> None:
    """ChromaSitingHorz "left" and ChromaSitingVert "half", elements of Matroska that hold one byte each."""
    write_film([_image(0), _image(1)], tmp_path / "film.mkv")
    for path in (written("yuv420p"), tmp_path / "film.mkv"):
        head = path.read_bytes()[:2000]
        assert b"\x55\xb7\x81\x01" in head and b"\x55\xb8\x81\x02" in head
    assert _decibels(_read(tmp_path / "film.mkv")) > 40


@pytest.mark.parametrize("siting", ["left", "center", "topleft"])
def test_the_tag_of_a_file_is_followed(tmp_path: Path, siting: str) -> None:
    """Samples taken at the place the tag names come back better than 46 dB, those from another place don't."""
    for name, place in _PLACES.items():
        options = {"qp": "0", "preset": "ultrafast", "chroma_sample_location": siting}
        path = _footage(tmp_path / f"{name}.mp4", "libx264", "yuv420p", place, options)
        assert probe_video(path).tags.siting == siting
        assert (_decibels(_read(path)) > 46) == (name == siting)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "place", "options"),
    [
        ("v.mp4", "libx265", "yuv422p", "left", {"x265-params": "lossless=1:log-level=none"}),
        ("v.mkv", "libvpx-vp9", "yuv420p", "left", {"lossless": "1", "cpu-used": "8"}),
        ("v.mkv", "ffv1", "yuv420p", "left", {}),
        ("v.mkv", "ffv1", "yuv420p", "topleft", {"chroma_sample_location": "topleft"}),
        ("v.y4m", "rawvideo", "yuv420p", "center", {"chroma_sample_location": "center"}),
        ("v.mpg", "mpeg1video", "yuv420p", "center", {"qmin": "1", "qmax": "1"}),
        ("v.mpg", "mpeg2video", "yuv420p", "left", {"qmin": "1", "qmax": "1"}),
    ],
)
def test_where_nothing_is_said_the_standard_or_custom_decides(
    tmp_path: Path, name: str, codec: str, pix_fmt: str, place: str, options: dict[str, str]
) -> None:
    path = _footage(tmp_path / name, codec, pix_fmt, _PLACES[place], options)
    assert probe_video(path).tags.siting == place
    assert _decibels(_read(path)) > (39 if codec.startswith("mpeg") else 46)


@pytest.mark.parametrize("siting", ["center", "topleft"])
def test_footage_of_another_siting_is_written_as_left(tmp_path: Path, siting: str) -> None:
    options = {"qp": "0", "preset": "ultrafast", "chroma_sample_location": siting}
    source = _footage(tmp_path / "v.mp4", "libx264", "yuv420p", _PLACES[siting], options)
    copy_footage(source, tmp_path / "w.mp4", lambda image: image, crf=0, preset="ultrafast")
    assert probe_video(tmp_path / "w.mp4").tags.siting == "left"
    assert _decibels(_read(tmp_path / "w.mp4")) > 43
