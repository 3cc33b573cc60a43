"""fp32 means fp32: cuDNN's shortcut is off while a VAE works, and only then."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from unfade.backbones import wan_speed
from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_1_5
from unfade.backbones.precision import true_fp32
from unfade.backbones.wan import build_wan
from unfade.backbones.wan_config import SMALL

CUDNN: Any = torch.backends.cudnn


@pytest.fixture(autouse=True)
def as_usual() -> Iterator[None]:
    """What PyTorch begins with, and what every test has to leave."""
    assert CUDNN.allow_tf32
    yield
    assert CUDNN.allow_tf32


class Heard(TorchFunctionMode):
    """In which precision convolutions are told to compute."""

    def __init__(self) -> None:
        super().__init__()
        self.told: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.conv2d, torch.conv3d):
            self.told.add(CUDNN.conv.fp32_precision)
        return func(*args, **(kwargs or {}))


def test_the_switch_comes_back_as_it_was() -> None:
    with true_fp32():
        assert CUDNN.conv.fp32_precision == "ieee"
    assert CUDNN.conv.fp32_precision == "tf32"
    with pytest.raises(ValueError, match="in between"), true_fp32():
        raise ValueError("in between")
    assert CUDNN.conv.fp32_precision == "tf32"


def test_older_pytorch_has_one_switch_for_all_of_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Older:
        allow_tf32 = True

    monkeypatch.setattr(torch.backends, "cudnn", Older)
    with true_fp32():
        assert not Older.allow_tf32
    assert Older.allow_tf32


@pytest.mark.parametrize("tile", [0, 32])
def test_wans_vae_works_in_fp32(tile: int) -> None:
    vae = build_wan(SMALL).vae
    vae.tile = tile
    with Heard() as heard:
        vae.encode(torch.rand(1, 3, 1, 64, 64))
    assert heard.told == {"ieee"}
    with Heard() as heard:
        for chunk in vae.decode(torch.randn(1, *SMALL.latent_shape(5, 64, 64))):
            # Whoever is given a chunk computes as before.
            assert CUDNN.allow_tf32
            del chunk
    assert heard.told == {"ieee"}


@pytest.mark.parametrize("tile", [0, 32])
def test_cogvideoxs_vae_works_in_fp32(tile: int) -> None:
    vae = build_cogvideox(SMALL_1_5).vae
    vae.tile = tile
    frames = torch.rand(9, 3, 32, 48)
    with Heard() as heard:
        vae.encode_image(frames[:1])
        vae.encode_frames(frames)
    assert heard.told == {"ieee"}
    with Heard() as heard:
        for chunk in vae.decode(torch.randn(1, 4, 3, 4, 6)):
            assert CUDNN.allow_tf32
            del chunk
    assert heard.told == {"ieee"}


def test_speed_is_measured_in_the_precision_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    told: set[str] = set()

    def timed(work: object, device: torch.device) -> float:
        told.add(CUDNN.conv.fp32_precision)
        return 1.0

    monkeypatch.setattr(wan_speed, "_best", timed)
    wan_speed.measure_rates(torch.device("cpu"), torch.float32)
    assert told == {"ieee"}
