"""`unfade models convert` and `unfade restore --control`: from the released layout to a restored clip."""

import json
from pathlib import Path

import pytest
import torch
from tests.conditioning.test_control_file import released

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V, CogVideoXConfig
from unfade.backbones.cogvideox_folder import save_cogvideox
from unfade.backbones.few_words import save_few_words_encoder
from unfade.conditioning.control import Control, ControlSettings
from unfade.media.film import write_film
from unfade.media.notes import read_notes
from unfade.media.video import probe_video

# 32 channels within 64 in the projector: its groups are those of the published one.
CONFIG = CogVideoXConfig(
    {**SMALL_T2V.transformer, "in_channels": 16, "out_channels": 16},
    {**SMALL_T2V.vae, "latent_channels": 16},
    SMALL_T2V.scheduler,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    base = build_cogvideox(CONFIG)
    save_cogvideox(base, folder / "base")
    save_few_words_encoder(folder / "base", ["a street at night"], 24)
    control = Control.beginning(base.denoiser.model, ControlSettings(blocks=1, bottleneck=8, width=64))
    released(control, folder / "released")
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(2)).expand(5, -1, -1, -1)
    write_film(iter(frames), tmp_path / "a.mp4", 10)
    return tmp_path / "a.mp4"


def test_from_the_released_checkpoint_to_a_clip(unfade, models, clip, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    control = tmp_path / "control"
    ended = unfade("models", "convert", models / "released", "-o", control)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"{control}: control of 1 blocks; use it with --control {control}\n"
    words = (
        "restore", clip, "-n", models / "base", "--control", control, "--steps", "2", "--window", "9",
        "--short-side", "64", "--dtype", "fp32", "--device", "cpu", "--prompt", "a street at night",
    )  # fmt: skip
    planned = unfade(*words, "--dry-run", "--format", "json")
    assert planned.code == 0, planned.err
    told = json.loads(planned.out)
    assert (told["settings"]["width"], told["settings"]["height"]) == (85, 64)
    assert told["settings"]["windows"] == 1 and told["settings"]["evaluations"] == 4
    done = unfade(*words)
    assert done.code == 0, done.err
    info = probe_video(tmp_path / "a_unfaded.mp4")
    assert (info.width, info.height, info.num_frames) == (85, 64, 5)
    notes = read_notes(tmp_path / "a_unfaded.mp4")
    assert notes["prompt"] == "a street at night" and "Vivid-VR" in notes["method"]
    assert not list(tmp_path.glob(".*"))


def test_pickles_one_by_one(unfade, models, tmp_path) -> None:
    source, target = models / "released" / "connectors.pt", tmp_path / "connectors.safetensors"
    ended = unfade("models", "convert", source, "-o", target)
    assert (ended.code, ended.out) == (0, f"{target}\n")
    assert target.is_file()
    for words, code, said in (
        ((source, "-o", tmp_path / "x.pt"), 2, "is not the name of a .safetensors file"),
        ((tmp_path / "no.pt", "-o", target), 6, "no file at"),
        ((tmp_path, "-o", tmp_path / "new"), 6, "has no diffusion_pytorch_model"),
    ):
        ended = unfade("models", "convert", *words)
        assert ended.code == code and said in ended.err, said


def test_control_that_does_not_fit(unfade, models, clip, tmp_path) -> None:
    for words, code, said in (
        (("-n", models / "base"), 6, "sees no photo"),
        (("-n", models / "base", "--control", models / "released"), 6, "unfade models convert"),
        (("-n", "tiny", "--control", models / "released"), 2, "can't be controlled"),
        (("-n", "tiny", "--fidelity", "0.5"), 2, "no use for fidelity"),
    ):
        ended = unfade("restore", clip, *words)
        assert ended.code == code and said in ended.err, (said, ended.err)
    assert not list(tmp_path.glob("a_unfaded*"))


def test_the_catalog_knows_it(unfade) -> None:
    ended = unfade("models", "info", "vivid-vr", "--format", "json")
    told = json.loads(ended.out)
    assert told["name"] == "cogvideox1.5-5b" and told["parameters"] == 5_570_676_352
