"""The CPU-sized proof, a step or two of everything: photos in, model, adapter, tables and pictures out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unfade.backbones.wan_folder import load_wan, open_wan
from unfade.core import Clip, UsageError
from unfade.media.images import read_image
from unfade.recipes.run_vbridge_cpu import run_vbridge_cpu
from unfade.recipes.vbridge_ablations import ABLATIONS, shortened
from unfade.recipes.vbridge_cpu import RECIPES, from_nothing, vbridge_cpu
from unfade.recipes.vbridge_cpu_report import gated
from unfade.recipes.vbridge_proof import Material
from unfade.recipes.vbridge_tables import Row, markdown_table, verdicts
from unfade.restore.load import load
from unfade.training.walks import Judgement, gains, summary

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")


@pytest.fixture(scope="module")
def proof(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "proof"
    for stage in ("vae", "base", "drift", "ablations", "report"):
        run_vbridge_cpu([examples], folder, recipe="smoke", stage=stage, workers=1)
    return folder


def test_everything_is_written(proof: Path) -> None:
    figures = json.loads((proof / "report" / "figures.json").read_text())
    assert {"Lowlight", "Haze", "Noise", "all"} == set(figures["drift"]["w/o DC"])
    assert len(figures["drift"]["w/o DC"]["all"]["frames"]) == 8
    assert [row["name"] for row in figures["tables"]["frames"]] == ["5 frames", "9 frames"]
    assert set(figures["steps"]) == {"1", "2"}
    drift = figures["drift"]
    for name in ("Lowlight", "Haze", "Noise", "all"):
        # One photo of each: the gate took its correction, or it did not.
        share, result = drift["taken"][name], drift["gated"][name]["result"]
        ends = [drift[row][name]["result"] for row in ("w/o DC", "with DC")]
        assert 0 <= share <= 1 and min(ends) <= result <= max(ends)
        if name != "all":
            assert result == ends[int(share)]
        assert drift["gated gain"][name] == pytest.approx(result - ends[0], abs=2e-3)
    page = (proof / "report" / "README.md").read_text()
    assert "## Ablation: trajectory" in page
    assert "Drift correction" in page
    assert "\n| gated | " in page and "\n| gated gain | " in page
    assert "The gate (`--drift gated`) took the correction in: Lowlight " in page
    assert read_image(proof / "report" / "held-out.png").width == 16 * 7
    assert (proof / "report" / "curves.png").stat().st_size > 10_000


def test_what_is_done_is_not_done_again(proof: Path, examples: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in proof.rglob("*") if "report" not in path.parts}
    run_vbridge_cpu([examples], proof, recipe="smoke", stage="all", workers=1)
    changed = {
        path.name for path, time in files.items() if path.is_file() and path.stat().st_mtime_ns != time
    }
    assert changed <= {"seconds.jsonl", "unfade-manifest.json"}


def test_the_model_restores_a_photo_with_and_without_correction(proof: Path, tmp_path: Path) -> None:
    photo = Clip(torch.rand(1, 3, 20, 28))
    asked: dict[str, Any] = {"frames": 5, "steps": 2, "guidance": 1.0}
    plain = load(proof / "model", drift="never", **asked)
    plain._embed.cache = tmp_path  # type: ignore[union-attr]
    result = plain.restore(photo).result
    assert result.frames.shape == photo.frames.shape
    both = load(proof / "model", drift_adapter=proof / "drift" / "adapter.safetensors", **asked)
    both._embed.cache = tmp_path  # type: ignore[union-attr]
    corrected = both.restore(photo)
    assert corrected.provenance["drift_correction"] == "always"
    assert not torch.equal(corrected.result.frames, result.frames)


def test_one_wordless_token_stands_for_all(proof: Path, tmp_path: Path) -> None:
    from unfade.backbones.prompt_embeddings import PromptEmbeddings
    from unfade.backbones.wan_denoiser import WanCondition

    text = PromptEmbeddings(proof / "model", tmp_path)(["restore, please"], torch.device("cpu"))[0].float()
    assert text.shape[1] == 512
    assert not bool(text.any())
    wan = load_wan(open_wan(proof / "model"), torch.float32)
    dice = torch.Generator().manual_seed(0)
    first, x = torch.randn(1, 4, 1, 4, 4, generator=dice), torch.randn(1, 4, 2, 4, 4, generator=dice)
    answers = [wan.denoiser(x, 500, WanCondition(first, one)) for one in (text, text[:, :1])]
    torch.testing.assert_close(*answers)


def test_latents_are_normalised_by_what_was_measured(proof: Path) -> None:
    config = open_wan(proof / "start").config.vae
    assert config["latents_mean"] != [0.0] * 4
    assert open_wan(proof / "model").config.vae["latents_std"] == config["latents_std"]


def test_no_photo_serves_two_purposes(examples: Path) -> None:
    material = Material.of(RECIPES["smoke"](), [examples])
    starts = [set(part.starts.tolist()) for part in (material.base, material.drift, material.held_out)]
    assert not starts[0] & starts[1] and not starts[0] & starts[2] and not starts[1] & starts[2]
    assert set(material.ablations.starts.tolist()) <= starts[0]
    assert not set(material.coder.starts.tolist()) & starts[2]


def test_unknown_names(examples: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown recipe 'x'; there is cpu, smoke"):
        run_vbridge_cpu([examples], tmp_path, recipe="x")
    with pytest.raises(UsageError, match="unknown stage 'x'"):
        run_vbridge_cpu([examples], tmp_path, recipe="smoke", stage="x")


def test_the_real_recipe_fits_its_model() -> None:
    recipe = vbridge_cpu()
    for rows in recipe.tables.values():
        for row in rows:
            for _, size in row.run.stages:
                recipe.ablated.latent_shape(row.run.frames, size, size)


def test_the_rate_cools_down_to_nothing() -> None:
    run = from_nothing(((10, 64),))
    assert run.rate(300, 300) == 0
    assert run.rate(150, 300) == run.lr
    rates = [run.rate(step, 300) for step in range(211, 300)]
    assert rates == sorted(rates, reverse=True)


def test_full_size_tables_are_the_papers() -> None:
    names = {table: [row.name for row in rows()] for table, rows in ABLATIONS.items()}
    assert names["frames"] == ["5 frames", "9 frames", "17 frames", "33 frames", "61 frames"]
    assert names["curriculum"][-1] == "512 + 704 + 960"
    assert names["data"] == ["0.2K", "1K", "8K"]
    assert names["drift"] == ["w/o DC", "with DC"]
    for rows in ABLATIONS.values():
        assert len({sum(epochs for epochs, _ in row.run.stages) for row in rows()}) == 1
    short = shortened(ABLATIONS["curriculum"]()[-1], epochs=3, size=480)
    assert short.run.stages == ((1, 256), (1, 352), (1, 480))


def judgement(category: str, first: float, *frames: float) -> Judgement:
    return Judgement(f"{category}/x", category, first, frames, 30.0, 31.0)


def test_the_gate_decides_for_each_sequence_by_itself() -> None:
    dim, bright = torch.full((2, 3, 16, 16), 0.2), torch.full((4, 3, 16, 16), 0.5)
    same = torch.full((4, 3, 16, 16), 0.2)
    names = ("Lowlight/a", "Noise/b", "Lowlight/c")
    chosen, taken = gated(names, torch.stack([dim] * 3), torch.stack([bright, same + 0.001, same + 0.001]))
    assert chosen.shape == (3, 1, 3, 16, 16)
    assert [float(one.mean()) for one in chosen] == pytest.approx([0.5, 0.2, 0.2])
    assert taken == {"Lowlight": 0.5, "Noise": 0.0, "all": 0.333}


def test_tables_and_sentences_say_what_the_figures_say() -> None:
    base = summary(
        [judgement("Haze", 10, 12, 15), judgement("Haze", 12, 14, 17), judgement("Noise", 20, 19, 18)]
    )
    better = summary(
        [judgement("Haze", 10, 12, 18), judgement("Haze", 12, 14, 18), judgement("Noise", 20, 19, 16)]
    )
    assert base["Haze"]["result"] == 16
    assert base["Noise"]["gain"] == -2
    assert base["all"]["better"] == pytest.approx(2 / 3, abs=1e-3)
    assert gains(base, better) == {"Haze": 2.0, "Noise": -2.0, "all": pytest.approx(2 / 3, abs=1e-3)}
    table = markdown_table("t", [Row("a", base), Row("b", better)], ["Haze", "Noise", "all"])
    assert "| a | 16.00 | **18.00** | 16.67 | **17.00** |" in table
    assert "| b | **18.00** | 16.00 | **17.33** | **17.00** |" in table
    told = verdicts(
        {
            "drift": {
                "w/o DC": base,
                "gain": gains(base, better),
                "gated gain": {"Haze": 2.0, "Noise": 0.0, "all": 4 / 3},
                "taken": {"Haze": 1.0, "Noise": 0.0, "all": 2 / 3},
            },
            "steps": {"1": better, "10": base},
            "tables": {
                "frames": [
                    {"name": name, "sizes": {"64": group}} for name, group in (("5", base), ("9", better))
                ]
            },
        }
    )
    assert told[0].startswith("Haze: the last frame is better than the input (11.00 -> 16.00 dB")
    assert "NOT better" in told[1]
    assert "agrees" in told[2] and "disagrees" not in told[2]
    assert told[3].startswith("Gated, the correction is taken in 67 % of the sequences and makes +1.33 dB")
    assert "at least as good as the better of always and never" in told[3]
    assert told[4].startswith("Steps: 1 of [1, 10]")
    assert "9 (17.33) > 5 (16.67)" in told[5]
