"""A video model in an evaluation: judged like any other, with its VAE's ceiling beside it."""

from pathlib import Path

import pytest
import torch

from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.conditioning.lora import LoraSettings, attach_lora, save_adapter
from unfade.core import Clip, Plan, Restoration, UsageError
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group
from unfade.evaluation.benchmarks.case import find_cases
from unfade.evaluation.benchmarks.material import prepare
from unfade.evaluation.measure import Settings
from unfade.media.image_writer import write_image
from unfade.media.images import read_image
from unfade.recipes.evaluate import evaluate
from unfade.restore.latent import LatentRestorer

ONE = Benchmark(
    name="one", title="One", holds="clean photos", groups=(Group(name="noise-25", make="noise-25"),)
)


def test_the_vaes_ceiling_stands_beside_the_model(
    wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    write_image(Clip(torch.rand(1, 3, 48, 40, generator=torch.Generator().manual_seed(2))), folder / "a.png")
    found = evaluate(ONE, folder, [str(wan_folder)], settings=Settings(steps=1, dtype="fp32", device="cpu"))
    rows = {row.model: row for row in found.rows}
    assert set(rows) == {"small", "VAE round trip (small)"}
    photo = read_image(folder / "a.png")
    through = LatentRestorer.of_folder(wan_folder).round_trip(photo).frames
    rounded = (through * 255).round() / 255
    expected = -10 * float((rounded - photo.frames).square().mean().log10())
    assert rows["VAE round trip (small)"].output["psnr-rgb"] == pytest.approx(expected, abs=0.02)
    assert rows["small"].output["psnr-rgb"] != rows["VAE round trip (small)"].output["psnr-rgb"]


def test_an_adapter_takes_part(wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, path = tmp_path / "photos", tmp_path / "adapter.safetensors"
    folder.mkdir()
    write_image(Clip(torch.rand(1, 3, 48, 40, generator=torch.Generator().manual_seed(2))), folder / "a.png")
    model = load_wan(open_wan(wan_folder), torch.float32).denoiser.model
    for parameter in attach_lora(model, LoraSettings(rank=2, alpha=2.0), 0):
        parameter.data = torch.ones_like(parameter) * 0.1
    save_adapter(model, path, {"model": "small"}, {})
    results = []
    for video in ({}, {"adapter": str(path)}):
        settings = Settings(steps=1, dtype="fp32", device="cpu", video=video)
        found = evaluate(ONE, folder, [str(wan_folder), "tiny"], settings=settings)
        results.append({row.model: row.output["psnr-rgb"] for row in found.rows})
    assert results[0]["tiny"] == results[1]["tiny"] and results[0]["small"] != results[1]["small"]
    with pytest.raises(UsageError, match="drift-adapter is of video models"):
        evaluate(ONE, folder, settings=Settings(video={"drift_adapter": str(path)}))


DARK = Benchmark(
    name="dark", title="Dark", holds="clean photos",
    groups=(Group(name="blurred", make="blur", strength="mild"), Group(name="noisy", make="noise-25")),
)  # fmt: skip


def test_progressive_is_told_the_task_and_its_way_is_anchored(
    cogvideox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong is known on a benchmark of one task, measured on any other, and measured always on request."""
    from unfade.prompts.progressive import uniform_prompt

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, name = tmp_path / "photos", str(cogvideox_folder)
    folder.mkdir()
    # So dark that measuring takes it for low light, whatever else is wrong.
    write_image(
        Clip(torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(2)) * 0.2), folder / "a.png"
    )
    asked: dict[str, list[str]] = {}
    real = LatentRestorer.restore

    def heard(self: LatentRestorer, clip: Clip, prompt: str | None, plan: Plan) -> Restoration:
        restoration = real(self, clip, prompt, plan)
        if plan.keep:
            asked.setdefault(str(self.settings.words), []).append(restoration.provenance["prompt"])  # type: ignore[attr-defined]
        return restoration

    monkeypatch.setattr(LatentRestorer, "restore", heard)
    video = {"words": "uniform", "guidance": "1"}
    settings = Settings(steps=1, dtype="fp32", device="cpu", video=video)
    found = evaluate(DARK, folder, [name], frames=True, settings=settings)
    assert asked.pop("uniform") == [uniform_prompt("blur"), uniform_prompt("lowlight")]
    assert found.report["models"][0]["told"] == "the task, where the benchmark is of one"
    anchors = {
        (one["group"], one["label"]): one["values"]
        for one in found.report["anchors"]
        if one["metric"] == "psnr-rgb"
    }
    label = "VAE round trip{} (small-cogvideox) vs truth"
    way = anchors["blurred", label.format(" of the target trajectory")]
    assert len(way) == 9 and len(anchors["blurred", label.format("")]) == 1
    film = LatentRestorer.of_folder(cogvideox_folder)
    material = prepare(DARK, find_cases(DARK, folder)[0], 0)
    assert material.target is not None and material.truth is not None
    through = (film.film_trip(torch.cat(list(material.target(9)))) * 255).round() / 255
    error = (through[4] - material.truth.frames[0]).square().mean()
    assert way[4] == pytest.approx(-10 * float(error.log10()), abs=0.02)
    blind = evaluate(DARK, folder, [f"{name}?task=auto"], frames=True, settings=settings)
    assert asked.pop("uniform") == [uniform_prompt("lowlight")] * 2
    assert blind.report["models"][0]["told"] is None
    evaluate(DARK, folder, [f"{name}?task=resolution"], frames=True, settings=settings)
    assert asked.pop("uniform") == [uniform_prompt("resolution")] * 2
    with pytest.raises(UsageError, match="task must be one of"):
        evaluate(DARK, folder, [f"{name}?task=rain"], settings=settings)
