"""How far an answer is followed: what is told of it, and what is made of that."""

import math
from pathlib import Path

import pytest
import torch

from unfade.backbones.spectrum import spectrum_of
from unfade.backbones.tiny import Tiny, TinyConfig, thumbnail_of
from unfade.backbones.tiny_denoiser import TinyCondition, TinyDenoiser
from unfade.backbones.tiny_weights import load_tiny, save_tiny
from unfade.backbones.trust import EVIDENCE, LARGEST, OCTAVES, Trust, evidence_of, trusting
from unfade.diffusion.bridge import bridge

SMALL = TinyConfig(widths=(8, 16, 24), blocks=(1, 1, 1), context=16, buckets=64)


def awake(share: float) -> Trust:
    """One that answers `share` whatever it sees."""
    trust = Trust()
    torch.nn.init.constant_(trust.layers[-1].bias, torch.logit(torch.tensor(share / LARGEST)).item())  # type: ignore[arg-type]
    return trust


def haar_details(a: torch.Tensor, b: torch.Tensor) -> list[float]:
    """Per octave, the mean of the products of Haar details, by explicit differences from enlarged averages."""
    products = []
    for octave in range(OCTAVES):
        parts = []
        for image in (a, b):
            fine = torch.nn.functional.avg_pool2d(image, 2**octave)
            coarse = torch.nn.functional.avg_pool2d(image, 2 ** (octave + 1))
            parts.append(fine - coarse.repeat_interleave(2, 2).repeat_interleave(2, 3))
        products.append(float((parts[0] * parts[1]).mean()))
    return products


@pytest.mark.parametrize("size", [(64, 128), (640, 64)], ids=["in one go", "in two strips"])
def test_evidence_is_the_energy_of_haar_details(size: tuple[int, int]) -> None:
    degraded = torch.rand(1, 3, *size)
    predicted = (degraded + 0.1 * torch.randn(1, 3, *size)).clamp(0, 1)
    evidence = evidence_of(degraded, predicted)
    assert evidence.shape == (1, EVIDENCE)
    photo, change, together = evidence[0, : 3 * OCTAVES].split(OCTAVES)
    change_itself = predicted - degraded
    torch.testing.assert_close(
        photo.exp(), torch.tensor(haar_details(degraded, degraded)), rtol=1e-3, atol=1e-7
    )
    torch.testing.assert_close(
        change.exp(), torch.tensor(haar_details(change_itself, change_itself)), rtol=1e-3, atol=1e-7
    )
    expected = torch.tensor(haar_details(degraded, change_itself))
    torch.testing.assert_close(together * ((photo + change) / 2).exp(), expected, rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(evidence[0, 3 * OCTAVES :][:3], degraded.mean((0, 2, 3)))
    torch.testing.assert_close(
        evidence[0, 3 * OCTAVES :][3:], change_itself.mean((0, 2, 3)), atol=1e-6, rtol=0
    )


def test_an_odd_row_and_column_change_next_to_nothing() -> None:
    torch.manual_seed(2)
    degraded = torch.nn.functional.interpolate(
        torch.rand(1, 3, 33, 33), size=(321, 321), mode="bicubic"
    ).clamp(0, 1)
    predicted = (degraded * 1.5 + 0.02 * torch.rand(1, 3, 321, 321)).clamp(0, 1)
    whole, cut = (
        evidence_of(degraded, predicted),
        evidence_of(degraded[..., :320, :320], predicted[..., :320, :320]),
    )
    torch.testing.assert_close(whole, cut, atol=0.1, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (515, 9)])
def test_evidence_of_any_size_is_finite(size: tuple[int, int]) -> None:
    photo = torch.rand(2, 3, *size)
    assert torch.isfinite(evidence_of(photo, photo)).all()


def test_untrained_it_follows_all_the_way() -> None:
    torch.testing.assert_close(Trust()(torch.randn(3, EVIDENCE)), torch.ones(3))


@pytest.mark.parametrize("share", [0.25, 1.0, 1.25])
def test_the_walk_is_cut_to_its_share(share: float) -> None:
    torch.manual_seed(0)
    model = Tiny(SMALL)
    torch.nn.init.normal_(model.leave.weight, std=0.02)
    denoiser = TinyDenoiser(model.eval(), torch.device("cpu"), torch.float32)
    degraded = torch.rand(1, 3, 24, 40) * 0.2 + 0.4
    context = model.context(thumbnail_of(degraded), [None]).detach()
    condition = TinyCondition(degraded, context, spectrum_of(degraded))
    answer = denoiser(degraded, 0.0, condition)
    assert float((answer - degraded).abs().max()) > 0.01
    cut = trusting(denoiser, awake(share))
    first = cut(degraded, 0.0, condition)
    torch.testing.assert_close(first, torch.lerp(degraded, answer, share).clamp(0, 1), atol=1e-5, rtol=0)
    # On the way the network sees the state its own answers would have led to.
    later = denoiser(torch.lerp(degraded, answer, 0.5), 0.5, condition)
    torch.testing.assert_close(
        cut(torch.lerp(degraded, first, 0.5), 0.5, condition),
        torch.lerp(degraded, later, share).clamp(0, 1),
        atol=1e-4,
        rtol=0,
    )


@pytest.mark.parametrize("steps", [2, 4, 8])
def test_the_share_is_cut_once_however_many_steps_there_are(steps: int) -> None:
    torch.manual_seed(0)
    model = Tiny(SMALL)
    torch.nn.init.normal_(model.leave.weight, std=0.05)
    denoiser = TinyDenoiser(model.eval(), torch.device("cpu"), torch.float32)
    degraded = torch.rand(1, 3, 24, 40) * 0.4 + 0.3
    context = model.context(thumbnail_of(degraded), [None]).detach()
    condition = TinyCondition(degraded, context, spectrum_of(degraded))
    _, whole = bridge(denoiser, degraded, condition, steps)
    _, cut = bridge(trusting(denoiser, awake(0.5)), degraded, condition, steps)
    assert float((whole[-1] - degraded).abs().max()) > 0.01
    for state, half in zip(whole, cut, strict=True):
        torch.testing.assert_close(half, torch.lerp(degraded, state, 0.5), atol=1e-4, rtol=0)


def test_it_travels_with_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, trust = Tiny(SMALL), Trust()
    for parameter in trust.parameters():
        torch.nn.init.normal_(parameter)
    path = tmp_path / "weights.safetensors"
    save_tiny(model, model.state_dict(), path, {})
    assert load_tiny(path).trust is None
    save_tiny(model, model.state_dict(), path, {}, trust)
    loaded = load_tiny(path).trust
    assert loaded is not None
    evidence = torch.randn(4, EVIDENCE)
    assert torch.equal(loaded(evidence), trust(evidence))


def test_strength_moves_the_result_along_the_way() -> None:
    torch.manual_seed(0)
    model = Tiny(SMALL)
    torch.nn.init.normal_(model.leave.weight, std=0.05)
    denoiser = TinyDenoiser(model.eval(), torch.device("cpu"), torch.float32)
    degraded = torch.rand(1, 3, 24, 40) * 0.5 + 0.25
    context = model.context(thumbnail_of(degraded), [None]).detach()
    condition = TinyCondition(degraded, context, spectrum_of(degraded))
    answer = denoiser(degraded, 0.0, condition)
    for trust, share in ((None, 1.0), (awake(0.8), 0.8)):
        half = trusting(denoiser, trust, strength=0.5)(degraded, 0.0, condition)
        torch.testing.assert_close(half, torch.lerp(degraded, answer, 0.5 * share), atol=1e-5, rtol=0)


@pytest.mark.parametrize("trust", [None, 0.7])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_named_brightness_is_where_the_way_ends(trust: float | None, steps: int) -> None:
    torch.manual_seed(0)
    model = Tiny(SMALL)
    # Twice as bright, in every pixel.
    with torch.no_grad():
        model.tone.bias[:3] = math.log(2)
    denoiser = TinyDenoiser(model.eval(), torch.device("cpu"), torch.float32)
    degraded = torch.rand(1, 3, 24, 40) * 0.3
    context = model.context(thumbnail_of(degraded), [None]).detach()
    condition = TinyCondition(degraded, context, spectrum_of(degraded))
    before, judge = float(degraded.mean()), None if trust is None else awake(trust)
    for wanted in (1.3 * before, 1.8 * before, 2.4 * before):
        _, states = bridge(trusting(denoiser, judge, 0.5, brightness=wanted), degraded, condition, steps)
        assert float(states[-1].mean()) == pytest.approx(wanted, rel=0.01)
    # What lies beyond the longest way, or the other way, is not made up.
    _, far = bridge(trusting(denoiser, judge, brightness=1.0), degraded, condition, steps)
    assert float(far[-1].mean()) == pytest.approx(2.5 * before, rel=0.01)
    _, back = bridge(trusting(denoiser, judge, brightness=0.0), degraded, condition, steps)
    torch.testing.assert_close(back[-1], degraded)


def test_a_named_brightness_says_nothing_where_the_light_is_right() -> None:
    torch.manual_seed(0)
    denoiser = TinyDenoiser(Tiny(SMALL).eval(), torch.device("cpu"), torch.float32)
    degraded = torch.rand(1, 3, 24, 40)
    context = denoiser.model.context(thumbnail_of(degraded), [None]).detach()
    condition = TinyCondition(degraded, context, spectrum_of(degraded))
    told = trusting(denoiser, awake(0.7), brightness=0.9)(degraded, 0.0, condition)
    torch.testing.assert_close(told, degraded, atol=1e-6, rtol=0)
