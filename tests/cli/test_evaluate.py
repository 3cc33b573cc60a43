"""`unfade evaluate` as a user types it."""

import json
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

from unfade.core import Clip
from unfade.evaluation.benchmarks.table import BENCHMARKS
from unfade.evaluation.peers import PEERS
from unfade.media.image_writer import write_image


class Unfade(Protocol):
    """Runs the command; see the fixture."""

    def __call__(self, *arguments: object) -> Any: ...


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder laid out as HQ-NightRain's first subset, with two pairs where a hundred belong."""
    dice = torch.Generator().manual_seed(0)
    for name in ("1", "2"):
        truth = torch.rand(3, 32, 40, generator=dice)
        for side, image in (("target", truth), ("input", truth * 0.5)):
            (tmp_path / "data" / "RS" / side).mkdir(parents=True, exist_ok=True)
            write_image(Clip.of(image), tmp_path / "data" / "RS" / side / f"{name}.png")
    return tmp_path / "data"


def test_the_list_shows_every_benchmark_with_its_needs_and_every_peer(unfade: Unfade) -> None:
    told = unfade("evaluate", "--list")
    assert told.code == 0
    for name, benchmark in BENCHMARKS.items():
        assert f"{name}: {benchmark.title}" in told.out
        assert benchmark.needs() in told.out
    for name in PEERS:
        assert f"    {name}: " in told.out


def test_a_wrong_count_stops_before_anything_is_measured(unfade: Unfade, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    words = ("evaluate", "-b", "hq-nightrain", "--data", str(pairs), "--group", "RS", "-o", str(out))
    told = unfade(*words, "-n", "peer:identity")
    assert told.code == 3
    assert "group RS has 2 where HQ-NightRain has 100" in told.err
    assert "nothing was measured" in told.err
    assert not out.exists()


def test_a_synthetic_run_writes_the_whole_folder_and_tells_the_headline(
    unfade: Unfade, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    words = ("evaluate", "--synthesize", "uhd-ll", "--from", str(pairs / "RS/target"), "-o", str(out))
    told = unfade(*words, "-n", "tiny", "-n", "peer:gamma", "--frames", "--limit", "2")
    assert told.code == 0, told.err
    assert "UHD-LL  SYNTHETIC: PSNR (FoundIR)" in told.out
    assert "tiny" in told.out
    assert f"report: {out / 'report.html'}" in told.out
    names = {path.name for path in out.iterdir()}
    assert names == {"journal.jsonl", "report.csv", "report.html", "report.json", "timing.json"}
    report = json.loads((out / "report.json").read_text())
    assert {row["model"] for row in report["rows"]} == {"tiny", "gamma"}
    assert report["benchmark"]["synthetic"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "name a benchmark with --benchmark"),
        (("-b", "set5"), 2, "say where the files are with --data"),
        (("--synthesize", "set5"), 2, "say where the files are with --from"),
        (("-b", "set5", "--synthesize", "set5"), 2, "choose one"),
        (("-b", "set5", "--from", "."), 2, "--from holds the clean photos of --synthesize"),
        (("--synthesize", "set5", "--data", "."), 2, "go by --from"),
        (("-b", "nowhere", "--data", "."), 2, "unknown benchmark 'nowhere'"),
        (("-b", "set5", "--data", "missing"), 3, "missing is not a folder; Set5 needs clean photos"),
        (("-b", "set5", "--data", ".", "--group", "x9"), 2, "no group 'x9'"),
        (("-b", "set5", "--data", ".", "-n", "peer:nobody"), 2, "nobody"),
        (("-b", "set5", "--data", ".", "-n", "nobody"), 6, "unknown model 'nobody'"),
        (("-b", "set5", "--data", ".", "--metric", "beauty"), 2, "beauty"),
    ],
)
def test_wrong_requests_get_one_clear_sentence(
    words: tuple[str, ...],
    code: int,
    said: str,
    unfade: Unfade,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    told = unfade("evaluate", *words)
    assert told.code == code, told.err
    assert said in told.err
    assert "Traceback" not in told.err


def test_a_metric_whose_weights_are_missing_is_said_and_the_rest_is_measured(
    unfade: Unfade, pairs: Path, tmp_path: Path
) -> None:
    words = (
        "evaluate",
        "--synthesize",
        "uhd-ll",
        "--from",
        str(pairs / "RS/target"),
        "-o",
        str(tmp_path / "r"),
    )
    told = unfade(*words, "-n", "peer:identity", "--metric", "dover")
    assert told.code == 0
    assert "not measured: dover" in told.err
