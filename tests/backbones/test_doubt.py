"""The map of expected errors."""

from pathlib import Path

import pytest
import torch

from unfade.backbones.doubt import FEATURES, REACH, Doubt, features_of
from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.tiny_weights import load_tiny, save_tiny

SMALL = TinyConfig(widths=(8, 16, 24), blocks=(1, 1, 1), context=16, buckets=64)


def awake() -> Doubt:
    torch.manual_seed(0)
    doubt = Doubt(SMALL.context)
    for parameter in doubt.parameters():
        torch.nn.init.normal_(parameter, std=0.03)
    torch.nn.init.constant_(doubt.leave.bias, -3.0)  # type: ignore[arg-type]
    return doubt.eval()


def test_a_photo_in_strips_is_the_photo_as_a_whole() -> None:
    doubt = awake()
    degraded, result = torch.rand(2, 1, 3, 1100, 40)
    context = torch.randn(1, SMALL.context)
    with torch.inference_mode():
        whole = doubt(degraded, result, context).exp()
    assert whole.std() > 1e-3
    torch.testing.assert_close(doubt.expected_error(degraded, result, context), whole, atol=1e-6, rtol=1e-4)


def test_a_pixel_reaches_no_farther_than_declared() -> None:
    doubt = awake()
    degraded, result = torch.rand(2, 1, 3, 121, 121)
    result.requires_grad_()
    doubt(degraded, result, torch.zeros(1, SMALL.context))[0, 0, 60, 60].backward()
    assert result.grad is not None
    reach = int((result.grad[0].abs().amax(0).nonzero() - 60).abs().max())
    assert REACH // 2 <= reach <= REACH


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (513, 2)])
def test_any_size_has_a_map(size: tuple[int, int]) -> None:
    photo = torch.rand(1, 3, *size)
    told = awake().expected_error(photo, photo, torch.zeros(1, SMALL.context))
    assert told.shape == (1, 1, *size) and bool(torch.isfinite(told).all())
    assert 0 <= float(told.min()) and float(told.max()) <= 1


def test_features_know_change_from_detail() -> None:
    flat, busy = torch.full((1, 3, 64, 64), 0.5), torch.rand(1, 3, 64, 64)
    assert features_of(flat, busy).shape == (1, FEATURES, 64, 64)
    unchanged, changed = (features_of(part, busy)[0, 0].mean() for part in (busy, flat))
    assert changed > unchanged + 1


def test_it_travels_with_the_weights(tmp_path: Path) -> None:
    model, doubt = Tiny(SMALL), awake()
    path = tmp_path / "weights.safetensors"
    save_tiny(model, model.state_dict(), path, {}, doubt=doubt)
    loaded = load_tiny(path)
    assert loaded.doubt is not None and loaded.trust is None
    one, other, context = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8), torch.randn(1, SMALL.context)
    assert torch.equal(loaded.doubt(one, other, context), doubt(one, other, context))
