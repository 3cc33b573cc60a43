"""Fitting how far answers are followed and how wrong they may be."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.backbones.trust import EVIDENCE
from unfade.core import ModelError
from unfade.recipes.run_judgement import run_judgement
from unfade.training.doubt import DoubtRun, fit_doubt, laplace_loss
from unfade.training.photos import load_photos
from unfade.training.trust import Answers, TrustRun, fit_trust, followed, look, nearest_share, pinball

SMALL = TinyConfig(widths=(8, 16, 24), blocks=(1, 1, 1), context=16, buckets=64)


def network() -> Tiny:
    torch.manual_seed(0)
    model = Tiny(SMALL)
    torch.nn.init.normal_(model.leave.weight, std=0.01)
    return model.eval()


def test_the_nearest_share_is_where_the_error_is_least() -> None:
    clean, degraded, predicted = torch.rand(3, 4, 3, 8, 8).unbind(0)
    nearest = nearest_share(degraded, predicted, clean)
    shares = torch.linspace(-1, 2, 3001)
    for index in range(4):
        states = torch.lerp(degraded[index], predicted[index], shares[:, None, None, None])
        errors = ((states - clean[index]) ** 2).mean((1, 2, 3))
        assert float(nearest[index]) == pytest.approx(float(shares[errors.argmin()]), abs=2e-3)


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.9])
def test_the_pinball_loss_is_least_at_the_quantile(quantile: float) -> None:
    found = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    tried = torch.linspace(-3, 3, 601)
    losses = torch.stack([pinball(value, found, quantile) for value in tried])
    expected = float(torch.quantile(found, quantile))
    assert float(tried[losses.argmin()]) == pytest.approx(expected, abs=0.02)


def test_a_fit_finds_the_quantile_of_each_kind_of_answer() -> None:
    dice = torch.Generator().manual_seed(0)
    kind = torch.rand(6000, 1, generator=dice).round()
    seen = torch.cat((kind, torch.randn(6000, EVIDENCE + 15, generator=dice)), 1)
    nearest = 0.9 + 0.3 * kind[:, 0] + (0.02 + 0.1 * kind[:, 0]) * torch.randn(6000, generator=dice)
    run = TrustRun(quantile=0.05, rounds=12)
    trust = fit_trust(Answers(seen[:5000], nearest[:5000]), run, 16)
    told = followed(trust, Answers(seen[5000:], nearest[5000:]))
    assert told["rising_before"] < 0.75
    assert 0.9 <= told["rising"] <= 1
    assert told["kept"] > 0.93


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
    run = DoubtRun(steps=100, crop=32, batch=4, lr=5e-3)
    doubt = fit_doubt(network(), photos, run, report=lambda step, loss: told_of.append(step))
    assert told_of == [100]
    clean = photos[0][None, :, :128, :128] / 255
    degraded = clean.clone()
    degraded[..., 64:] = (clean[..., 64:] + 0.15 * torch.randn(1, 3, 128, 64)).clamp(0, 1)
    told = doubt.expected_error(degraded, degraded, torch.zeros(1, SMALL.context))
    assert float(told[..., 70:].mean()) > 2 * float(told[..., :58].mean())
