"""Inputs made from clean photos: repeatable, 8 bits, with the truth about how they were made."""

from pathlib import Path

import pytest
import torch

from unfade.core import Clip, InputError
from unfade.degrade.blur import convolve
from unfade.degrade.classic import quantise
from unfade.degrade.degradation import from_linear, to_linear
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group
from unfade.evaluation.benchmarks.case import Case, find_cases
from unfade.evaluation.benchmarks.material import Material, prepare
from unfade.evaluation.benchmarks.table import BENCHMARKS, synthesized
from unfade.media.image_writer import write_image
from unfade.media.resize import enlarge


def made(tmp_path: Path, make: str, scale: int = 1, seed: int = 0, side: int = 70) -> Material:
    """Material of one photo under one degradation."""
    ramp = torch.linspace(0, 1, side)
    dice = torch.Generator().manual_seed(1)
    photo = torch.stack(
        (ramp.expand(side, side), ramp[:, None].expand(side, side), torch.full((side, side), 0.5))
    )
    photo = (0.8 * photo + 0.2 * torch.rand(photo.shape, generator=dice)).clamp(0, 1)
    path = tmp_path / "photo.png"
    write_image(Clip.of(photo), path, overwrite=True)
    group = Group(name=make, make=make, scale=scale)
    benchmark = Benchmark(name="b", title="B", holds="clean photos", groups=(group,))
    return prepare(benchmark, Case(group, "photo", path), seed)


def is_quantised(x: torch.Tensor) -> bool:
    return torch.equal(x, quantise(x))


@pytest.mark.parametrize(
    "make", ["noise-25", "jpeg-30", "motion-15", "defocus-3", "dark-0.2", "clean", "Haze", "snow"]
)
def test_inputs_repeat_have_eight_bits_and_the_truths_size(make: str, tmp_path: Path) -> None:
    first, second = made(tmp_path, make), made(tmp_path, make)
    assert first.truth is not None
    assert torch.equal(first.degraded.frames, second.degraded.frames)
    assert first.degraded.frames.shape == first.truth.frames.shape
    assert is_quantised(first.degraded.frames)
    assert torch.equal(first.degraded.frames, first.truth.frames) == (make == "clean")


def test_another_seed_gives_another_input(tmp_path: Path) -> None:
    first, second = made(tmp_path, "noise-25", seed=0), made(tmp_path, "noise-25", seed=1)
    assert not torch.equal(first.degraded.frames, second.degraded.frames)


def test_the_noise_level_told_is_that_of_the_input(tmp_path: Path) -> None:
    material = made(tmp_path, "noise-15")
    assert material.facts.sigma == 15
    assert material.truth is not None
    inside = (material.truth.frames > 0.2) & (material.truth.frames < 0.8)
    error = (material.degraded.frames - material.truth.frames)[inside]
    assert float(error.std()) * 255 == pytest.approx(15, rel=0.05)


@pytest.mark.parametrize("make", ["motion-15", "defocus-3"])
def test_the_kernel_told_is_the_one_that_acted(make: str, tmp_path: Path) -> None:
    material = made(tmp_path, make)
    assert material.facts.kernel is not None
    assert material.truth is not None
    again = from_linear(convolve(to_linear(material.truth.frames), material.facts.kernel[None]))
    assert torch.equal(quantise(again), material.degraded.frames)


def test_an_enlargement_gets_the_small_photo(tmp_path: Path) -> None:
    material = made(tmp_path, "x4", scale=4)
    assert material.truth is not None
    assert material.truth.frames.shape[2:] == (68, 68)
    assert material.degraded.frames.shape[2:] == (17, 17)
    assert enlarge(material.degraded, 4).frames.shape == material.truth.frames.shape


def test_the_target_way_runs_from_the_input_to_the_truth(tmp_path: Path) -> None:
    for make in ("Noise", "dark-0.2", "lowlight"):
        material = made(tmp_path, make)
        assert material.target is not None
        assert material.truth is not None
        frames = list(material.target(5))
        assert torch.equal(quantise(frames[0]), material.degraded.frames)
        assert torch.equal(frames[-1], material.truth.frames)


def test_a_local_blur_comes_with_the_mask_outside_which_nothing_changed(tmp_path: Path) -> None:
    material = made(tmp_path, "local-blur")
    assert material.mask is not None
    assert material.truth is not None
    changed = (material.degraded.frames - material.truth.frames).abs().amax(1)
    assert material.mask.shape == changed.shape
    assert float(changed[material.mask == 0].max()) == 0
    assert float(changed[material.mask == 1].max()) > 0


def test_degradations_may_be_joined(tmp_path: Path) -> None:
    joined, alone = made(tmp_path, "Rain+Raindrop+Lowlight"), made(tmp_path, "Rain")
    assert float(joined.degraded.frames.mean()) < float(alone.degraded.frames.mean())


def test_a_progression_is_cut_to_its_size_or_to_its_proportions(tmp_path: Path) -> None:
    benchmark = BENCHMARKS["div2k-progression"]
    for name, height, width, expected in (("wide", 900, 1500, (768, 1360)), ("small", 96, 200, (96, 170))):
        write_image(Clip.of(torch.rand(3, height, width)), tmp_path / f"{name}.png")
        case = Case(benchmark.groups[2], name, tmp_path / f"{name}.png")
        truth = prepare(benchmark, case, 0).truth
        assert truth is not None
        assert tuple(truth.frames.shape[2:]) == expected


def test_a_synthetic_clip_keeps_its_draw_but_not_its_noise(tmp_path: Path) -> None:
    folder = tmp_path / "clips/still"
    folder.mkdir(parents=True)
    photo = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(2))
    for index in range(3):
        write_image(Clip.of(photo), folder / f"{index:04d}.png")
    benchmark = synthesized(BENCHMARKS["udm10"])
    (case,) = find_cases(benchmark, tmp_path / "clips")
    material = prepare(benchmark, case, 0)
    first, second, third = material.degraded.frames
    assert material.truth is not None
    assert not torch.equal(first, second)
    # What is common to all frames, the blur, is a large part of what is wrong with each.
    error = material.degraded.frames - material.truth.frames
    assert float((error[0] * error[1]).mean()) > 0.2 * float((error[0] ** 2).mean())
    assert third.shape == photo.shape


def test_a_photo_becomes_a_clip_that_moves_evenly(tmp_path: Path) -> None:
    photo = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(3))
    write_image(Clip.of(photo), tmp_path / "photo.png")
    benchmark = synthesized(BENCHMARKS["ugc50"])
    (case,) = find_cases(benchmark, tmp_path)
    truth = prepare(benchmark, case, 0).truth
    assert truth is not None
    assert tuple(truth.frames.shape) == (9, 3, 54, 72)
    rounded = quantise(photo)
    assert torch.equal(truth.frames[0], rounded[:, :54, :72])
    assert torch.equal(truth.frames[-1], rounded[:, 6:, 8:])
    assert torch.equal(truth.frames[4], rounded[:, 3:57, 4:76])


def test_a_photo_too_small_for_the_scale_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too small"):
        made(tmp_path, "x4", scale=4, side=40)
