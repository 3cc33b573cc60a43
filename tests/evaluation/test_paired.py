"""One model against another: differences by hand, and the settings of a video model as a contender of its own."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unfade.core import Clip, ModelError, UsageError
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group
from unfade.evaluation.contender import Contender
from unfade.evaluation.journal import Row
from unfade.evaluation.measure import Settings
from unfade.evaluation.paired import paired
from unfade.media.image_writer import write_image
from unfade.recipes.evaluate import contender, evaluate

METRIC: Any = SimpleNamespace(name="psnr")
MODELS = [
    Contender(name=name, kind=kind, make=lambda facts: None)
    for name, kind in (("one", "model"), ("other", "model"), ("filter", "peer"))
]


def rows(differences: dict[tuple[str, str], float], start: float = 20.0) -> list[Row]:
    made: list[Row] = []
    for (group, name), difference in differences.items():
        for model, value in (("one", start), ("other", start + difference), ("filter", 0.0)):
            film = (10.0, value)
            made.append(Row(group=group, name=name, model=model, output={"psnr": value}, film={"psnr": film}))
    return made


def test_differences_are_those_of_each_case() -> None:
    found = paired(
        ["a", "b", "all"],
        MODELS,
        [METRIC],
        rows({("a", "x"): 1.0, ("a", "y"): 2.0, ("b", "x"): -3.0, ("b", "z"): -5.0}),
    )
    by_group = {entry["group"]: entry for entry in found}
    assert {entry["model"] for entry in found} == {"other"} and by_group["a"]["against"] == "one"
    assert by_group["a"]["mean"] == pytest.approx(1.5) and by_group["b"]["mean"] == pytest.approx(-4.0)
    assert by_group["all"]["mean"] == pytest.approx(-1.25) and by_group["all"]["photos"] == 3
    assert by_group["a"]["low"] == pytest.approx(1.0) and by_group["a"]["high"] == pytest.approx(2.0)
    assert by_group["a"]["frames"] == pytest.approx([0.0, 1.5])
    assert math.isnan(by_group["all"]["p"])


def test_a_small_but_steady_difference_is_found_and_noise_is_not() -> None:
    dice = torch.Generator().manual_seed(0)
    spread = torch.randn(40, generator=dice).tolist()
    steady = paired(
        ["a"], MODELS, [METRIC], rows({("a", str(n)): 0.5 + 0.2 * v for n, v in enumerate(spread)})
    )
    none = paired(["a"], MODELS, [METRIC], rows({("a", str(n)): 0.2 * v for n, v in enumerate(spread)}))
    assert steady[0]["low"] > 0.4 and steady[0]["high"] < 0.6 and steady[0]["p"] < 1e-6
    assert none[0]["low"] < 0 < none[0]["high"] and none[0]["p"] > 0.05


def test_cases_that_one_lacks_or_that_are_perfect_do_not_count() -> None:
    some = rows({("a", "x"): 1.0, ("a", "y"): math.inf, ("a", "z"): 2.0})
    some = [row for row in some if (row.model, row.name) != ("other", "z")]
    (found,) = paired(["a"], MODELS, [METRIC], some)
    assert found["photos"] == 1 and found["mean"] == pytest.approx(1.0)
    assert math.isnan(found["low"]) and math.isnan(found["p"])
    assert paired(["a"], MODELS[:1], [METRIC], some) == []


ONE = Benchmark(
    name="one", title="One", holds="clean photos", groups=(Group(name="lowlight", make="lowlight"),)
)


def test_prompts_and_adapters_are_compared_on_one_model(
    cogvideox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(2):
        frames = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(index))
        write_image(Clip(frames), photos / f"{index}.png")
    name = str(cogvideox_folder)
    models = [f"{name}?words=uniform&guidance=1", f"{name}?guidance=1", f"{name}?words=uniform&guidance=1.0"]
    found = evaluate(
        ONE,
        photos,
        models,
        settings=Settings(steps=1, dtype="fp32", device="cpu"),
        frames=True,
        output=tmp_path / "report",
    )
    short = cogvideox_folder.name
    entries = {(entry["model"], entry["metric"]): entry for entry in found.report["paired"]}
    scene = entries[f"{short}?guidance=1", "psnr-rgb"]
    assert scene["against"] == f"{short}?words=uniform&guidance=1" and scene["mean"] != 0
    assert len(scene["frames"]) == 9
    # The same settings written otherwise, with the same noise: no difference at all.
    assert entries[f"{short}?words=uniform&guidance=1.0", "psnr-rgb"]["mean"] == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"Against {short}?words=uniform" in page
    assert json.loads((tmp_path / "report" / "report.json").read_text())["paired"]


def test_settings_of_what_has_none_are_refused(cogvideox_folder: Path) -> None:
    with pytest.raises(UsageError, match="tiny has no settings"):
        contender("tiny?words=uniform")
    refused = {
        "colour=red": "no use for colour",
        "guidance=high": "guidance must be a number, not 'high'",
        "samples=1.5": "samples must be a whole number, not 1.5",
        "steps=2.5": "steps must be a whole number",
        "model=x": "settings are written as",
        "words": "settings are written as",
        "words=loud": "words must be one of scene, uniform",
    }
    for query, said in refused.items():
        with pytest.raises(UsageError, match=said):
            contender(f"{cogvideox_folder}?{query}")
    # A path stays what it is, though it looks like a number or holds a plus.
    with pytest.raises(ModelError, match=r"a\+7"):
        contender(f"{cogvideox_folder}?adapter=a+7")
    with pytest.raises(ModelError):
        contender(f"{cogvideox_folder}?adapter=7")


def test_steps_are_one_models_or_everyones(cogvideox_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one"):
        evaluate(ONE, tmp_path, [f"{cogvideox_folder}?steps=1"], settings=Settings(steps=2))
