"""Windows over time and flush tiles: each place is answered for once, as the released code divides them."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from unfade.core import Condition, Denoiser
from unfade.diffusion.tiled import flush_tiles, tiled_by
from unfade.diffusion.windows import Timeline, Window, by_window


def masks(size: int, tile: int, stride: int) -> list[tuple[int, int, int]]:
    """(start, first kept, end of kept) of each tile, worked out as the spec of the released code words it."""
    if size <= tile:
        return [(0, 0, size)]
    count = math.ceil((size - tile) / stride) + 1
    even = math.ceil((size - tile) / (count - 1))
    starts = list(range(0, size - tile + 1, even))
    if (size - tile) % even:
        starts.append(size - tile)
    found: list[tuple[int, int, int]] = []
    for start in starts:
        half = (tile - even) / 2
        first = math.ceil(half) if start else 0
        if start % even:
            first = tile - (math.floor(half) + start % even)
        last = tile if start + tile >= size else tile - math.floor(half)
        found.append((start, start + first, start + last))
    return found


@given(st.integers(1, 600), st.sampled_from([(128, 64), (16, 8), (9, 4)]))
def test_flush_tiles_are_the_published_ones(size: int, rule: tuple[int, int]) -> None:
    tiles = flush_tiles(size, *rule)
    assert [(tile.outer_start, tile.start, tile.stop) for tile in tiles] == masks(size, *rule)
    assert [place for tile in tiles for place in range(tile.start, tile.stop)] == list(range(size))
    assert all(tile.outer_start <= tile.start < tile.stop <= tile.outer_stop for tile in tiles)


def test_widescreen_at_a_short_side_of_1024_is_three_tiles() -> None:
    assert len(flush_tiles(128, 128, 64)) == 1
    assert len(flush_tiles(228, 128, 64)) == 3
    with pytest.raises(ValueError, match="stride of tiles must be 1 to 8, not 9"):
        flush_tiles(20, 8, 9)


def published(
    frames: int, longest: int = 121, stride: int = 4
) -> tuple[list[tuple[int, int]], dict[int, int]]:
    """Frames of each clip, and which clip each shared latent belongs to, as the released script counts them."""
    overlap = (longest - 1) // 2 + 1
    step = longest - overlap
    shared = (overlap - 1) // stride
    count = (frames - longest) // step + 1
    if (count - 1) * step + longest < frames:
        count += 1
    count = max(1, count)
    clips = [(index * step, min(index * step + longest, frames)) for index in range(count)]
    owner: dict[int, int] = {}
    for index, (start, stop) in enumerate(clips):
        length = stop - start
        length += (1 - length) % 8
        latents = (length - 1) // stride
        begin = ((longest - 1) // stride - shared) * index + 1
        valid = latents - shared
        if index in (0, count - 1):
            valid = latents - shared // 2
        if count == 1:
            valid = latents
        first = begin + (shared // 2 if index else 0)
        owner.update(dict.fromkeys(range(first, first + valid), index))
    return clips, owner


@given(st.integers(1, 700))
def test_windows_are_the_published_clips(frames: int) -> None:
    timeline = Timeline.of(frames, 121, 4, 8, 1)
    clips, owner = published(frames)
    assert [(window.start, window.stop) for window in timeline.windows] == clips
    ours = {
        window.slots[number] - 1: index
        for index, window in enumerate(timeline.windows)
        for number in window.owned
        if window.slots[number] >= 2
    }
    assert ours == owner


@given(st.integers(1, 300), st.sampled_from([(9, 1), (17, 1), (25, 2), (33, 4)]))
def test_every_place_and_frame_is_answered_for_once(frames: int, rule: tuple[int, int]) -> None:
    longest, stride = rule
    timeline = Timeline.of(frames, longest, stride, 2 * stride, 1)
    owned = [window.slots[number] for window in timeline.windows for number in window.owned]
    # Two of each window are its own, those of later ones below zero.
    later = 2 * (len(timeline.windows) - 1)
    assert sorted(owned) == list(range(-later, timeline.slots - later))
    kept = [frame for window in timeline.windows for frame in range(window.keep_start, window.keep_stop)]
    assert kept == list(range(frames))
    for window in timeline.windows:
        assert window.start <= window.keep_start < window.keep_stop <= window.stop
        assert len(window.slots) == (window.frames - 1) // stride + 2
        assert window.frames % (2 * stride) == 1 and 0 <= window.padding < 2 * stride
        shared = window.slots[2:]
        assert list(shared) == list(range(shared[0], shared[0] + len(shared))) if shared else True


def test_overlapping_windows_share_their_latents() -> None:
    one, two = Timeline.of(181, 121, 4, 8, 1).windows
    # The second window's sixth latent stands for frames 81 to 84 of the footage, the first window's 21st.
    assert two.slots[2 + 5] == one.slots[2 + 20]


def test_illegal_windows() -> None:
    for longest in (120, 5, 8):
        with pytest.raises(
            ValueError, match="a window must have a multiple of 8 frames and one, and at least 9"
        ):
            Timeline.of(100, longest, 4, 8, 1)
    with pytest.raises(ValueError, match="at least one frame"):
        Timeline.of(0, 9, 4, 8, 1)


@given(st.integers(1, 300))
def test_a_place_has_its_number_however_long_windows_are(frames: int) -> None:
    whole = Timeline.of(frames, 801, 4, 8, 1).windows[0]
    for window in Timeline.of(frames, 17, 4, 8, 1).windows:
        first = window.start // 4
        assert window.slots[2:] == whole.slots[2 + first : len(window.slots) + first]


class Nothing:
    def crop(self, top: int, left: int, height: int, width: int) -> "Nothing":
        return self


def merged(denoiser: Denoiser, windows: tuple[Window, ...], x: Tensor, t: float) -> Tensor:
    """The whole canvas, of which places below zero lie at its end."""
    answer = torch.full_like(x, torch.nan)
    for index, part in by_window(
        denoiser, windows, lambda slots: x[:, :, list(slots)], t, lambda index: Nothing()
    ):
        answer[:, :, [windows[index].slots[number] for number in windows[index].owned]] = part
    return answer


def pointwise(x: Tensor, t: float, condition: Condition) -> Tensor:
    return torch.tanh(x) * t


def test_a_pointwise_denoiser_is_the_same_whole_tiled_and_windowed() -> None:
    timeline = Timeline.of(300, 121, 4, 8, 1)
    x = torch.randn(1, 2, timeline.slots, 11, 23)

    def along(length: int) -> list:  # type: ignore[type-arg]
        return flush_tiles(length, 8, 4)

    whole = pointwise(x, 0.7, Nothing())
    assert torch.equal(tiled_by(pointwise, along)(x, 0.7, Nothing()), whole)
    assert torch.equal(merged(pointwise, timeline.windows, x, 0.7), whole)
    assert torch.equal(merged(tiled_by(pointwise, along), timeline.windows, x, 0.7), whole)


def test_windows_do_what_they_are_for() -> None:
    """A denoiser that looks along time answers for each place from the window that owns it."""
    timeline = Timeline.of(60, 33, 4, 8, 1)

    def looking(x: Tensor, t: float, condition: Condition) -> Tensor:
        return x.cumsum(2)

    x = torch.randn(1, 1, timeline.slots, 2, 2)
    answer = merged(looking, timeline.windows, x, 0.0)
    for window, other in itertools.pairwise(timeline.windows):
        assert window.slots[-1] in other.slots
        for one in (window, other):
            expected = x[:, :, list(one.slots)].cumsum(2)
            for number in one.owned:
                assert torch.equal(answer[:, :, one.slots[number]], expected[:, :, number])
