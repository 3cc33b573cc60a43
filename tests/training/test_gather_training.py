"""Windows of moving clips, and real steps of the real trainer that learns from them, made small."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unfade.backbones.doubt import Doubt
from unfade.backbones.gather import Gather
from unfade.backbones.tiny import Tiny, TinyConfig, thumbnail_of
from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.backbones.trust import Trust
from unfade.core import InputError, UnfadeError, UsageError, generator
from unfade.degrade import SINGLE, Composition, draw_composition
from unfade.degrade.noise import GaussianNoise
from unfade.degrade.over_time import degraded_over_time
from unfade.recipes.run_gather import run_gather
from unfade.training import windows as module
from unfade.training.gather import GatherRun, GatherTrainer, judged
from unfade.training.moving import MovingRule, moving_clip
from unfade.training.photos import Photos, load_photos
from unfade.training.samples import draw_mixture
from unfade.training.update import update
from unfade.training.windows import WindowRule, Windows, draw_windows

SMALL = TinyConfig(widths=(8, 8, 8), blocks=(1, 1, 1), context=16, buckets=64)
RULE = WindowRule(moving=MovingRule(size=32), clips=2)
# Cheap clips, for what is counted.
PLAIN = WindowRule(
    moving=MovingRule(frames=5, size=16, parallax=0, moving=0, light=0, reduced=0),
    noisy=1,
    partial=0,
    compressed=0,
)
# Short clips, and no H.265, which takes long to begin: several trainers take steps here.
SHORT = replace(RULE, moving=MovingRule(frames=6, size=32), codecs=(("h264", 1.0, (18.0, 38.0)),))
RUN = GatherRun(windows=SHORT, steps=4, warmup=2, held_out=1, validate_every=100, checkpoint_every=2)


@pytest.fixture(scope="module")
def photos(examples: Path) -> Photos:
    return load_photos([examples])


def network(context: int = 16) -> Tiny:
    torch.manual_seed(0)
    return Tiny(replace(SMALL, context=context))


def drawn(photos: Photos, rule: WindowRule, seed: int) -> Windows:
    return draw_windows(photos, rule, random.Random(seed), generator(seed, "fields"))


def still(frame: Tensor, clips: int, sigma: float) -> Windows:
    """Clips of one picture that stands still, with noise of its own in each frame."""
    clean = frame.expand(clips, 7, -1, -1, -1)
    degraded = clean + sigma / 255 * torch.randn(clean.shape, generator=generator(1, "still"))
    thumbnails = torch.stack([thumbnail_of(clip).mean(0) for clip in degraded])
    return Windows(degraded, clean, thumbnails, [None] * clips, (-2, -1, 1, 2))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("seed", range(2))
def test_windows_are_what_files_would_hold(photos: Photos, seed: int) -> None:
    found = drawn(photos, RULE, seed)
    assert found.degraded.shape == found.clean.shape == (2, 7, 3, 32, 32)
    assert len(found.prompts) == 2
    for pixels in (found.degraded, found.clean):
        torch.testing.assert_close(pixels * 255, (pixels * 255).round(), atol=1e-3, rtol=0)
        assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1
    for clip, thumbnail in zip(found.degraded, found.thumbnails, strict=True):
        torch.testing.assert_close(
            thumbnail, torch.cat([thumbnail_of(frame) for frame in clip.split(1)]).mean(0)
        )


def test_the_same_dice_draw_the_same_windows(photos: Photos) -> None:
    one, again, other = (drawn(photos, RULE, seed) for seed in (5, 5, 6))
    for name in ("degraded", "clean", "thumbnails"):
        assert torch.equal(getattr(one, name), getattr(again, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))
    assert (one.prompts, one.offsets) == (again.prompts, again.offsets)


@pytest.mark.parametrize("length", [5, 7, 9])
def test_neighbours_are_found_by_their_offset(length: int) -> None:
    clips = torch.arange(2 * length).reshape(2, length, 1, 1, 1).expand(-1, -1, 3, 4, 4)
    found = Windows(clips, clips, torch.zeros(2, 3, 32, 32), [None, None], (-1, 1))
    restored = [clip * length + time for clip in (0, 1) for time in range(2, length - 2)]
    for offset in (-2, -1, 0, 1, 2):
        frames = found.frames(found.degraded, offset)
        assert frames.shape == (len(restored), 3, 4, 4)
        assert frames[:, 0, 0, 0].tolist() == [place + offset for place in restored]
    assert list(found.restored) == list(range(2, length - 2))


def test_most_frames_have_all_their_neighbours_and_some_are_at_an_end(photos: Photos) -> None:
    rule = replace(PLAIN, clips=1)
    assert {drawn(photos, replace(rule, whole=1), seed).offsets for seed in range(5)} == {(-2, -1, 1, 2)}
    ends = [drawn(photos, replace(rule, whole=0), seed).offsets for seed in range(40)]
    assert (-2, -1, 1, 2) not in ends
    assert {(1, 2), (-2, -1)} <= set(ends)
    for offsets in ends:
        assert offsets and list(offsets) == sorted(set(offsets))
        assert set(offsets) <= {-2, -1, 1, 2}


def test_what_is_to_stay_is_in_the_target(photos: Photos) -> None:
    rule = replace(RULE, clips=1, partial=1, moving=MovingRule(frames=5, size=32))
    stayed = untouched = 0
    for seed in range(8):
        found = drawn(photos, rule, seed)
        # The same dice again, up to what the clip was degraded by.
        dice, fields = random.Random(seed), generator(seed, "fields")
        clean = moving_clip(photos, rule.moving, dice, fields)
        dice.random()
        kinds, asked = draw_mixture(dice)
        whole = draw_composition(kinds, fields, (1, 32, 32), codec="torch")
        left = Composition(tuple(part for part in whole.parts if type(part) not in asked))
        for part, clip in ((whole, found.degraded), (left, found.clean)):
            expected = part(clean[:1]).mul(255).round().div(255)
            torch.testing.assert_close(clip[0, :1], expected, atol=1e-6, rtol=0)
        assert found.prompts[0]
        stayed += bool(left.parts) and not torch.equal(found.clean[0], clean)
        untouched += torch.equal(found.clean, found.degraded)
        assert torch.equal(found.clean, found.degraded) == (not set(asked) & set(kinds))
    assert stayed > 2
    assert untouched < 4


def test_prompts_are_given_as_often_as_said(photos: Photos) -> None:
    rule = replace(PLAIN, clips=20)
    assert all(drawn(photos, replace(rule, prompted=1), 0).prompts)
    assert not any(drawn(photos, replace(rule, prompted=0), 0).prompts)


def test_so_many_clips_go_through_a_codec(photos: Photos, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float]] = []

    def noted(clip: Tensor, codec: str, quality: float, preset: str) -> Tensor:
        assert preset == "veryfast"
        seen.append((codec, quality))
        return clip

    monkeypatch.setattr(module, "compressed", noted)
    rule = replace(PLAIN, clips=40, compressed=0.6)
    drawn(photos, rule, 0)
    assert 15 <= len(seen) <= 33
    assert 0.5 < sum(codec == "h264" for codec, _ in seen) / len(seen) < 0.95
    for codec, quality in seen:
        assert {"h264": 18, "h265": 20}[codec] <= quality <= 38
    seen.clear()
    drawn(photos, replace(rule, clips=4, compressed=0), 0)
    drawn(photos, replace(rule, clips=4, partial=1, compressed=1), 0)
    assert not seen
    drawn(photos, replace(rule, clips=4, compressed=1), 0)
    assert len(seen) == 4


def test_the_codec_is_a_real_one_and_comes_last(photos: Photos) -> None:
    rule = replace(RULE, clips=1, noisy=1, partial=0, prompted=0, codecs=(("h264", 1.0, (38.0, 38.0)),))
    with_it, without = (drawn(photos, replace(rule, compressed=share), 3) for share in (1, 0))
    assert torch.equal(with_it.clean, without.clean)
    # Noise is what a codec drops first.
    detail = [float(one.degraded.diff(dim=1).square().mean()) for one in (with_it, without)]
    assert 0 < detail[0] < 0.5 * detail[1]


def test_noise_is_another_in_every_frame_and_as_strong() -> None:
    clip = torch.full((6, 3, 48, 48), 0.5)
    noise = GaussianNoise(torch.tensor([15.0]), torch.randn(1, 3, 48, 48, generator=generator(0)))
    degraded, rest = degraded_over_time(clip, Composition((noise,)), generator(1))
    assert torch.equal(rest, clip)
    assert torch.equal(degraded[:1], noise(clip[:1]))
    fields = (degraded - clip).flatten(1) * 255
    torch.testing.assert_close(fields.std(1), torch.full((6,), 15.0), rtol=0.05, atol=0)
    together = torch.corrcoef(fields) - torch.eye(6)
    assert together.abs().max() < 0.06


def test_haze_stays_where_it_is_and_is_left_alone_where_asked() -> None:
    frame = torch.rand(1, 3, 32, 40, generator=generator(2))
    kinds = (*SINGLE["haze"], *SINGLE["gaussian-noise"])
    whole = draw_composition(kinds, generator(3), (1, 32, 40))
    haze, noise = whole.parts
    still_hazy = haze(frame)
    degraded, rest = degraded_over_time(
        frame.expand(4, -1, -1, -1), whole, generator(4), SINGLE["gaussian-noise"]
    )
    assert torch.equal(rest, still_hazy.expand(4, -1, -1, -1))
    dice = generator(4)
    for shown in degraded.split(1):
        assert torch.equal(shown, noise(still_hazy))
        noise = noise.anew(dice)
    assert not torch.equal(degraded[0], degraded[1])
    hazy, _ = degraded_over_time(frame.expand(4, -1, -1, -1), Composition((haze,)), generator(4))
    assert torch.equal(hazy, rest)


def test_before_any_training_what_is_left_is_what_averages_leave(photos: Photos, tmp_path: Path) -> None:
    """An untrained network changes nothing, so both losses of a still clip can be told in advance."""
    trainer = GatherTrainer(RUN, network(), photos, tmp_path)
    picture = photos[0][:, 60:108, 80:128] / 255
    with torch.no_grad():
        clean, noisy = (float(trainer._loss(still(picture, 1, sigma))) for sigma in (0.0, 25.0))
    # Only the constant below the roots is left of nothing.
    assert clean == pytest.approx(1.3 * 0.005 / RUN.floor, rel=0.02)
    # A fifth of the variance; of two averages, one frame of five is another.
    expected = math.sqrt(1 / 5) + RUN.steady * math.sqrt(2 / 25 / 2)
    # A little less, since frames that are moved by a share of a pixel are smoothed by it.
    assert 0.8 * expected < noisy < 1.02 * expected


def test_the_loss_falls_and_the_network_stays_as_it_is(photos: Photos, tmp_path: Path) -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = GatherTrainer(RUN, model, photos, tmp_path)
    batch = drawn(photos, replace(SHORT, clips=1, noisy=1, partial=0, compressed=0), 0)
    # What an average can't mend: everything is paler too.
    batch = replace(batch, degraded=0.8 * batch.degraded + 0.1, offsets=(-2, -1, 1, 2))
    losses: list[float] = []
    for step in range(10):
        loss, rate = trainer._loss(batch), 1e-3 * min(1, (step + 1) / 4)
        losses.append(
            update(trainer.gather, trainer.optimizer, trainer.average, loss, trainer.team, step, rate, 0.9)
        )
    assert max(losses[-3:]) < 0.8 * losses[0]
    assert all(part.grad is None for part in model.parameters())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_resuming_equals_never_stopping(photos: Photos, tmp_path: Path) -> None:
    whole = GatherTrainer(RUN, network(), photos, tmp_path / "whole")
    whole.run()
    fresh = GatherTrainer(RUN, network(), photos, tmp_path / "broken")
    assert same(fresh.averaged(), fresh.gather)
    assert not fresh.resume()
    fresh.run(until=2)
    with (tmp_path / "broken/log.jsonl").open("a") as log:
        log.write('{"step": 3, "loss": 0.5}\n')
    second = GatherTrainer(RUN, network(), photos, tmp_path / "broken")
    assert second.resume()
    assert second.step == 2
    assert not same(second.gather, whole.gather)
    second.run()
    assert second.step == whole.step == 4
    assert same(second.gather, whole.gather)
    assert same(second.averaged(), whole.averaged())
    assert not same(whole.averaged(), whole.gather)
    rows = [json.loads(line) for line in (tmp_path / "broken/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    last = json.loads((tmp_path / "whole/log.jsonl").read_text().splitlines()[-1])
    assert last["psnr"] == rows[-1]["psnr"]


def test_another_networks_checkpoint_is_refused(photos: Photos, tmp_path: Path) -> None:
    GatherTrainer(RUN, network(), photos, tmp_path).save()
    other = network()
    with torch.no_grad():
        other.tone.bias[0] += 0.1
    for one in (network(24), other):
        with pytest.raises(InputError, match="other weights"):
            GatherTrainer(RUN, one, photos, tmp_path).resume()
    (tmp_path / "checkpoint.pt").write_bytes(b"cut off")
    with pytest.raises(InputError, match="damaged"):
        GatherTrainer(RUN, network(), photos, tmp_path).resume()


def test_a_loss_that_is_not_a_number_keeps_the_state(photos: Photos, tmp_path: Path) -> None:
    trainer = GatherTrainer(RUN, network(), photos, tmp_path)
    trainer.run(until=2)
    with torch.no_grad():
        trainer.gather.leave.bias[0] = float("nan")  # type: ignore[index]
    kept = {name: value.clone() for name, value in trainer.average.items()}
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        trainer.run()
    assert trainer.step == 2
    assert all(torch.equal(trainer.average[name], value) for name, value in kept.items())


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    run = GatherRun()
    rates = [run.rate(step) for step in range(run.steps + 1)]
    assert rates[0] == pytest.approx(run.lr / run.warmup, rel=1e-3)
    assert rates.index(max(rates)) == run.warmup - 1
    assert max(rates) == pytest.approx(run.lr, rel=0.01)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert all(
        later <= earlier for earlier, later in zip(rates[run.warmup :], rates[run.warmup + 1 :], strict=False)
    )


def test_what_is_judged_is_the_input_alone_and_together(photos: Photos) -> None:
    held_out = photos.split(1)[1]
    table = judged(network().eval(), Gather(16).eval(), held_out, RUN)
    assert list(table) == ["noise-20", "noise-20-h264-23", "h264-32"]
    for given, alone, together in table.values():
        assert all(math.isfinite(figure) and 15 < figure < 60 for figure in (given, alone, together))
        # An untrained network changes nothing.
        assert alone == pytest.approx(given, abs=0.01)
        assert together != alone
    # Noise of sigma 20, a little of it clipped away.
    assert table["noise-20"][0] == pytest.approx(20 * math.log10(255 / 20), abs=0.6)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A network with its judgement, and one word about its training."""
    model, trust, doubt = network(), Trust(), Doubt(16)
    torch.nn.init.normal_(trust.layers[0].weight)  # type: ignore[arg-type]
    path = tmp_path / "weights.safetensors"
    save_tiny(model, model.state_dict(), path, {"steps": "3"}, trust, doubt)
    return path


def test_a_run_writes_the_weights_with_all_they_had(examples: Path, weights: Path, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = []
    written = run_gather([examples], weights, tmp_path / "run", run=RUN, steps=2, report=rows.append)
    before, after = load_tiny(weights), load_tiny(written)
    assert after.gather is not None and not same(after.gather, Gather(16))
    assert before.trust is not None and after.trust is not None and same(after.trust, before.trust)
    assert before.doubt is not None and after.doubt is not None and same(after.doubt, before.doubt)
    assert same(after.model, before.model)
    assert after.notes["steps"] == "3"
    told = json.loads(after.notes["footage"])
    assert (told["steps"], told["windows"]["clips"]) == (2, 2)
    assert [row["step"] for row in rows] == [2]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "checkpoint.pt",
        "log.jsonl",
        "tiny.safetensors",
    }
    # Started again it is done already.
    again = load_tiny(run_gather([examples], weights, tmp_path / "run", run=RUN, steps=2))
    assert again.gather is not None and same(again.gather, after.gather)


def test_a_run_begins_from_what_another_learnt(examples: Path, weights: Path, tmp_path: Path) -> None:
    first = run_gather([examples], weights, tmp_path / "first", run=RUN, steps=2)
    still = replace(RUN, lr=0.0)
    second = run_gather([examples], weights, tmp_path / "second", run=still, steps=1, start=first)
    learnt, taken = load_tiny(first).gather, load_tiny(second).gather
    assert learnt is not None and taken is not None and same(taken, learnt)
    with pytest.raises(UsageError, match="nothing of footage"):
        run_gather([examples], weights, tmp_path / "third", run=RUN, start=weights)


def test_clips_without_damage_are_not_always_spoilt_by_a_codec(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unfade.training.windows.draw_kinds", lambda dice: ())
    rule = replace(PLAIN, clips=2, noisy=0, partial=0, compressed=1)
    untouched, spoilt = (drawn(photos, replace(rule, spoilt=share), 0) for share in (0, 1))
    assert torch.equal(untouched.degraded, untouched.clean)
    assert not torch.equal(spoilt.degraded, spoilt.clean)


def test_requests_that_make_no_sense_are_told(examples: Path, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(UsageError, match="3 workers can't share 2 clips"):
        run_gather([examples], weights, folder, run=RUN, workers=3)
    with pytest.raises(UnfadeError, match="no model file"):
        run_gather([examples], tmp_path / "absent.safetensors", folder, run=RUN)
    with pytest.raises(InputError, match="too few"):
        run_gather([examples], weights, folder, run=replace(RUN, held_out=4))
    assert not folder.exists()
