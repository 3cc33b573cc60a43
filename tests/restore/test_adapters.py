"""Adapters that don't fit are refused before any weights are read, and what the others take is told."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from unfade.backbones.wan import build_wan
from unfade.backbones.wan_config import SMALL, WanConfig
from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.conditioning.lora import LoraSettings, attach_lora, save_adapter
from unfade.core import Clip, ModelError, Plan
from unfade.restore.adapters import Adapters
from unfade.restore.job import run_job
from unfade.restore.latent import LatentRestorer, VBridgeSettings
from unfade.restore.outputs import plan_jobs

FP32 = Plan(dtype="fp32", device="cpu")
GATED = VBridgeSettings(frames=5, steps=1, guidance=1, drift="gated")


def adapter(
    path: Path, role: str = "restore", config: WanConfig = SMALL, weights: str = "random", rank: int = 2
) -> Path:
    model = build_wan(config).denoiser.model
    attach_lora(model, LoraSettings(rank=rank), 0, role)
    base = {"model": "another", "weights": weights}
    save_adapter(model, path, base, {}, role=role, name=role)  # type: ignore[arg-type]
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every reading of a transformer's weights."""
    seen: list[Any] = []
    read: Callable[..., Any] = WanTransformer3DModel.from_pretrained

    def from_pretrained(path: Any, **named: Any) -> Any:
        seen.append(path)
        return read(path, **named)

    monkeypatch.setattr(WanTransformer3DModel, "from_pretrained", from_pretrained)
    return seen


def test_what_is_wrong_with_an_adapter_is_said_when_the_restorer_is_made(
    wan_folder: Path, tmp_path: Path
) -> None:
    larger = WanConfig({**SMALL.transformer, "num_layers": 3}, SMALL.vae, SMALL.scheduler)
    cut = adapter(tmp_path / "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:-8])
    for path, said in (
        (adapter(tmp_path / "other.safetensors", config=larger), "made for another base"),
        (adapter(tmp_path / "drift.safetensors", "drift-correction"), "an adapter for drift-correction"),
        (cut, "truncated or damaged"),
    ):
        with pytest.raises(ModelError, match=said):
            LatentRestorer.of_folder(wan_folder, adapters=Adapters(path))


def test_a_base_with_other_weights_is_not_read_for_nothing(
    wan_folder: Path, tmp_path: Path, reads: list[Any]
) -> None:
    adapters = Adapters(adapter(tmp_path / "a.safetensors", weights="0" * 64))
    model = LatentRestorer.of_folder(wan_folder, GATED, tmp_path, adapters=adapters)
    for _ in range(2):
        with pytest.raises(ModelError, match="whose files have the hash 000000000000"):
            model.restore(Clip(torch.zeros(1, 3, 32, 32)), plan=FP32)
    assert reads == []


def test_a_changed_file_is_not_loaded(wan_folder: Path, tmp_path: Path, reads: list[Any]) -> None:
    import shutil

    folder = open_wan(Path(shutil.copytree(wan_folder, tmp_path / "copy")))
    folder.sha256()
    path = folder.files["vae"][0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is not what it was"):
        load_wan(folder)
    assert reads == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_headers_tell_what_adapters_take(tmp_path: Path, dtype: torch.dtype) -> None:
    adapters = Adapters(
        adapter(tmp_path / "a.safetensors"), adapter(tmp_path / "b.safetensors", "drift-correction", rank=4)
    )
    wan = build_wan(SMALL, dtype=dtype)
    before = sum(one.numel() * one.element_size() for one in wan.denoiser.model.parameters())
    adapters.attach(wan)
    after = sum(one.numel() * one.element_size() for one in wan.denoiser.model.parameters())
    assert adapters.num_parameters() * dtype.itemsize == after - before > 0
    assert Adapters().num_parameters() == 0


def test_a_dry_run_counts_the_adapters(wan_folder: Path, tmp_path: Path) -> None:
    def peak(adapters: Adapters) -> float:
        model = LatentRestorer.of_folder(wan_folder, replace(GATED, drift="never"), adapters=adapters)
        return model.work(32, 32, FP32)["predicted_peak_gb"]

    taught = Adapters(adapter(tmp_path / "a.safetensors", rank=256))
    assert peak(taught) - peak(Adapters()) == pytest.approx(taught.num_parameters() * 4 / 1e9, rel=0.2)


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path) -> None:
    path = adapter(tmp_path / "a.safetensors")
    first = Adapters(path).told()
    assert Adapters(path).told() == first
    adapter(path, rank=3)
    assert Adapters(path).told() != first


def test_a_clips_report_says_what_became_of_the_correction(
    wan_folder: Path, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    source = make_clip(tmp_path / "a.mp4", (0, 1), (32, 32))
    adapters = Adapters(None, adapter(tmp_path / "drift.safetensors", "drift-correction"))
    model = LatentRestorer.of_folder(wan_folder, GATED, tmp_path / "cache", adapters=adapters)
    report = run_job(plan_jobs([str(source)]).jobs[0], model, FP32)
    assert report.status == "done", report.error
    # A new adapter changes nothing, and without a first one both passes begin alike.
    assert report.provenance["drift_correction"] in ("gated, taken", "gated, left out")
    told = report.as_dict({})["settings"]["drift_correction"]
    assert told == report.provenance["drift_correction"]
