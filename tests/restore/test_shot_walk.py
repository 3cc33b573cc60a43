"""One shot through Vivid-VR: the published aggregation, resumption, and what windows and chunks must not change."""

import itertools
import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.diffusion.test_windows import masks, published
from tests.restore.small_vividvr import SETTINGS, TEXTS, footage, restored, small_model, told, walk
from torch import Tensor

from unfade.conditioning.control_denoiser import ControlCondition
from unfade.core import UsageError, generator
from unfade.diffusion.v_schedule import VSchedule
from unfade.restore.chunks import FolderChunks, MemoryChunks
from unfade.restore.shot_walk import ShotWalk
from unfade.restore.vividvr import VividSettings, vivid_settings


def literal(made: ShotWalk, settings: VividSettings, frames: int) -> list[Tensor]:
    """The released script's loop: each clip has its own latents and history, each tile its own guidance and solver;
    tiles are merged by masks and clips by overwriting, after every step. Clips, tiles and who answers for what are
    counted as the script counts them; only what was encoded and the noise are shared. Gives each clip's latents."""
    model = made.model
    clips, owner = published(frames, settings.window)
    # Latents by which a clip begins after the one before.
    ahead = (settings.window - 1) // 2 // 4
    scheduler: Any = VSchedule(settings.steps, "dpm", model.config.scheduler).scheduler()
    times = [int(time) for time in scheduler.timesteps]
    lows = [made.low(index) for index in range(len(clips))]
    shape = (1, lows[0].shape[1], 1, *lows[0].shape[3:])

    def shared(index: int) -> range:
        """The latents of a clip but for its first one and the copy of that, by their number in the footage."""
        return range(index * ahead + 1, index * ahead + lows[index].shape[2] - 1)

    def places(index: int) -> list[int]:
        """What noise is drawn by."""
        return [-2 * index, 1 - 2 * index, *(number + 1 for number in shared(index))]

    def drawn(slot: int, *names: object) -> Tensor:
        return torch.randn(shape, generator=generator(7, "shot", *names, slot))  # type: ignore[arg-type]

    def again(step: int, slot: int) -> Tensor:
        dice = generator(7, "shot", "step", step, slot)
        frames_first = (1, 1, *shape[1:2], *shape[3:])
        noise = torch.randn(frames_first, generator=dice)
        if 0 < step < len(times) - 1:
            # A step of second order draws once more and throws the first away.
            noise = torch.randn(frames_first, generator=dice)
        return noise.transpose(1, 2)

    states = [
        torch.cat([drawn(slot, "start") for slot in places(index)], dim=2) for index in range(len(clips))
    ]
    history: list[Tensor | None] = [None] * len(clips)
    tile = settings.tile // 8
    rows, columns = (masks(side, tile, tile // 2) for side in shape[3:])
    for step, time in enumerate(times):
        for index in range(len(clips)):
            x, low, before = states[index], lows[index], history[index]
            noise = torch.cat([again(step, slot) for slot in places(index)], dim=2)
            after, clean, weight = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)
            for (top, *rows_kept), (left, *columns_kept) in itertools.product(rows, columns):
                place = (..., slice(top, top + tile), slice(left, left + tile))
                v = [
                    model.denoiser(x[place], float(time), ControlCondition(low[place], text)).float()
                    for text in TEXTS
                ]
                guided = v[1] + settings.guidance * (v[0] - v[1])
                a = scheduler.alphas_cumprod[time]
                x0 = a.sqrt() * x[place] - (1 - a).sqrt() * guided
                if settings.pull is not None:
                    x0 = x0 + (time / 1000) ** settings.pull * (low[place] - x0)
                old = None if before is None else before[place]
                stepped = solved(scheduler, step, times, x0, old, x[place], noise[place])
                mask = torch.zeros_like(x[place])
                inner = [
                    slice(*(end - top for end in rows_kept)),
                    slice(*(end - left for end in columns_kept)),
                ]
                mask[..., *inner] = 1
                after[place] += stepped * mask
                clean[place] += x0 * mask
                weight[place] += mask
            assert torch.equal(weight, torch.ones_like(weight))
            states[index], history[index] = after, clean
        for index in range(len(clips)):
            for here, number in enumerate(shared(index), 2):
                other = owner[number]
                there = 2 + number - shared(other).start
                states[index][:, :, here] = states[other][:, :, there]
                history[index][:, :, here] = history[other][:, :, there]  # type: ignore[index]
    return states


def solved(
    scheduler: Any, step: int, times: list[int], x0: Tensor, old: Tensor | None, x: Tensor, noise: Tensor
) -> Tensor:
    """SDE-DPM-Solver++(2M) in its own words: first order on the first and the last step."""
    alphas = scheduler.alphas_cumprod
    after = times[step] - 1000 // len(times)
    a, b = alphas[times[step]], alphas[after] if after >= 0 else torch.tensor(1.0)
    lam, lam_next = (((one / (1 - one)) ** 0.5).log() for one in (a, b))
    h = lam_next - lam
    kept = ((1 - b) / (1 - a)) ** 0.5 * (-h).exp()
    led, added = b**0.5 * torch.expm1(-2 * h), (1 - b) ** 0.5 * (1 - (-2 * h).exp()) ** 0.5
    if old is not None and after >= 0:
        back = alphas[times[step - 1]]
        r = (lam - ((back / (1 - back)) ** 0.5).log()) / h
        x0 = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * old
    return kept * x - led * x0 + added * noise


@pytest.mark.parametrize("fidelity", [0.0, 0.3])
def test_it_is_the_published_aggregation(fidelity: float) -> None:
    settings = replace(SETTINGS, fidelity=fidelity)
    clip = footage(30)
    made = walk(small_model(), clip, settings)
    assert len(made.timeline.windows) == 3
    restored(made, clip)
    states = literal(made, settings, 30)
    for window, state in zip(made.timeline.windows, states, strict=True):
        ours = made._read(window.slots)
        assert float((ours - state).abs().max()) < 2e-4 * float(state.abs().max())


class Pointwise:
    """Answers value by value, of what is seen there and the prompt."""

    def __call__(self, x: Tensor, t: float, condition: ControlCondition) -> Tensor:
        return torch.tanh(x) * (t / 1000) + 0.1 * condition.low + condition.text.mean()


@pytest.mark.parametrize(("window", "tile"), [(17, 0), (41, 64), (17, 64), (25, 32)])
def test_windows_and_tiles_change_nothing_that_a_pointwise_denoiser_says(window: int, tile: int) -> None:
    """The walk's own states, through its guidance, its pull, its noise and its solver."""
    clip = footage(41)
    model: Any = replace(small_model(), denoiser=Pointwise())  # type: ignore[type-var]
    whole, parts = (
        walk(model, clip, replace(SETTINGS, window=frames, tile=side, fidelity=0.3))
        for frames, side in ((41, 0), (window, tile))
    )
    assert len(whole.timeline.windows) == 1
    low = torch.randn(1, 4, 12, 8, 12, generator=torch.Generator().manual_seed(3))
    for made in (whole, parts):
        for index, part in enumerate(made.timeline.windows):
            # Latents that only a later window has, below zero, show what the first window's do.
            places = [max(slot, slot % 2) for slot in part.slots]
            made.chunks.put(made._low(index), {"low": low[:, :, places]})
        made.denoise(told)
    assert len(parts.timeline.windows) == {17: 4, 25: 3, 41: 1}[window]
    slots = whole.timeline.windows[0].slots
    assert torch.equal(whole._read(slots), parts._read(slots))


def test_frames_and_sizes_come_back() -> None:
    model = small_model()
    for frames, height, width in ((1, 33, 47), (9, 64, 64), (26, 50, 81)):
        clip = footage(frames, height, width)
        assert restored(walk(model, clip), clip).shape == clip.shape


def test_a_window_alone_is_decoded_as_its_own_clip() -> None:
    """A shot of one window is what the VAE makes of its latents as a whole."""
    model, clip = small_model(), footage(11)
    made = walk(model, clip)
    result = restored(made, clip)
    (window,) = made.timeline.windows
    whole = torch.cat(list(model.vae.decode(made._read(window.slots)[:, :, 1:])), dim=2)[0].transpose(0, 1)
    expected = torch.stack([made.fit.leave(frame) for frame in whole[:11]])
    assert float((result - expected).abs().max()) <= 1 / 65535


class Stops(MemoryChunks):
    """Chunks that fail when the n-th thing is to be kept, before or after it is."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        super().put(name, tensors)


def test_stopped_anywhere_it_goes_on_to_the_same_result() -> None:
    model, clip = small_model(), footage(26, 32, 48)
    settings = replace(SETTINGS, steps=2, tile=0)
    wanted = restored(walk(model, clip, settings), clip)
    for after in (0, 4, 9, 13, 19):
        chunks = Stops(after)
        with pytest.raises(KeyboardInterrupt):
            restored(walk(model, clip, settings, chunks), clip)
        chunks.left = 10**6
        before = model.denoiser.calls
        assert torch.equal(restored(walk(model, clip, settings, chunks), clip), wanted), after
        assert model.denoiser.calls - before <= 2 * 2 * 3


def test_nothing_is_evaluated_twice(tmp_path: Path) -> None:
    model, clip = small_model(), footage(26, 32, 90)
    chunks = FolderChunks(tmp_path / "work", {"run": 1})
    first = restored(walk(model, clip, chunks=chunks), clip)
    calls, encoded = model.denoiser.calls, model.vae.frames_encoded
    again = restored(walk(model, clip, chunks=FolderChunks(tmp_path / "work", {"run": 1})), clip)
    assert torch.equal(first, again)
    assert (model.denoiser.calls, model.vae.frames_encoded) == (calls, encoded)
    assert torch.equal(first, restored(walk(model, clip), clip))
    with pytest.raises(UsageError, match="keeps the work of another run"):
        FolderChunks(tmp_path / "work", {"run": 2})
    made = walk(model, clip, chunks=chunks)
    assert made.decoded
    made.settle()
    kept = sorted(path.name for path in (tmp_path / "work").rglob("*") if path.is_file())
    assert kept == [".lock", *(f"frames-{index:05d}.safetensors" for index in range(3)), "work.json"]
    assert torch.equal(first, torch.stack([frame for index in range(3) for frame in made.decode(index)]))
    chunks.clear()
    assert not (tmp_path / "work").exists()


def test_snapshots_lead_to_the_result() -> None:
    model, clip = small_model(), footage(9)
    made = walk(model, clip, snapshots=(1, 3, 4))
    result = restored(made, clip)
    films = [torch.stack(list(made.decode(0, step))) for step in (1, 3, 4)]
    gaps = [float((film - result).abs().mean()) for film in films]
    assert gaps[0] > gaps[1] > gaps[2]
    # The last step adds no noise: what leads it is the result.
    assert gaps[2] <= 1e-4


def test_the_seed_and_the_shot_decide_the_noise() -> None:
    model, clip = small_model(), footage(9)
    made = walk(model, clip)
    other = ShotWalk(model, SETTINGS, made.timeline, (60, 90), MemoryChunks(), 8, "shot")
    third = ShotWalk(model, SETTINGS, made.timeline, (60, 90), MemoryChunks(), 7, "shot 2")
    noises = [one._noise(made.timeline.windows[0]) for one in (made, other, third)]
    assert not torch.equal(noises[0], noises[1]) and not torch.equal(noises[0], noises[2])
    assert float(noises[0].std()) == pytest.approx(1, abs=0.05)


def test_settings() -> None:
    assert VividSettings().pull is None
    assert VividSettings(fidelity=0.5).pull == 1.0
    assert VividSettings().target(540, 960) == (1024, 1820)
    assert VividSettings().target(540, 960, scale=2) == (1080, 1920)
    assert VividSettings(short_side=0).target(540, 960) == (540, 960)
    config = small_model().config
    with pytest.raises(UsageError, match="a window must have a multiple of 8 frames and one"):
        VividSettings(window=20).timeline(config, 40)
    with pytest.raises(UsageError, match="fidelity must be at least 0 and below 1, not 1"):
        vivid_settings({"fidelity": 1.0})
    with pytest.raises(UsageError, match="Vivid-VR has no use for drift"):
        vivid_settings({"drift": "never"})
    with pytest.raises(UsageError, match="tile must be a multiple of 16, not 72"):
        VividSettings(tile=72).along(config, 30)
    assert told(0, torch.zeros(1))[1] is not None


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    kept = FolderChunks(tmp_path / "work", {"seed": 1})

    def beside() -> None:
        try:
            FolderChunks(tmp_path / "work", {"seed": 1})
        except UsageError as error:
            os._exit(7 if "another process is at work in" in str(error) else 1)

    other = multiprocessing.get_context("fork").Process(target=beside)
    other.start()
    other.join(30)
    assert other.exitcode == 7
    # In the same process it goes on, and another run is told what is different.
    FolderChunks(tmp_path / "work", {"seed": 1})
    with pytest.raises(UsageError, match=r"work of another run \(other seed\)"):
        FolderChunks(tmp_path / "work", {"seed": 2})
    assert not kept.has("anything")
