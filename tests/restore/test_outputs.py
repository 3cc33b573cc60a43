"""Naming rules: what is written where."""

from pathlib import Path

import pytest

from unfade.core import InputError, OutputError, UsageError
from unfade.restore.outputs import Job, check_distinct, photos_in, plan_jobs


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Empty files: names are all that counts here."""
    monkeypatch.chdir(tmp_path)

    def grow(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_bytes(b"x")
        return tmp_path

    return grow


def outputs(*arguments, **options):
    return [str(job.output) for job in plan_jobs(*arguments, **options).jobs]


def test_a_file_gets_a_neighbour(tree):
    tree("in/a.jpg")
    assert outputs(["in/a.jpg"]) == ["in/a_unfaded.jpg"]


def test_every_extra_takes_the_stem_of_the_output(tree):
    tree("a.jpg")
    (job,) = plan_jobs(["a.jpg"], "out/b.png", film=True, sheet=True, frames=True).jobs
    extras = (Path("out/b.mp4"), Path("out/b_sheet.png"), Path("out/b_frames"))
    assert job == Job(Path("a.jpg"), Path("out/b.png"), *extras)
    assert job.targets() == [Path("out/b.png"), *extras]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("a.JPG", "a_unfaded.JPG"),
        ("a.b.tiff", "a.b_unfaded.tiff"),
        ("a.heic", "a_unfaded.avif"),
        ("a.jfif", "a_unfaded.jpg"),
        ("a.dat", "a_unfaded.png"),
        ("a", "a_unfaded.png"),
    ],
)
def test_the_extension_follows_the_input(name, result, tree):
    tree(name)
    assert outputs([name]) == [result]


def test_an_unknown_extension_follows_the_content(tree):
    tree("a.dat")
    Path("a.dat").write_bytes(b"\xff\xd8\xff\xe0")
    assert outputs(["a.dat"]) == ["a_unfaded.jpg"]


@pytest.mark.parametrize(
    ("format", "result"),
    [
        ("png", "a_unfaded.png"),
        ("jpeg", "a_unfaded.jpeg"),
        ("jpg", "a_unfaded.jpeg"),
        ("AVIF", "a_unfaded.avif"),
    ],
)
def test_an_output_format_changes_the_extension_only_where_it_must(format, result, tree):
    tree("a.jpeg")
    assert outputs(["a.jpeg"], format=format) == [result]


def test_what_output_means(tree):
    tree("a.jpg", "b.jpg", "dir.png/c.jpg")
    assert outputs(["a.jpg"], "new.png") == ["new.png"]
    assert outputs(["a.jpg"], "new") == ["new/a.jpg"]
    assert outputs(["a.jpg"], "new.png/") == ["new.png/a.jpg"]
    assert outputs(["a.jpg"], "dir.png") == ["dir.png/a.jpg"]
    assert outputs(["a.jpg", "b.jpg"], "new.png/") == ["new.png/a.jpg", "new.png/b.jpg"]
    assert outputs(["a.jpg", "b.jpg"], "dir.png") == ["dir.png/a.jpg", "dir.png/b.jpg"]
    assert outputs(["a.jpg", "b.jpg"], "v1.5") == ["v1.5/a.jpg", "v1.5/b.jpg"]
    assert outputs(["dir.png"], "new.png/") == ["new.png/c.jpg"]


def test_one_file_is_not_for_several_photos(tree):
    tree("a.jpg", "b.png", "in/c.jpg")
    for inputs, told in (
        (["a.jpg", "b.png"], "several photos"),
        (["in"], "a folder"),
        (["a.jpg", "in"], "several"),
    ):
        for output in ("multi.png", "multi.heic"):
            with pytest.raises(
                UsageError, match=f"{output} names one file, but {told}.*; name an output folder"
            ):
                plan_jobs(inputs, output)
    assert outputs(["a.jpg", "./a.jpg", Path("a.jpg").resolve()], "multi.png") == ["multi.png"]


def test_what_can_never_hold_a_result(tree):
    tree("a.jpg", "file", "in/b.jpg")
    with pytest.raises(OutputError, match=r"/dev/null is a device or a pipe.*--dry-run"):
        plan_jobs(["a.jpg"], "/dev/null")
    for inputs in (["a.jpg"], ["in"]):
        with pytest.raises(OutputError, match="file is a file, not a folder; choose another output"):
            plan_jobs(inputs, "file")


@pytest.mark.parametrize(
    ("output", "format"), [("a.heic", None), ("a.bmp", None), ("a.png", "jpeg"), ("out", "bmp")]
)
def test_outputs_that_cannot_be_written(output, format, tree):
    tree("in.jpg")
    with pytest.raises(UsageError):
        plan_jobs(["in.jpg"], output, format=format)


def test_a_folder_keeps_names_and_tree(tree):
    tree("in/b.png", "in/a.jpg", "in/.c.jpg", "in/notes.txt", "in/film.mp4", "in/sub/d.webp", "in/.git/e.png")
    flat = plan_jobs(["in"])
    assert [str(job.output) for job in flat.jobs] == [
        "in_unfaded/a.jpg",
        "in_unfaded/b.png",
        "in_unfaded/film.mp4",
    ]
    assert [job.footage for job in flat.jobs] == [False, False, True]
    assert flat.ignored == 2
    assert outputs(["in"], recursive=True)[-1] == "in_unfaded/sub/d.webp"
    assert outputs(["in/"], "out", recursive=True)[-1] == "out/sub/d.webp"
    assert outputs(["in"], format="png")[0] == "in_unfaded/a.png"


def test_the_current_folder_has_a_neighbour_too(tree, monkeypatch):
    folder = tree("in/a.jpg") / "in"
    monkeypatch.chdir(folder)
    assert outputs(["."]) == [str(folder.parent / "in_unfaded/a.jpg")]
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert outputs([".."]) == [str(folder.parent / "in_unfaded/a.jpg")]


def test_the_output_folder_is_not_an_input(tree):
    tree("in/a.jpg", "in/out/a.jpg")
    assert outputs(["in"], "in/out", recursive=True) == ["in/out/a.jpg"]


def test_a_folder_without_images(tree):
    tree("in/notes.txt", "in/sub/a.jpg")
    with pytest.raises(InputError, match="holds no images; add --recursive"):
        plan_jobs(["in"])
    assert photos_in(Path("in"), recursive=True) == ([Path("in/sub/a.jpg")], 1)
    tree("flat/notes.txt", "flat/.git/a.png")
    with pytest.raises(InputError, match=r"flat holds no images$"):
        plan_jobs(["flat"])


def test_a_folders_own_results_are_no_photos(tree):
    tree(
        "in/a.jpg", "in/a_unfaded.jpg", "in/a_unfaded_sheet.png", "in/a_unfaded.mp4", "in/my_sheet.png",
        "in/a_unfaded_frames/0000.png", "in/sub/b.jpg", "in/sub_unfaded/b.jpg",
    )  # fmt: skip
    photos = [Path("in/a.jpg"), Path("in/my_sheet.png"), Path("in/sub/b.jpg")]
    assert photos_in(Path("in"), recursive=True) == (photos, 3)
    assert plan_jobs(["in"]).ignored == 3
    assert outputs(["in/a_unfaded.jpg"]) == ["in/a_unfaded_unfaded.jpg"]
    assert outputs(["in/sub_unfaded"]) == ["in/sub_unfaded_unfaded/b.jpg"]
    tree("old/a_unfaded.jpg")
    with pytest.raises(InputError, match="holds no images but results of earlier runs"):
        plan_jobs(["old"])


def test_a_missing_file_is_still_a_job(tree):
    tree()
    assert outputs(["nowhere.jpg"]) == ["nowhere_unfaded.jpg"]
    assert outputs(["nowhere.mov"]) == ["nowhere_unfaded.mov"]


@pytest.mark.parametrize(
    ("name", "format", "result"),
    [
        ("a.mp4", None, "a_unfaded.mp4"),
        ("a.MOV", None, "a_unfaded.MOV"),
        ("a.m4v", "mp4", "a_unfaded.m4v"),
        ("a.mkv", None, "a_unfaded.mkv"),
        ("a.mkv", "MP4", "a_unfaded.mp4"),
        ("a.avi", None, "a_unfaded.mp4"),
        ("a.webm", "mkv", "a_unfaded.mkv"),
    ],
)
def test_footage_keeps_its_container_where_it_can_be_written(name, format, result, tree):
    tree(name)
    assert outputs([name], format=format) == [result]


def test_the_extras_of_footage_do_not_clash_with_it(tree):
    tree("a.mp4")
    (job,) = plan_jobs(["a.mp4"], film=True, sheet=True, frames=True).jobs
    extras = (Path("a_unfaded_film.mp4"), Path("a_unfaded_sheet.png"), Path("a_unfaded_frames"))
    assert job == Job(Path("a.mp4"), Path("a_unfaded.mp4"), *extras, footage=True)


def test_what_output_means_for_footage(tree):
    tree("a.avi", "b.jpg", "in/c.mkv")
    assert outputs(["a.avi"], "new.mkv") == ["new.mkv"]
    assert outputs(["a.avi"], "new") == ["new/a.mp4"]
    assert outputs(["a.avi", "b.jpg", "in"], "new") == ["new/a.mp4", "new/b.jpg", "new/c.mkv"]
    for output in ("new.png", "new.webm", "new.heic"):
        with pytest.raises(UsageError, match=r"no known video extension; choose one of \.mp4"):
            plan_jobs(["a.avi"], output)
    with pytest.raises(UsageError, match="no known image extension"):
        plan_jobs(["b.jpg"], "new.mp4")
    for inputs in (["a.avi", "b.jpg"], ["in"]):
        with pytest.raises(UsageError, match=r"new\.mp4 names one file"):
            plan_jobs(inputs, "new.mp4")
    with pytest.raises(UsageError, match="contradict each other"):
        plan_jobs(["a.avi"], "new.mkv", format="mp4")


def test_a_format_is_for_its_own_kind(tree):
    tree("in/a.jpg", "in/b.mp4")
    assert outputs(["in"], format="png") == ["in_unfaded/a.png", "in_unfaded/b.mp4"]
    assert outputs(["in"], format="mkv") == ["in_unfaded/a.jpg", "in_unfaded/b.mkv"]
    with pytest.raises(UsageError, match="png is a format of images, but what is to be restored are clips"):
        plan_jobs(["in/b.mp4"], format="png")
    with pytest.raises(UsageError, match="mkv is a format of footage, but what is to be restored are photos"):
        plan_jobs(["in/a.jpg"], format="mkv")


def test_an_image_named_as_footage_is_an_image(tree):
    tree("a.mp4")
    Path("a.mp4").write_bytes(b"\xff\xd8\xff\xe0")
    (job,) = plan_jobs(["a.mp4"]).jobs
    assert not job.footage and str(job.output) == "a_unfaded.jpg"


def test_clips_are_looked_for_only_where_they_are_wanted(tree):
    tree("in/a.jpg", "in/b.mp4", "in/b_unfaded.mp4", "in/b_unfaded_film.mp4")
    assert photos_in(Path("in"), recursive=False) == ([Path("in/a.jpg")], 3)
    found = photos_in(Path("in"), recursive=False, clips=True)
    assert found == ([Path("in/a.jpg"), Path("in/b.mp4")], 2)


def test_no_inputs():
    with pytest.raises(UsageError):
        plan_jobs([])


def test_a_photo_named_twice_is_one_job(tree):
    tree("a.jpg")
    assert outputs(["a.jpg", "./a.jpg"], "out") == ["out/a.jpg"]


def test_no_input_is_ever_a_target(tree):
    folder = tree("in/a.jpg", "in/a_unfaded.jpg")
    for arguments in ((["in/a.jpg"], "in/a.jpg"), (["in/a.jpg"], "in/"), (["in"], "in")):
        with pytest.raises(UsageError, match="would replace the input"):
            plan_jobs(*arguments)
    with pytest.raises(UsageError, match="would replace the input"):
        plan_jobs(["in/a.jpg", "in/a_unfaded.jpg"])
    Path("link").symlink_to(folder / "in")
    with pytest.raises(UsageError, match="would replace the input"):
        plan_jobs(["in/a.jpg"], "link/a.jpg")


def test_no_target_is_written_twice(tree):
    tree("one/a.jpg", "two/a.jpg", "one/a.png")
    with pytest.raises(UsageError, match=r"one/a\.jpg and two/a\.jpg would both be written to out/a\.jpg"):
        plan_jobs(["one/a.jpg", "two/a.jpg"], "out")
    with pytest.raises(UsageError, match=r"would both be written to out/a\.png"):
        plan_jobs(["one"], "out", format="png")
    assert len(plan_jobs(["one"], "out").jobs) == 2
    with pytest.raises(UsageError, match=r"would both be written to out/a\.mp4"):
        plan_jobs(["one"], "out", film=True)


def test_no_target_lies_in_another_or_around_an_input(tree):
    tree("in/a.png", "in/a_frames/b.png", "out/x/b.png")
    assert len(plan_jobs(["in"], "out", recursive=True).jobs) == 2
    with pytest.raises(UsageError, match=r"out/a_frames would be written for in/a\.png, but .* lies in it"):
        plan_jobs(["in"], "out", recursive=True, frames=True)
    with pytest.raises(UsageError, match=r"lies in it"):
        check_distinct([(Path("out/x/b.png"), [Path("out/x")])])
