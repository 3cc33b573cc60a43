"""The engine around a small network of the real class: sizes, tiles, steps, frames, provenance."""

import math
import weakref
from pathlib import Path

import pytest
import torch

from unfade import load
from unfade.backbones.doubt import Doubt
from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.tiny_weights import TinyWeights, save_tiny
from unfade.core import Clip, InputError, ModelError, Plan, UsageError, generator
from unfade.media.images import read_image
from unfade.restore.device import choose_device, choose_dtype, has_fast_bf16
from unfade.restore.engine import PixelRestorer

SMALL = TinyConfig(widths=(8, 16, 24), blocks=(1, 1, 1), context=16, buckets=64)


@pytest.fixture(scope="module")
def restorer() -> PixelRestorer:
    torch.manual_seed(0)
    model = Tiny(SMALL)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return PixelRestorer("small", TinyWeights(model.eval(), "0" * 64, {}))


def photo(height: int, width: int, frames: int = 1) -> Clip:
    return Clip(torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(height)))


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (64, 64), (65, 130)])
def test_any_size_comes_back_in_its_size(restorer: PixelRestorer, size: tuple[int, int]) -> None:
    restoration = restorer.restore(photo(*size))
    assert restoration.result.frames.shape == (1, 3, *size)
    assert 0 <= float(restoration.result.frames.min())
    assert float(restoration.result.frames.max()) <= 1


@pytest.mark.parametrize("steps", [1, 3])
def test_tiled_equals_untiled_within_rounding(restorer: PixelRestorer, steps: int) -> None:
    clip = photo(203, 330)
    whole = restorer.restore(clip, plan=Plan(tile=0, steps=steps, dtype="fp32"))
    tiled = restorer.restore(clip, plan=Plan(tile=96, steps=steps, dtype="fp32"))
    assert restorer.num_tiles(203, 330, Plan(tile=96)) == 12
    torch.testing.assert_close(tiled.result.frames, whole.result.frames, atol=1e-3, rtol=0)
    assert whole.provenance["tile"] == "none"
    assert tiled.provenance["tile"] == "96"


def test_the_way_begins_with_the_input_and_has_a_state_for_each_step(restorer: PixelRestorer) -> None:
    clip = photo(32, 32)
    way = restorer.restore(clip, steps=4).trajectory
    assert way.taus == (0, 0.25, 0.5, 0.75, 1)
    assert way[0] is clip
    assert len(list(way.film(9))) == 9


def test_one_step_makes_a_straight_film(restorer: PixelRestorer) -> None:
    clip = photo(32, 32)
    restoration = restorer.restore(clip, steps=1)
    middle = list(restoration.trajectory.film(9))[4]
    torch.testing.assert_close(middle.frames, (clip.frames + restoration.result.frames) / 2)


def test_every_frame_of_a_clip_is_restored_on_its_own(restorer: PixelRestorer) -> None:
    clip = photo(24, 40, frames=3)
    together = restorer.restore(clip).result.frames
    apart = torch.cat([restorer.restore(Clip(frame)).result.frames for frame in clip.frames.split(1)])
    assert torch.equal(together, apart)


def test_scale_enlarges(restorer: PixelRestorer) -> None:
    assert restorer.restore(photo(20, 30), scale=3).result.frames.shape == (1, 3, 60, 90)


def test_progress_ends_at_one_and_never_falls(restorer: PixelRestorer) -> None:
    seen: list[float] = []
    restorer.restore(photo(200, 200), plan=Plan(tile=96, steps=2), progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) == 2 * restorer.num_tiles(200, 200, Plan(tile=96))
    assert seen[-1] == 1


def test_the_prompt_is_read_and_a_blank_one_is_none(restorer: PixelRestorer) -> None:
    clip = photo(32, 32)
    blind = restorer.restore(clip)
    blank = restorer.restore(clip, prompt="  ")
    asked = restorer.restore(clip, prompt="remove the noise")
    assert torch.equal(blind.result.frames, blank.result.frames)
    assert blank.provenance["prompt"] == ""
    assert not torch.equal(blind.result.frames, asked.result.frames)
    assert asked.provenance["prompt"] == "remove the noise"


def test_the_same_request_gives_the_same_picture(restorer: PixelRestorer) -> None:
    one, two = (restorer.restore(photo(40, 40), steps=2).result.frames for _ in range(2))
    assert torch.equal(one, two)


def test_wrong_plans_are_told(restorer: PixelRestorer) -> None:
    with pytest.raises(UsageError, match="scale must be"):
        restorer.restore(photo(8, 8), scale=9)
    with pytest.raises(UsageError, match="speed"):
        restorer.restore(photo(8, 8), speed=9)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no cuda device"):
            restorer.restore(photo(8, 8), device="cuda")


def test_a_path_is_as_good_as_a_clip(restorer: PixelRestorer, examples: Path, tmp_path: Path) -> None:
    path = examples / "chelsea.png"
    assert torch.equal(restorer.restore(path).result.frames, restorer.restore(read_image(path)).result.frames)
    with pytest.raises(InputError):
        restorer.restore(tmp_path / "absent.png")


def test_precision_follows_the_machine() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("fp32", cpu) == torch.float32
    assert choose_dtype("bf16", cpu) == torch.bfloat16
    assert (choose_dtype("auto", cpu) == torch.bfloat16) == has_fast_bf16(cpu)
    assert choose_device("cpu") == cpu


def test_models_load_by_name_or_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown model 'giant'"):
        load("giant")
    with pytest.raises(ModelError, match="no model file"):
        load(tmp_path / "absent.safetensors")
    model = Tiny(SMALL)
    save_tiny(model, model.state_dict(), tmp_path / "mine.safetensors", {})
    assert load(tmp_path / "mine.safetensors").restore(photo(8, 8)).provenance["model"] == "mine.safetensors"


@pytest.mark.parametrize("sigma", [0.1, 0.2])
def test_tiles_of_the_shipped_model_cannot_be_seen(sigma: float, examples: Path) -> None:
    shipped = load("tiny")
    clip = read_image(examples / "astronaut.png")
    noise = sigma * torch.randn(clip.frames.shape, generator=torch.Generator().manual_seed(0))
    clip = clip.with_frames((clip.frames + noise).clamp(0, 1))
    whole = shipped.restore(clip, tile=0, dtype="fp32").result.frames
    tiles = shipped.restore(clip, tile=192, dtype="fp32").result.frames
    assert float((tiles - whole).abs().max()) < 0.5 / 255
    assert float((tiles - whole).abs().mean()) < 0.002 / 255


def test_the_shipped_model_loads_and_fits() -> None:
    restorer = load("tiny")
    assert sum(parameter.numel() for parameter in restorer.weights.model.parameters()) <= 8_000_000
    assert restorer.weights.model.config == TinyConfig(later=0.3)


def test_hidden_colour_changes_nothing_that_is_seen(restorer: PixelRestorer) -> None:
    seen = photo(64, 64).frames
    alpha = torch.zeros(1, 1, 64, 64)
    alpha[..., 16:48, 16:48] = 1
    black, white = (Clip(torch.where(alpha > 0, seen, hidden), alpha=alpha) for hidden in (0.0, 1.0))
    results = [restorer.restore(clip).result.frames for clip in (black, white)]
    assert torch.equal(torch.where(alpha > 0, results[0], 0.0), torch.where(alpha > 0, results[1], 0.0))
    assert torch.equal(torch.where(alpha > 0, 0.0, results[1]), torch.where(alpha > 0, 0.0, white.frames))


def test_grey_stays_grey_all_the_way(restorer: PixelRestorer) -> None:
    from unfade.core import Metadata

    grey = Clip(
        photo(32, 32).frames[:, :1].expand(1, 3, 32, 32).contiguous(), metadata=Metadata(colour="grey")
    )
    for clip in restorer.restore(grey, steps=3).film():
        assert torch.equal(clip.frames[:, 0], clip.frames[:, 2])


def test_the_film_has_the_planned_length(restorer: PixelRestorer) -> None:
    clip = photo(16, 16)
    film = list(restorer.restore(clip, frames=5, steps=2).film())
    assert len(film) == 5
    assert film[0] is clip


@pytest.mark.parametrize(
    "wrong",
    [{"device": "tpu"}, {"dtype": "fp64"}, {"scale": 2.5}, {"steps": 1.5}, {"tile": "big"}, {"frames": True}],
)
def test_every_wrong_plan_is_a_sentence(restorer: PixelRestorer, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        restorer.restore(photo(8, 8), **wrong)


def changing(count: int, height: int = 40, width: int = 56) -> list[torch.Tensor]:
    """A panning view of one picture: different frames of one shot."""
    wide = photo(8, 8 + count).frames
    large = torch.nn.functional.interpolate(wide, (height, width + 2 * count), mode="bilinear")[0]
    return [large[:, :, 2 * index : 2 * index + width].contiguous() for index in range(count)]


def test_a_stream_of_one_frame_is_a_photo(restorer: PixelRestorer) -> None:
    clip = photo(41, 57)
    for plan in (Plan(), Plan(steps=3), Plan(scale=2, tile=64)):
        (result,) = restorer.restore_stream([clip.frames[0]], "remove the noise", plan)
        assert torch.equal(result, restorer.restore(clip, "remove the noise", plan).result.frames[0])


def test_the_first_frame_after_a_cut_equals_restoring_from_there(restorer: PixelRestorer) -> None:
    before, after = changing(4), [1 - frame.flip(2) for frame in changing(5)]
    together = list(restorer.restore_stream(before + after))
    alone = list(restorer.restore_stream(after))
    for one, two in zip(together[4:], alone, strict=True):
        assert torch.equal(one, two)


def test_within_a_shot_earlier_frames_count(restorer: PixelRestorer) -> None:
    frames = [0.3 * photo(40, 56).frames[0] * (1 + 0.1 * index) for index in range(3)]
    together = list(restorer.restore_stream(frames))
    assert torch.equal(together[0], next(restorer.restore_stream(frames)))
    assert not torch.equal(together[2], next(restorer.restore_stream(frames[2:])))


def test_a_stream_holds_one_frame_however_long_it_is(restorer: PixelRestorer) -> None:
    seen: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def alive() -> int:
        return sum(reference() is not None for reference in seen)

    def frames():
        nonlocal most
        for index in range(60):
            frame = torch.full((3, 24, 32), index / 60)
            seen.append(weakref.ref(frame))
            most = max(most, alive())
            yield frame
            del frame

    results: list[weakref.ref[torch.Tensor]] = []
    for result in restorer.restore_stream(frames()):
        results.append(weakref.ref(result))
        most = max(most, alive())
        assert sum(reference() is not None for reference in results) <= 2
        del result
    assert len(seen) == len(results) == 60
    assert most <= 2


def test_a_stream_gives_each_result_before_it_takes_the_next_frame(restorer: PixelRestorer) -> None:
    taken = 0

    def frames():
        nonlocal taken
        for frame in changing(5):
            taken += 1
            yield frame

    for given, _ in enumerate(restorer.restore_stream(frames()), start=1):
        assert taken == given


def test_wrong_streams_are_told(restorer: PixelRestorer) -> None:
    with pytest.raises(UsageError, match="scale must be"):
        restorer.restore_stream([], scale=9)
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no cuda device"):
            restorer.restore_stream([], device="cuda")
    with pytest.raises(ValueError, match="one size"):
        list(restorer.restore_stream([torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)]))
    assert list(restorer.restore_stream([])) == []


def test_provenance_can_be_told_before_any_work(restorer: PixelRestorer) -> None:
    plan = Plan(tile=96, scale=2)
    told = restorer.provenance(60, 100, " sharpen ", plan)
    assert told == restorer.restore(photo(60, 100), "sharpen", plan).provenance
    assert told["tile"] == "96" and told["prompt"] == "sharpen"


def test_confidence_is_a_map_where_errors_can_be_told() -> None:
    torch.manual_seed(0)
    model = Tiny(SMALL)
    sure = PixelRestorer("small", TinyWeights(model.eval(), "0" * 64, {}, doubt=Doubt(SMALL.context).eval()))
    clip = photo(40, 52)
    assert sure.restore(clip).confidence is None
    told = sure.restore(clip, confidence=True).confidence
    assert told is not None and told.shape == (1, 1, 40, 52)
    torch.testing.assert_close(told, torch.full_like(told, 1 - 2 * math.exp(-4)))


def test_confidence_is_refused_where_errors_can_not_be_told(restorer: PixelRestorer) -> None:
    with pytest.raises(UsageError, match="how sure"):
        restorer.restore(photo(40, 52), confidence=True)


def test_words_of_strength_and_unknown_wishes(restorer: PixelRestorer) -> None:
    clip = photo(40, 52)
    blind = restorer.restore(clip)
    vague = restorer.restore(clip, "hello world")
    assert torch.equal(vague.result.frames, blind.result.frames)
    assert vague.provenance["understood"].startswith("no ") and blind.provenance["understood"] == "yes"
    full, half = (restorer.restore(clip, prompt) for prompt in ("brighten it", "slightly brighten it"))
    assert half.provenance["strength"] == "0.5"
    expected = torch.lerp(clip.frames, full.result.frames, 0.5)
    torch.testing.assert_close(half.result.frames, expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("words", ["", "slightly ", "strongly "])
def test_a_named_brightness_is_the_same_of_a_photo_and_of_footage(words: str) -> None:
    """The light that was named is kept, however strongly the rest is asked for."""
    shipped = load("tiny")
    dark = 0.15 * torch.rand(1, 3, 64, 64, generator=generator(0, "dark"))
    prompt = f"{words}brighten it to 30 %"
    photo = shipped.restore(Clip(dark), prompt=prompt).result.frames[0]
    (frame,) = shipped.restore_stream([dark[0]], prompt=prompt)  # type: ignore[attr-defined]
    assert float(photo.mean()) == pytest.approx(0.3, abs=0.02)
    assert float(frame.mean()) == pytest.approx(0.3, abs=0.02)
