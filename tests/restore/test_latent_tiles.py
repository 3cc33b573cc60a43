"""Large photos by tiles: nothing changes where a denoiser looks no further than its tile."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from unfade.backbones.wan import Wan, build_wan
from unfade.backbones.wan_config import SMALL
from unfade.backbones.wan_denoiser import WanCondition
from unfade.core import Clip, Condition, Plan, generator
from unfade.diffusion.flow import FlowSchedule, sample_flow
from unfade.diffusion.guidance import Contrast, guided
from unfade.diffusion.sizes import padded_fit
from unfade.diffusion.tiled import tiled
from unfade.restore import walk
from unfade.restore.latent import LatentRestorer, VBridgeSettings
from unfade.restore.walk import Tiling

FP32 = Plan(dtype="fp32", device="cpu", seed=5)
QUICK = VBridgeSettings(frames=5, steps=2, guidance=2, large="tile")


def sentences(prompts: Sequence[str], device: torch.device) -> list[Tensor]:
    return [torch.randn(1, 7, 24, generator=generator(0, prompt)).to(device) for prompt in prompts]


@pytest.fixture(scope="module")
def wan() -> Wan:
    torch.manual_seed(11)
    return build_wan(SMALL)


def restorer(wan: Wan, settings: VBridgeSettings = QUICK) -> LatentRestorer:
    return LatentRestorer("small", wan.config, lambda device, dtype: wan, sentences, settings)


@dataclass
class Pointwise:
    """A velocity that each place decides alone, from its own state and first latent."""

    calls: int = 0

    def __call__(self, x: Tensor, t: float, condition: Condition) -> Tensor:
        assert isinstance(condition, WanCondition)
        assert condition.first.shape[-2:] == x.shape[-2:]
        self.calls += 1
        state = condition.pinned(x)
        return torch.sin(3 * state) + condition.first * (t / 1000) + condition.text.mean()


@pytest.mark.parametrize(("rows", "columns"), [(12, 20), (14, 6), (22, 18)])
def test_a_pointwise_denoiser_gives_the_same_in_tiles(rows: int, columns: int) -> None:
    dice = torch.Generator().manual_seed(rows)
    noise = torch.randn(1, 8, 3, rows, columns, generator=dice)
    first = torch.randn(1, 8, 1, rows, columns, generator=dice)
    told = Contrast(WanCondition(first, torch.ones(1, 2, 3)), WanCondition(first, torch.zeros(1, 2, 3)))
    whole, parts = Pointwise(), Pointwise()
    expected = sample_flow(guided(whole, 3.0), noise, told, FlowSchedule(4))
    in_tiles = sample_flow(tiled(guided(parts, 3.0), 8, 2, 2), noise, told, FlowSchedule(4))
    assert parts.calls > whole.calls == 8
    torch.testing.assert_close(in_tiles, expected, rtol=0, atol=1e-6)


def test_tiles_that_see_everything_are_no_tiles(wan: Wan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "HALO", 512)
    clip = Clip(torch.rand(1, 3, 70, 130, generator=torch.Generator().manual_seed(1)))
    before = wan.denoiser.calls
    whole = restorer(wan).restore(clip, plan=FP32)
    once = wan.denoiser.calls - before
    shares: list[float] = []
    parts = restorer(wan).restore(clip, plan=replace(FP32, tile=64), progress=shares.append)
    assert wan.denoiser.calls - before - once == 6 * once
    assert shares == sorted(shares) and shares[-1] == 1 and len(shares) == 6 * 2 + 2
    assert (whole.provenance["tile"], parts.provenance["tile"]) == ("none", "64")
    torch.testing.assert_close(parts.result.frames, whole.result.frames, rtol=0, atol=1e-5)


def test_tiles_with_their_own_surroundings_restore_the_whole_photo(wan: Wan) -> None:
    clip = Clip(torch.rand(1, 3, 75, 330, generator=torch.Generator().manual_seed(1)))
    settings = replace(QUICK, steps=1, guidance=1)
    before = wan.denoiser.calls
    parts = restorer(wan, settings).restore(clip, plan=replace(FP32, tile=96, keep=False))
    tiles = restorer(wan, settings).num_tiles(75, 330, replace(FP32, tile=96))
    assert wan.denoiser.calls - before == tiles == 4
    assert parts.result.frames.shape == clip.frames.shape
    assert bool(torch.isfinite(parts.result.frames).all())


def test_only_large_photos_are_tiled_by_themselves(wan: Wan) -> None:
    model = restorer(wan)
    assert model.num_tiles(1440, 2560, Plan()) == 1
    assert model.num_tiles(2560, 1440, Plan()) == 1
    assert model.num_tiles(2160, 3840, Plan()) == 6
    assert model.num_tiles(2160, 3840, Plan(tile=0)) == 1
    assert model.num_tiles(2160, 3840, Plan(tile=2048)) == 4
    assert restorer(wan, replace(QUICK, large="resize")).num_tiles(2160, 3840, Plan()) == 1
    assert restorer(wan, replace(QUICK, large="whole")).num_tiles(2160, 3840, Plan()) == 1
    fit = model.fit_for(2160, 3840)
    assert (fit.canvas_width, fit.canvas_height, fit.resized) == (3840, 2176, False)


def test_what_a_tile_sees_is_less_than_the_published_area(wan: Wan) -> None:
    for height, width in ((2160, 3840), (3000, 4000), (6000, 8000), (1500, 9000)):
        fit = padded_fit(height, width, 32)
        tiling = Tiling.of(wan.config, fit, QUICK, Plan())
        windows = tiling.windows(fit.canvas_height // 16, fit.canvas_width // 16)
        assert len(windows) == tiling.count
        assert max(rows * columns * 256 for rows, columns in windows) < 2560 * 1440
        assert sum(rows * columns for rows, columns in windows) * 256 > fit.canvas_height * fit.canvas_width


def test_work_is_counted_before_it_is_done(wan: Wan) -> None:
    told = restorer(wan).work(64, 96, Plan())
    config = wan.config
    assert (told["canvas"], told["tiles"], told["evaluations"]) == ("96x64", 1, 4)
    assert told["petaflops"] == pytest.approx(
        4 * config.forward_flops(config.tokens(5, 64, 96)) / 1e15, rel=1e-2
    )
    drawn = restorer(wan, replace(QUICK, samples=3)).work(64, 96, Plan(steps=5))
    assert drawn["evaluations"] == 3 * 10
