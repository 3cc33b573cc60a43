"""Vivid-VR's CPU-sized proof, a step or two of everything: photos and footage in, controls and verdicts out."""

import json
from pathlib import Path

import pytest
import torch
from tests.training.small_footage import film

from unfade.conditioning.control_file import settings_of
from unfade.core import InputError, UsageError, generator
from unfade.media.images import read_image
from unfade.recipes.run_vivid_cpu import STAGES, run_vivid_cpu
from unfade.recipes.vivid_cpu import vivid_cpu
from unfade.recipes.vivid_cpu_report import verdicts
from unfade.recipes.vivid_judging import Figures, figures_of, gap, means_of
from unfade.recipes.vivid_proof import VividProof
from unfade.training.glides import glide


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    film(folder / "a.mp4", (30,))
    film(folder / "b.mp4", (30,))
    return folder


@pytest.fixture(scope="module")
def folder(examples: Path, clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "proof"
    run_vivid_cpu([examples], clips, folder, recipe="smoke", workers=1)
    return folder


def test_everything_is_written(folder: Path) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    figures = json.loads((folder / "report" / "figures.json").read_text(), parse_constant=refuse)
    variants = ["whole", "without distillation", "without MLP"]
    assert list(figures["means"]) == ["input", *variants, "VAE of the truth"]
    assert figures["clips"] == {"held out": 3, "learnt from": 3, "made anew": 2}
    assert list(figures["lost_to_whole"]) == variants[1:]
    assert set(figures["spent"]) == set(STAGES) - {"report"}
    page = (folder / "report" / "README.md").read_text()
    assert all(sentence in page for sentence in figures["verdicts"])
    sheet = read_image(folder / "report" / "held-out.png")
    assert (sheet.width, sheet.height) == (2 * 16 * 5, 2 * 16 * 3)
    assert settings_of(folder / "controls" / "without-MLP" / "control").connectors == "attention"


def test_what_is_done_is_not_done_again(folder: Path, examples: Path, clips: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "report" not in path.parts}
    for stage in STAGES[:-1]:
        run_vivid_cpu([examples], clips, folder, recipe="smoke", stage=stage, workers=1)
    changed = {path.name for path, at in files.items() if path.is_file() and path.stat().st_mtime_ns != at}
    assert changed <= {"seconds.jsonl", "unfade-manifest.json"}


def test_held_out_footage_is_never_learnt_from(folder: Path, examples: Path, clips: Path) -> None:
    proof = VividProof("smoke", [examples], clips, folder)
    learning, held_out = proof.material
    photos = [
        {bytes(part[index].contiguous().numpy()) for index in range(len(part))}
        for part in (learning, held_out)
    ]
    assert len(learning) == len(held_out) == 2 and not photos[0] & photos[1]
    parts = [{video.path.name for video, _ in proof.footage(part).parts} for part in ("learn", "held")]
    assert "a.mp4" in parts[0] and "b.mp4" in parts[1] and "b.mp4" not in parts[0]
    first, again = proof.judged_pairs(), proof.judged_pairs()
    assert all(torch.equal(one[1], other[1]) for one, other in zip(first, again, strict=True))


def test_bad_requests_say_so(folder: Path, examples: Path, clips: Path, tmp_path: Path) -> None:
    for extra, sentence in (
        ({"recipe": "x"}, "unknown recipe 'x'"),
        ({"stage": "x"}, "unknown stage 'x'"),
        ({"workers": 0}, "at least 1"),
        ({"recipe": "smoke", "stage": "base"}, "run --stage vae before"),
    ):
        with pytest.raises(UsageError, match=sentence):
            run_vivid_cpu([examples], clips, tmp_path / "new", **extra)  # type: ignore[arg-type]
    (tmp_path / "one").mkdir()
    film(tmp_path / "one" / "a.mp4", (30,))
    with pytest.raises(InputError, match="at least two are needed"):
        run_vivid_cpu([examples], tmp_path / "one", tmp_path / "new", recipe="smoke", stage="footage")


def test_variants_differ_in_what_they_are_named_after() -> None:
    recipe = vivid_cpu()
    whole = recipe.variants["whole"]
    assert recipe.control.control == recipe.variants["without distillation"] == whole
    assert whole.connectors == "dual" and whole.projector
    assert not recipe.variants["without projector"].projector
    assert recipe.variants["without MLP"].connectors == "attention"
    assert recipe.variants["without cross-attention"].connectors == "mlp"


def test_figures_are_what_they_say() -> None:
    truth = glide((torch.rand(3, 80, 90, generator=generator(0)) * 255).byte(), (64, 64), 3, generator(1))
    found = figures_of(truth + 0.01, truth)
    assert found.psnr == pytest.approx(40.0, abs=0.01) and found.texture == pytest.approx(1, abs=1e-4)
    assert found.warping is not None and found.warping >= 0
    assert figures_of(truth.mean((2, 3), keepdim=True).expand_as(truth), truth).texture == 0
    assert means_of([Figures(1, 0, 1, None), Figures(3, 1, 2, None)]) == {
        "psnr": 2, "ssim": 0.5, "texture": 1.5, "warping": None
    }  # fmt: skip
    told = gap([2.0, 3.0, 4.0], [1.0, 1.0, 4.5])
    error = 1.96 * (((1 - 5 / 6) ** 2 + (2 - 5 / 6) ** 2 + (-0.5 - 5 / 6) ** 2) / 2 / 3) ** 0.5
    assert told["mean"] == pytest.approx(5 / 6, abs=1e-3) and told["more"] == pytest.approx(2 / 3)
    assert told["high"] - told["mean"] == pytest.approx(error, abs=2e-3)


def test_verdicts_follow_the_intervals() -> None:
    def one(low: float, high: float) -> dict[str, float]:
        return {"mean": (low + high) / 2, "low": low, "high": high, "more": 0.9}

    told = {"over_input": {"without MLP": one(1, 2)}, "lost_to_whole": {"without MLP": one(0.2, 0.4)}}
    assert verdicts({**told, "seams": {"tiles": 1, "windows": 1}})[1].endswith("only: it does converge.")
    found = verdicts(
        {
            "over_input": {"whole": one(1, 2), "without MLP": one(-1, 0.5)},
            "lost_to_whole": {
                "without MLP": one(0.2, 0.4),
                "without projector": one(-0.4, -0.2),
                "without distillation": one(-0.1, 0.3),
            },
            "seams": {"clips": 3, "tiles": 1.02, "windows": 0.9},
        }
    )
    ends = [
        "clips.",
        "0.50).",
        "which agrees.",
        "**disagrees**.",
        "decides nothing.",
        "within 5 %.",
        "5 %.",
    ]
    assert all(sentence.endswith(end) for sentence, end in zip(found, ends, strict=True))
    assert "**not**" in found[1] and "**not within**" in found[6] and "**not" not in found[5]


def test_a_camera_glides_evenly_and_stays_inside() -> None:
    rows, columns = torch.meshgrid(torch.arange(120.0), torch.arange(160.0), indexing="ij")
    photo = torch.stack([rows / 120, columns / 160, (rows + columns) / 280]).mul(255).byte()
    for seed in range(12):
        clip = glide(photo, (48, 64), 9, generator(seed))
        assert clip.shape == (9, 3, 48, 64) and clip.min() >= 0 and clip.max() <= 1
        # The middle of a slope says where the camera is: it moves by the same step every time.
        where = clip[:, :2, 20:28, 28:36].mean((2, 3))
        steps = where.diff(dim=0)
        assert (steps - steps.mean(0)).abs().max() < 4e-3
        assert torch.equal(clip, glide(photo, (48, 64), 9, generator(seed)))
    assert not torch.equal(glide(photo, (48, 64), 9, generator(1)), glide(photo, (48, 64), 9, generator(2)))
    assert glide(photo, (120, 160), 3, generator(0)).shape == (3, 3, 120, 160)
