"""One photo from file to file, with classical filters as restorers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from unfade.core import Clip, OutputError, Plan, Restoration, Trajectory, UsageError, generator
from unfade.media.images import probe_image, read_image, write_image
from unfade.media.notes import read_notes
from unfade.media.resize import enlarge
from unfade.restore.frames import write_frames
from unfade.restore.job import (
    Filing,
    JobReport,
    check_job,
    check_transparency,
    peak_memory_mb,
    run_job,
)
from unfade.restore.outputs import Job, plan_jobs


class BoxFilter:
    """Averages 3 x 3 pixels: as classical a restorer as there is."""

    tile = "none"

    def restore(self, clip, prompt=None, plan=None, progress=None):
        clip = enlarge(clip, (plan or Plan()).scale)
        padded = functional.pad(clip.frames, (1, 1, 1, 1), mode="replicate")
        smooth = clip.with_frames(functional.avg_pool2d(padded, 3, stride=1))
        if progress:
            progress(1.0)
        return Restoration(
            Trajectory((0.0, 1.0), (clip, smooth)),
            provenance={"model": "box", "prompt": prompt or "", "device": "cpu", "tile": self.tile},
            seconds=0.1,
        )


class Failing:
    """Fails with whatever it was given."""

    def __init__(self, error):
        self.error = error

    def restore(self, clip, prompt=None, plan=None, progress=None):
        raise self.error


class StoppedFilm(Trajectory):
    """A trajectory during whose film the user presses Ctrl-C."""

    def film(self, num_frames: int) -> Iterator[Clip]:
        yield self[0]
        raise KeyboardInterrupt


@pytest.fixture
def photo(tmp_path):
    """A 16-bit PNG."""
    image = torch.rand((3, 20, 30), generator=generator(1, "photo"))
    write_image(Clip.of(image), tmp_path / "a.png", bit_depth=16)
    return tmp_path / "a.png"


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def whole_job(photo):
    return plan_jobs([photo], photo.parent / "out/b.png", film=True, sheet=True, frames=True).jobs[0]


def test_everything_is_written_and_reported(photo, tmp_path):
    shares = []
    report = run_job(
        whole_job(photo), BoxFilter(), Plan(frames=3, scale=2), prompt="smooth", progress=shares.append
    )
    assert report.status == "done" and report.error is None and report.error_code == 0
    assert report.megapixels == 20 * 30 / 1e6 and report.seconds > 0 and report.peak_memory_mb > 1
    assert shares == [1.0]
    frames = [f"out/b_frames/{index:04d}.png" for index in range(3)]
    assert listing(tmp_path) == sorted(
        ["a.png", "out", "out/b.mp4", "out/b.png", "out/b_frames", *frames, "out/b_sheet.png"]
    )
    info = probe_image(tmp_path / "out/b.png")
    assert (info.width, info.height, info.bit_depth) == (60, 40, 16)
    assert read_notes(tmp_path / "out/b.png") == {
        "model": "box",
        "prompt": "smooth",
        "device": "cpu",
        "tile": "none",
    }


def test_the_report_tells_what_auto_came_to(photo, tmp_path):
    settings = {"device": "auto", "dtype": "auto", "tile": "auto"}
    job = Job(photo, tmp_path / "b.avif")
    planned = JobReport(job, "planned").as_dict(settings)["settings"]
    assert planned == {**settings, "output_format": "avif"}
    told = run_job(job, BoxFilter(), Plan()).as_dict(settings)["settings"]
    assert told == {"device": "cpu", "dtype": "auto", "tile": 0, "output_format": "avif"}
    tiled = BoxFilter()
    tiled.tile = "512"
    told = run_job(job, tiled, Plan(), filing=Filing(existing="overwrite")).as_dict(settings)["settings"]
    assert told["tile"] == 512


def test_the_frames_are_the_film_from_input_to_result(photo, tmp_path):
    run_job(whole_job(photo), BoxFilter(), Plan(frames=3))
    first, middle, last = (read_image(tmp_path / f"out/b_frames/000{index}.png").frames for index in range(3))
    assert torch.equal(first, read_image(photo).frames)
    assert torch.equal(last, read_image(tmp_path / "out/b.png").frames)
    assert torch.allclose(middle, (first + last) / 2, atol=1.1 / 65535)


def test_a_failure_is_in_the_report_and_nothing_on_the_disk(photo, tmp_path):
    job = whole_job(photo)
    report = run_job(job, Failing(UsageError("no such device")), Plan())
    assert (report.status, report.error_code, report.error_message) == ("failed", 2, "no such device")
    report = run_job(job, Failing(RuntimeError("boom")), Plan())
    assert report.error_code == 1
    assert report.error_message == f"{photo} failed unexpectedly: RuntimeError: boom"
    assert report.as_dict({})["error"] == {"code": 1, "message": report.error_message}
    assert listing(tmp_path) == ["a.png"]


def test_too_little_memory_is_told_as_such(photo):
    class Greedy(BoxFilter):
        def restore(self, clip, prompt=None, plan=None, progress=None):
            return torch.empty(10**14)

    blas = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    for restorer in (Greedy(), Failing(MemoryError()), Failing(blas)):
        report = run_job(whole_job(photo), restorer, Plan())
        assert report.error_message.startswith(f"{photo} needs more memory than there is")


def test_what_cannot_be_finished_is_taken_back(photo, tmp_path):
    class Infinite(BoxFilter):
        """Its result can be filmed in 8 bits but not written."""

        def restore(self, clip, prompt=None, plan=None, progress=None):
            whole = super().restore(clip, prompt, plan, progress)
            last = whole.result.with_frames(whole.result.frames / 0)
            return replace(whole, trajectory=Trajectory((0.0, 0.5, 1.0), (clip, clip, last)))

    job = replace(whole_job(photo), film=None, sheet=None)
    report = run_job(job, Infinite(), Plan(frames=3))
    assert report.status == "failed"
    assert listing(tmp_path) == ["a.png"]


def test_an_interruption_while_writing_leaves_nothing(photo, tmp_path):
    class Stopped(BoxFilter):
        def restore(self, clip, prompt=None, plan=None, progress=None):
            way = super().restore(clip, prompt, plan, progress).trajectory
            return Restoration(StoppedFilm(way.taus, way.clips))

    for left_out in ({}, {"film": None}, {"film": None, "sheet": None}):
        with pytest.raises(KeyboardInterrupt):
            run_job(replace(whole_job(photo), **left_out), Stopped(), Plan())
        assert listing(tmp_path) == ["a.png"]


def test_what_exists_is_refused_skipped_or_replaced(photo, tmp_path):
    job = whole_job(photo)
    assert run_job(job, BoxFilter(), Plan(frames=4)).status == "done"
    before = job.output.read_bytes()
    assert run_job(job, Failing(RuntimeError()), Plan()).error_code == 4
    assert run_job(job, Failing(RuntimeError()), Plan(), filing=Filing(existing="skip")).status == "skipped"
    assert (
        run_job(job, Failing(RuntimeError()), Plan(), filing=Filing(existing="overwrite")).status == "failed"
    )
    assert job.output.read_bytes() == before
    assert len(listing(tmp_path / "out/b_frames")) == 4
    (tmp_path / "out/b_frames/mine.txt").write_text("stays")
    again = run_job(job, BoxFilter(), Plan(frames=2, scale=2), filing=Filing(existing="overwrite"))
    assert again.status == "done"
    assert listing(tmp_path / "out/b_frames") == ["0000.png", "0001.png", "mine.txt"]
    assert probe_image(job.output).width == 60


def test_only_complete_jobs_are_skipped(photo, tmp_path):
    job, skip = whole_job(photo), Filing(existing="skip")
    for left in (job.output, job.film):
        assert run_job(job, BoxFilter(), Plan(frames=2), filing=skip).status == "done"
        assert run_job(job, Failing(RuntimeError()), Plan(frames=2), filing=skip).status == "skipped"
        for target in job.targets():
            if target != left and target.is_file():
                target.unlink()
    assert run_job(job, BoxFilter(), Plan(frames=2), filing=skip).status == "done"
    assert all(target.exists() for target in job.targets())


def test_what_is_in_the_way_is_known_before_any_work(photo, tmp_path):
    over = Filing(existing="overwrite")
    (tmp_path / "b.png").mkdir()
    with pytest.raises(OutputError, match=r"b\.png exists and is not a file"):
        check_job(Job(photo, tmp_path / "b.png"), filing=over)
    (tmp_path / "null.png").symlink_to(os.devnull)
    with pytest.raises(OutputError, match=r"null\.png exists and is not a file"):
        check_job(Job(photo, tmp_path / "null.png"), filing=over)
    (tmp_path / "frames").write_text("x")
    with pytest.raises(OutputError, match="frames exists and is not a folder"):
        check_job(Job(photo, tmp_path / "c.png", frames_folder=tmp_path / "frames"), filing=over)


def test_stripped_files_say_nothing(photo, tmp_path):
    run_job(whole_job(photo), BoxFilter(), Plan(frames=2), filing=Filing(strip_metadata=True))
    for name in ("b.png", "b.mp4", "b_sheet.png", "b_frames/0000.png"):
        assert read_notes(tmp_path / "out" / name) == {}


def test_transparency_comes_back_or_is_refused_before_any_work(tmp_path):
    alpha = torch.ones(1, 1, 20, 30)
    alpha[..., :10] = 0
    clip = Clip(torch.rand((1, 3, 20, 30), generator=generator(2, "alpha")), alpha=alpha)
    write_image(clip, tmp_path / "a.png")
    report = run_job(Job(tmp_path / "a.png", tmp_path / "b.png"), BoxFilter(), Plan())
    assert report.status == "done"
    result = read_image(tmp_path / "b.png")
    assert result.alpha is not None and torch.equal(result.alpha, alpha)
    report = run_job(Job(tmp_path / "a.png", tmp_path / "b.jpg"), Failing(RuntimeError()), Plan())
    assert report.error_code == 4 and "can't hold transparency as JPEG" in report.error_message
    seen, opaque = Job(tmp_path / "a.png", tmp_path / "b.jpg"), Job(tmp_path / "c.png", tmp_path / "d.jpg")
    with pytest.raises(OutputError, match="can't hold transparency as JPEG"):
        check_transparency(seen, check_job(seen), Filing())
    write_image(replace(clip, alpha=torch.ones(1, 1, 20, 30)), opaque.input)
    assert check_job(opaque).has_alpha
    check_transparency(opaque, check_job(opaque), Filing())
    assert run_job(opaque, BoxFilter(), Plan()).status == "done"


def test_limits_are_known_from_the_header(tmp_path):
    write_image(Clip.of(torch.zeros(3, 8, 17_000)), tmp_path / "wide.png")
    job = Job(tmp_path / "wide.png", tmp_path / "b.webp")
    assert "ends at 16383 pixels a side" in run_job(job, BoxFilter(), Plan()).error_message
    job = Job(tmp_path / "wide.png", tmp_path / "b.jpg")
    assert check_job(job).width == 17_000
    assert run_job(job, BoxFilter(), Plan(scale=4)).error_code == 4
    assert run_job(job, BoxFilter(), Plan(), filing=Filing(bit_depth=16)).error_code == 2
    assert run_job(job, BoxFilter(), Plan(), filing=Filing(max_megapixels=0.1)).error_code == 3


def test_frames_of_an_existing_folder_are_refused(photo, tmp_path):
    (tmp_path / "frames").mkdir()
    clip = read_image(photo)
    with pytest.raises(Exception, match="exists already"):
        write_frames([clip], tmp_path / "frames")
    with pytest.raises(Exception, match="can't be written"):
        write_frames([clip], photo / "frames")
    assert listing(tmp_path) == ["a.png", "frames"]


def test_peak_memory_is_that_of_the_process():
    pages = (
        "import torch; x = torch.ones(50_000_000)\n"
        "from unfade.restore.job import peak_memory_mb; print(peak_memory_mb())"
    )
    if peak_memory_mb() is None:
        assert os.name == "nt"
        return
    parent = torch.ones(250_000_000)
    ended = subprocess.run([sys.executable, "-c", pages], capture_output=True, text=True, check=True)
    assert 200 < float(ended.stdout) < parent.nbytes / 1e6
