"""From folders of photos, or a built set, and a model's folder to an adapter that restores."""

import json
from pathlib import Path

import pytest
import torch

from unfade.backbones.cogvideox_folder import load_cogvideox, open_cogvideox
from unfade.conditioning.lora import load_adapter
from unfade.core import Clip, InputError, ModelError, Plan, UsageError, generator
from unfade.media.images import read_image, write_image
from unfade.recipes.progression_set import build_set
from unfade.recipes.progression_shard import Photo, SetSettings
from unfade.recipes.progressive import RECIPES, recipe
from unfade.recipes.run_progressive import run_progressive
from unfade.restore.load import load
from unfade.training import progression

SMOKE = {"recipe": "smoke", "device": "cpu", "held_out": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(3):
        smooth = torch.nn.functional.interpolate(
            torch.rand(1, 3, 6, 8, generator=generator(0, index)), (64, 96), mode="bicubic"
        )
        write_image(Clip(smooth.clamp(0, 1)), folder / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_run_from_photos_to_an_adapter_that_restores(
    cogvideox_folder: Path, photos: Path, tmp_path: Path
) -> None:
    runs, rows = tmp_path / "runs", []
    name = str(cogvideox_folder)
    run_progressive([photos], name, runs, until=2, report=rows.append, **SMOKE)  # type: ignore[arg-type]
    written = run_progressive([photos], name, runs, report=rows.append, **SMOKE)  # type: ignore[arg-type]
    # Two photos, three tasks, two strengths, in batches of two.
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] and rows[-1]["of"] == 6
    assert set(rows[-1]["held_out"]["gains"]) == {"resolution", "blur", "lowlight"}
    told = json.loads((runs / "photos.json").read_text())
    assert len(told["held_out"]) == 1 and len(told["training"]) == 2
    with pytest.raises(UsageError, match="names other photos, tasks or prompts"):
        run_progressive([photos], name, runs, **{**SMOKE, "held_out": 2})  # type: ignore[arg-type]
    video = load_cogvideox(open_cogvideox(cogvideox_folder), torch.float32)
    load_adapter(video.denoiser.model, written, "restore", video.provenance)
    assert any(
        "lora_B" in key and bool(value.any()) for key, value in video.denoiser.model.state_dict().items()
    )
    picture, plan = Clip(torch.rand(1, 3, 32, 48)), Plan(device="cpu", dtype="fp32", steps=2)
    results = [
        load(name, **adapter).restore(picture, plan=plan).result.frames
        for adapter in ({}, {"adapter": written})
    ]
    assert not torch.equal(*results)


def test_scene_prompts_are_made_once_from_degraded_frames(
    cogvideox_folder: Path, photos: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    run_progressive([photos], str(cogvideox_folder), runs, prompts="scene", until=1, **SMOKE)  # type: ignore[arg-type]
    kept = json.loads((runs / "prompts.json").read_text())
    assert len(kept["prompts"]) == 12
    assert all(text.endswith("Nothing moves. Static image.") for text in kept["prompts"].values())
    with pytest.raises(UsageError, match="tasks or prompts"):
        run_progressive([photos], str(cogvideox_folder), runs, prompts="scene", tasks=("blur",), **SMOKE)  # type: ignore[arg-type]
    first = (runs / "prompts.json").stat().st_mtime_ns
    run_progressive([photos], str(cogvideox_folder), runs, prompts="scene", until=2, **SMOKE)  # type: ignore[arg-type]
    assert (runs / "prompts.json").stat().st_mtime_ns == first


def test_a_built_set_trains_as_well(cogvideox_folder: Path, photos: Path, tmp_path: Path) -> None:
    listed = [Photo(path, path.name) for path in sorted(photos.iterdir())]
    build_set(listed, tmp_path / "set", SetSettings(size=(32, 48), photos_per_shard=2), workers=1)
    written = run_progressive(
        [tmp_path / "set"],
        str(cogvideox_folder),
        tmp_path / "runs",
        tasks=("blur",),
        **SMOKE,  # type: ignore[arg-type]
    )
    row = json.loads((tmp_path / "runs" / "log.jsonl").read_text().splitlines()[-1])
    # One photo is held out; two with two strengths of one task are two steps.
    assert row["of"] == 2 and set(row["held_out"]["gains"]) == {"blur"}
    assert written.is_file()


def test_headers_tell_what_can_not_be_learnt_from(
    cogvideox_folder: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a pixel is decoded: photos that are none or smaller than a crop, however they stand."""
    folder, bad = tmp_path / "mixed", tmp_path / "bad"
    for index, path in enumerate(sorted(photos.iterdir())):
        write_image(read_image(path), folder / f"{index}.png")
    dice = generator(0, "small")
    write_image(Clip(torch.rand(1, 3, 48, 32, generator=dice)), folder / "standing.png")
    bad.mkdir()
    write_image(Clip(torch.rand(1, 3, 31, 96, generator=dice)), bad / "low.png")
    (bad / "notes.jpg").write_text("no photo")
    decoded: list[Path] = []
    real = progression.read_image
    monkeypatch.setattr(progression, "read_image", lambda path: decoded.append(path) or real(path))
    said: list[str] = []

    def run(*sources: Path, runs: str) -> Path:
        return run_progressive(
            sources,
            str(cogvideox_folder),
            tmp_path / runs,
            tasks=("blur",),
            until=1,
            say=said.append,
            **SMOKE,
        )  # type: ignore[arg-type]

    with pytest.raises(
        InputError, match=r"none of 2 photos can be used; the first: .*low\.png has 96 x 31 pixels"
    ):
        run(bad, runs="none")
    assert decoded == [] and said == []
    run(folder, bad, runs="some")
    assert [sentence.partition(": ")[0] for sentence in said] == ["left out"] * 2
    assert "low.png has 96 x 31 pixels, fewer than the 48 x 32 asked for" in said[0]
    assert "notes.jpg is not an image of a known format" in said[1]
    assert decoded and not {path.name for path in decoded} & {"low.png", "notes.jpg"}
    told = json.loads((tmp_path / "some/photos.json").read_text())
    assert len(told["training"]) == 3 and len(told["held_out"]) == 1


def test_without_noise_on_the_photo_and_whole(cogvideox_folder: Path, photos: Path, tmp_path: Path) -> None:
    written = run_progressive(
        [photos],
        str(cogvideox_folder),
        tmp_path / "runs",
        adapter=False,
        image_noise=False,
        tasks=("lowlight",),
        **SMOKE,  # type: ignore[arg-type]
    )
    assert open_cogvideox(written).config == open_cogvideox(cogvideox_folder).config
    told = json.loads(json.loads((written / "training.json").read_text())["run"])
    assert told["image_noise"] is None and told["lora"] is None
    load(str(written)).restore(Clip(torch.rand(1, 3, 32, 48)), plan=Plan(device="cpu", steps=1))


def test_what_does_not_fit_is_one_sentence(
    cogvideox_folder: Path, wan_folder: Path, photos: Path, tmp_path: Path
) -> None:
    def run(*given: object, **told: object) -> None:
        run_progressive(*given, **{**SMOKE, **told})  # type: ignore[arg-type]

    model, runs = str(cogvideox_folder), tmp_path / "runs"
    with pytest.raises(ModelError):
        run([photos], str(wan_folder), runs)
    with pytest.raises(UsageError, match="unknown recipe 'x'"):
        run([photos], model, runs, recipe="x")
    with pytest.raises(UsageError, match="prompts are uniform or scene"):
        run([photos], model, runs, prompts="x")
    with pytest.raises(UsageError, match="unknown task 'x'"):
        run([photos], model, runs, tasks=("x",))
    with pytest.raises(UsageError, match="too few to keep 3"):
        run([photos], model, runs, held_out=3)
    with pytest.raises(UsageError, match="frames must be 8k"):
        run([photos], model, runs, frames=5)
    with pytest.raises(UsageError, match="lr must be above 0"):
        run([photos], model, runs, lr=0.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        run([tmp_path / "empty"], model, runs)
    listed = [Photo(path, path.name) for path in sorted(photos.iterdir())]
    build_set(listed, tmp_path / "set", SetSettings(size=(32, 48), photos_per_shard=2), workers=1)
    with pytest.raises(UsageError, match="holds 9 frames of 48 x 32, not 17 of"):
        run([tmp_path / "set"], model, runs, frames=17)
    assert not runs.exists() or not (runs / "checkpoint.pt").exists()
    # What was refused binds nobody.
    run([photos], model, runs, tasks=("blur",), until=1)


def test_recipes_are_what_they_say() -> None:
    published = recipe("lora")
    assert published.lora is not None and (published.lora.rank, published.lora.alpha) == (128, 64.0)
    assert published.stages == ((10, (768, 1360)),) and published.frames == 9
    assert (published.lr, published.betas, published.weight_decay, published.clip) == (
        1e-4,
        (0.9, 0.95),
        1e-4,
        1.0,
    )
    assert published.image_noise == (-3.0, 0.5)
    # 800 photos of three tasks and two strengths.
    assert published.steps(4800) == 6000
    assert recipe("lora", adapter=False).lora is None
    assert set(RECIPES) == {"lora", "smoke"}
