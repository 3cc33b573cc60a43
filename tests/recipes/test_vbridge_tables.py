"""Drift correction and ablations as they run at full size, on the smallest real model and the smallest pairs."""

import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from unfade.backbones.wan import build_wan
from unfade.backbones.wan_config import SMALL, WanConfig
from unfade.backbones.wan_folder import open_wan, save_wan
from unfade.conditioning.lora import LoraSettings, attach_lora, save_adapter
from unfade.conditioning.lora_file import read_adapter, read_notes, weights_hash
from unfade.core import Clip, InputError, ModelError, Plan, UsageError, generator
from unfade.degrade import named
from unfade.media.images import read_image, write_image
from unfade.recipes import run_vbridge_ablations
from unfade.recipes.command import carried_out, tell
from unfade.recipes.run_vbridge import run_vbridge
from unfade.recipes.run_vbridge_ablations import run_ablations
from unfade.recipes.vbridge_ablations import ABLATIONS, rows_of, shortened
from unfade.recipes.vbridge_drift import roll_out, run_vbridge_drift
from unfade.recipes.vbridge_judging import append_line, figures_of, judged_pairs, read_journal
from unfade.restore.adapters import Adapters
from unfade.restore.latent import LatentRestorer, VBridgeSettings
from unfade.training.fewshot import Choice, names_in, read_manifest, write_manifest
from unfade.training.pairs import find_pairs

PLAN = Plan(device="cpu", dtype="fp32")
SAMPLING: dict[str, Any] = {"steps": 1, "guidance": 1.0}
SHORT: dict[str, Any] = {
    "stages": ((1, 32),),
    "batch": 1,
    "precision": "fp32",
    "text_dropout": 0.0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for category in ("Haze", "Noise"):
        for index in range(4):
            truth = torch.rand(1, 3, 32, 40, generator=generator(index, category))
            write_image(Clip(truth), folder / category / "GT" / f"{index}.png")
            write_image(Clip(truth * 0.5 + 0.3), folder / category / "LQ" / f"{index}.png")
    return folder


def test_drift_correction_from_pairs_to_gains(
    pairs: Path, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match=r"holds no finished training with its pairs\.json"):
        run_vbridge_drift([pairs], str(wan_folder), tmp_path / "base", tmp_path / "drift")
    run_vbridge(
        [pairs], str(wan_folder), tmp_path / "base", recipe="smoke", few_shot="1", held_out=0, **SHORT
    )

    def corrected(held_out: int = 1) -> dict[str, Any]:
        return run_vbridge_drift(
            [pairs],
            str(wan_folder),
            tmp_path / "base",
            tmp_path / "drift",
            each=1,
            held_out=held_out,
            plan=PLAN,
            sampling=SAMPLING,
            **SHORT,
        )

    with pytest.raises(UsageError, match="at least 1 pair of each category to judge on, not 0"):
        corrected(held_out=0)
    told = corrected()
    assert Adapters(drift=tmp_path / "drift" / "training" / "adapter.safetensors").drift_frames(9) == 5
    assert not names_in(tmp_path / "base" / "pairs.json") & names_in(tmp_path / "drift" / "choice.json")
    assert set(told["gain"]) == {"Haze", "Noise", "all"}
    gain = told["with DC"]["Haze"]["result"] - told["w/o DC"]["Haze"]["result"]
    assert told["gain"]["Haze"] == pytest.approx(gain)
    assert told["gated"]["all"]["result"] >= min(
        told[name]["all"]["result"] for name in ("w/o DC", "with DC")
    )
    rolled = sorted((tmp_path / "drift" / "rollout").rglob("LQ/*.png"))
    assert len(rolled) == 2
    assert read_image(rolled[0]).metadata.bit_depth == 16
    before = [path.stat().st_mtime_ns for path in rolled]
    assert corrected() == told
    assert [path.stat().st_mtime_ns for path in rolled] == before
    page = (tmp_path / "drift" / "gains.md").read_text()
    rgb, luma = page.split("drift correction: PSNR in dB and SSIM on luma")
    for part, ending in ((rgb, ""), (luma, "_y")):
        after, before = (told[row]["Haze"] for row in ("with DC", "w/o DC"))
        assert "| w/o DC |" in part
        assert told[f"gain{ending}"]["Haze"] == after[f"result{ending}"] - before[f"result{ending}"]
        assert f"| gain | {told[f'gain{ending}']['Haze']:+.2f} |" in part
        assert f"| gated gain | {told[f'gated gain{ending}']['Haze']:+.2f} |" in part
        assert f"| SSIM | {after[f'ssim{ending}'] - before[f'ssim{ending}']:+.4f} |" in part
    assert told["gain_y"] != told["gain"]
    with pytest.raises(UsageError, match=r"was begun with held_out 1, not 2; go on with that, or .* --runs"):
        corrected(held_out=2)
    # Another base adapter: what was rolled out and learnt with the first one is not taken for its own.
    random_adapter(tmp_path / "base" / "adapter.safetensors", 3)
    with pytest.raises(UsageError, match="was begun with base "):
        corrected()


def test_drift_correction_of_a_base_trained_whole(
    pairs: Path, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = tmp_path / "base"
    told: dict[str, Any] = {"recipe": "smoke", "adapter": False, "few_shot": "1", "held_out": 0, **SHORT}
    whole = run_vbridge([pairs], str(wan_folder), base, **told)
    assert not (base / "adapter.safetensors").exists()

    def corrected(model: Path = wan_folder, start: str | None = None) -> dict[str, Any]:
        asked: dict[str, Any] = {"each": 1, "held_out": 1, "plan": PLAN, "sampling": SAMPLING, **SHORT}
        return run_vbridge_drift([pairs], str(model), base, tmp_path / "drift", start=start, **asked)

    with pytest.raises(UsageError, match="begins from its weights anyway; leave --start out"):
        corrected(start="base")
    save_wan(
        build_wan(WanConfig({**SMALL.transformer, "ffn_dim": 32}, SMALL.vae, SMALL.scheduler)),
        tmp_path / "other",
    )
    with pytest.raises(UsageError, match=r"model-\d+ was not trained on .*other; give the model it was"):
        corrected(tmp_path / "other")
    assert set(corrected()["gain"]) == {"Haze", "Noise", "all"}
    # The second pass is an adapter on what the first pass restores with, and not on what that was trained on.
    written = tmp_path / "drift" / "training" / "adapter.safetensors"
    assert read_notes(written)["base.weights"] == open_wan(whole).sha256() != open_wan(wan_folder).sha256()
    assert not names_in(base / "pairs.json") & names_in(tmp_path / "drift" / "choice.json")


def test_drift_correction_can_begin_as_another_adapter(
    pairs: Path, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = run_vbridge(
        [pairs], str(wan_folder), tmp_path / "base", recipe="smoke", few_shot="1", held_out=0, **SHORT
    )

    def correction(folder: str, start: str | Path | None) -> Path:
        asked: dict[str, Any] = {
            "each": 1,
            "held_out": 1,
            "plan": PLAN,
            "sampling": SAMPLING,
            "lr": 1e-6,
            **SHORT,
        }
        run_vbridge_drift(
            [pairs], str(wan_folder), tmp_path / "base", tmp_path / folder, start=start, **asked
        )
        return tmp_path / folder / "training" / "adapter.safetensors"

    new, own, other = (correction(*told) for told in (("new", None), ("own", "base"), ("other", first)))
    assert [read_notes(path)["rank"] for path in (new, own, other)] == ["32", "4", "4"]
    assert weights_hash(own) == weights_hash(other)
    _, begun = read_adapter(first)
    for name, value in read_adapter(own)[1].items():
        torch.testing.assert_close(value, begun[name], atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match=r"was begun with start [0-9a-f]{64}, not nothing"):
        correction("own", None)
    with pytest.raises(ModelError, match="can't be opened"):
        correction("own", tmp_path / "none.safetensors")
    with pytest.raises(
        UsageError, match=r"--start is for a drift correction, which the table 'frames' doesn't"
    ):
        run_ablations("frames", [pairs], str(wan_folder), tmp_path / "frames", start="base")


def test_several_processes_are_refused(
    pairs: Path, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would write the same files at once."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        UsageError, match="a drift correction is made in one process; run it without accelerate"
    ):
        run_vbridge_drift([pairs], str(wan_folder), tmp_path / "base", tmp_path / "drift")
    with pytest.raises(
        UsageError, match="a table of ablations is made in one process; run it without accelerate"
    ):
        run_ablations("frames", [pairs], str(wan_folder), tmp_path / "frames")
    assert not list(tmp_path.iterdir())


def random_adapter(path: Path, seed: int, commit: str = "") -> Path:
    model = build_wan(SMALL).denoiser.model
    dice = torch.Generator().manual_seed(seed)
    for parameter in attach_lora(model, LoraSettings(rank=2, alpha=2.0), 0):
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=dice)
    save_adapter(model, path, {"model": "small"}, {"seed": str(seed), "commit": commit})
    return path


def test_an_adapter_is_its_weights_and_not_its_notes(tmp_path: Path) -> None:
    one, again, other = (
        Adapters(random_adapter(tmp_path / f"{name}.safetensors", seed, name)).sha256("base")
        for name, seed in (("one", 1), ("again", 1), ("other", 2))
    )
    assert one == again != other


@pytest.fixture
def restorers(
    wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LatentRestorer, LatentRestorer]]:
    """The same model with two adapters."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    settings = VBridgeSettings(frames=5, steps=1, guidance=1)
    first, second = (
        LatentRestorer.of_folder(
            wan_folder,
            settings,
            adapters=Adapters(random_adapter(tmp_path / f"{seed}.safetensors", seed)),
        )
        for seed in (1, 2)
    )
    yield first, second


def test_what_another_adapter_made_is_made_anew(
    pairs: Path, restorers: tuple[LatentRestorer, LatentRestorer], tmp_path: Path
) -> None:
    found = find_pairs([pairs], "foundir")[:2]
    first, second = restorers
    folder = tmp_path / "rolled"
    roll_out(first, found, folder, PLAN)
    results = sorted(folder.rglob("LQ/*.png"))
    before = [path.read_bytes() for path in results]
    truth = sorted(folder.rglob("GT/*.png"))[0]
    truth.write_bytes(truth.read_bytes()[:50])
    told: list[dict[str, Any]] = []
    roll_out(first, found, folder, PLAN, told.append)
    assert not told and [path.read_bytes() for path in results] == before
    assert truth.read_bytes() == found[0].hq.read_bytes()
    assert not [path for path in folder.rglob(".unfade-*")]
    roll_out(second, found, folder, PLAN, told.append)
    assert len(told) == 2
    assert all(path.read_bytes() != old for path, old in zip(results, before, strict=True))

    journal = tmp_path / "judged.jsonl"
    rows: list[dict[str, Any]] = []
    figures = [judged_pairs(one, found, PLAN, journal, rows.append) for one in (first, second, first)]
    assert len(rows) == 4 and figures[0] == figures[2] != figures[1]
    judged_pairs(first, found, replace(PLAN, steps=2), journal, rows.append)
    assert len(rows) == 6
    # A line of an older journal, which knows one way of counting only, is not taken.
    lines = [{name: value for name, value in row.items() if not name.endswith("_y")} for row in rows]
    older = tmp_path / "older.jsonl"
    for line in lines:
        append_line(older, line)
    assert judged_pairs(second, found, PLAN, older, rows.append) == figures[1] and len(rows) == 8


def test_figures_are_counted_over_rgb_and_on_luma() -> None:
    truth, noise = torch.rand(2, 1, 3, 24, 20, generator=generator(0)).unbind()
    result = (truth + 0.1 * (noise - 0.5)).clamp(0, 1).mul(255).round().div(255)
    told = figures_of(result, truth)
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64)
    error = (result - truth)[0].double()
    on_luma = (weights[:, None, None] * error).sum(0)
    assert told["result"] == pytest.approx(-10 * math.log10(float(error.square().mean())), abs=1e-6)
    assert told["result_y"] == pytest.approx(
        10 * math.log10(255**2 / float(on_luma.square().mean())), abs=1e-6
    )
    same = figures_of(truth.mul(255).round().div(255), truth.mul(255).round().div(255))
    assert same["ssim"] == same["ssim_y"] == pytest.approx(1)
    grey = figures_of(torch.full((1, 3, 24, 20), 0.5), truth)
    assert 0 < grey["ssim"] < 1 and 0 < grey["ssim_y"] < 1 and grey["ssim"] != grey["ssim_y"]


def test_a_line_that_was_cut_off_costs_no_other_line(tmp_path: Path) -> None:
    journal = tmp_path / "deep" / "journal.jsonl"
    append_line(journal, {"a": 1})
    with journal.open("a") as file:
        file.write('{"a": 2')
    append_line(journal, {"a": 3})
    assert read_journal(journal) == [{"a": 1}, {"a": 3}]


def test_a_table_of_fading_against_blending(
    pairs: Path, examples: Path, wan_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked: dict[str, Any] = {
        "held_out": 1,
        "seed": 7,
        "kinds": {"Haze": named("haze")},
        "epochs": 1,
        "plan": PLAN,
        "sampling": SAMPLING,
        **{name: value for name, value in SHORT.items() if name != "device"},
    }
    with pytest.raises(UsageError, match="--photos"):
        run_ablations("trajectory", [pairs], str(wan_folder), tmp_path, **asked)
    with pytest.raises(UsageError, match=r"holds .*\.png, which the table is judged on; give --photos from"):
        truths = [pairs / "Noise" / "GT"]
        run_ablations("trajectory", [pairs], str(wan_folder), tmp_path / "leak", photos=truths, **asked)
    told = run_ablations("trajectory", [pairs], str(wan_folder), tmp_path, photos=[examples], **asked)
    assert list(told["rows"]) == ["linear", "fade"]
    assert len(told["held_out"]) == 2
    assert json.loads((tmp_path / "table.json").read_text())["rows"] == told["rows"]
    # A line for each row in each of the two tables.
    assert (tmp_path / "table.md").read_text().count("\n| SSIM |") == 4
    # The table says what was really run, and its draw is by the seed that was asked for.
    assert told["runs"]["fade"]["batch"] == 1 and told["runs"]["fade"]["seed"] == 7
    assert read_manifest(tmp_path / "judged-on.json", find_pairs([pairs])).seed == 7


def test_the_command_makes_a_table_with_and_without_correction(
    pairs: Path,
    wan_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runs = tmp_path / "runs"

    def command(held_out: int = 1) -> tuple[int, str, str]:
        words = ["drift", "--pairs", pairs, "--layout", "foundir", "--model", wan_folder, "--runs", runs]
        words += ["--each", 1, "--held-out", held_out, "--stages", "1x32", "--batch", 1]
        words += ["--precision", "fp32", "--steps", 1, "--guidance", 1, "--device", "cpu", "--start", "base"]
        code = run_vbridge_ablations.main([str(word) for word in words])
        return code, *capsys.readouterr()

    def interrupted(row: dict[str, Any]) -> None:
        tell(row)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(run_vbridge_ablations, "tell", interrupted)
        code, out, err = command()
    assert code == 130 and '"step": 2' in out
    assert err.endswith("interrupted; the same command goes on from where it stopped\n")
    code, out, err = command()
    assert code == 0 and "rolled_out" in out
    told = json.loads((runs / "table.json").read_text())
    assert list(told["rows"]) == ["w/o DC", "with DC"]
    assert told["runs"]["with DC"]["stages"] == [[1, 32]]
    # The base is the same in both rows, and trained once; the correction keeps its own number of frames.
    assert not (runs / "with-DC" / "adapter.safetensors").exists()
    correction = Adapters(drift=runs / "with-DC" / "drift" / "training" / "adapter.safetensors")
    assert correction.drift_frames(9) == 5
    assert Adapters(drift=runs / "wo-DC" / "adapter.safetensors").drift_frames(5) == 9
    # It begins as its base's adapter, of which one step of a rate of 1e-6 takes nothing away.
    begun = read_adapter(runs / "wo-DC" / "adapter.safetensors")[1]
    for name, value in read_adapter(runs / "with-DC" / "drift" / "training" / "adapter.safetensors")[
        1
    ].items():
        torch.testing.assert_close(value, begun[name], atol=1e-4, rtol=0)
    judged = names_in(runs / "judged-on.json")
    for manifest in (runs / "wo-DC" / "pairs.json", runs / "with-DC" / "drift" / "choice.json"):
        assert len(judged) == 2 and not judged & names_in(manifest)
    # Started again with everything done, it writes the adapter anew but neither trains nor restores.
    code, out, _ = command()
    assert code == 0 and "rolled_out" not in out and '"by"' not in out and '"loss"' not in out
    assert json.loads((runs / "table.json").read_text()) == told
    code, _, err = command(held_out=2)
    assert code == 2 and "was begun with held_out 1, not 2" in err


def test_no_row_learns_from_what_it_is_judged_on(pairs: Path, wan_folder: Path, tmp_path: Path) -> None:
    found = find_pairs([pairs])
    write_manifest(Choice(found, (), 42, 50), tmp_path / "5-frames" / "pairs.json")
    with pytest.raises(
        UsageError, match=r"5-frames/pairs\.json learns from .*, which the table is judged on"
    ):
        run_ablations("frames", [pairs], str(wan_folder), tmp_path, held_out=1, **SHORT)
    with pytest.raises(UsageError, match="at least 1 pair of each category to judge on, not 0"):
        run_ablations("frames", [pairs], str(wan_folder), tmp_path, held_out=0)


def test_rows_differ_in_what_their_table_compares() -> None:
    with pytest.raises(UsageError, match="unknown table 'x'; there is frames, curriculum, data, drift"):
        rows_of("x")
    for table, changes in (("curriculum", {"stages": ((1, 64),)}), ("frames", {"frames": 5})):
        with pytest.raises(UsageError, match=f"{next(iter(changes))} is what the table '{table}' compares"):
            rows_of(table, changes=changes)
    with pytest.raises(UsageError, match="each is what the table 'data' compares"):
        rows_of("data", each=3)
    with pytest.raises(UsageError, match="'512' and '704' are the same training at this size"):
        rows_of("curriculum", size=64)
    with pytest.raises(UsageError, match=r"too few epochs \(2\) for the 3 stages of '512"):
        rows_of("curriculum", epochs=2)
    with pytest.raises(UsageError, match="lr must be above 0"):
        rows_of("frames", changes={"lr": 0.0})
    with pytest.raises(UsageError, match="no_such_field"):
        rows_of("frames", changes={"no_such_field": 1})
    rows = rows_of("drift", epochs=30, each=3, changes={"lr": 0.5})
    assert [row.each for row in rows] == [3, 3] and {row.run.lr for row in rows} == {0.5}
    for epochs in (3, 7, 100):
        totals = {sum(count for count, _ in row.run.stages) for row in rows_of("curriculum", epochs=epochs)}
        assert totals == {epochs}
    assert shortened(ABLATIONS["curriculum"]()[-1], 6).run.stages == ((2, 512), (2, 704), (2, 960))


def test_commands_end_with_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> None:
        raise InputError("there are no pairs")

    assert carried_out(failing) == InputError.exit_code
    assert capsys.readouterr().err == "error: there are no pairs\n"
    assert carried_out(lambda: tell({"a": 1})) == 0
    assert capsys.readouterr().out == '{"a": 1}\n'
