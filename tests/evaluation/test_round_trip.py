"""A video model in an evaluation: judged like any other, with its VAE's ceiling beside it."""

from pathlib import Path

import pytest
import torch

from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.conditioning.lora import LoraSettings, attach_lora, save_adapter
from unfade.core import Clip, UsageError
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group
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
