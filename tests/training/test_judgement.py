"""Fitting how far answers are followed and how wrong they may be."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.backbones.trust import EVIDENCE, Trust
from unfade.core import ModelError, UsageError, subseed
from unfade.recipes.run_judgement import run_judgement
from unfade.training.doubt import DoubtRun, fit_doubt, laplace_loss
from unfade.training.photos import load_photos
from unfade.training.trust import LOOKED_AT, Answers, TrustRun, fit_trust, followed, look

SMALL = TinyConfig(widths=(8, 16, 24), blocks=(1, 1, 1), context=16, buckets=64)


def network() -> Tiny:
    torch.manual_seed(0)
    model = Tiny(SMALL)
    torch.nn.init.normal_(model.leave.weight, std=0.01)
    return model.eval()


def answers(kind: torch.Tensor, nearest: torch.Tensor, stake: torch.Tensor, left: float) -> Answers:
    """Answers whose way gains `stake` at its nearest point and leaves `left` of the mean squared error."""
    dice = torch.Generator().manual_seed(1)
    seen = torch.randn(len(kind), EVIDENCE, generator=dice)
    seen[:, 0] = kind
    way = stake / nearest**2
    photo = torch.arange(len(kind)) % 16
    return Answers(seen, way, nearest * way, stake + left, kind, photo)


def test_the_nearest_share_and_the_gain_are_those_of_the_pixels(examples: Path) -> None:
    model, photos, run = network(), load_photos([examples]), TrustRun(photos=1, smallest=32)
    kept: list[torch.Tensor] = []
    model.register_forward_hook(lambda module, given, answer: kept.extend((given[0], answer.clamp(0, 1))))
    found = look(model, photos, run)
    degraded, predicted = (one.double() for one in kept)
    dice = random.Random(subseed(run.seed, "trust", 0))
    kind, photo = dice.randrange(len(LOOKED_AT)), dice.randrange(len(photos))
    assert (kind, photo) == (int(found.kind), int(found.photo))
    sides = [dice.randint(32 // 8, side // 8) * 8 for side in photos[photo].shape[1:]]
    top, left = (
        dice.randint(0, whole - side) for whole, side in zip(photos[photo].shape[1:], sides, strict=True)
    )
    clean = photos[photo][None, :, top : top + sides[0], left : left + sides[1]].double() / 255
    shares = torch.linspace(-3, 3, 2001).double()
    errors = torch.stack([((torch.lerp(degraded, predicted, share) - clean) ** 2).mean() for share in shares])
    if abs(float(found.nearest)) < 3:
        assert float(found.nearest) == pytest.approx(float(shares[errors.argmin()]), abs=4e-3)
    before, after = ((state - clean).square().mean() for state in (degraded, predicted))
    expected = 10 * torch.log10(before / after)
    assert float(found.gain(torch.ones(1))) == pytest.approx(float(expected), abs=1e-3)


def test_a_fit_makes_films_rise_at_least_cost() -> None:
    dice = torch.Generator().manual_seed(0)
    kind = torch.randint(0, 2, (6000,), generator=dice)
    # One kind is known for sure, with much at stake; the other is a guess.
    nearest = 1.0 + torch.where(kind == 0, 0.005, 0.2) * torch.randn(6000, generator=dice)
    both = answers(kind, nearest.clamp_min(0.2), torch.where(kind == 0, 0.1, 0.002), 0.002)
    run = TrustRun(rounds=60)
    chosen = torch.arange(6000) < 4500
    trust = fit_trust(both[chosen], run)
    for number, share in ((0, 1.0), (1, 0.7)):
        apart = both[~chosen & (kind == number)]
        told = followed(trust, apart, run)
        assert told["rising"] > 0.9
        assert told["share"] == pytest.approx(share, abs=0.1)
        assert told["gain"] > 0.85 * told["gain_at_best"]
    assert followed(trust, both[~chosen & (kind == 1)], run)["rising_before"] < 0.7


def test_trust_needs_photos_to_watch_and_photos_to_learn_from() -> None:
    both = answers(torch.zeros(40, dtype=torch.long), torch.ones(40), torch.full((40,), 0.1), 0.002)
    for photos in (torch.zeros(40), torch.ones(40)):
        with pytest.raises(UsageError, match="give more photos"):
            fit_trust(replace(both, photo=photos.long()), TrustRun())


def test_the_price_is_capped() -> None:
    dice = torch.Generator().manual_seed(0)
    nearest = (1.0 + 0.2 * torch.randn(2000, generator=dice)).clamp_min(0.2)
    both = answers(torch.zeros(2000, dtype=torch.long), nearest, torch.full((2000,), 0.1), 0.002)
    shares = [
        followed(fit_trust(both, run), both, run)["share"]
        for run in (TrustRun(most=1.0, rounds=60), TrustRun(most=300.0, rounds=60))
    ]
    assert shares[0] > shares[1] + 0.1


def test_each_photo_depends_on_its_number_only(examples: Path) -> None:
    photos = load_photos([examples])
    run = TrustRun(photos=6, smallest=32)
    model = network()
    whole = look(model, photos, run)
    parts = Answers.joined([look(model, photos, run, range(start, 6, 2)) for start in (0, 1)])
    assert sorted(whole.nearest.tolist()) == sorted(parts.nearest.tolist())
    other = look(model, photos, replace(run, seed=1))
    assert not torch.equal(other.nearest, whole.nearest[: len(other.nearest)])


def test_the_network_stays_as_it_is(examples: Path, tmp_path: Path) -> None:
    model = network()
    path = tmp_path / "before.safetensors"
    save_tiny(model, model.state_dict(), path, {"steps": "7"})
    rows: list[dict[str, object]] = []
    run = TrustRun(photos=8, smallest=32, rounds=2, batch=4)
    written = run_judgement(
        [examples], path, tmp_path / "after.safetensors", trust=run, doubt=DoubtRun(steps=3, crop=32, batch=4),
        held_out=2, judged=4, report=rows.append,
    )  # fmt: skip
    before, after = load_tiny(path), load_tiny(written)
    assert after.trust is not None and after.doubt is not None and after.notes == before.notes
    for name, value in before.model.state_dict().items():
        assert torch.equal(value, after.model.state_dict()[name])
    assert set(rows[-1]) == {"held out"}


def test_trust_can_be_kept(examples: Path, tmp_path: Path) -> None:
    model = network()
    torch.manual_seed(1)
    trust = Trust().eval()
    torch.nn.init.normal_(trust.layers[-1].weight)  # type: ignore[arg-type]
    kept, without = tmp_path / "kept.safetensors", tmp_path / "without.safetensors"
    save_tiny(model, model.state_dict(), kept, {}, trust)
    save_tiny(model, model.state_dict(), without, {})
    doubt = DoubtRun(steps=2, crop=32, batch=2)
    target = tmp_path / "after.safetensors"
    after = load_tiny(run_judgement([examples], kept, target, doubt=doubt, keep_trust=True, held_out=2))
    assert after.trust is not None and after.doubt is not None
    for name, value in trust.state_dict().items():
        assert torch.equal(value, after.trust.state_dict()[name])
    # Fitting trust alone leaves the doubt there was.
    run = TrustRun(photos=8, smallest=32, rounds=2, batch=4)
    again = load_tiny(
        run_judgement([examples], target, tmp_path / "b.safetensors", trust=run, held_out=2, judged=4)
    )
    assert again.doubt is not None
    for name, value in after.doubt.state_dict().items():
        assert torch.equal(value, again.doubt.state_dict()[name])
    with pytest.raises(UsageError, match="no trust"):
        run_judgement([examples], without, target, doubt=doubt, keep_trust=True)
    with pytest.raises(UsageError, match="nothing is left"):
        run_judgement([examples], kept, target, keep_trust=True)


def test_missing_weights_are_one_sentence(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model file"):
        run_judgement([examples], tmp_path / "absent.safetensors", tmp_path / "x.safetensors")


def test_the_laplace_loss_is_least_at_the_mean_absolute_error() -> None:
    errors = torch.rand(1000, generator=torch.Generator().manual_seed(0)) ** 2
    tried = torch.linspace(-4, 1, 1001)
    losses = torch.stack([laplace_loss(value.expand(1000), errors) for value in tried])
    assert float(tried[losses.argmin()].exp()) == pytest.approx(float(errors.mean()), rel=0.01)


def test_doubt_learns_where_errors_are(examples: Path) -> None:
    photos = load_photos([examples])
    told_of: list[int] = []
    run = DoubtRun(steps=200, crop=24, batch=4)
    doubt = fit_doubt(network(), photos, run, report=lambda step, loss: told_of.append(step))
    assert told_of == [100, 200]
    clean = photos[0][None, :, :128, :128] / 255
    degraded = clean.clone()
    degraded[..., 64:] = (clean[..., 64:] + 0.15 * torch.randn(1, 3, 128, 64)).clamp(0, 1)
    told = doubt.expected_error(degraded, degraded, torch.zeros(1, SMALL.context))
    assert float(told[..., 70:].mean()) > 2 * float(told[..., :58].mean())
