"""The JPEG written in torch against the real codec."""

import math

import pytest
import torch
from torch import Tensor

from unfade.degrade.jpeg import jpeg_round_trip, quantisation_table


def _decibels(x: Tensor, truth: Tensor) -> float:
    return -10 * math.log10(float((x - truth).square().mean()))


@pytest.mark.parametrize("quality", [10, 20, 30, 40, 50, 60, 75, 90])
@pytest.mark.parametrize("size", [(150, 225), (67, 81), (64, 96), (74, 90)])
def test_torch_agrees_with_libjpeg(quality: int, size: tuple[int, int], photo: Tensor) -> None:
    x = (photo[:, :, : size[0], : size[1]] * 255).round() / 255
    level = torch.tensor([float(quality)])
    real, ours = (jpeg_round_trip(x, level, codec) for codec in ("libjpeg", "torch"))
    assert real.shape == ours.shape == x.shape
    assert float((real - ours).abs().mean()) < 1 / 255
    assert _decibels(ours, x) == pytest.approx(_decibels(real, x), abs=0.1)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 9), (16, 5)])
def test_the_smallest_photos_agree_too(size: tuple[int, int], photo: Tensor) -> None:
    x = photo[:, :, : size[0], : size[1]]
    for quality in (10.0, 90.0):
        real, ours = (jpeg_round_trip(x, torch.tensor([quality]), codec) for codec in ("libjpeg", "torch"))
        assert real.shape == ours.shape == x.shape
        assert float((real - ours).abs().mean()) < 1 / 255


@pytest.mark.parametrize("codec", ["libjpeg", "torch"])
def test_results_have_8_bits_and_lose_less_at_higher_quality(codec: str, photo: Tensor) -> None:
    errors = []
    for quality in (5, 10, 20, 40, 80, 95):
        result = jpeg_round_trip(photo, torch.tensor([float(quality)]), codec)  # type: ignore[arg-type]
        assert float((result * 255 - (result * 255).round()).abs().max()) < 1e-4
        errors.append(_decibels(result, photo))
    assert errors == sorted(errors)


def test_each_sample_has_its_own_quality(crops: Tensor) -> None:
    for codec in ("libjpeg", "torch"):
        together = jpeg_round_trip(crops, torch.tensor([10.0, 80.0]), codec)  # type: ignore[arg-type]
        for index, quality in enumerate((10.0, 80.0)):
            alone = jpeg_round_trip(crops[index : index + 1], torch.tensor([quality]), codec)  # type: ignore[arg-type]
            assert torch.equal(together[index : index + 1], alone)


def test_tables_scale_as_in_libjpeg() -> None:
    base = tuple(range(1, 65))
    tables = quantisation_table(base, torch.tensor([50.0, 100.0, 25.0, 1.0]))
    assert tables[0].flatten().tolist() == list(range(1, 65))
    assert bool((tables[1] == 1).all())
    assert tables[2].flatten().tolist() == [2 * value for value in range(1, 65)]
    assert float(tables[3].max()) == 255
