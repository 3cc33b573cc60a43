"""Progressive's CPU-sized proof, a step or two of everything: photos in, base, adapter, films and verdicts out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox
from unfade.core import Clip, InputError, UsageError
from unfade.media.images import read_image
from unfade.prompts.progressive import TASKS, UNIFORM
from unfade.recipes.progressive_cpu import RECIPES, progressive_cpu
from unfade.recipes.progressive_proof import Material, ProgressiveProof
from unfade.recipes.progressive_verdicts import verdicts
from unfade.recipes.run_progressive_cpu import run_progressive_cpu
from unfade.restore.load import load
from unfade.training.films import Shooting, shot
from unfade.training.photos import load_photos
from unfade.training.progression import ProgressionSequences
from unfade.training.stills import Stills


@pytest.fixture(scope="module")
def folder(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "proof"
    for stage in ("vae", "base", "adapter", "report"):
        run_progressive_cpu([examples], folder, recipe="smoke", stage=stage, workers=1)
    return folder


def test_everything_is_written(folder: Path) -> None:
    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    text = (folder / "report" / "figures.json").read_text()
    figures = json.loads(text, parse_constant=refuse)
    assert set(figures["films"]) == {"adapter", "sampled", "untuned", "wrong", "empty"}
    for films in figures["films"].values():
        assert set(films) == set(TASKS)
        assert all(len(films[task][metric]["mean"]) == 9 for task in TASKS for metric in ("psnr", "ssim"))
    assert set(figures["steps"]) == {"1", "2"}
    assert set(figures["spent"]) == {"vae", "base", "adapter", "report"}
    assert all(row["core_seconds"] > 0 for row in figures["spent"].values())
    assert {task: set(others) for task, others in figures["text"].items()} == {
        task: set(TASKS) - {task} for task in TASKS
    }
    page = (folder / "report" / "README.md").read_text()
    assert "## Along the frames: the base without the adapter" in page
    assert all(sentence in page for sentence in figures["verdicts"])
    sheet = read_image(folder / "report" / "held-out.png")
    assert (sheet.width, sheet.height) == (16 * 7, 16 * 2 * len(TASKS))
    assert (folder / "report" / "curves.png").stat().st_size > 10_000


def test_what_is_done_is_not_done_again(folder: Path, examples: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "report" not in path.parts}
    run_progressive_cpu([examples], folder, recipe="smoke", stage="all", workers=1)
    changed = {
        path.name for path, time in files.items() if path.is_file() and path.stat().st_mtime_ns != time
    }
    assert changed <= {"seconds.jsonl", "unfade-manifest.json"}


def test_the_adapter_restores_a_photo(folder: Path, tmp_path: Path) -> None:
    photo = Clip(torch.rand(1, 3, 20, 28))
    asked: dict[str, Any] = {"steps": 2, "guidance": 1.0}
    made = [
        load(folder / "model", **extra, **asked)
        for extra in ({}, {"adapter": folder / "adapter" / "adapter.safetensors"})
    ]
    results: list[torch.Tensor] = []
    for restorer in made:
        restorer._embed.cache = tmp_path  # type: ignore[union-attr]
        results.append(restorer.restore(photo, prompt=UNIFORM["lowlight"]).result.frames)
    assert results[0].shape == photo.frames.shape
    assert not torch.equal(results[0], results[1])


def test_every_prompt_is_told_apart(folder: Path, examples: Path) -> None:
    proof = ProgressiveProof(RECIPES["smoke"](), [examples], folder)
    prompts = ["", *UNIFORM.values()]
    texts = proof.texts(prompts)
    assert all(text.shape == (1, 24, 64) for text in texts)
    gaps = [float((a - b).abs().mean()) for i, a in enumerate(texts) for b in texts[:i]]
    assert min(gaps) > 0.05
    video = load_cogvideox(open_cogvideox(folder / "model"), torch.float32)
    first = torch.rand(1, 3, 16, 16).expand(4, -1, -1, -1)
    films = shot(video, first, ["film"] * 4, texts, Shooting(steps=1, bf16=False))
    assert films.shape == (4, 9, 3, 16, 16)


def test_films_are_the_same_in_any_company(folder: Path, examples: Path) -> None:
    proof = ProgressiveProof(RECIPES["smoke"](), [examples], folder)
    video = load_cogvideox(open_cogvideox(folder / "model"), torch.float32)
    texts = [text.float() for text in proof.texts([UNIFORM["blur"]] * 3)]
    first, names = torch.rand(3, 3, 16, 16), ["a", "b", "c"]
    together = shot(video, first, names, texts, Shooting(steps=2, bf16=False))
    alone = shot(video, first[1:2], names[1:2], texts[1:2], Shooting(steps=2, bf16=False))
    assert float((together[1] - alone[0]).abs().max()) <= 1 / 255


def test_stills_stand_still(examples: Path) -> None:
    sequences = ProgressionSequences(load_photos([examples]))
    stills = Stills(sequences)
    assert stills.names == sequences.names
    ends = [0, 0]
    for index in range(12):
        dice = [torch.Generator().manual_seed(index) for _ in range(2)]
        still, film = stills.draw(index, 16, 9, dice[0]), sequences.draw(index, 16, 9, dice[1])
        assert still.shape == film.shape
        assert torch.equal(still, still[:1].expand_as(still))
        alike = [torch.equal(still[0], film[end]) for end in (0, -1)]
        assert alike.count(True) == 1
        ends[alike.index(True)] += 1
    assert min(ends) > 2
    assert len({stills.identity(0), sequences.identity(0)}) == 2


def test_no_photo_serves_two_purposes(examples: Path) -> None:
    material = Material.of(RECIPES["smoke"](), [examples])
    starts = [set(part.starts.tolist()) for part in (material.copied, material.few, material.held_out)]
    assert not starts[0] & starts[1] and not starts[0] & starts[2] and not starts[1] & starts[2]
    assert not set(material.coder.starts.tolist()) & starts[2]


def test_bad_wishes(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown recipe 'x'; there is cpu, smoke"):
        run_progressive_cpu([examples], tmp_path, recipe="x")
    with pytest.raises(UsageError, match="unknown stage 'x'"):
        run_progressive_cpu([examples], tmp_path, recipe="smoke", stage="x")
    with pytest.raises(UsageError, match="--workers must be at least 1, not 0"):
        run_progressive_cpu([examples], tmp_path, recipe="smoke", workers=0)
    with pytest.raises(UsageError, match="run --stage vae before this one"):
        run_progressive_cpu([examples], tmp_path, recipe="smoke", stage="base")
    with pytest.raises(UsageError, match="run --stage adapter before this one"):
        run_progressive_cpu([examples], tmp_path, recipe="smoke", stage="report")
    with pytest.raises(InputError, match="4 photos are too few for this recipe, which takes 990"):
        run_progressive_cpu([examples], tmp_path)


def test_a_run_goes_on_with_its_own_photos_only(folder: Path, examples: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    shutil.copytree(examples, others)
    shutil.copy(others / "coffee.png", others / "zebra.png")
    with pytest.raises(UsageError, match="was begun with other photos"):
        run_progressive_cpu([others], folder, recipe="smoke", stage="report")


def test_the_real_recipe_is_the_published_adapter() -> None:
    recipe = progressive_cpu()
    assert recipe.adapter.lora is not None
    assert (recipe.adapter.lora.rank, recipe.adapter.lora.alpha) == (128, 64)
    assert recipe.base.lora is None and recipe.base.image_noise is None
    assert recipe.model.latent_shape(9, recipe.size, recipe.size) == (16, 4, 16, 16)
    # Photo and clip are scaled alike here; the real model's differ.
    assert recipe.model.image_scale == recipe.model.latent_scale


def film(rho: float, p: float, *mean: float) -> dict[str, Any]:
    return {"mean": list(mean), "rho": rho, "p": p, "gain": mean[-1] - mean[0]}


def test_sentences_say_what_the_figures_say() -> None:
    rising, flat = film(1.0, 1e-6, 10, 11, 12, 13), film(0.3, 0.4, 10, 10, 10, 10.01)
    both = {"psnr": rising, "ssim": rising}
    gap = {"mean": 1.0, "low": 0.5, "high": 1.5, "p": 1e-4}
    none = {"mean": 0.1, "low": -0.5, "high": 0.7, "p": 0.3}
    nothing = film(float("nan"), float("nan"), 10, 10)
    figures: dict[str, Any] = {
        "films": {
            "adapter": {
                "resolution": both,
                "blur": {"psnr": rising, "ssim": flat},
                "lowlight": {"psnr": film(0.95, 1e-6, 10, 12, 11, 13), "ssim": rising},
            },
            "sampled": {"resolution": {"psnr": flat, "ssim": rising}, "blur": both, "lowlight": both},
            "untuned": {
                "resolution": {"psnr": flat, "ssim": flat},
                "blur": {"psnr": nothing, "ssim": nothing},
                # No test is passed, but flat it isn't.
                "lowlight": {"psnr": film(0.85, 1e-9, 10, 16), "ssim": flat},
            },
        },
        "sampled": 10,
        "over_untuned": dict.fromkeys(TASKS, gap),
        "text": {
            "resolution": {"blur": gap, "lowlight": gap},
            "blur": {"resolution": none, "lowlight": gap},
            "lowlight": {"resolution": gap, "blur": gap},
        },
        "over_input": {"resolution": gap, "blur": none, "lowlight": gap},
    }
    told = verdicts(figures)
    assert told[0].startswith("resolution: films rise (PSNR: rho 1.00, +3.00, p 1e-06")
    assert told[1].startswith("blur: films do NOT rise")
    assert told[2].startswith("lowlight: films rise")
    assert told[3].startswith("resolution: drawn in 10 steps, films do NOT rise (PSNR: rho 0.30")
    assert told[4].startswith("blur: drawn in 10 steps, films rise")
    assert "adapter stays flat" in told[6]
    assert "adapter stays flat" in told[7]
    assert "adapter does NOT stay flat" in told[8]
    assert "+1.00 dB (+0.50 to +1.50, p 0.0001) from the base's" in told[6]
    assert "its own prompt is better than that of blur by 1.00 dB" in told[9]
    assert "its own prompt is NOT better than that of resolution" in told[11]
    assert "the last frame is NOT better than the input" in told[16]
    assert told[18] == "Shape: can't be told, since not all films rise."
    assert told[19] == "lowlight: brightening is NOT strictly monotone."
    figures["films"]["adapter"]["blur"] = both
    assert verdicts(figures)[18].startswith("Shape: of the whole rise frame 5 has 67 % (resolution)")
