"""The report's pictures: where to look, what is kept, how errors are coloured."""

import base64
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unfade.core import generator
from unfade.evaluation.report import Exhibit, worst_and_best
from unfade.evaluation.report.exhibits import places_of_change
from unfade.evaluation.report.page import render_page
from unfade.evaluation.report.pictures import FINENESSES, error_colours, picture, plate, plates
from unfade.media.vips import pyvips


def _decoded(uri: str) -> np.ndarray:
    image = pyvips.Image.new_from_buffer(base64.b64decode(uri.split(",", 1)[1]), "")
    return np.frombuffer(bytes(image.write_to_memory()), np.uint8).reshape(
        image.height, image.width, image.bands
    )


def _exhibit(degraded: torch.Tensor, restored: torch.Tensor, truth: torch.Tensor | None) -> Exhibit:
    return Exhibit("Worst", "g", "n", "m", "psnr", 1.0, 2.0, degraded, restored, truth)


def test_the_two_places_are_those_of_a_brute_force_search() -> None:
    dice = generator(0, "places")
    truth, degraded, restored = (torch.rand(3, 90, 130, generator=dice) for _ in range(3))
    change = ((restored - truth).abs().mean(0) - (degraded - truth).abs().mean(0)).double()
    means = F.avg_pool2d(change[None, None], (48, 69), 1)[0, 0]
    fallen, risen = places_of_change(_exhibit(degraded, restored, truth))
    for place, index in ((fallen, means.argmin()), (risen, means.argmax())):
        assert (place.box.top, place.box.left) == divmod(int(index), means.shape[1])
        assert place.box.cut(truth).shape == (3, 48, 69)


def test_damage_and_repair_are_found_and_named() -> None:
    truth = torch.full((3, 300, 400), 0.5)
    degraded, restored = truth.clone(), truth.clone()
    degraded[:, 20:80, 30:110] = 0.9
    restored[:, 200:260, 250:330] = 0.3
    fallen, risen = places_of_change(_exhibit(degraded, restored, truth))
    assert (fallen.box.top, fallen.box.left, fallen.box.height, fallen.box.width) == (20, 30, 60, 80)
    assert (risen.box.top, risen.box.left) == (200, 250)
    assert fallen.label == "error falls most, 102.0 → 0.0" and risen.label == "error rises most, 0.0 → 51.0"
    (only,) = places_of_change(_exhibit(degraded, truth, None))
    assert (only.box.top, only.box.left) == (20, 30)


def test_pictures_smaller_than_a_crop_have_one_place() -> None:
    (place,) = places_of_change(_exhibit(torch.zeros(3, 1, 7), torch.ones(3, 1, 7), torch.zeros(3, 1, 7)))
    assert (place.box.height, place.box.width) == (1, 7)


def test_an_exhibit_of_two_sizes_is_refused() -> None:
    with pytest.raises(ValueError, match="of one size"):
        _exhibit(torch.zeros(3, 8, 8), torch.zeros(3, 8, 9), None)


def test_worst_and_best_by_gain_in_the_metrics_direction() -> None:
    def row(name: str, before: float, after: float) -> dict[str, Any]:
        return {"group": "g", "name": name, "model": "m", "input": {"e": before}, "output": {"e": after}}

    report = {
        "models": [{"name": "m", "kind": "model"}, {"name": "p", "kind": "peer"}],
        "metrics": [{"name": "e", "higher_is_better": False}],
        "rows": [row("a", 5, 4), row("b", 9, 1), row("c", 3, 3.5), {**row("d", 9, 0), "model": "p"}],
    }
    found = [(case.title, case.name) for case in worst_and_best(report)]
    assert found == [("Worst of 3", "c"), ("Best of 3", "b")]
    found = [(case.title, case.name) for case in worst_and_best(report, ["m"], "e", each=2)]
    assert found == [("Worst of 3", "c"), ("2. worst of 3", "a"), ("Best of 3", "b")]
    assert [case.title for case in worst_and_best(report, ["p"])] == ["The only case"]
    with pytest.raises(ValueError, match="no metric"):
        worst_and_best(report, metric="psnr")


def test_crops_are_exact_and_pictures_near() -> None:
    image = torch.rand(3, 33, 47, generator=generator(0, "picture")).mul(255).round() / 255
    wanted = image.mul(255).round().byte().permute(1, 2, 0).numpy()
    exact = picture(image, "x", 100, "lossless")
    assert exact.uri.startswith("data:image/png;base64,") and np.array_equal(_decoded(exact.uri), wanted)
    smooth = F.interpolate(image[None, :, ::8, ::8], (96, 128), mode="bicubic").clamp(0, 1)[0]
    near = picture(smooth, "x", 200, 92)
    wanted = smooth.mul(255).round().byte().permute(1, 2, 0).numpy()
    assert np.abs(_decoded(near.uri).astype(float) - wanted).mean() < 2
    small = picture(smooth, "x", 32, 92)
    assert (small.width, small.height) == (32, 24) and _decoded(small.uri).shape == (24, 32, 3)


def test_error_colours_are_even_in_lightness() -> None:
    colour = pytest.importorskip("skimage.color")
    ramp = error_colours(torch.linspace(0, 64, 65, dtype=torch.float64)[None], 64)
    lightness = colour.rgb2lab(ramp.permute(1, 2, 0).numpy())[0, :, 0]
    steps = np.diff(lightness)
    # CIELAB exaggerates what is nearly black, so the first steps look smaller to it.
    assert steps.min() > 0.3 and steps[4:].min() > 1.0 and steps.max() < 2.2
    assert lightness[0] < 2 and lightness[-1] > 95
    assert torch.equal(error_colours(torch.full((1, 1), 255.0), 64)[:, 0, 0], ramp[:, 0, -1])


def test_error_maps_share_a_scale_that_is_stated(sample_run: Any) -> None:
    exhibit = sample_run.exhibits[0]
    drawn = plate(exhibit, FINENESSES[0])
    assert exhibit.truth is not None
    errors = [
        np.quantile((image - exhibit.truth).abs().mean(0).numpy() * 255, 0.995)
        for image in (exhibit.degraded, exhibit.restored)
    ]
    assert drawn.scale in (8, 16, 32, 64, 128, 255) and drawn.scale / 2 < max(errors) <= drawn.scale
    maps = [column.error for column in drawn.columns]
    assert maps[2] is None and all(
        error is not None and f"to {drawn.scale} of 255" in error.alt for error in maps[:2]
    )
    page = render_page(sample_run.report, sample_run.timing, [exhibit])
    assert f"<span>{drawn.scale} of 255 and more</span>" in page and len(drawn.film) == 9


def test_pictures_keep_to_their_budget(sample_run: Any) -> None:
    exhibits = sample_run.exhibits
    free = plates(exhibits, 1 << 30)
    total = sum(item.size for item in free)
    assert len(free) == len(exhibits) == 4
    tight = plates(exhibits, int(0.8 * total))
    assert len(tight) == 4 and sum(item.size for item in tight) <= 0.8 * total
    tiny = plates(exhibits, tight[0].size)
    assert len(tiny) == 1
    page = render_page(sample_run.report, sample_run.timing, exhibits, tight[0].size)
    assert "3 further cases left out" in page
