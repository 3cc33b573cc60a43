"""`unfade train vbridge` from pairs and a model folder to an adapter, on a small model of the real classes."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from unfade.backbones.prompt_embeddings import default_cache
from unfade.backbones.wan import build_wan
from unfade.backbones.wan_config import SMALL, TI2V_5B, WanConfig
from unfade.backbones.wan_folder import save_wan
from unfade.backbones.wan_footprint import footprint_of
from unfade.conditioning.lora import LoraSettings, attach_lora, load_adapter
from unfade.core import Clip, InputError, ModelError, Plan, UsageError, generator
from unfade.media.images import write_image
from unfade.recipes.run_vbridge import run_vbridge
from unfade.recipes.vbridge import RECIPES, recipe, vbridge_lora
from unfade.restore.load import load
from unfade.training.video_run import parse_stages


def save_encoder(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

    tokenizer = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "is": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    config = UMT5Config(vocab_size=4, d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=3)
    UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(4)
    save_wan(build_wan(SMALL), folder)
    save_encoder(folder)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for group in ("01Blur", "14Lowlight"):
        for index in range(3):
            truth = torch.rand(1, 3, 48, 72, generator=generator(0, group, index))
            write_image(Clip(truth), folder / group / "GT" / f"{index}.png")
            write_image(Clip(truth * 0.5), folder / group / "LQ" / f"{index}.png")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return default_cache()


def test_a_run_from_folders_to_an_adapter_and_on(
    model: Path, pairs: Path, cache: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    rows: list[dict[str, object]] = []
    told = {"recipe": "smoke", "few_shot": "1", "device": "cpu"}
    run_vbridge([pairs], str(model), runs, until=1, report=rows.append, **told)  # type: ignore[arg-type]
    manifest = (runs / "pairs.json").read_text()
    for other, said in ({"few_shot": "2"}, "few-shot 1, not 2"), ({"held_out": 2}, "held-out 1, not 2"):
        with pytest.raises(UsageError, match=said):
            run_vbridge([pairs], str(model), runs, **{**told, **other})  # type: ignore[arg-type]
    written = run_vbridge([pairs], str(model), runs, report=rows.append, **told)  # type: ignore[arg-type]
    assert (runs / "pairs.json").read_text() == manifest
    assert [row["step"] for row in rows] == [1, 2] and rows[-1]["of"] == 2
    held_out = rows[-1]["held_out"]
    assert isinstance(held_out, dict) and set(held_out["gains"]) == {"01Blur", "14Lowlight"}
    assert {"input_ssim", "result_ssim", "ceiling_ssim"} < set(held_out) and held_out["input_ssim"] < 1
    notes = load_adapter(build_wan(SMALL).denoiser.model, written)
    assert notes["base.model"] == "small" and len(notes["base.weights"]) == 64
    assert json.loads(notes["notes.run"])["batch"] == 2
    assert "01Blur" in notes["notes.pairs"]

    drift = run_vbridge(
        [pairs], str(model), tmp_path / "drift", without=[runs / "pairs.json"], role="drift-correction", held_out=0,
        until=1, start=written, **told,
    )  # type: ignore[arg-type]  # fmt: skip
    assert load_adapter(build_wan(SMALL).denoiser.model, drift)["role"] == "drift-correction"
    first, second = (json.loads((path / "pairs.json").read_text()) for path in (runs, tmp_path / "drift"))
    names = [{row["name"] for row in content["training"]} for content in (first, second)]
    assert names[0] and names[1] and not names[0] & names[1]


def test_a_model_trained_whole_restores_and_is_a_pipeline(
    model: Path, pairs: Path, cache: Path, tmp_path: Path
) -> None:
    """Its base's text encoder lies in a hub's cache: behind a link, and of a model whose prompts nobody kept."""
    from diffusers import WanImageToVideoPipeline

    base = tmp_path / "base"
    shutil.copytree(model, base)
    blob = tmp_path / "blobs" / "words"
    blob.parent.mkdir()
    weights = base / "text_encoder" / "model.safetensors"
    weights.rename(blob)
    weights.symlink_to(blob)
    index = json.loads((base / "model_index.json").read_text())
    index["text_encoder"] = ["transformers", "UMT5EncoderModel"]
    index["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]
    (base / "model_index.json").write_text(json.dumps(index))
    written = run_vbridge(
        [pairs], str(base), tmp_path / "runs", recipe="smoke", adapter=False, few_shot="1", held_out=0, until=1,
        device="cpu",
    )  # fmt: skip
    assert written.name == "model-000001"
    assert (written / "text_encoder" / "model.safetensors").samefile(blob)
    assert json.loads((written / "training.json").read_text())["step"] == "1"
    shutil.rmtree(base)
    shutil.rmtree(cache)
    restorer = load(str(written), steps=1, frames=5)
    photo = Clip(torch.rand(1, 3, 32, 32))
    assert restorer.restore(photo, plan=Plan(device="cpu", dtype="fp32")).result.frames.shape == (
        1,
        3,
        32,
        32,
    )
    theirs = WanImageToVideoPipeline.from_pretrained(written, local_files_only=True)
    assert theirs.config.expand_timesteps and theirs.tokenizer is not None and theirs.text_encoder is not None


def test_what_can_be_known_to_be_wrong_is_said_first(
    model: Path, pairs: Path, cache: Path, tmp_path: Path
) -> None:
    def run(pairs_folder: Path = pairs, name: object = model, **told: object) -> None:
        told = {"recipe": "smoke", "few_shot": "1", "device": "cpu", **told}
        run_vbridge([pairs_folder], str(name), tmp_path / "runs", **told)  # type: ignore[arg-type]

    with pytest.raises(UsageError, match="unknown recipe 'huge'"):
        run(recipe="huge")
    with pytest.raises(UsageError, match="few-shot"):
        run(few_shot="few")
    with pytest.raises(UsageError, match="cpu or cuda"):
        run(device="tpu")
    with pytest.raises(UsageError, match="lr must be above 0"):
        run(lr=-1.0)
    with pytest.raises(UsageError, match="crops must be at least 0"):
        run(crops=-1)
    with pytest.raises(UsageError, match="unknown tracker"):
        run(tracker="clearml")
    for told in ({"start": tmp_path / "none.safetensors"}, {"role": "drift-correction"}):
        with pytest.raises(UsageError, match="is for an adapter, and this run trains all weights"):
            run(adapter=False, **told)
    empty = tmp_path / "empty"
    for side in ("LQ", "HQ"):
        (empty / side).mkdir(parents=True)
    with pytest.raises(InputError, match="holds no photos"):
        run(empty)
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ModelError, match=r"config\.json; name a folder"):
        run(name=pairs)
    with pytest.raises(ModelError, match=r"^tiny is no video model but a file \(tiny\.safetensors\); name a"):
        run(name="tiny")
    with pytest.raises(InputError, match="not a folder of pairs"):
        run(pairs / "none")
    other = build_wan(WanConfig({**SMALL.transformer, "ffn_dim": 32}, SMALL.vae, SMALL.scheduler))
    save_wan(other, tmp_path / "other")
    save_encoder(tmp_path / "other")
    written = tmp_path / "runs" / "adapter.safetensors"
    run(until=1)
    with pytest.raises(ModelError, match=r"another base \(small\)"):
        run_vbridge(
            [pairs], str(tmp_path / "other"), tmp_path / "new", recipe="smoke", few_shot="1", device="cpu",
            start=written,
        )  # fmt: skip


def test_the_command_trains_stops_and_goes_on(
    model: Path,
    pairs: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from unfade.cli import main, train

    def command(*more: object) -> tuple[int, str, str]:
        told = [
            "train",
            "vbridge",
            "--pairs",
            pairs,
            "--model",
            model,
            "--runs",
            tmp_path / "runs",
            "--few-shot",
            1,
        ]
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in (*told, "--recipe", "smoke", "--device", "cpu", *more)])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    said = train._report_video

    def interrupted(row: dict[str, object]) -> None:
        said(row)
        if row["step"] == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(train, "_report_video", interrupted)
        code, out, err = command("--held-out", 0, "--stages", "3x32")
    assert code == 130 and "step 2 of 3" in out and "step 3" not in out
    assert f"the state is saved in {tmp_path / 'runs' / 'checkpoint.pt'}; the same command goes on" in err
    code, out, err = command("--held-out", 0, "--stages", "3x32")
    assert (code, err) == (0, "")
    assert f"weights: {tmp_path / 'runs' / 'adapter.safetensors'}" in out
    code, _, err = command("--model", "tiny")
    assert code == 6 and err.startswith("error: tiny is no video model but a file") and err.count("\n") == 1
    assert command("--role", "beauty")[0] == 2
    assert command("--layout", "zip")[0] == 2


def test_the_memory_that_an_adapter_is_said_to_take_is_what_is_predicted() -> None:
    said = " ".join(str(vbridge_lora.__doc__).split())
    needs = footprint_of(TI2V_5B, (960, 960), 9)
    adapter = attach_lora(build_wan(TI2V_5B, "meta").denoiser.model, LoraSettings(), seed=0)
    # Weights, gradients and two moments in fp32.
    stays = needs.transformer + needs.vae + 16 * sum(parameter.numel() for parameter in adapter)
    assert f"gradients and moments are {stays / 1e9:.1f} GB" in said
    assert f"10.7, {needs.decode / 1e9:.1f} GB; where that does not fit" in said
    assert f"at 704 and {needs.decode_tiled[512] / 1e9:.1f} at 960" in said
    assert f"and {(stays + needs.decode_tiled[512]) / 1e9:.0f} GB, and what cuDNN" in said


def test_recipes_are_what_they_say() -> None:
    paper = recipe("paper")
    assert (paper.lora, paper.lr, paper.clip, paper.weight_decay, paper.eps) == (
        None,
        2e-5,
        0.05,
        3e-2,
        1e-10,
    )
    assert (paper.warmup, paper.betas, paper.shift, paper.batch) == (100, (0.9, 0.999), 5.0, 8)
    assert recipe("paper", adapter=True) == recipe("lora")
    assert recipe("lora", adapter=False) == paper
    assert set(RECIPES) == {"paper", "lora", "smoke"}
    assert parse_stages("100x512,20x704") == ((100, 512), (20, 704))
    assert parse_stages("30x768x1360") == ((30, (768, 1360)),)
    with pytest.raises(UsageError, match="stages are written"):
        parse_stages("512")
