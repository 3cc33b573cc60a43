"""One clip from file to file, through a small network of the real class."""

import os
import weakref
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from unfade.backbones.tiny import Tiny, TinyConfig
from unfade.backbones.tiny_weights import TinyWeights
from unfade.core import InputError, OutputError, Plan
from unfade.media.images import probe_image, read_image
from unfade.media.notes import read_notes
from unfade.media.video import frame_times, probe_video, read_video
from unfade.restore.comparison import PairSheet, swept
from unfade.restore.engine import PixelRestorer
from unfade.restore.footage import check_footage
from unfade.restore.job import Filing, run_job
from unfade.restore.outputs import Job, plan_jobs

UNEVEN = (0, 1, 3, 4, 8, 9, 15)


@pytest.fixture(scope="module")
def restorer() -> PixelRestorer:
    torch.manual_seed(0)
    model = Tiny(TinyConfig(widths=(8, 8, 8), blocks=(1, 1, 1), context=16, buckets=64))
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return PixelRestorer("small", TinyWeights(model.eval(), "0" * 64, {}))


class Inverter:
    """Knows exactly what comes out: the negative."""

    def restore_stream(self, frames, prompt=None, plan=None):
        for frame in frames:
            yield 1 - frame.repeat_interleave(plan.scale, 1).repeat_interleave(plan.scale, 2)

    def provenance(self, height, width, prompt, plan):
        return {"model": "inverter", "size": f"{width} x {height}"}


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def shown(path):
    """When each frame is shown, and how long all of them take together.

    What MP4 says of a single frame's duration is the distance to the next one in the order of decoding.
    """
    times = [frame.pts * frame.time_base for frame in read_video(path)]
    return times, probe_video(path).duration


def sound(path):
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio) if container.streams.audio else ()
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in packets if packet.size]


def whole_job(clip, name="out/b.mp4"):
    return plan_jobs([clip], clip.parent / name, film=True, sheet=True, frames=True).jobs[0]


def luma(image):
    return (image * torch.tensor((0.299, 0.587, 0.114))[:, None, None]).sum(0)


def distance(one, two):
    return float((one - two).abs().mean())


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_times_sound_and_size_are_kept(suffix, restorer, make_clip, tmp_path):
    clip = make_clip(tmp_path / f"a{suffix}", UNEVEN, sound="aac")
    shares = []
    report = run_job(plan_jobs([clip]).jobs[0], restorer, Plan(), progress=shares.append)
    result = tmp_path / f"a_unfaded{suffix}"
    assert report.error is None and report.status == "done"
    assert (report.footage.frames, report.footage.fps) == (7, probe_video(clip).fps)
    assert report.megapixels == 64 * 48 / 1e6 and report.seconds > 0
    assert shares == sorted(shares) and len(shares) == 8 and shares[-1] == 1
    assert shown(result) == shown(clip) and len(shown(clip)[0]) == 7
    assert sound(result) == sound(clip) != []
    assert (probe_video(result).width, probe_video(result).height) == (64, 48)
    notes = read_notes(result)
    assert notes["model"] == "small" and notes["weights"] == "0" * 64
    assert listing(tmp_path) == [f"a{suffix}", f"a_unfaded{suffix}"]


def test_the_pixels_are_those_of_the_stream(restorer, make_clip, tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    assert run_job(plan_jobs([clip]).jobs[0], restorer, Plan()).status == "done"
    expected = restorer.restore_stream(frame.image for frame in read_video(clip))
    for frame, image in zip(read_video(tmp_path / "a_unfaded.mp4"), expected, strict=True):
        # Colour is stored at half the size.
        assert distance(luma(frame.image), luma(image)) < 2 / 255


def test_rotation_is_baked_in_and_scale_enlarges(restorer, make_clip, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", rotation=90)
    job = plan_jobs([clip], film=True).jobs[0]
    assert run_job(job, restorer, Plan(scale=2)).status == "done"
    for path in (job.output, job.film):
        info = probe_video(path)
        assert (info.width, info.height, info.rotation) == (96, 128, 0)


@pytest.mark.parametrize(
    ("suffix", "codec", "tone"), [(".avi", "mpeg4", "mp3"), (".webm", "libvpx", "libopus")]
)
def test_other_containers_become_mp4(suffix, codec, tone, make_clip, tmp_path):
    clip = make_clip(tmp_path / f"a{suffix}", codec=codec, sound=tone)
    report = run_job(plan_jobs([clip]).jobs[0], Inverter(), Plan())
    assert report.error is None
    assert shown(tmp_path / "a_unfaded.mp4")[0] == shown(clip)[0]
    assert [packet for _, packet in sound(tmp_path / "a_unfaded.mp4")] == [
        packet for _, packet in sound(clip)
    ]


def test_sound_that_mp4_cannot_hold_is_told_before_any_work(make_clip, tmp_path):
    clip = make_clip(tmp_path / "a.avi", codec="mpeg4", sound="pcm_u8")
    job = plan_jobs([clip]).jobs[0]
    with pytest.raises(OutputError, match=r"a_unfaded\.mp4 can't be written: .*sound.*; try \.mkv or \.mov"):
        check_footage(job)
    assert run_job(job, Inverter(), Plan()).error_code == 4
    assert listing(tmp_path) == ["a.avi"]
    (job,) = plan_jobs([clip], format="mkv").jobs
    assert run_job(job, Inverter(), Plan()).error is None
    assert b"".join(packet for _, packet in sound(job.output)) == b"".join(
        packet for _, packet in sound(clip)
    )
    assert sound(clip)


def test_everything_is_written_in_one_pass(make_clip, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", UNEVEN, sound="aac")
    job = whole_job(clip)
    report = run_job(job, Inverter(), Plan(frames=3))
    assert report.error is None
    frames = [f"out/b_frames/{index:04d}.png" for index in range(7)]
    assert listing(tmp_path) == sorted(
        ["a.mp4", "out", "out/b.mp4", "out/b_film.mp4", "out/b_frames", *frames, "out/b_sheet.png"]
    )
    for path in (job.output, job.film, job.sheet, job.frames_folder / "0003.png"):
        assert read_notes(path) == {"model": "inverter", "size": "64 x 48"}
    assert shown(job.film) == shown(clip) and sound(job.film) == sound(clip)
    images = [frame.image for frame in read_video(clip)]
    for image, path in zip(images, frames, strict=True):
        assert distance(read_image(tmp_path / path).frames[0], 1 - image) < 1 / 255
    sheet = probe_image(job.sheet)
    # Three cells of 64 pixels, each of two frames and a gap of one row, and labels below.
    assert sheet.width == 3 * 64 + 4 * 12 and sheet.height > 97 + 24


def test_the_film_sweeps_from_left_to_right(make_clip, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", UNEVEN)
    job = plan_jobs([clip], film=True).jobs[0]
    run_job(job, Inverter(), Plan())
    before = [frame.image for frame in read_video(clip)]
    film = [frame.image for frame in read_video(job.film)]
    assert distance(film[0], before[0]) < 2 / 255
    assert distance(film[-1], 1 - before[-1]) < 2 / 255
    for when, image, old in zip(UNEVEN, film, before, strict=True):
        border = round(when / 15 * 64)
        left, right = slice(0, max(0, border - 3)), slice(border + 3, 64)
        if border > 3:
            assert distance(image[..., left], 1 - old[..., left]) < 3 / 255
        if border < 61:
            assert distance(image[..., right], old[..., right]) < 3 / 255


def test_the_border_is_a_thin_light_line():
    before, after = torch.zeros(3, 4, 640), torch.full((3, 4, 640), 0.5)
    assert torch.equal(swept(before, after, 0), before)
    assert torch.equal(swept(before, after, 1), after)
    middle = swept(before, after, 0.5)[0, 0]
    assert middle.tolist() == [0.5] * 319 + [pytest.approx(0.9)] * 2 + [0.0] * 319


def test_the_sheet_takes_evenly_spaced_frames_and_holds_them_reduced():
    sheet = PairSheet(101, 5)
    assert [index for index in range(101) if sheet.wants(index)] == [0, 25, 50, 75, 100]
    assert [index for index in range(3) if PairSheet(3, 9).wants(index)] == [0, 1, 2]
    assert PairSheet(1, 9).wants(0)
    held = []
    for index in range(5):
        large = torch.full((3, 1000, 3000), index / 10)
        held.append(weakref.ref(large))
        sheet.add(large, large, str(index))
    del large
    assert not any(reference() is not None for reference in held)
    assert sheet.image().shape[-1] <= 1920


def test_frames_do_not_gather_in_memory(make_clip, tmp_path):
    clip = make_clip(tmp_path / "a.mp4", range(60))
    alive = []
    most = 0

    class Watching(Inverter):
        def restore_stream(self, frames, prompt=None, plan=None):
            nonlocal most
            for frame in frames:
                alive.append(weakref.ref(frame))
                result = 1 - frame
                alive.append(weakref.ref(result))
                most = max(most, sum(reference() is not None for reference in alive))
                yield result

    assert run_job(whole_job(clip), Watching(), Plan(frames=4)).status == "done"
    assert len(alive) == 120 and most <= 5


def test_stripped_files_say_nothing(make_clip, tmp_path):
    job = whole_job(make_clip(tmp_path / "a.mp4"))
    run_job(job, Inverter(), Plan(frames=2), filing=Filing(strip_metadata=True))
    for path in (job.output, job.film, job.sheet, job.frames_folder / "0000.png"):
        assert path.exists() and read_notes(path) == {}


def test_a_truncated_clip_leaves_nothing_and_says_how_much_was_read(make_clip, tmp_path):
    # Matroska, whose frames lie one after another without an index.
    whole = make_clip(tmp_path / "whole.mkv", range(60), (192, 144))
    part = tmp_path / "part.mkv"
    part.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    before = listing(tmp_path)
    report = run_job(whole_job(part), Inverter(), Plan())
    assert report.error_code == 3
    count = frame_times(part).count
    assert 5 < count < 60
    told = report.error_message
    assert told.startswith(f"{part} is damaged or cut short: only ") and told.endswith(
        " frames could be read"
    )
    assert abs(int(told.split()[-5]) - count) <= 1
    assert listing(tmp_path) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError])
def test_whatever_happens_half_way_nothing_is_left(error, make_clip, tmp_path):
    class Stopped(Inverter):
        def restore_stream(self, frames, prompt=None, plan=None):
            for index, result in enumerate(super().restore_stream(frames, prompt, plan)):
                if index == 4:
                    raise error
                yield result

    job = whole_job(make_clip(tmp_path / "a.mp4", sound="aac"))
    if issubclass(error, Exception):
        assert run_job(job, Stopped(), Plan()).error_code == 1
    else:
        with pytest.raises(error):
            run_job(job, Stopped(), Plan())
    assert listing(tmp_path) == ["a.mp4"]


def test_what_was_written_is_taken_back_when_the_clip_cannot_appear(make_clip, tmp_path):
    """Somebody else's file appears where the clip was to go, and stays; film, sheet and frames go again."""
    job = whole_job(make_clip(tmp_path / "a.mp4"), "b.mp4")

    class Meanwhile(Inverter):
        def restore_stream(self, frames, prompt=None, plan=None):
            yield from super().restore_stream(frames, prompt, plan)
            job.output.write_text("mine")

    report = run_job(job, Meanwhile(), Plan(frames=2))
    assert report.error_code == 4 and "exists already" in report.error_message
    assert listing(tmp_path) == ["a.mp4", "b.mp4"]
    assert job.output.read_text() == "mine"


def test_a_film_that_somebody_else_made_meanwhile_stays(make_clip, tmp_path):
    job = whole_job(make_clip(tmp_path / "a.mp4"), "b.mp4")

    class Meanwhile(Inverter):
        def restore_stream(self, frames, prompt=None, plan=None):
            yield from super().restore_stream(frames, prompt, plan)
            job.film.write_text("mine")

    assert run_job(job, Meanwhile(), Plan(frames=2)).error_code == 4
    assert listing(tmp_path) == ["a.mp4", "b_film.mp4"]
    assert job.film.read_text() == "mine"


def test_what_exists_is_refused_skipped_or_replaced(make_clip, tmp_path):
    job = whole_job(make_clip(tmp_path / "a.mp4"))
    assert run_job(job, Inverter(), Plan()).status == "done"
    before = job.output.read_bytes()
    assert run_job(job, Inverter(), Plan()).error_code == 4
    assert run_job(job, object(), Plan(), filing=Filing(existing="skip")).status == "skipped"
    assert job.output.read_bytes() == before
    again = run_job(job, Inverter(), Plan(scale=2), filing=Filing(existing="overwrite"))
    assert again.status == "done" and probe_video(job.output).width == 128
    assert probe_image(job.frames_folder / "0000.png").width == 128


def test_what_cannot_be_done_is_known_before_any_work(make_clip, tmp_path):
    clip = make_clip(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"64 x 48 is 0\.0031 megapixels, the limit is 0\.001"):
        check_footage(Job(clip, tmp_path / "b.mp4", footage=True), filing=Filing(max_megapixels=0.001))
    with pytest.raises(InputError, match="does not exist"):
        check_footage(Job(tmp_path / "c.mp4", tmp_path / "b.mp4", footage=True))
    (tmp_path / "b.mp4").symlink_to(os.devnull)
    with pytest.raises(OutputError, match="exists and is not a file"):
        check_footage(Job(clip, tmp_path / "b.mp4", footage=True), filing=Filing(existing="overwrite"))
    report = run_job(Job(clip, tmp_path / "d.mp4", footage=True), object(), Plan())
    assert report.error_code == 2 and "this model can't restore" in report.error_message


def test_the_times_of_frames_are_read_without_decoding(make_clip, tmp_path):
    for suffix in (".mp4", ".mkv"):
        clip = make_clip(tmp_path / f"a{suffix}", UNEVEN)
        times, base = frame_times(clip), probe_video(clip).time_base
        assert times.count == 7
        assert (times.first * base, times.last * base) == (0, Fraction(15, 10))


def test_a_clip_of_one_frame_is_restored(make_clip, tmp_path):
    job = whole_job(make_clip(tmp_path / "a.mp4", (0,)))
    assert run_job(job, Inverter(), Plan()).error is None
    (film,), (result,) = (list(read_video(path)) for path in (job.film, job.output))
    assert distance(film.image, result.image) < 1 / 255


def test_a_real_clip_keeps_everything(shared, restorer, tmp_path):
    clip = shared / "clips" / "carphone_pristine.mp4"
    if not clip.exists():
        pytest.skip(f"no {clip}: the sample clips are not on this machine")
    report = run_job(Job(clip, tmp_path / "b.mp4", footage=True), restorer, Plan())
    assert report.status == "done" and report.footage.frames == 120
    assert shown(tmp_path / "b.mp4") == shown(clip)
