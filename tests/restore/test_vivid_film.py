"""Vivid-VR's film of footage, stopping at any step, going on, and footage that is damaged."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from tests.restore.small_vividvr import footage, small_model, told, walk
from tests.restore.test_vivid_restorer import packets, saved
from torch import Tensor

from unfade.backbones.video_captioner import KeptDescriptions, VideoCaptioner
from unfade.core import Clip, Plan, UsageError
from unfade.media.film import write_film
from unfade.media.images import read_image
from unfade.media.notes import read_notes
from unfade.media.video import probe_video, read_video
from unfade.restore.chunks import FolderChunks, MemoryChunks
from unfade.restore.comparison import swept
from unfade.restore.footage import run_footage, work_folder
from unfade.restore.load import load
from unfade.restore.outputs import Job
from unfade.restore.placement import Room
from unfade.restore.vivid_film import FilmPlan, snapshots
from unfade.restore.vivid_restorer import VividRestorer
from unfade.restore.vividvr import VividSettings

# No guidance and one prompt: an evaluation for each step of each window. No colours: frames are what was decoded.
SAMPLING: dict[str, Any] = {
    "window": 9, "steps": 4, "short_side": 0, "guidance": 1.0, "colour": "none", "captioner": "rules",
}  # fmt: skip
PLAN = Plan(dtype="fp32", device="cpu", frames=3)
WORDS = "a street at night"


def loads_of(restorer: VividRestorer) -> list[str]:
    """Grows whenever the restorer loads weights."""
    given, loads = restorer._placed._load, list[str]()

    def load_model(device: torch.device, dtype: torch.dtype) -> Any:
        loads.append(str(device))
        return given(device, dtype)

    restorer._placed._load = load_model
    return loads


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., VividRestorer]:
    """Restorers as new processes would have them, all with the same prompts at hand."""
    base, control = saved(tmp_path_factory.mktemp("vivid"))

    def made(**changes: Any) -> VividRestorer:
        restorer = load(base, control=control, **{**SAMPLING, **changes})
        assert isinstance(restorer, VividRestorer)
        restorer._embed.cache = base.parent / "prompts"  # type: ignore[attr-defined]
        return restorer

    return made


@pytest.fixture(scope="module")
def model(make: Callable[..., VividRestorer]) -> Any:
    """Weights in memory, for restorers that aren't asked how often they load."""
    return make()._placed.loaded(torch.device("cpu"), torch.float32)


@pytest.fixture
def ready(make: Callable[..., VividRestorer], model: Any) -> VividRestorer:
    restorer = make()
    restorer._placed._load = lambda device, dtype: model
    return restorer


def frames_of(path: Path) -> Tensor:
    return torch.stack([frame.image for frame in read_video(path)])


def ran(restorer: VividRestorer, source: Path, work: Path, film: bool = True) -> tuple[Tensor, list[Tensor]]:
    shown: list[Tensor] = []
    take = shown.append if film else None
    results = restorer.restore_footage(probe_video(source), WORDS, PLAN, work, None, take)
    return torch.stack(list(results)), shown


def interrupted(restorer: VividRestorer, job: Job, share: float) -> None:
    """Stopped by Ctrl-C when that share of the evaluations is done."""

    def stopping(done: float) -> None:
        if done > share:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_footage(job, restorer, PLAN, prompt=WORDS, progress=stopping)
    assert not job.output.exists()


def test_states_follow_one_another() -> None:
    film = FilmPlan((0, 2, 4, 6), 7)
    assert film.at(0) == (0, 2, 0.0) and film.at(2) == (2, 4, 0.0) and film.at(6) == (4, 6, 1.0)
    assert film.at(3)[:2] == (2, 4) and film.at(3)[2] == pytest.approx(0.5)
    assert [FilmPlan((0, 4), 5).at(index)[2] for index in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert FilmPlan((0, 2, 4), 1).at(0) == (2, 4, 1.0)
    assert (
        snapshots(50, 9) == (6, 12, 19, 25, 31, 38, 44) and snapshots(2, 9) == (1,) and snapshots(4, 2) == ()
    )


@pytest.mark.parametrize("crossfade", [0, 4])
def test_stopped_and_gone_on_with_it_is_the_way_of_a_clip_in_memory(
    ready: VividRestorer, model: Any, make_clip: Callable[..., Path], tmp_path: Path, crossfade: int
) -> None:
    """Film, stop and end are the trajectory's states, and no step is taken twice."""
    ready.settings = replace(ready.settings, crossfade=crossfade)
    source, work = make_clip(tmp_path / "a.mp4", range(11), (48, 32)), tmp_path / "work"
    begun = model.denoiser.calls
    ready.stop_at = 2
    stopped, early = ran(ready, source, work)
    windows = (model.denoiser.calls - begun) // 2
    assert windows > 1 and model.denoiser.calls - begun == 2 * windows
    ready.stop_at = None
    ended, film = ran(ready, source, work)
    assert model.denoiser.calls - begun == 4 * windows
    clip = Clip(frames_of(source))
    way = ready.restore(clip, WORDS, replace(PLAN, frames=3)).trajectory
    assert torch.equal(stopped, way[1].frames) and torch.equal(ended, way[2].frames)
    assert not torch.allclose(way[1].frames, way[2].frames, atol=0.01)
    wanted = FilmPlan((0, 2, 4), 11)
    states: dict[int, Clip] = dict(zip((0, 2, 4), way, strict=True))
    for index, frame in enumerate(film):
        old, new, share = wanted.at(index)
        assert torch.equal(frame, swept(states[old].frames[index], states[new].frames[index], share)), index
    # What was stopped at 2 has no state after that; its film sweeps from the input to there.
    for index, frame in enumerate(early):
        assert torch.equal(frame, swept(clip.frames[index], stopped[index], index / 10)), index
    ready.stop_at = 2
    again = ready.restore(clip, WORDS, PLAN).trajectory
    assert len(again) == 2 and again.taus == (0.0, 1.0) and torch.equal(again[-1].frames, stopped)


@pytest.mark.parametrize("crossfade", [0, 4])
def test_a_forecast_counts_what_is_written(
    ready: VividRestorer,
    make_clip: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    crossfade: int,
) -> None:
    """The most bytes that lie in the folder at any time, stopped before the end and then with all of its film."""
    ready.settings = replace(ready.settings, crossfade=crossfade)
    sizes: list[int] = []

    class Weighed(FolderChunks):
        def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
            super().put(name, tensors)
            sizes.append(sum(one.stat().st_size for one in self.folder.rglob("*.safetensors")))

    monkeypatch.setattr("unfade.restore.vivid_restorer.FolderChunks", Weighed)
    source, plan = make_clip(tmp_path / "a.mp4", range(13), (64, 48)), replace(PLAN, frames=5)
    told: list[float] = []
    # Strips are measured for seconds, and nothing on disk depends on them.
    ready.room = Room(vae_tiles="off")
    for stop in (2, None):
        ready.stop_at = stop
        sizes.clear()
        work = tmp_path / f"until {stop}"
        list(ready.restore_footage(probe_video(source), WORDS, plan, work, None, lambda _: None))
        told.append(ready.work(48, 64, plan, 13, film=True)["work_gb"] * 1e9)
        # Latents are counted as if nothing were dropped before frames come; files have heads.
        assert 0.9 * told[-1] < max(sizes) < 1.05 * told[-1], stop
    assert told[1] > 1.2 * told[0] > 1.5 * ready.work(48, 64, plan, 13)["work_gb"] * 1e9


def test_the_best_of_an_interrupted_run(ready: VividRestorer, model: Any, tmp_path: Path) -> None:
    """At any moment: what is ended, what was predicted so far, and the input for the rest. Then it goes on."""
    source = tmp_path / "a.mp4"
    write_film([*footage(5, 48, 64), *(0.1 + 0.1 * footage(4, 48, 64).flip(3))], source, 10)
    whole, _ = ran(ready, source, tmp_path / "whole", film=False)
    job = Job(source, tmp_path / "b.mkv")
    work = work_folder(job.output)

    def so_far() -> Tensor:
        calls, ready.stop_at = model.denoiser.calls, 0
        try:
            made, _ = ran(ready, source, work, film=False)
        finally:
            ready.stop_at = None
        assert model.denoiser.calls == calls
        return made

    for _ in range(2):
        with pytest.raises(UsageError, match="so there is nothing to show"):
            so_far()
        # The second time with a folder in which nothing is predicted yet.
        interrupted(ready, job, 0.0)
    degraded = frames_of(source)
    interrupted(ready, job, 0.4)
    first = so_far()
    assert torch.equal(first[5:], degraded[5:])
    assert not torch.allclose(first[:5], degraded[:5], atol=0.02)
    assert not torch.equal(first[:5], whole[:5])
    interrupted(ready, job, 0.85)
    second = so_far()
    assert torch.equal(second[:5], whole[:5])
    assert not torch.allclose(second[5:], degraded[5:], atol=0.02) and not torch.equal(second[5:], whole[5:])
    # As a file, which may be gone on from.
    ready.stop_at = 0
    report = run_footage(job, ready, PLAN, prompt=WORDS)
    assert report.error is None and report.provenance["stopped"] == "after step 2 to 4 of 4"
    assert read_notes(job.output)["stopped"] == "after step 2 to 4 of 4" and work.is_dir()
    ready.stop_at = 5
    with pytest.raises(UsageError, match="can stop at step 0 to 4, not at 5"):
        ran(ready, source, work)
    ready.stop_at = 0
    with pytest.raises(UsageError, match="leave --stop-at 0 out"):
        ready.restore(Clip(footage(1, 16, 16)), WORDS, PLAN)
    ready.stop_at = None
    made, _ = ran(ready, source, work, film=False)
    assert torch.equal(made, whole)


def test_windows_behind_catch_up_without_the_model() -> None:
    """Killed between two windows of a step, all of them get there: the answers were all given before."""

    class Dying(MemoryChunks):
        alive = True

        def put(self, name: str, tensors: Mapping[str, Tensor]) -> None:
            if self.alive and name.endswith("state-00001") and int(tensors.get("step", torch.tensor(0))) == 2:
                raise KeyboardInterrupt
            super().put(name, tensors)

    settings = VividSettings(window=9, tile=0, steps=3, guidance=2.0, short_side=0)
    small, clip, chunks = small_model(), footage(13, 16, 16), Dying()
    killed, other = walk(small, clip, settings, chunks), walk(small, clip, settings)
    for one in (killed, other):
        one.encode(clip)
    with pytest.raises(KeyboardInterrupt):
        killed.denoise(told)
    chunks.alive, calls = False, small.denoiser.calls
    assert killed.level() == 2 == killed.level() and small.denoiser.calls == calls
    other.denoise(told, 2)
    for index in range(2):
        for one, two in zip(killed.decode(index, 2), other.decode(index, 2), strict=True):
            assert torch.equal(one, two)
    with pytest.raises(ValueError, match="no state of step 1"):
        next(killed.decode(0, 1))


def test_what_is_all_done_loads_no_weights(
    make: Callable[..., VividRestorer], make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    """A run that was killed while it wrote its files needs neither the model nor the text encoder again."""
    source = make_clip(tmp_path / "a.mp4", range(13), (48, 32), sound="aac")
    job = Job(source, tmp_path / "b.mp4", film=tmp_path / "f.mp4", sheet=tmp_path / "s.png")
    first, shown = make(crossfade=4), list[Tensor]()
    loads = loads_of(first)
    writing = first.restore_footage(
        probe_video(source), WORDS, PLAN, work_folder(job.output), None, shown.append
    )
    next(writing)
    writing.close()
    assert len(loads) == 1 and work_folder(job.output).is_dir()
    second = make(crossfade=4)
    loads = loads_of(second)
    second._embed = lambda *_: pytest.fail("the text encoder was asked")  # type: ignore[assignment]
    report = run_footage(job, second, PLAN, prompt=WORDS)
    assert report.error is None and not loads and not work_folder(job.output).exists()
    assert packets(job.output) == packets(job.film) == packets(source)  # type: ignore[arg-type]
    film, clip, before = (frames_of(path) for path in (tmp_path / "f.mp4", job.output, source))
    assert len(film) == 13 and read_image(tmp_path / "s.png").height > 64
    assert float((film[0] - before[0]).abs().mean()) < 0.02 > float((film[-1] - clip[-1]).abs().mean())
    assert float((film[6] - before[6]).abs().mean()) > 0.04


def test_deep_turned_uneven_and_with_subtitles(ready: VividRestorer, tmp_path: Path) -> None:
    """Ten bits stay ten bits, text stays text, and what was turned or uneven is shown so at the same times."""
    words, plain, source = tmp_path / "s.srt", tmp_path / "p.mkv", tmp_path / "a.mkv"
    words.write_text("1\n00:00:00,100 --> 00:00:00,500\nHello\n")
    times = (0, 40, 80, 200, 240, 400)
    for codec in ("libx264", "libx265"):
        with av.open(str(plain), "w") as made:
            options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
            video = made.add_stream(codec, rate=25, options=options)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p10le"
            video.codec_context.time_base = video.time_base = Fraction(1, 1000)
            video.set_display_rotation(90)
            for time, frame in zip(times, footage(len(times), 48, 64), strict=True):
                picture = av.VideoFrame.from_ndarray(
                    (frame * 255).byte().permute(1, 2, 0).contiguous().numpy(), "rgb24"
                ).reformat(format="yuv420p10le")
                picture.pts, picture.time_base = time, Fraction(1, 1000)
                made.mux(video.encode(picture))
            made.mux(video.encode(None))
        with (
            av.open(str(plain)) as one,
            av.open(str(words)) as two,
            av.open(str(source), "w") as both,
        ):
            pairs = [(one, one.streams.video[0]), (two, two.streams.subtitles[0])]
            outs = [both.add_stream_from_template(stream) for _, stream in pairs]
            for (given, stream), out in zip(pairs, outs, strict=True):
                for packet in given.demux(stream):
                    if packet.size:
                        packet.stream = out
                        both.mux(packet)
        job = Job(source, tmp_path / f"{codec}.mkv")
        report = run_footage(job, ready, replace(PLAN, steps=1), prompt=WORDS)
        assert report.error is None, report.error
        before, after = probe_video(source), probe_video(job.output)
        assert (after.bit_depth, after.pix_fmt) == (10, "yuv420p10le") == (before.bit_depth, before.pix_fmt)
        assert (after.width, after.height, after.rotation) == (before.width, before.height, 0) == (48, 64, 0)
        assert [frame.pts for frame in read_video(job.output)] == list(times)
        with av.open(str(job.output)) as made:
            texts = [bytes(packet) for packet in made.demux(subtitles=0) if packet.size]
        assert texts == [b"Hello"]


def cut(path: Path, whole: Path) -> Path:
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    return path


def test_damaged_footage_is_restored_up_to_there(
    ready: VividRestorer, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    torn = cut(tmp_path / "torn.mkv", make_clip(tmp_path / "whole.mkv", range(24), (80, 64), sound="aac"))
    small = replace(PLAN, steps=1)
    job = Job(torn, tmp_path / "b.mkv", film=tmp_path / "f.mkv", sheet=tmp_path / "s.png")
    # Killed and gone on with, the damage is where it was.
    begun = ready.restore_footage(probe_video(torn), WORDS, small, work_folder(job.output))
    next(begun)
    begun.close()
    report = run_footage(job, ready, small, prompt=WORDS)
    assert report.status == "done" and report.error_code == 3 and report.footage is not None
    count = report.footage.frames
    assert 5 < count < 24
    assert report.error_message == (
        f"{torn} is damaged or cut short after frame {count}; the result ends there, after {count} frames with their "
        "sound: mend it for the rest"
    )
    for path in (job.output, tmp_path / "f.mkv"):
        assert len(list(read_video(path))) == count
        given, kept = packets(torn), packets(path)
        assert 0 < len(kept) <= len(given) and kept == given[: len(kept)]
    assert read_notes(job.output)["damaged"] == f"the source can be read up to frame {count} and no further"
    assert (tmp_path / "s.png").exists() and not work_folder(job.output).exists()


def test_footage_that_changes_its_size_ends_there(ready: VividRestorer, tmp_path: Path) -> None:
    """Pictures of another size follow; the sound goes on to the end of the source and not of the result."""
    source, target = tmp_path / "a.m2ts", tmp_path / "b.mkv"
    with av.open(str(source), "w", format="mpegts") as made:
        video = made.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = made.add_stream("mp2", rate=48000, layout="mono")
        contexts = [video.codec_context, av.CodecContext.create("mpeg2video", "w")]
        other = contexts[1]
        other.width, other.height, other.pix_fmt = 96, 64, "yuv420p"  # type: ignore[attr-defined]
        other.time_base = Fraction(1, 25)
        for context in contexts:
            context.gop_size, context.max_b_frames = 1, 0  # type: ignore[attr-defined]
        made.start_encoding()
        size = (48, 64)
        for index in range(12):
            pictures = []
            if index == 6:
                size, pictures = (64, 96), contexts[0].encode(None)  # type: ignore[attr-defined]
            image = (footage(1, *size)[0] * 255).byte().permute(1, 2, 0).contiguous().numpy()
            picture = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 25)
            for packet in [*pictures, *contexts[index >= 6].encode(picture)]:  # type: ignore[attr-defined]
                packet.stream, packet.time_base = video, Fraction(1, 25)
                made.mux(packet)
            silence = av.AudioFrame(format="s16", layout="mono", samples=1920)
            silence.sample_rate, silence.pts = 48000, index * 1920
            silence.planes[0].update(bytes(3840))
            made.mux(audio.encode(silence))
        made.mux(audio.encode(None))
    report = run_footage(Job(source, target), ready, replace(PLAN, steps=1), prompt=WORDS)
    assert report.status == "done" and report.error_code == 3
    # The decoder gives up the last picture before the change.
    said = (
        "changes its size at frame 5; split it there; the result ends there, after 5 frames with their sound"
    )
    assert said in report.error_message
    shown = list(read_video(target))
    assert len(shown) == 5 and shown[0].image.shape == (3, 48, 64)
    end = shown[-1].pts * shown[-1].time_base + Fraction(1, 25)
    with av.open(str(source)) as container:
        given = [(one.pts or 0, one.time_base, bytes(one)) for one in container.demux(audio=0) if one.size]
    kept = [data for *_, data in packets(target)]
    assert kept == [data for time, base, data in given if time * base < end]
    assert 5 < len(kept) < len(given) - 5


def test_a_captioner_works_where_the_plan_says(ready: VividRestorer, tmp_path: Path) -> None:
    seeing = VideoCaptioner(tmp_path, "nobody", device="meta")
    assert seeing.dtype == torch.bfloat16
    ready.captioner = KeptDescriptions(seeing, tmp_path / "captions")
    ready.restore(Clip(footage(1, 16, 16)), WORDS, replace(PLAN, steps=1))
    assert (seeing.device.type, seeing.dtype) == ("cpu", torch.float32)
