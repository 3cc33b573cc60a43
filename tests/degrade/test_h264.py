"""H.264 for stills: its quantiser follows severity, and nothing trains on it."""

import math
import random

import pytest
import torch
from torch import Tensor

from unfade.core import generator
from unfade.degrade import FOUNDIR, PROGRESSIONS, SINGLE, UNSEEN, View, draw_composition, named
from unfade.degrade.compression import H264
from unfade.degrade.degradation import Draw
from unfade.degrade.progression import described
from unfade.media.compression import compressed
from unfade.training.samples import draw_kinds


def _decibels(x: Tensor, truth: Tensor) -> float:
    return -10 * math.log10(float((x - truth).square().mean()))


def test_its_name_stands_for_it_alone() -> None:
    assert named("h264") == named("H264") == SINGLE["h264"] == (H264,)
    assert named("gaussian-blur+h264")[1] is H264


def test_nothing_trains_on_it() -> None:
    assert H264 in UNSEEN
    for kinds in (*FOUNDIR.values(), *PROGRESSIONS.values()):
        assert H264 not in kinds
    dice = random.Random(1)
    assert not any(H264 in draw_kinds(dice) for _ in range(2000))


def test_severity_zero_is_the_identity(crops: Tensor) -> None:
    drawn = H264(torch.tensor([30.0, 40.0]))
    assert torch.equal(drawn(crops, 0.0), crops)
    half = drawn(crops, torch.tensor([0.0, 1.0]))
    assert torch.equal(half[0], crops[0]) and not torch.equal(half[1], crops[1])


def test_each_still_is_an_intra_picture_of_its_own(crops: Tensor) -> None:
    result = H264(torch.tensor([28.0, 41.0]))(crops)
    for index, quantiser in enumerate((28, 41)):
        alone = compressed(crops[index : index + 1], "h264", quantiser, constant=True)
        assert torch.equal(result[index : index + 1], alone)


@pytest.mark.parametrize(("severity", "points"), [(0.5, 6), (0.25, 12), (0.125, 18)])
def test_half_the_severity_is_half_the_quantisers_step(severity: float, points: int, photo: Tensor) -> None:
    drawn, finer = H264(torch.tensor([40.0])), H264(torch.tensor([40.0 - points]))
    assert torch.equal(drawn(photo, severity), finer(photo))


def test_it_fades_evenly_down_to_hardly_anything(photo: Tensor) -> None:
    drawn = H264(torch.tensor([44.0]))
    errors = [_decibels(drawn(photo, severity), photo) for severity in (1.0, 0.6, 0.3, 0.1, 0.02, 1e-9)]
    assert errors == sorted(errors)
    assert errors[0] < 28 and errors[-1] > 35
    # The finest quantiser is where it ends: 0 would be another mode.
    assert torch.equal(drawn(photo, 1e-9), H264(torch.tensor([1.0]))(photo))


def test_strengths_are_ranges_of_the_quantiser() -> None:
    drawn = {s: H264.draw(Draw(generator(0, s), 500, 8, 8, s)).quantiser for s in ("mild", "strong", "any")}
    assert 24 <= float(drawn["mild"].min()) and float(drawn["mild"].max()) < 34
    assert 34 <= float(drawn["strong"].min()) and float(drawn["strong"].max()) < 46
    assert float(drawn["any"].min()) < 26 and float(drawn["any"].max()) > 44


def test_a_thumbnail_shows_none_of_it(photo: Tensor) -> None:
    drawn = draw_composition(named("h264"), generator(0), (1, *photo.shape[2:]), "strong")
    thumbnail = photo[..., ::8, ::8]
    assert torch.equal(drawn(thumbnail, 1.0, View.whole(photo)), thumbnail)


def test_the_manifest_tells_its_quantiser() -> None:
    assert described(H264(torch.tensor([33.0]))) == {"name": "h264", "quantiser": 33.0}
