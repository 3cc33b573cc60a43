"""Motion against fields that are known: textures given by a formula, so that no frame is resampled."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unfade.backbones.motion import Levels, fetched, larger, motion
from unfade.core import generator

HEIGHT, WIDTH = 224, 288
# Pixels at each side where what is looked for may have left the frame.
MARGIN = 48
Texture = Callable[[Tensor, Tensor], Tensor]


def texture(seed: int) -> Texture:
    """Forty waves of 12 to 240 pixels in random directions, the longer the stronger, as in photos."""
    dice = generator(seed, "waves")
    length = 12 * 20 ** torch.rand(40, generator=dice, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(40, generator=dice, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(3, 1, 1, 40, generator=dice, dtype=torch.float64)
    across, down = (2 * math.pi * part / length for part in (angle.cos(), angle.sin()))

    def at(x: Tensor, y: Tensor) -> Tensor:
        waves = torch.sin(x[..., None] * across + y[..., None] * down + phase)
        return (0.5 + 0.2 * waves @ (length / length.norm())).clamp(0, 1).float()[None]

    return at


def places(height: int = HEIGHT, width: int = WIDTH) -> tuple[Tensor, Tensor]:
    down, across = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    return across, down


def noisy(frame: Tensor, sigma: float, name: str) -> Tensor:
    return frame + sigma / 255 * torch.randn(frame.shape, generator=generator(0, name))


def error(flow: Tensor, across: Tensor | float, down: Tensor | float) -> float:
    """Median end-point error within the margin, in pixels of the frame."""
    right, below = larger(flow, HEIGHT, WIDTH)[0]
    distance = torch.hypot(right - across, below - down)
    return float(distance[MARGIN:-MARGIN, MARGIN:-MARGIN].median())


@pytest.fixture(scope="module")
def scene() -> tuple[Texture, Tensor]:
    at = texture(0)
    return at, at(*places())


def shifted(scene: tuple[Texture, Tensor], across: float, down: float) -> Tensor:
    """The scene with everything moved by so many pixels."""
    x, y = places()
    return scene[0](x - across, y - down)


@pytest.mark.parametrize(
    ("across", "down", "most"),
    [(0.4, -0.3, 0.1), (1.5, 2.25, 0.2), (-6.0, 9.5, 0.3), (25.0, 0.0, 0.35), (-18.0, 17.0, 0.35)],
)
def test_translations_are_found_to_a_fraction_of_a_pixel(
    scene: tuple[Texture, Tensor], across: float, down: float, most: float
) -> None:
    before, after = scene[1], shifted(scene, across, down)
    assert error(motion(Levels.of(before), [Levels.of(after)])[0], across, down) < most
    before, after = noisy(before, 20, "before"), noisy(after, 20, "after")
    assert error(motion(Levels.of(before), [Levels.of(after)])[0], across, down) < 0.85


@pytest.mark.parametrize(("turn", "zoom"), [(3.0, 1.0), (0.0, 1.03), (-1.5, 0.98)])
def test_turning_and_zooming_are_found(scene: tuple[Texture, Tensor], turn: float, zoom: float) -> None:
    cos, sin = zoom * math.cos(math.radians(turn)), zoom * math.sin(math.radians(turn))
    x, y = places()
    x, y = x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2
    # A pixel of the first is found where the map leads; so the second shows what the inverse map leads to.
    scale = cos * cos + sin * sin
    back = (cos * x + sin * y) / scale, (cos * y - sin * x) / scale
    after = scene[0](back[0] + (WIDTH - 1) / 2, back[1] + (HEIGHT - 1) / 2)
    across, down = cos * x - sin * y - x, sin * x + cos * y - y
    flow = motion(Levels.of(scene[1]), [Levels.of(after)])[0]
    assert torch.hypot(across, down)[MARGIN:-MARGIN, MARGIN:-MARGIN].median() > 1
    assert error(flow, across, down) < 0.25
    frames = noisy(scene[1], 20, "before"), noisy(after, 20, "after")
    assert error(motion(Levels.of(frames[0]), [Levels.of(frames[1])])[0], across, down) < 0.85


def test_what_is_fetched_along_the_motion_is_the_frame(scene: tuple[Texture, Tensor]) -> None:
    after = shifted(scene, 7.3, -4.6)
    flow = motion(Levels.of(scene[1]), [Levels.of(after)])[0]
    moved = fetched(after, larger(flow, HEIGHT, WIDTH))
    inner = (..., slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    left = (moved - scene[1])[inner].square().mean()
    assert left < 0.01 * (after - scene[1])[inner].square().mean()


def test_what_stands_still_or_is_flat_has_no_motion(scene: tuple[Texture, Tensor]) -> None:
    levels = Levels.of(scene[1])
    assert motion(levels, [levels])[0].abs().max() < 1e-4
    grey = [Levels.of(noisy(torch.full((1, 3, 96, 128), 0.5), 5, name)) for name in ("one", "two")]
    assert motion(grey[0], grey[1:])[0].abs().mean() < 0.25


def test_several_neighbours_at_once_are_each_of_them_alone() -> None:
    at, (x, y) = texture(3), places(95, 130)
    frame, *others = (
        Levels.of(at(x - across, y - down)) for across, down in ((0, 0), (3, 1), (-2, 5), (0, 0.5))
    )
    together = motion(frame, others)
    assert together.shape == (3, 1, 2, 48, 65)
    for flow, other in zip(together, others, strict=True):
        torch.testing.assert_close(flow, motion(frame, [other])[0], atol=1e-4, rtol=0)


def test_a_batch_of_clips_is_each_of_them_alone() -> None:
    textures = [texture(seed) for seed in (1, 2)]
    x, y = places(64, 80)
    frame, *others = (
        Levels.of(
            torch.cat(
                [at(x - shift, y + 2 * shift * sign) for at, sign in zip(textures, (1, -1), strict=True)]
            )
        )
        for shift in (0, 1, 2)
    )
    together = motion(frame, others)
    assert together.shape == (2, 2, 2, 32, 40)
    for index in (0, 1):
        alone = motion(_clip(frame, index), [_clip(other, index) for other in others])
        torch.testing.assert_close(together[:, index], alone[:, 0], atol=1e-4, rtol=0)
    # The second clip goes the other way down.
    inner = 2 * together[1, :, 1, 12:20, 14:26]
    assert inner[0].median() < -3
    assert inner[1].median() > 3


def _clip(levels: Levels, index: int) -> Levels:
    return Levels(tuple(luma[index : index + 1] for luma in levels.lumas))


def test_levels_are_means_of_the_luma_by_twos() -> None:
    frame = torch.rand(2, 3, 50, 70, generator=generator(1))
    levels = Levels.of(frame)
    assert [tuple(luma.shape) for luma in levels.lumas] == [
        (2, 1, 4, 5), (2, 1, 7, 9), (2, 1, 13, 18), (2, 1, 25, 35)
    ]  # fmt: skip
    luma = 0.299 * frame[:, 0] + 0.587 * frame[:, 1] + 0.114 * frame[:, 2]
    torch.testing.assert_close(levels.lumas[3][:, 0, 3, 5], luma[:, 6:8, 10:12].mean((1, 2)))
    torch.testing.assert_close(levels.lumas[1][:, 0, 3, 5], luma[:, 24:32, 40:48].mean((1, 2)))
    # What is left over at the border is averaged alone.
    torch.testing.assert_close(levels.lumas[2][:, 0, 12, 17], luma[:, 48:50, 68:70].mean((1, 2)))


@pytest.mark.parametrize("size", [(2, 2), (2, 40), (20, 34), (62, 90), (66, 70), (94, 118)])
def test_any_size_has_a_motion(size: tuple[int, int]) -> None:
    height, width = size
    at, (x, y) = texture(0), places(height, width)
    frame, other = at(x, y), at(x - 1, y + 1)
    flow = motion(Levels.of(frame), [Levels.of(other)])
    assert flow.shape == (1, 1, 2, height // 2, width // 2)
    assert bool(torch.isfinite(flow).all())
    moved = fetched(other, larger(flow[0], height, width))
    assert moved.shape == frame.shape
    # Smaller frames are all border, where half of what is compared is repeated.
    if min(size) > 40:
        assert (moved - frame).abs().mean() < 0.6 * (other - frame).abs().mean()


def test_a_larger_flow_leads_as_far() -> None:
    flow = torch.tensor([1.5, -2.0])[None, :, None, None].expand(1, 2, 9, 12)
    assert torch.equal(
        larger(flow, 17, 24), torch.tensor([3.0, -4.0])[None, :, None, None].expand(1, 2, 17, 24)
    )
    # A linear field stays linear: its pixels lie at the middle of two by two.
    ramp = torch.arange(12.0).expand(1, 2, 9, 12)
    expected = torch.arange(24.0) - 0.5
    torch.testing.assert_close(larger(ramp, 18, 24)[0, 1, 4, 1:-1], expected[1:-1])


def test_whole_pixels_are_fetched_exactly_and_borders_repeat() -> None:
    picture = torch.rand(2, 3, 21, 34, generator=generator(2))
    for across, down in ((0, 0), (5, -3), (-40, 2), (1, 30)):
        flow = torch.tensor([across, down]).float()[None, :, None, None].expand(2, 2, 21, 34)
        rows = (torch.arange(21) + down).clamp(0, 20)
        columns = (torch.arange(34) + across).clamp(0, 33)
        expected = picture[:, :, rows][..., columns]
        torch.testing.assert_close(fetched(picture, flow), expected, atol=1e-5, rtol=0)


def test_fetching_is_bilinear() -> None:
    picture = torch.rand(1, 2, 16, 18, generator=generator(3))
    flow = torch.tensor([0.25, -0.5])[None, :, None, None].expand(1, 2, 16, 18)
    expected = functional.conv2d(
        picture.transpose(0, 1),
        torch.tensor([[0.5 * 0.75, 0.5 * 0.25], [0.5 * 0.75, 0.5 * 0.25]])[None, None],
    ).transpose(0, 1)
    torch.testing.assert_close(fetched(picture, flow)[:, :, 1:, :-1], expected, atol=1e-5, rtol=0)


def test_some_rows_are_those_of_the_whole() -> None:
    picture = torch.rand(1, 3, 40, 30, generator=generator(4))
    flow = 4 * torch.randn(1, 2, 40, 30, generator=generator(5))
    whole = fetched(picture, flow)
    for top, bottom in ((0, 9), (13, 30), (38, 40)):
        part = fetched(picture, flow[:, :, top:bottom], top)
        torch.testing.assert_close(part, whole[:, :, top:bottom], atol=1e-5, rtol=0)
