"""`unfade models convert` and `unfade restore --control`: from the released layout to a restored clip."""

import itertools
import json
import shutil
from pathlib import Path

import av
import pytest
import torch
from tests.backbones.test_video_captioner import in_the_hubs_cache
from tests.conditioning.test_control_file import released

from unfade.backbones import video_captioner
from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V, CogVideoXConfig
from unfade.backbones.cogvideox_folder import save_cogvideox
from unfade.backbones.few_words import save_few_words_encoder
from unfade.conditioning.control import Control, ControlSettings
from unfade.conditioning.control_file import save_control
from unfade.core import Clip
from unfade.media.film import write_film
from unfade.media.images import write_image
from unfade.media.notes import read_notes
from unfade.media.video import probe_video, read_video

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
    save_control(control, folder / "control", base.denoiser.model.config)
    return folder


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(2)).expand(5, -1, -1, -1)
    write_film(iter(frames), tmp_path / "a.mp4", 10)
    return tmp_path / "a.mp4"


@pytest.mark.usefixtures("forked_pickles")
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


@pytest.fixture
def words(models, monkeypatch, tmp_path) -> tuple[object, ...]:
    """What all restorations here have in common."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return (
        "-n", models / "base", "--control", models / "control", "--steps", "2", "--window", "9", "--short-side", "0",
        "--guidance", "1", "--dtype", "fp32", "--device", "cpu", "--prompt", "a street at night",
    )  # fmt: skip


def test_stopped_and_gone_on_with(unfade, words, clip, tmp_path) -> None:
    target, film, work = (tmp_path / f"{name}" for name in ("b.mp4", "b_film.mp4", ".b.mp4.unfade-work"))
    command = ("restore", clip, "-o", target, *words, "--film", "--frames", "3")
    nothing = unfade(*command, "--stop-at", "0")
    assert nothing.code == 2 and "nothing to show; leave --stop-at 0 out" in nothing.err and not work.exists()
    early = unfade(*command, "--stop-at", "1", "--format", "json")
    assert early.code == 0 and early.err == (
        f"note: {target} shows what was predicted after step 1 of 2; the same command with --overwrite and without "
        "--stop-at goes on from there\n"
    )
    told = json.loads(early.out)
    assert told["status"] == "done" and told["settings"]["stop_at"] == 1
    assert read_notes(target)["stopped"] == "after step 1 of 2" and work.is_dir()
    first = target.read_bytes()
    ended = unfade(*command, "--overwrite")
    assert (ended.code, ended.err) == (0, "") and not work.exists()
    assert "stopped" not in read_notes(target) and target.read_bytes() != first
    info = probe_video(film)
    assert (info.width, info.height, info.num_frames) == (64, 48, 5)
    for more, said in (
        (("--stop-at", "3"), "can stop at step 0 to 2, not at 3"),
        (("--stop-at", "0", "--dry-run"), "leave --dry-run out"),
    ):
        refused = unfade(*command, "--overwrite", *more)
        assert refused.code == 2 and said in refused.err
    half = unfade(*command, "--overwrite", "--dry-run", "--stop-at", "1", "--format", "json")
    assert json.loads(half.out)["settings"]["evaluations"] == 1
    other = unfade("restore", clip, "-n", "tiny", "--stop-at", "1")
    assert other.code == 2 and "tiny has no use for --stop-at" in other.err


def test_bad_footage_is_told_in_a_sentence(unfade, words, clip, tmp_path) -> None:
    """One exit code for damage, whether a part of it could be restored or nothing at all."""
    sound, empty, strange = (tmp_path / f"{name}.mp4" for name in ("sound", "empty", "strange"))
    with av.open(str(sound), "w") as made:
        audio = made.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate, frame.pts = 48000, 0
        frame.planes[0].update(bytes(4096))
        made.mux(audio.encode(frame))
        made.mux(audio.encode(None))
    with av.open(str(empty), "w") as made:
        video = made.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        made.start_encoding()
        made.mux(video.encode(None))
    named = Path(shutil.copy(sound, tmp_path / "sound.m4a"))
    strange.write_bytes(clip.read_bytes().replace(b"avc1", b"zzzz"))
    torn = tmp_path / "torn.mkv"
    noise = torch.rand(12, 3, 48, 64, generator=torch.Generator().manual_seed(2))
    write_film(iter(noise), tmp_path / "whole.mkv", 10)
    whole = (tmp_path / "whole.mkv").read_bytes()
    torn.write_bytes(whole[: len(whole) * 6 // 10])
    for path, said in (
        (sound, "holds sound only, no pictures"),
        (named, "holds sound only, no pictures"),
        (empty, "holds no video"),
        (strange, "not one frame can be decoded"),
    ):
        ended = unfade("restore", path, *words)
        assert ended.code == 3 and said in ended.err and ended.err.count("\n") == 1
        assert not list(tmp_path.glob("*_unfaded*")) and not list(tmp_path.glob(".*"))
    ended = unfade("restore", torn, *words)
    count = len(list(read_video(tmp_path / "torn_unfaded.mkv")))
    assert ended.code == 3 and 2 < count < 12 and not list(tmp_path.glob(".*"))
    assert ended.out.startswith(f"{torn} -> {tmp_path / 'torn_unfaded.mkv'}  {count} frames of 0.00 MP")
    assert ended.err == (
        f"error: {torn} is damaged or cut short after frame {count}; the result ends there, after {count} frames with "
        "their sound: mend it for the rest\n"
    )
    both = unfade("restore", torn, clip, "-o", tmp_path / "out", *words)
    assert both.code == 5 and "\n1 done, 1 failed\n" in both.err


def test_the_captioner_is_the_best_that_is_here(unfade, words, models, clip, tmp_path, monkeypatch) -> None:
    """Chosen and told by a dry run, named in the report and the notes of a run."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(video_captioner, "find_spec", lambda name: name)
    command = ("restore", clip, *words[:-2])
    ended = unfade(*command, "--format", "json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["settings"]["captioner"] == "rules"
    assert read_notes(tmp_path / "a_unfaded.mp4")["captioner"] == "rules"
    (tmp_path / "qwen").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "qwen" / name).write_text("{}")
    in_the_hubs_cache(tmp_path / "hub", "Qwen/Qwen3-VL-4B-Instruct", tmp_path / "qwen")
    planned = unfade(*command, "--dry-run", "--overwrite")
    assert planned.code == 0 and ", captions by qwen3-vl-4b, " in planned.out
    own = unfade("restore", clip, *words, "--dry-run", "--overwrite")
    assert own.code == 0 and "captions" not in own.out
    ours = unfade(*command, "--dry-run", "--overwrite", "--captioner", "rules", "--format", "json")
    assert json.loads(ours.out)["settings"]["captioner"] == "rules"
    (tmp_path / "qwen/config.json").write_text(
        '{"auto_map": {}, "architectures": ["CogVLMVideoForCausalLM"]}'
    )
    named = (*command, "--dry-run", "--overwrite", "--captioner", tmp_path / "qwen")
    refused = unfade(*named)
    assert refused.code == 6 and "allow it with --trust-remote-code" in refused.err
    assert unfade(*named, "--trust-remote-code").code == 0
    in_the_hubs_cache(tmp_path / "hub", "THUDM/cogvlm2-llama3-caption", tmp_path / "qwen")
    for allowed, said in (((), "qwen3-vl-4b"), (("--trust-remote-code",), "cogvlm2-caption")):
        planned = unfade(*command, "--dry-run", "--overwrite", *allowed)
        assert planned.code == 0 and f", captions by {said}, " in planned.out
    other = unfade("restore", clip, "-n", "tiny", "--trust-remote-code", "-o", tmp_path / "t.mp4")
    assert other.code == 2 and "--trust-remote-code is for footage under Vivid-VR's control" in other.err


def test_a_part_comes_out_as_large_as_in_the_whole(unfade, words, clip, tmp_path) -> None:
    """Not at a short side of its own; and of the whole, 32 x 24 of 64 x 48 are a quarter."""
    command = ("restore", clip, *words, "--short-side", "96", "--format", "json")
    whole = json.loads(unfade(*command, "--dry-run").out)["settings"]
    assert (whole["width"], whole["height"]) == (128, 96)
    for more in (("--dry-run",), ()):
        part = unfade(*command, "--preview", "0.3s/32x24+16+8", *more)
        assert part.code == 0, part.err
        assert json.loads(part.out)["footage"]["frames"] == 3
    info = probe_video(tmp_path / "a_unfaded_preview.mp4")
    assert (info.width, info.height, info.num_frames) == (64, 48, 3)
    # A mask of the whole would fit the part by its proportions alone.
    write_image(Clip(torch.ones(1, 3, 48, 64)), tmp_path / "mask.png")
    masked = (*command, "--preview", "0.3s/32x24+16+8", "--overwrite", "--protect", tmp_path / "mask.png")
    for more in (("--dry-run",), ()):
        refused = unfade(*masked, *more)
        assert refused.code == 2 and "mask.png are of the whole picture; preview all of it" in refused.err


def test_what_swings_and_over_how_many_frames(unfade, words, clip, tmp_path) -> None:
    """The options reach the settings, and each changes the result."""
    results = []
    for number, more in enumerate(((), ("--dynamic-guidance",), ("--colour-window", "1"))):
        target = tmp_path / f"{number}.mp4"
        ended = unfade("restore", clip, *words, "--guidance", "4", *more, "-o", target, "--format", "json")
        assert ended.code == 0, ended.err
        told = json.loads(ended.out)["settings"]
        assert (told.get("dynamic"), told.get("colour_window")) == ((None, None), (True, None), (None, 1))[
            number
        ]
        results.append(torch.stack([frame.image for frame in read_video(target)]))
    for one, other in itertools.combinations(results, 2):
        assert not torch.equal(one, other)
    even = unfade("restore", clip, *words, "--colour-window", "2")
    assert even.code == 2 and "colour_window must be an odd number of frames" in even.err
    other = unfade("restore", clip, "-n", "tiny", "--dynamic-guidance")
    assert other.code == 2 and "tiny has no use for dynamic-guidance" in other.err


def test_captioners_compute_where_they_are_told(unfade, clip) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    missing = next(name for name, here in there.items() if not here)
    ended = unfade("prompt", clip, "--captioner", "blip", "--device", missing)
    assert ended.code == 2 and f"this machine has no {missing} device" in ended.err
    assert unfade("prompt", clip, "--device", "cpu").code == 0


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
