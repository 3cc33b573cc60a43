"""`make gpu-bench`: the whole script at small size where there is no GPU, and packages carried as wheels."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from wheels import use_wheels  # noqa: E402  # pyright: ignore[reportMissingImports]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if torch.cuda.is_available():
        pytest.skip("on a GPU the full size is measured, which takes minutes")
    folder = tmp_path_factory.mktemp("bench")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--output", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "no GPU here" in done.stdout.splitlines()[0]
    return json.loads((folder / "gpu-at-cpu-size.json").read_text())


def test_all_parts_are_measured_at_small_size(told: dict[str, Any]) -> None:
    assert "no GPU here" in told["device"]
    assert not [row for row in told["rows"] if "skipped" in row or row["phase"] == "out of memory"]
    found = {(row["phase"], row.get("who"), row.get("vae_dtype")) for row in told["rows"]}
    for dtype in ("float32", "bfloat16"):
        for phase in ("encode", "denoise", "decode", "restore"):
            assert (phase, "ours", dtype) in found
        assert ("restore", "diffusers", dtype) in found
        assert ("predicted", None, dtype) in found
    assert ("lora step", None, None) in found
    for phase in ("encode for training", "lora step"):
        assert (phase, "ours, CogVideoX1.5-5B", None) in found
    (step,) = [row for row in told["rows"] if row["phase"] == "lora step" and "who" in row]
    # Four matrices of two blocks, each from 32 to 128 and back.
    assert step["adapter_parameters"] == 2 * 4 * 2 * 128 * 32 and step["loss"] > 0 and step["frames"] == 9
    assert ("restore", "diffusers, CogVideoX1.5-5B", "bfloat16") in found
    assert ("build", "ours, CogVideoX1.5-5B", None) in found
    for phase in ("build", "encode", "denoise", "decode", "restore"):
        assert (phase, "ours, Vivid-VR", None) in found
    for phase in ("encode", "denoise", "decode", "restore"):
        assert (phase, "ours, CogVideoX1.5-5B", "float32") in found
    assert ("restore", "diffusers, no control", None) in found


def test_fifty_steps_are_a_step_fifty_times(told: dict[str, Any]) -> None:
    rows = {(row["phase"], row.get("who"), row.get("vae_dtype")): row for row in told["rows"]}
    for who, dtype in (
        ("ours", "float32"),
        ("ours", "bfloat16"),
        ("ours, Vivid-VR", None),
        ("ours, CogVideoX1.5-5B", "float32"),
    ):
        encode, step, decode, whole = (
            rows["encode", who, dtype]["seconds"],
            rows["denoise", who, dtype]["seconds_per_step"],
            rows["decode", who, dtype]["seconds"],
            rows["restore", who, dtype]["seconds_at_50_steps"],
        )
        assert whole == pytest.approx(encode + 50 * step + decode, abs=0.01)


def test_wheels_come_before_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    folder = tmp_path / "carried"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tabnanny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tabnanny.py", "CARRIED = True\n")
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    assert use_wheels(folder) == ["tabnanny-1-py3-none-any.whl"]
    import tabnanny

    assert tabnanny.CARRIED  # type: ignore[attr-defined]
    monkeypatch.delitem(sys.modules, "tabnanny")
    with pytest.raises(SystemExit, match="no wheels"):
        use_wheels(tmp_path)
