"""Footage through real codecs: the same frames, in order, with their own colours, worse by as much as was asked for."""

import itertools
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.core import OutputError, UsageError
from unfade.media import compression
from unfade.media.compression import QUALITIES, VideoCodec, compressed
from unfade.media.film import write_film
from unfade.media.images import read_image
from unfade.media.video import read_video
from unfade.media.yuv import ColourTags, picture_to_rgb, rgb_to_picture

CODECS = list(QUALITIES)
# As good as each gets without a lossless mode of its own.
FINEST: dict[VideoCodec, float] = {"h264": 1, "h265": 1, "mpeg4": 1}
every_codec = pytest.mark.parametrize("codec", CODECS)


@pytest.fixture(scope="module")
def moving(examples: Path) -> Tensor:
    """A window that wanders over a photo, `[17, 3, 64, 96]`."""
    photo = read_image(examples / "astronaut.png").frames[0]
    return torch.stack([photo[:, 60 + 2 * i : 124 + 2 * i, 180 + i : 276 + i] for i in range(17)])


@pytest.fixture(scope="module")
def converted(moving: Tensor) -> Tensor:
    """The same to 4:2:0 and back, without a codec."""
    tags = ColourTags(siting="center")
    pictures = [rgb_to_picture(frame, "yuv420p", tags) for frame in moving]
    return torch.stack(
        [torch.from_numpy(picture_to_rgb(picture, tags)).permute(2, 0, 1) for picture in pictures]
    )


def _decibels(x: Tensor, truth: Tensor) -> float:
    return -10 * math.log10(float((x - truth).square().mean()))


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)


@every_codec
@pytest.mark.parametrize("size", [(64, 96), (63, 95), (33, 50), (7, 5), (1, 1)])
def test_every_frame_comes_back_in_its_place(
    codec: VideoCodec, size: tuple[int, int], moving: Tensor
) -> None:
    """Each frame has a light of its own, so that B-frames in the order of decoding would be seen."""
    light = torch.linspace(0.2, 1, 17).reshape(-1, 1, 1, 1)
    frames = moving[:, :, : size[0], : size[1]] * 0.2 + light * 0.8
    result = compressed(frames, codec, 3)
    assert result.shape == frames.shape and result.dtype == frames.dtype
    assert float(result.min()) >= 0 and float(result.max()) <= 1
    apart = (result[:, None] - frames[None]).abs().mean((2, 3, 4))
    assert apart.argmin(1).tolist() == list(range(17))
    assert float(apart.diagonal().max()) < 3 / 255


@every_codec
def test_colours_do_not_shift_even_saturated_ones(codec: VideoCodec) -> None:
    corners = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3)))
    flat = corners[:, :, None, None].expand(8, 3, 32, 48)
    # 8 bits of limited range hold 219 levels of luma, so a colour is missed by a little more than a level.
    assert float((compressed(flat, codec, FINEST[codec]) - flat).abs().max()) < 1.5 / 255
    cube = torch.tensor(list(itertools.product(torch.linspace(0, 1, 9).tolist(), repeat=3)))
    board = cube.T.reshape(3, 27, 27).repeat_interleave(8, 1).repeat_interleave(8, 2)
    coded = compressed(board[None], codec, FINEST[codec])[0]
    # The inside of each field, away from the chroma of its neighbours.
    fields = coded.reshape(3, 27, 8, 27, 8)[:, :, 2:6, :, 2:6].mean((2, 4)).reshape(3, -1).T
    error = fields - cube
    assert float(error.abs().mean()) < 1.5 / 255 and float(error.abs().max()) < 6 / 255
    assert float(error.mean(0).abs().max()) < 0.5 / 255


def test_the_other_matrix_would_be_noticed() -> None:
    """What the test above guards against is far above its bounds."""
    red = torch.tensor([0.8, 0.1, 0.1])[:, None, None].expand(3, 32, 32)
    picture = rgb_to_picture(red, "yuv420p", ColourTags())
    shifted = torch.from_numpy(picture_to_rgb(picture, ColourTags(matrix=6))).permute(2, 0, 1)
    assert float((shifted - red).abs().max()) > 15 / 255


@every_codec
def test_near_lossless_is_near(codec: VideoCodec, converted: Tensor, moving: Tensor) -> None:
    """What is lost is what 8 bits and halved chroma lose, and hardly more."""
    result = compressed(moving, codec, FINEST[codec])
    assert _decibels(result, converted) > 43
    assert _decibels(result, moving) > _decibels(converted, moving) - 2.5


def test_lossless_footage_is_the_conversion_and_nothing_else(converted: Tensor, moving: Tensor) -> None:
    assert torch.equal(compressed(moving, "h264", 0), converted)


def test_the_stream_says_how_its_colours_are_meant(moving: Tensor) -> None:
    import av

    for codec, decoder in (("h264", "h264"), ("h265", "hevc")):
        options = compression._options(codec, 20, "medium", False)
        packets = compression._encoded(moving[:2], codec, compression.Fraction(25), options)
        context = av.CodecContext.create(decoder, "r")
        (frame, *_) = [frame for packet in (*packets, None) for frame in context.decode(packet)]
        assert (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc) == (1, 1, 1, 1)


def test_a_file_read_by_its_own_tags_holds_the_same(moving: Tensor, tmp_path: Path) -> None:
    flat = moving.mean((2, 3), keepdim=True)[:2].expand(2, 3, 32, 48).contiguous()
    write_film(flat, tmp_path / "flat.mp4", fps=25, crf=0)
    assert torch.equal(
        compressed(flat, "h264", 0), torch.stack([f.image for f in read_video(tmp_path / "flat.mp4")])
    )


def test_chroma_stays_in_its_place() -> None:
    """A picture that is its own mirror image comes back as one, which it doesn't where chroma moves sideways."""
    stripe = torch.zeros(3, 64, 96)
    stripe[0], stripe[2] = 0.2, 0.8
    stripe[:, :, 40:56] = torch.tensor([0.9, 0.2, 0.1])[:, None, None]
    for codec in CODECS:
        result = compressed(stripe[None], codec, FINEST[codec])[0]
        assert float((result - result.flip(2)).abs().mean()) < 0.5 / 255


@every_codec
@pytest.mark.parametrize("width", [96, 64])
def test_the_same_frames_give_the_same_result(codec: VideoCodec, width: int, moving: Tensor) -> None:
    """Also where x264 (96) and x265 (64) as they come give another stream in nearly every run."""
    frames = moving[..., :width].clone()
    first = compressed(frames, codec, 12)
    assert torch.equal(frames, moving[..., :width])
    assert all(torch.equal(first, compressed(frames, codec, 12)) for _ in range(5))


@every_codec
@pytest.mark.parametrize("constant", [False, True])
def test_worse_quality_loses_more(codec: VideoCodec, constant: bool, moving: Tensor) -> None:
    best, worst = QUALITIES[codec]
    steps = [max(1.0, best + (worst - best) * share) for share in (0, 0.25, 0.5, 0.75, 1)]
    errors = [_decibels(compressed(moving, codec, step, constant=constant), moving) for step in steps]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] - errors[-1] > 8


def test_footage_is_coded_as_footage(moving: Tensor) -> None:
    """What a frame becomes depends on its neighbours, which it would not if each were coded alone."""
    together = compressed(moving, "h264", 30)
    assert not torch.equal(together[5], compressed(moving[5:6], "h264", 30)[0])
    still = moving[:1].expand(17, -1, -1, -1)
    packets = compression._encoded(
        still.contiguous(),
        "h264",
        compression.Fraction(25),
        compression._options("h264", 30, "medium", False),
    )
    sizes = sorted(packet.size for packet in packets)
    assert sizes[-1] > 5 * sum(sizes[:-1]) / len(sizes[:-1])


def test_presets_and_types_are_heeded(moving: Tensor) -> None:
    fast, slow = (compressed(moving, "h264", 28, preset=preset) for preset in ("ultrafast", "slow"))
    assert not torch.equal(fast, slow)
    assert compressed(moving[:2].double(), "h264", 28).dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"codec": "vp9"}, "unknown codec 'vp9'; known: h264, h265, mpeg4"),
        ({"quality": 52}, "quality of H.264 lies in 0 to 51, not 52"),
        ({"codec": "mpeg4", "quality": 0}, "MPEG-4 part 2 lies in 1 to 31"),
        ({"quality": math.nan}, "not nan"),
        ({"preset": "quick"}, "unknown preset 'quick'"),
        ({"fps": 0}, "fps must be above 0"),
        ({"frames": torch.zeros(3, 8, 8)}, r"must be \[T, 3, H, W\]"),
        ({"frames": torch.zeros(0, 3, 8, 8)}, "not empty"),
        ({"frames": torch.full((1, 3, 8, 8), math.nan)}, "finite"),
    ],
)
def test_the_impossible_is_refused(changes: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {
        "frames": torch.zeros(1, 3, 8, 8),
        "codec": "h264",
        "quality": 20,
        **changes,
    }
    with pytest.raises(ValueError, match=words):
        compressed(**arguments)  # type: ignore[arg-type]


def test_what_a_codec_refuses_is_told() -> None:
    with pytest.raises(OutputError, match=r"17000 x 2 can't be compressed by H.264"):
        compressed(torch.zeros(1, 3, 2, 17000), "h264", 20)


def test_an_encoder_that_was_left_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compression._ENCODERS, "h265", "libnowhere")
    with pytest.raises(UsageError, match=r"built without H.265 \(libnowhere\); choose another codec"):
        compressed(torch.zeros(1, 3, 8, 8), "h265", 20)


def test_pyav_is_needed_only_when_something_is_compressed() -> None:
    answer = _run(
        "import sys\n"
        "import torch, unfade.media.compression as room, unfade.degrade, unfade.degrade.second_order\n"
        "assert 'av' not in sys.modules\n"
        "sys.modules['av'] = None\n"
        "try:\n    room.compressed(torch.zeros(1, 3, 8, 8), 'h264', 20)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    assert answer.stdout.startswith("UsageError compressing footage needs PyAV"), answer.stderr
    assert answer.stdout.strip().endswith("pip install av")


def test_small_pictures_leave_x265s_memory_whole() -> None:
    """Rows of fewer than four blocks make its lookahead write past their end, and the process die now and then."""
    answer = _run(
        "import torch\n"
        "from unfade.media.compression import compressed\n"
        "frames = torch.rand(5, 3, 16, 34)\n"
        "for _ in range(15):\n    compressed(frames, 'h265', 2)\n"
        "print('whole')\n"
    )
    assert answer.returncode == 0 and answer.stdout == "whole\n" and answer.stderr == ""
