"""A run's log after kills, and trackers beside it."""

import json
from pathlib import Path

import pytest
import torch

from unfade.core import Clip, UnfadeError, UsageError
from unfade.training.run_log import RunLog, forget_after, read_rows
from unfade.training.tracker import check_tracker, open_tracker


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    log = RunLog(tmp_path, leads=True)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 0.1 * step})
    path = tmp_path / "log.jsonl"
    whole = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole) + '{"step": 4, "lo')
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    log.forget_after(2)
    assert path.read_text() == "".join(whole[:2])
    assert [one.name for one in tmp_path.iterdir()] == ["log.jsonl"]
    path.write_bytes(b"".join(line.encode() for line in whole[:2]) + b'{"step": 3\xff')
    log.forget_after(9)
    log.write({"step": 3})
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]
    log.forget_after(0)
    assert path.read_text() == "" and read_rows(tmp_path / "none.jsonl") == []
    RunLog(tmp_path / "other", leads=False).forget_after(0)
    forget_after(tmp_path / "none.jsonl", 0)
    assert not (tmp_path / "none.jsonl").exists()


@pytest.mark.parametrize("kind", ["tensorboard", "trackio", "wandb"])
def test_a_folder_of_its_name_is_no_tracker(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / kind).mkdir()
    # Nothing but that folder can be found.
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, kind, raising=False)
    with pytest.raises(UsageError, match=f"{kind} is not installed; pip install {kind}"):
        check_tracker(kind)


def test_a_tracker_that_cannot_begin_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "__init__.py").write_text(
        "def init(**told):\n    raise RuntimeError('no API key configured')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "wandb", raising=False)
    with pytest.raises(UnfadeError, match=r"wandb could not be started: no API key configured; set it up"):
        open_tracker("wandb", tmp_path, {})


def test_tensorboard_is_told_everything(tmp_path: Path) -> None:
    # Not skipped where it is missing: the extra `dev` brings it.
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    log = RunLog(tmp_path, True, open_tracker("tensorboard", tmp_path, {"lr": 0.5, "stages": ((1, 32),)}))
    log.picture(Clip(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))), 3)
    log.write({"step": 3, "loss": 0.25, "held_out": {"result": 20.5, "frames": [1.0], "result_ssim": 0.5}})
    log.close()
    told = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    told.Reload()
    assert {name: told.Scalars(name)[0].value for name in told.Tags()["scalars"]} == {
        "step": 3.0,
        "loss": 0.25,
        "held_out/result": 20.5,
        "held_out/result_ssim": 0.5,
    }
    assert told.Scalars("loss")[0].step == told.Images("held_out")[0].step == 3
    text = told.Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text.strip("`\n")) == {"lr": 0.5, "stages": [[1, 32]]}


def test_wandb_gets_figures_and_pictures_in_the_runs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real one, offline, where it is installed."""
    # What another test put in its place is no wandb.
    monkeypatch.delitem(__import__("sys").modules, "wandb", raising=False)
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    tracker = open_tracker("wandb", tmp_path / "run", {"lr": 1e-4, "lora": None, "stages": ((1, (32, 48)),)})
    assert tracker is not None
    tracker.log({"loss": 1.0}, 1)
    tracker.picture("pictures", Clip(torch.rand(1, 3, 8, 12)), 1)
    tracker.close()
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*")) and not (tmp_path / "wandb").exists()
