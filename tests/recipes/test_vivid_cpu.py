"""Vivid-VR's CPU-sized proof, a step or two of everything: photos and footage in, controls and verdicts out."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.small_footage import film

from unfade.conditioning.control_file import settings_of
from unfade.core import Clip, InputError, UsageError, generator, subseed
from unfade.media.images import read_image
from unfade.recipes import vivid_judging
from unfade.recipes.run_vivid_cpu import STAGES, run_vivid_cpu
from unfade.recipes.vivid_cpu import Setting, vivid_cpu
from unfade.recipes.vivid_judging import (
    Figures,
    blurred,
    figures_of,
    gap,
    judge,
    judged,
    means_of,
    restored,
    restorer_of,
)
from unfade.recipes.vivid_proof import VividProof, degraded
from unfade.recipes.vivid_seams import Meeting, Share, across
from unfade.recipes.vivid_verdicts import verdicts
from unfade.restore.vivid_restorer import VividRestorer
from unfade.training.footage_clips import FootageClips, FootagePairs
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
    judged = ["input, blurred", "whole", "whole, as published", *variants[1:]]
    assert list(figures["means"]) == ["input", *judged, "VAE of the truth"]
    assert list(figures["over_input"]) == judged
    assert figures["clips"] == {"held out": 3, "chosen on": 1, "learnt from": 2, "made anew": 2}
    assert list(figures["lost_to_whole"]) == variants[1:]
    assert set(figures["spent"]) == set(STAGES) - {"report"}
    assert all(one["commits"] and one["core_seconds"] is not None for one in figures["spent"].values())
    # The setting is the best one on the clips to choose on, whatever is best on those judged on.
    tried = figures["settings"]
    assert len(tried) == len({(one["steps"], one["fidelity"], one["colour"]) for one in tried}) == 2 * 2 * 3
    best = max(tried, key=lambda one: one["choose"]["psnr"])
    assert {name: figures["chosen"][name] for name in ("steps", "fidelity", "colour")} == {
        name: best[name] for name in ("steps", "fidelity", "colour")
    }
    assert figures["means"]["whole"] == best["held"]
    published = next(
        one for one in tried if (one["steps"], one["fidelity"], one["colour"]) == (2, 0, "adain")
    )
    assert figures["means"]["whole, as published"] == published["held"]
    for seen in figures["seams"].values():
        assert seen["clips"] == 2
        for share in (seen[kind][of] for kind in ("tiles", "windows") for of in ("made", "input")):
            assert share["low"] <= share["mean"] <= share["high"]
    page = (folder / "report" / "README.md").read_text()
    assert all(sentence in page for sentence in figures["verdicts"])
    assert f"**{figures['chosen']['told']}**" in page
    sheet = read_image(folder / "report" / "held-out.png")
    assert (sheet.width, sheet.height) == (2 * 16 * 5, 2 * 16 * 3)
    assert settings_of(folder / "controls" / "without-MLP" / "control").connectors == "attention"


def test_what_is_done_is_not_done_again(folder: Path, examples: Path, clips: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "report" not in path.parts}
    for stage in STAGES[:-1]:
        run_vivid_cpu([examples], clips, folder, recipe="smoke", stage=stage, workers=1)
    changed = {path.name for path, at in files.items() if path.is_file() and path.stat().st_mtime_ns != at}
    assert changed <= {"seconds.jsonl", "unfade-manifest.json"}


def test_what_is_judged_is_what_restoring_gives(folder: Path, examples: Path, clips: Path) -> None:
    """By the clip's caption and nothing else, with colours as the restorer brings them back."""
    proof = VividProof("smoke", [examples], clips, folder)
    pair, setting = proof.judged_pairs("held")[0], Setting(2, 0.5, "wavelet")
    found = judged(proof, "held", "whole", [setting])[setting]
    restorer = restorer_of(proof, "whole")
    asked: list[str] = []
    given = restorer._embed

    def embed(prompts: Sequence[str], device: torch.device) -> list[torch.Tensor]:
        asked.extend(prompts)
        return given(prompts, device)

    restorer._embed = embed
    restorer.settings = replace(restorer.settings, fidelity=0.5, colour="wavelet")
    seed = subseed(1, pair.name) % 2**31
    made = restorer.restore(
        Clip(pair.low), pair.caption, steps=2, seed=seed, device="cpu", dtype="fp32"
    ).result
    assert set(asked) == {pair.caption} and len(pair.caption) > 20
    again = figures_of(made.frames.mul(255).round().div(255), pair.clean)
    assert again.psnr == pytest.approx(found[0].psnr, abs=0.02) and again.ssim == pytest.approx(
        found[0].ssim, abs=1e-3
    )


def test_figures_that_are_kept_are_not_made_again(
    folder: Path, examples: Path, clips: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped between two clips, judging goes on there; of other weights nothing is taken."""
    moved = tmp_path / "proof"
    shutil.copytree(folder, moved)
    proof = VividProof("smoke", [examples], clips, moved)
    settings = [Setting(1, 0.0, "none"), Setting(1, 0.0, "adain")]
    wanted = judged(proof, "held", "whole", settings)
    (path,) = moved.glob("judged/held-whole-*.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:13]) + lines[13][:20])
    with pytest.raises(KeyError):
        judged(proof, "held", "whole", settings)
    calls: list[str] = []

    def counted(restorer: VividRestorer, name: str, *told: Any) -> list[torch.Tensor]:
        calls.append(name)
        return restored(restorer, name, *told)

    monkeypatch.setattr(vivid_judging, "restored", counted)
    judge(proof, "held", "whole", settings, (0, 2))
    judge(proof, "held", "whole", settings, (1, 2))
    assert sorted(calls) == sorted(proof.footage("held").names[1:])
    for one, figures in judged(proof, "held", "whole", settings).items():
        for ours, theirs in zip(figures, wanted[one], strict=True):
            assert ours.psnr == pytest.approx(theirs.psnr, abs=1e-3)
    rows = [json.loads(line) for line in lines]
    path.write_text("".join(json.dumps({**row, "by": "others"}) + "\n" for row in rows))
    (moved / "judged" / "held-whole-1.jsonl").unlink()
    with pytest.raises(KeyError):
        judged(proof, "held", "whole", settings)


def test_held_out_footage_is_never_learnt_from(folder: Path, examples: Path, clips: Path) -> None:
    proof = VividProof("smoke", [examples], clips, folder)
    learning, held_out = proof.material
    photos = [
        {bytes(part[index].contiguous().numpy()) for index in range(len(part))}
        for part in (learning, held_out)
    ]
    assert len(learning) == len(held_out) == 2 and not photos[0] & photos[1]
    learn, choose, held = (
        {video.path for video, _ in proof.footage(part).parts} for part in ("learn", "choose", "held")
    )
    assert not learn & choose and {path.name for path in learn | choose} == {
        "a.mp4",
        "photo-0000.mp4",
        "photo-0001.mp4",
    }
    assert {path.name for path in held} == {"b.mp4", "photo-0000.mp4", "photo-0001.mp4"}
    assert not {path.parent for path in held} & {path.parent for path in learn | choose}
    assert {Path(key).stem for key in proof.concepts.glob("clips/*.mp4")} <= {
        proof.footage("learn").caption_key(index) for index in range(2)
    }


def test_what_is_judged_does_not_depend_on_where_the_folder_lies(
    folder: Path, examples: Path, clips: Path, tmp_path: Path
) -> None:
    """The footage, which is written again elsewhere, and every draw of its degradation."""
    shutil.copytree(folder / "footage" / "held", tmp_path / "deeper" / "there" / "held")
    first = VividProof("smoke", [examples], clips, folder)
    rows = (folder / "footage" / "held.jsonl").read_text()
    moved = tmp_path / "deeper" / "there"
    (moved / "held.jsonl").write_text(rows.replace(str(folder / "footage"), str(moved)))
    found = FootageClips.of(moved / "held.jsonl", 9)
    assert found.names == first.footage("held").names
    for path in moved.glob("held/*.mp4"):
        shutil.copystat(folder / "footage" / "held" / path.name, path)
    pairs = FootagePairs(found, degraded)
    for index, one in enumerate(first.judged_pairs("held")):
        low, clean = pairs.draw(index, 16, 9, generator(1, "judged", one.name)).chunk(2)
        assert torch.equal(low, one.low) and torch.equal(clean, one.clean)


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

    def seam(mean: float, low: float, high: float) -> dict[str, dict[str, float]]:
        made = {"mean": mean, "low": low, "high": high}
        return {"made": made, "input": {"mean": 1.0, "low": 0.99, "high": 1.01}}

    told = {
        "over_input": {"without MLP": one(1, 2)},
        "over_blurred": one(-1, 1),
        "lost_to_whole": {"without MLP": one(0.2, 0.4)},
        "seams": {},
    }
    assert verdicts(told)[2].endswith("only: it does converge.") and "**not** closer" in verdicts(told)[1]
    found = verdicts(
        {
            "over_input": {"whole": one(1, 2), "without MLP": one(-1, 0.5)},
            "lost_to_whole": {
                "without MLP": one(0.2, 0.4),
                "without projector": one(-0.4, -0.2),
                "without distillation": one(-0.1, 0.3),
            },
            "over_blurred": one(0.1, 0.3),
            "seams": {
                "As chosen": {"tiles": seam(1.02, 1.0, 1.04), "windows": seam(0.9, 0.8, 1.0)},
                "As published": {"tiles": seam(1.04, 1.0, 1.08), "windows": seam(1.0, 0.98, 1.02)},
            },
        }
    )
    parts = [
        "on 90 % of the clips.",
        "is **not** closer",
        "is closer to the truth than its input under a Gaussian blur",
        "which agrees.",
        "**disagrees**.",
        "decides nothing.",
        "As chosen: steps where tiles meet are 1.020 (1.000 to 1.040) of those in like places, within 5 %;",
        "**not within** 5 %; in the input they are 1.000 (0.990 to 1.010).",
        "within, but not beyond doubt, 5 %;",
        "As published: steps where windows meet are 1.000 (0.980 to 1.020) of those in like places, within 5 %;",
    ]
    assert all(part in sentence for sentence, part in zip(found, parts, strict=True)), found


def test_a_grid_is_no_seam_and_a_seam_is_none_of_the_grid() -> None:
    """Blocks of a codec show everywhere alike; an edge at a cut does not."""
    noise = generator(3)
    truths = [0.3 + 0.2 * torch.rand(3, 3, 64, 64, generator=noise) for _ in range(12)]
    meeting = Meeting((2, 3), (64, 64), 3, (24, 40), 8)
    grid = torch.arange(64) // 8 % 2 * 0.1
    blocky = [truth + grid + grid[:, None] for truth in truths]
    edged = [one.clone() for one in blocky]
    for one in edged:
        one[..., 24:] += 0.2
    found = [
        Share.of(
            [(meeting.steps(made), meeting.steps(truth)) for made, truth in zip(clips, truths, strict=True)]
        )
        for clips in (truths, blocky, edged)
    ]
    assert found[0].mean == found[0].low == found[0].high == 1
    assert abs(found[1].mean - 1) < 0.05 and found[1].low < 1 < found[1].high
    assert found[2].low > 1.1
    # Beside all places, the grid alone would look like a seam.
    plain = [across(one, 3, (24, 40), 1) for one in blocky]
    assert sum(one[0] for one in plain) > 1.2 * sum(one[1] for one in plain)
    steps = torch.zeros(17, 3, 4, 4)
    steps[7:] = 1.0
    steps[3:] += 0.5
    assert across(steps, 0, (7, 11), 4) == (0.5, 0.25)


def test_a_blur_is_a_gaussian_of_one_pixel() -> None:
    point = torch.zeros(2, 3, 21, 21)
    point[:, :, 10, 10] = 1
    seen = blurred(point)
    rows = torch.arange(21.0) - 10
    spread = (seen.sum(3) * rows**2).sum(2) / seen.sum((2, 3))
    assert torch.allclose(spread, torch.ones(2, 3), atol=0.12)
    assert torch.equal(blurred(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 8, 8))


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
