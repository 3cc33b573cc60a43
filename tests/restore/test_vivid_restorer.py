"""Vivid-VR from file to file: sound, times and frames, cuts, kills, and clips in memory."""

import hashlib
import random
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from tests.restore.small_vividvr import SMALL, footage
from torch import Tensor

from unfade.backbones.cogvideox import build_cogvideox
from unfade.backbones.cogvideox_config import SMALL_T2V
from unfade.backbones.cogvideox_folder import save_cogvideox
from unfade.backbones.few_words import save_few_words_encoder
from unfade.conditioning.control import Control, ControlSettings
from unfade.conditioning.control_file import save_control
from unfade.core import Clip, ModelError, Plan, UsageError
from unfade.media.film import write_film
from unfade.media.images import write_image
from unfade.media.video import frame_times, probe_video, read_video
from unfade.prompts.vividvr import SUFFIX
from unfade.restore.chunks import MemoryChunks
from unfade.restore.footage import run_footage, work_folder
from unfade.restore.load import load
from unfade.restore.outputs import Job
from unfade.restore.stretches import stretches_of
from unfade.restore.text_protection import DetectedMasks, Softening
from unfade.restore.vivid_forecast import controlled_flops
from unfade.restore.vivid_restorer import VividRestorer

SAMPLING: dict[str, Any] = {
    "window": 17, "steps": 2, "short_side": 0, "guidance": 2.0, "captioner": "rules",
}  # fmt: skip


CPU = torch.device("cpu"), torch.float32


def saved(folder: Path) -> tuple[Path, Path]:
    """A small base with its text encoder, and a control that says something."""
    torch.manual_seed(0)
    base = build_cogvideox(SMALL_T2V)
    control = Control.beginning(base.denoiser.model, SMALL)
    with torch.no_grad():
        for parameter in control.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    save_cogvideox(base, folder / "base")
    save_few_words_encoder(folder / "base", ["a street at night", SUFFIX], 24)
    save_control(control, folder / "control", base.denoiser.model.config)
    return folder / "base", folder / "control"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return saved(tmp_path_factory.mktemp("vivid"))


@pytest.fixture
def restorer(folders: tuple[Path, Path], tmp_path: Path) -> VividRestorer:
    made = load(folders[0], control=folders[1], **SAMPLING)
    assert isinstance(made, VividRestorer)
    made._embed.cache = tmp_path / "prompts"  # type: ignore[attr-defined]
    return made


def restored(restorer: VividRestorer, source: Path, target: Path, **extra: Any) -> Any:
    report = run_footage(Job(source, target, **extra), restorer, Plan(dtype="fp32"))
    assert report.error is None, report.error
    return report


def packets(path: Path) -> list[tuple[int | None, int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(one.pts, one.dts, bytes(one)) for one in container.demux(audio=0) if one.size]


def test_sound_frames_and_times_are_the_source_s(
    restorer: VividRestorer, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    times = [0, 1, 2, 4, 5, 9, 10, 11, 12, 15, 16]
    source = make_clip(tmp_path / "a.mp4", times, sound="aac")
    target = tmp_path / "b.mp4"
    shares: list[float] = []
    report = run_footage(Job(source, target), restorer, Plan(dtype="fp32"), progress=shares.append)
    assert report.error is None, report.error
    assert packets(source) == packets(target)
    assert frame_times(source).count == frame_times(target).count == len(times)
    assert [frame.pts for frame in read_video(source)] == [frame.pts for frame in read_video(target)]
    assert shares == sorted(shares) and shares[-1] == 1.0 and 0 < shares[0] < 0.5
    assert not work_folder(target).exists()
    pictures = [torch.stack([frame.image for frame in read_video(path)]) for path in (source, target)]
    assert pictures[0].shape == pictures[1].shape
    assert float((pictures[0] - pictures[1]).abs().mean()) > 0.02


def test_rotated_and_enlarged(
    restorer: VividRestorer, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_clip(tmp_path / "a.mp4", range(3), rotation=90)
    target = tmp_path / "b.mkv"
    report = run_footage(Job(source, target, film=tmp_path / "f.mp4"), restorer, Plan(dtype="fp32", scale=2))
    assert report.error is None, report.error
    info = probe_video(target)
    assert (info.width, info.height, info.rotation) == (96, 128, 0)
    assert probe_video(tmp_path / "f.mp4").width == 96


def test_cuts_split_windows(restorer: VividRestorer, tmp_path: Path) -> None:
    """What comes after a cut is the same whatever came before."""
    one, two = footage(9, 48, 64), 0.1 + 0.1 * footage(7, 48, 64).flip(3)
    other = 1 - footage(9, 48, 64).flip(1)
    results: list[torch.Tensor] = []
    for name, first in (("a", one), ("b", other)):
        source = tmp_path / f"{name}.mp4"
        write_film([*first, *two], source, 10)
        assert [shot.start for shot in stretches_of(probe_video(source))] == [0, 9]
        restored(restorer, source, tmp_path / f"{name}-out.mp4")
        results.append(torch.stack([frame.image for frame in read_video(tmp_path / f"{name}-out.mp4")]))
    # The files differ a little: their encoder remembers what came before.
    before, after = (
        float((results[0][part] - results[1][part]).abs().mean()) for part in (slice(9), slice(9, 16))
    )
    assert after < 0.2 * before


def run_once(base: Path, control: Path, cache: Path, source: Path, target: Path) -> None:
    """What a process of its own does, to be killed."""
    torch.set_num_threads(1)
    made = load(base, control=control, **SAMPLING)
    made._embed.cache = cache  # type: ignore[union-attr]
    job = Job(source, target, film=target.with_suffix(".film.mp4"))
    report = run_footage(job, made, Plan(dtype="fp32", frames=3))
    sys.exit(0 if report.error is None else str(report.error))


def test_killed_anywhere_it_goes_on_to_the_same_file(
    folders: tuple[Path, Path], make_clip: Callable[..., Path], tmp_path: Path, forkserver: ForkServerContext
) -> None:
    source = make_clip(tmp_path / "a.mp4", range(26), sound="aac")
    cache, target = tmp_path / "prompts", tmp_path / "killed.mp4"

    def started(made: Path) -> Any:
        process = forkserver.Process(target=run_once, args=(*folders, cache, source, made))
        process.start()
        return process

    whole = started(tmp_path / "whole.mp4")
    whole.join()
    assert whole.exitcode == 0
    # While it encodes, denoises and decodes; every single place is stopped at within one process elsewhere.
    for wanted in sorted(random.Random(6).sample(range(1, 14), 5)):
        process = started(target)
        while process.is_alive() and len(list(work_folder(target).rglob("*.safetensors"))) < wanted:
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and not target.exists()
    last = started(target)
    last.join()
    assert last.exitcode == 0
    for suffix in (".mp4", ".film.mp4"):
        paths = (tmp_path / "whole.mp4").with_suffix(suffix), target.with_suffix(suffix)
        assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1
    assert not work_folder(target).exists()


def test_unfinished_work_is_nobody_elses(
    restorer: VividRestorer, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """Stopped in the second shot it goes on there; meanwhile no other model takes the result's place."""
    first, second = footage(9, 48, 64), 0.1 + 0.1 * footage(7, 48, 64).flip(3)
    source, target = tmp_path / "a.mp4", tmp_path / "b.mkv"
    write_film([*first, *second], source, 10)

    def stopping(share: float) -> None:
        if share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_footage(Job(source, target), restorer, Plan(dtype="fp32"), progress=stopping)
    work = work_folder(target)
    assert work.is_dir() and not target.exists()
    assert sorted(path.name for path in tmp_path.glob("*.*")) == [work.name, "a.mp4"]
    tiny = load("tiny")
    report = run_footage(Job(source, target), tiny, Plan())
    assert "keeps the unfinished work of another model" in str(report.error) and work.is_dir()
    model = restorer._placed.loaded(*CPU)
    calls, shares = model.denoiser.calls, []
    report = run_footage(Job(source, target), restorer, Plan(dtype="fp32"), progress=shares.append)
    assert report.error is None, report.error
    # Two steps with guidance: those of the second shot, whose first evaluation was interrupted.
    assert model.denoiser.calls - calls == 4
    assert shares[0] > 0.5
    again = tmp_path / "c.mkv"
    restored(restorer, source, again)
    assert again.read_bytes() == target.read_bytes()


def test_a_result_too_large_is_known_before(
    folders: tuple[Path, Path], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    made = load(folders[0], control=folders[1], **{**SAMPLING, "short_side": 20_000})
    report = run_footage(Job(make_clip(tmp_path / "a.mp4"), tmp_path / "b.mp4"), made, Plan())
    assert "b.mp4 can't be written" in str(report.error)
    assert not work_folder(tmp_path / "b.mp4").exists()


def test_a_clip_in_memory_has_its_way(restorer: VividRestorer) -> None:
    clip = Clip(footage(9, 40, 56))
    made = restorer.restore(clip, "a street at night", steps=8, frames=5, dtype="fp32")
    assert made.trajectory.taus == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert made.result.frames.shape == clip.frames.shape
    assert torch.equal(made.trajectory[0].frames, clip.frames)
    short = restorer.restore(clip, "a street at night", steps=8, keep=False, dtype="fp32")
    assert len(short.trajectory) == 2
    assert torch.equal(short.result.frames, made.result.frames)
    assert made.provenance["prompt"] == "a street at night" and made.provenance["fidelity"] == "0"
    other = restorer.restore(clip, steps=8, keep=False, dtype="fp32")
    assert other.provenance["prompt"] == "captions by rules"
    assert not torch.equal(other.result.frames, made.result.frames)


def test_faithful_results_are_nearer_to_what_the_vae_makes_of_the_input(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    clip = Clip(footage(9, 48, 64))
    gaps: list[float] = []
    for fidelity in (0.0, 0.9):
        made = load(
            folders[0], control=folders[1], **SAMPLING, fidelity=fidelity, colour="none", sampled=False
        )
        made._embed.cache = tmp_path  # type: ignore[union-attr]
        result = made.restore(clip, "a", steps=10, keep=False, dtype="fp32").result.frames
        vae = made._placed.loaded(*CPU).vae  # type: ignore[union-attr,arg-type]
        through = torch.cat(list(vae.decode(vae.encode(clip.frames.transpose(0, 1)[None]))), dim=2)[
            0
        ].transpose(0, 1)
        gaps.append(float((result - through).abs().mean()))
    assert gaps[1] < 0.5 * gaps[0]


def test_each_tile_has_its_prompt(restorer: VividRestorer) -> None:
    settings = restorer._settings(Plan(tile=64))
    left, right = (
        torch.zeros(1, 3, 64, 64) + 0.05,
        torch.zeros(1, 3, 64, 64) + torch.tensor([0.9, 0.5, 0.2])[:, None, None],
    )
    clip = torch.cat([left, right], dim=3).expand(9, -1, -1, -1)
    walk, texts = restorer._walk(
        settings,
        Plan(tile=64, dtype="fp32"),
        None,
        9,
        (64, 128),
        MemoryChunks(),
        "shot",
        probe_fps(),
        (),
        None,
    )
    walk.encode(clip)
    prompts = texts.prompts(walk, 0)
    assert set(prompts) == {(0, 0), (0, 4), (0, 8)}
    assert prompts[0, 0] != prompts[0, 8]
    assert all(prompt.endswith(SUFFIX) or len(prompt) > 5 for prompt in prompts.values())


def probe_fps() -> Any:
    from fractions import Fraction

    return Fraction(24)


def test_what_is_protected_is_the_inputs(
    folders: tuple[Path, Path], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    masks = torch.zeros(1, 3, 48, 64)
    masks[:, :, :24] = 1
    write_image(Clip(masks), tmp_path / "mask.png")
    made = load(folders[0], control=folders[1], protect=tmp_path / "mask.png", **SAMPLING)
    made._embed.cache = tmp_path / "prompts"  # type: ignore[union-attr]
    clip = Clip(footage(9, 48, 64))
    result = made.restore(clip, "a", keep=False, dtype="fp32").result.frames
    assert torch.equal(result[:, :, :24], clip.frames[:, :, :24])
    assert float((result[:, :, 24:] - clip.frames[:, :, 24:]).abs().mean()) > 0.02
    source = make_clip(tmp_path / "a.mp4", range(12))
    restored(made, source, tmp_path / "b.mp4")  # type: ignore[arg-type]
    both = [
        torch.stack([frame.image for frame in read_video(tmp_path / name)]) for name in ("a.mp4", "b.mp4")
    ]
    gaps = (both[0] - both[1]).abs().mean((0, 1, 3))
    assert float(gaps[:20].mean()) < 0.02 < float(gaps[28:].mean())
    write_image(Clip(torch.zeros(1, 3, 48, 90)), tmp_path / "mask.png")
    report = run_footage(Job(source, tmp_path / "c.mp4"), made, Plan(dtype="fp32"))
    assert "mask.png" in str(report.error) and not work_folder(tmp_path / "c.mp4").exists()


def test_what_a_detector_finds_is_the_inputs(
    folders: tuple[Path, Path], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """Any callable of a frame: here, what is brighter than the rest; asked once for each frame, film or none."""
    asked: list[Tensor] = []

    def bright(frame: Tensor) -> Tensor:
        asked.append(frame)
        return (frame.mean(0, keepdim=True) > 0.6).float()

    masks = DetectedMasks(bright, Softening(denoise=0, dilate=2, blur=0))
    made = load(folders[0], control=folders[1], protect=masks, **SAMPLING)
    assert isinstance(made, VividRestorer)
    made._embed.cache = tmp_path / "prompts"  # type: ignore[attr-defined]
    clip = Clip(footage(9, 48, 64))
    result = made.restore(clip, "a", keep=False, dtype="fp32").result.frames
    kept = torch.stack([masks(frame) for frame in clip.frames]).expand_as(result) == 1
    assert 0.1 < float(kept.float().mean()) < 0.9
    assert torch.equal(result[kept], clip.frames[kept])
    assert float((result[~kept] - clip.frames[~kept]).abs().mean()) > 0.02
    source = make_clip(tmp_path / "a.mp4", range(12))
    for film in (None, tmp_path / "film.mp4"):
        asked.clear()
        restored(made, source, tmp_path / "b.mp4", film=film)
        assert len(asked) == 12 and all(frame.shape == (3, 48, 64) for frame in asked)
        (tmp_path / "b.mp4").unlink()
    made.masks = lambda frame: frame
    report = run_footage(Job(source, tmp_path / "c.mp4"), made, Plan(dtype="fp32"))
    assert "mask of (3, 48, 64) does not fit" in str(report.error)


def test_a_forecast_counts_what_is_evaluated(restorer: VividRestorer) -> None:
    told = restorer.work(48, 64, Plan(dtype="fp32", device="cpu"), 40)
    assert told["windows"] == 4 and told["tiles"] == 1
    assert told["evaluations"] == 2 * 2 * 4
    assert told["predicted_seconds"] > 0 and told["predicted_peak_gb"] > 0 and told["fits"]
    model = restorer._placed.loaded(*CPU)
    calls = model.denoiser.calls
    restorer.restore(Clip(footage(40, 48, 64)), "a", keep=False, dtype="fp32")
    assert model.denoiser.calls - calls == told["evaluations"]


def test_arithmetic_is_what_is_counted() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from unfade.conditioning.control import Controlled

    transformer = build_cogvideox(SMALL_T2V, "meta").denoiser.model
    for kind in ("dual", "mlp", "attention", "sft"):
        settings = ControlSettings(1, kind, 8, False)  # type: ignore[arg-type]
        with torch.device("meta"):
            model = Controlled(transformer, Control(transformer.config, settings))
        x = torch.empty(1, 4, 4, 8, 12, device="meta")
        text = torch.empty(1, 12, 24, device="meta")
        rotary = tuple(torch.empty(2 * 4 * 6, 16, device="meta") for _ in range(2))
        with FlopCounterMode(display=False) as counted:
            model(x, x, text, torch.zeros(1, device="meta"), rotary)
        assert controlled_flops(SMALL_T2V, settings, 48) == pytest.approx(
            counted.get_total_flops(), rel=0.1
        ), kind


def test_bad_wishes(folders: tuple[Path, Path], restorer: VividRestorer, tmp_path: Path) -> None:
    base, control = folders
    with pytest.raises(ModelError, match=r"sees no photo.*Vivid-VR's control for footage \(--control\)"):
        load(base)
    with pytest.raises(ModelError, match=r"it has no control\.json"):
        load(base, control=tmp_path)
    with pytest.raises(UsageError, match="no use for adapter"):
        load(base, control=control, adapter="x.safetensors")
    with pytest.raises(UsageError, match="Vivid-VR has no use for drift"):
        load(base, control=control, drift="never")
    with pytest.raises(UsageError, match="can't be controlled"):
        load("tiny", control=control)
    asked = load(base, control=control, memory="group", vae_tiles="on")
    assert isinstance(asked, VividRestorer) and (asked.room.memory, asked.room.vae_tiles) == ("group", "on")
    with pytest.raises(UsageError, match="vae-tiles must be one of"):
        load(base, control=control, vae_tiles="x")
    with pytest.raises(UsageError, match="tiny has no use for captioner"):
        load("tiny", captioner="rules")
    with pytest.raises(UsageError, match="can't tell how sure it is"):
        restorer.restore(Clip(footage(1, 16, 16)), confidence=True)
    with pytest.raises(ModelError, match="unknown captioner"):
        load(base, control=control, captioner="nobody at all")
