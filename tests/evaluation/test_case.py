"""Finding a benchmark's files: every fault is named, nothing is passed over."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unfade.core import Clip, InputError
from unfade.evaluation.benchmarks.benchmark import Benchmark, Group, Layout
from unfade.evaluation.benchmarks.case import find_cases
from unfade.evaluation.benchmarks.table import BENCHMARKS, only, synthesized
from unfade.media.image_writer import write_image

PAIRS = Benchmark(
    name="pairs",
    title="Pairs",
    holds="photo pairs",
    groups=(Group(name="A", folder="01A", count=3), Group(name="B", folder="02B")),
    layouts=(
        Layout(degraded="{group}/LQ", truth="{group}/GT"),
        Layout(degraded="LQ/{group}", truth="GT/{group}"),
    ),
)


def write(path: Path, height: int = 20, width: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    dice = torch.Generator().manual_seed(len(path.name))
    write_image(Clip.of(torch.rand(3, height, width, generator=dice)), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("0001", "0002", "0003"):
        write(tmp_path / "01A/LQ" / f"{name}.png")
        write(tmp_path / "01A/GT" / f"{name}.jpg")
    write(tmp_path / "02B/LQ/x.png")
    write(tmp_path / "02B/GT/x.png")
    return tmp_path


def test_pairs_go_by_stem_whatever_the_extension(folder: Path) -> None:
    cases = find_cases(PAIRS, folder)
    assert [(case.group.name, case.name) for case in cases] == [
        ("A", "0001"),
        ("A", "0002"),
        ("A", "0003"),
        ("B", "x"),
    ]
    assert cases[0].degraded == folder / "01A/LQ/0001.png"
    assert cases[0].truth == folder / "01A/GT/0001.jpg"


def test_the_other_layout_is_taken_where_its_folders_exist(folder: Path) -> None:
    for group in ("01A", "02B"):
        for side in ("LQ", "GT"):
            (folder / side).mkdir(exist_ok=True)
            (folder / group / side).rename(folder / side / group)
    assert len(find_cases(PAIRS, folder)) == 4


def test_a_limit_holds_for_each_group(folder: Path) -> None:
    assert [case.name for case in find_cases(PAIRS, folder, limit=2)] == ["0001", "0002", "x"]


def test_every_missing_partner_and_wrong_count_is_named(folder: Path) -> None:
    (folder / "01A/GT/0002.jpg").unlink()
    (folder / "02B/LQ/x.png").unlink()
    with pytest.raises(InputError) as caught:
        find_cases(PAIRS, folder)
    assert "01A/LQ/0002.png has no truth" in str(caught.value)
    assert "02B/GT/x.png has no degraded partner" in str(caught.value)


def test_a_wrong_count_is_an_error(folder: Path) -> None:
    (folder / "01A/LQ/0003.png").unlink()
    (folder / "01A/GT/0003.jpg").unlink()
    with pytest.raises(InputError, match="group A has 2 where Pairs has 3"):
        find_cases(PAIRS, folder)


def test_a_truncated_image_a_missing_pair_and_a_size_mismatch_are_all_named(folder: Path) -> None:
    whole = (folder / "01A/LQ/0001.png").read_bytes()
    (folder / "01A/LQ/0001.png").write_bytes(whole[: len(whole) // 2])
    write(folder / "01A/GT/0002.jpg", 20, 30)
    (folder / "01A/GT/0003.jpg").unlink()
    with pytest.raises(InputError) as caught:
        find_cases(PAIRS, folder)
    message = str(caught.value)
    assert "01A/LQ/0001.png" in message
    assert "0002.jpg is 30 x 20, but" in message
    assert "0003.png has no truth" in message
    assert "nothing was measured" in message


def test_two_files_of_one_stem_are_an_error(folder: Path) -> None:
    write(folder / "02B/LQ/x.jpg")
    with pytest.raises(InputError, match="would be the same case"):
        find_cases(PAIRS, folder)


def test_names_are_caught_by_patterns_in_a_common_folder(tmp_path: Path) -> None:
    flat = BENCHMARKS["nh-haze"]
    for name in ("01_hazy", "01_GT", "02_hazy", "02_GT"):
        write(tmp_path / f"{name}.png")
    (tmp_path / "readme.txt").write_text("not a picture")
    assert [case.name for case in find_cases(flat, tmp_path)] == ["01", "02"]
    write(tmp_path / "03-GT.png")
    with pytest.raises(InputError, match=r"03-GT.png is not named as NH-Haze's files are"):
        find_cases(flat, tmp_path)


def test_pictures_of_a_format_that_cannot_be_read_are_named_not_skipped(folder: Path) -> None:
    (folder / "02B/LQ/y.bmp").write_bytes(b"BM" + bytes(60))
    (folder / "02B/GT/y.bmp").write_bytes(b"BM" + bytes(60))
    with pytest.raises(InputError, match=r"y.bmp"):
        find_cases(PAIRS, folder)


def test_clips_may_differ_in_size_where_results_are_resized_but_not_in_length(tmp_path: Path) -> None:
    benchmark = replace(BENCHMARKS["udm10"], groups=(Group(name="UDM10"),))
    for index in range(3):
        write(tmp_path / f"LQ/c0/{index}.png", 16, 16)
        write(tmp_path / f"GT/c0/{index}.png", 64, 64)
    assert [case.name for case in find_cases(benchmark, tmp_path)] == ["c0"]
    write(tmp_path / "GT/c0/3.png", 64, 64)
    with pytest.raises(InputError, match=r"GT/c0 is 64 x 64 with 4 frames, but .*LQ/c0 is 16 x 16 with 3"):
        find_cases(benchmark, tmp_path)


def test_two_videos_must_show_their_frames_at_the_same_times(tmp_path: Path) -> None:
    from fractions import Fraction

    from unfade.media.film import write_film

    benchmark = replace(BENCHMARKS["udm10"], groups=(Group(name="UDM10"),))
    frames = [torch.full((3, 32, 32), 0.1 * index) for index in range(4)]
    for side, fps in (("LQ", 25), ("GT", 25)):
        (tmp_path / side).mkdir()
        write_film(frames, tmp_path / side / "c0.mp4", Fraction(fps))
    assert len(find_cases(benchmark, tmp_path)) == 1
    write_film(frames, tmp_path / "GT/c0.mp4", Fraction(24), overwrite=True)
    with pytest.raises(InputError, match="don't run alike: frame 1 is shown at"):
        find_cases(benchmark, tmp_path)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_what_a_benchmark_needs_is_said_where_it_is_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no|no folder"):
        find_cases(BENCHMARKS[name], tmp_path)
    with pytest.raises(InputError, match=r"is not a folder; .* needs"):
        find_cases(BENCHMARKS[name], tmp_path / "nowhere")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_synthetic_stand_in_is_made_of_any_photos(name: str, tmp_path: Path) -> None:
    write(tmp_path / "mine.png")
    stand_in = synthesized(BENCHMARKS[name])
    cases = find_cases(stand_in, tmp_path)
    assert stand_in.synthetic
    assert len(cases) == len(stand_in.groups)
    assert all(case.degraded is None and case.group.make for case in cases)


def test_foundir_is_twenty_groups_of_1500_pairs() -> None:
    counts = BENCHMARKS["foundir"].counts
    assert (len(counts), sum(counts.values())) == (20, 1500)


def test_an_unknown_group_is_told_with_those_that_are_known() -> None:
    with pytest.raises(Exception, match="no group 'x9'; there is x2, x3, x4"):
        only(BENCHMARKS["set5"], ["x9"])
    assert [group.name for group in only(BENCHMARKS["set5"], ["x4"]).groups] == ["x4"]


def test_orientation_is_applied_or_ignored_as_the_benchmark_says(
    folder: Path, turned_photo: Callable[[Path], None]
) -> None:
    turned_photo(folder / "02B/LQ/x.png")
    turned_photo(folder / "02B/GT/x.png")
    find_cases(replace(PAIRS, oriented=False), folder)
    write(folder / "02B/GT/x.png", 20, 24)
    find_cases(replace(PAIRS, oriented=False), folder)
    with pytest.raises(InputError, match="20 x 24"):
        find_cases(replace(PAIRS, oriented=True), folder)


@pytest.fixture
def turned_photo() -> Callable[[Path], None]:
    import pyvips

    def make(path: Path) -> None:
        image = pyvips.Image.black(24, 20, bands=3).copy(interpretation="srgb").copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", 6)
        image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Orientation", "6")
        image.write_to_file(str(path))

    return make
