"""Windows that fade into one another: who has a say in which frame, how much, and what that must not change."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.restore.small_vividvr import SETTINGS, footage, restored, small_model, told, walk
from torch import Tensor

from unfade.core import UsageError
from unfade.diffusion.windows import Timeline
from unfade.restore.chunks import FolderChunks, MemoryChunks, from_levels
from unfade.restore.shot_walk import ShotWalk

NINE = replace(SETTINGS, window=9, tile=0, steps=2)
PIECE = ("frames", "edges")


@given(st.integers(1, 200), st.sampled_from([9, 17, 121]), st.data())
def test_around_each_cut_two_windows_have_a_say(frames: int, longest: int, data: st.DataObject) -> None:
    fade = data.draw(st.integers(0, (longest - 1) // 2))
    plain, faded = Timeline.of(frames, longest, 4, 8, 1), Timeline.of(frames, longest, 4, 8, 1, fade)
    assert faded.slots == plain.slots
    assert [one.owned for one in faded.windows] == [one.owned for one in plain.windows]
    says = [number for window in faded.windows for number in window.decoded]
    cuts = [window.keep_start for window in faded.windows[1:]]
    twice = {number for cut in cuts for number in range(cut - fade // 2, cut + fade - fade // 2)}
    assert sorted(says) == sorted([*range(frames), *twice]) and len(twice) == fade * len(cuts)
    for window in faded.windows:
        assert window.start <= window.decoded.start and window.decoded.stop <= window.stop
        # Never its first frame, whose latent no other window has.
        assert window.start == 0 or not fade or window.decoded.start > window.start


def test_frames_between_two_windows_are_both_in_even_steps() -> None:
    model, clip = small_model(), footage(17, 16, 16)
    made = {fade: restored_walk(walk(model, clip, replace(NINE, crossfade=fade)), clip) for fade in (0, 3, 4)}
    hard, first_cut = made[0][1], 7
    for fade in (3, 4):
        faded, frames = made[fade]
        start = first_cut - fade // 2
        one, two = ends(faded, 0, start, fade), ends(faded, 1, start, fade)
        assert float((one - two).abs().mean()) > 0.01
        shares = torch.arange(1, fade + 1).view(-1, 1, 1, 1) / (fade + 1)
        assert torch.allclose(frames[start : start + fade], one + shares * (two - one), atol=1e-6)
        assert torch.equal(frames[:start], hard[:start])
        # The step across the cut becomes smaller.
        steps = [float(clip.diff(dim=0).abs().mean((1, 2, 3))[first_cut - 1]) for clip in (hard, frames)]
        assert steps[1] < steps[0]


def restored_walk(made: ShotWalk, clip: Tensor) -> tuple[ShotWalk, Tensor]:
    return made, restored(made, clip)


def ends(made: ShotWalk, index: int, start: int, count: int) -> Tensor:
    """What a window alone says of some frames."""
    window = made.timeline.windows[index]
    pieces: dict[str, Tensor] = {}
    for name in PIECE:
        pieces |= made.chunks.get(f"{made.name}/{name}-{index:05d}") or {}
    all_of_it = torch.cat([pieces["before"], pieces["frames"], pieces["after"]])
    first = start - window.decoded.start
    return torch.stack([from_levels(frame) for frame in all_of_it[first : first + count]])


class Stops(MemoryChunks):
    """Chunks that fail when the n-th piece of decoded frames is to be kept."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        if name.split("/")[-1].startswith(PIECE):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        super().put(name, tensors)


def test_stopped_anywhere_it_goes_on_to_the_same_result() -> None:
    model, clip, settings = small_model(), footage(17, 16, 16), replace(NINE, crossfade=4)
    wanted = restored(walk(model, clip, settings), clip)
    for after in range(6):
        chunks = Stops(after)
        with pytest.raises(KeyboardInterrupt):
            restored(walk(model, clip, settings, chunks), clip)
        chunks.left = 10**6
        assert torch.equal(restored(walk(model, clip, settings, chunks), clip), wanted), after


def test_no_window_is_decoded_twice_nor_held_besides(tmp_path: Path) -> None:
    """In whatever order frames are asked for; nothing but frames is left when all are done."""
    model, clip, settings = small_model(), footage(17, 16, 16), replace(NINE, crossfade=4)
    chunks = FolderChunks(tmp_path / "work", {"run": 1})
    made = walk(model, clip, settings, chunks)
    made.encode(clip)
    made.denoise(told)
    decoded = counted(model.vae, "decode")
    parts = {index: list(made.decode(index)) for index in (2, 0, 1)}
    assert len(decoded) == 3
    made.settle()
    names = [f"{piece}-{index:05d}.safetensors" for piece in sorted(PIECE) for index in range(3)]
    assert sorted(path.name for path in (tmp_path / "work").rglob("*.safetensors")) == names
    again = walk(model, clip, settings, chunks)
    assert again.decoded and len(decoded) == 3
    for index, frames in parts.items():
        assert all(torch.equal(*both) for both in zip(frames, again.decode(index), strict=True))
        assert all(
            torch.equal(*both) for both in zip(frames[1:3], again.decode(index, None, 1, 3), strict=True)
        )


def counted(module: object, name: str) -> list[int]:
    """Grows whenever the module's function is called."""
    given: Callable[..., object] = getattr(module, name)
    calls: list[int] = []

    def call(*arguments: object) -> object:
        calls.append(1)
        return given(*arguments)

    setattr(module, name, call)
    return calls


def test_a_fade_longer_than_the_overlap_is_refused() -> None:
    config = small_model().config
    assert len(replace(NINE, crossfade=4).timeline(config, 17).windows) == 3
    with pytest.raises(UsageError, match="windows of 9 frames fade over 0 to 4 of them, not over 5"):
        replace(NINE, crossfade=5).timeline(config, 17)
    with pytest.raises(ValueError, match="crossfade can't be negative"):
        replace(NINE, crossfade=-1)
