"""The journal: what was put is there again, whatever happened to the file's end."""

from pathlib import Path

import pytest

from unfade.core import OutputError
from unfade.evaluation.journal import Fingerprints, Journal, Row, key_of, software

ROW = Row(
    group="g", name="n", model="m", width=4, height=3, input={"psnr": 20.0}, output={"psnr": float("inf")},
    film={"psnr": (20.0, 25.5)}, seconds=0.25,
)  # fmt: skip


def test_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    Journal(tmp_path / "deep/journal.jsonl").put("k", ROW)
    again = Journal(tmp_path / "deep/journal.jsonl")
    assert len(again) == 1
    assert again.get("k") == ROW
    assert again.get("other") is None


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_line_cut_short_is_passed_over_and_nothing_after_it_is_lost(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).put("first", ROW)
    Journal(path).put("second", ROW)
    path.write_bytes(path.read_bytes()[:-cut])
    torn = Journal(path)
    # Without its line break alone, the last line is still whole.
    assert (torn.get("second") is None) == (cut > 1)
    torn.put("third", ROW)
    assert Journal(path).get("first") == Journal(path).get("third") == ROW


def test_foreign_lines_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('not json\n{"format": 99, "key": "k"}\n[]\n')
    journal = Journal(path)
    assert len(journal) == 0
    journal.put("k", ROW)
    assert path.read_text().startswith("not json\n")
    assert Journal(path).get("k") == ROW


def test_an_unwritable_journal_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        Journal(tmp_path / "file/journal.jsonl").put("k", ROW)


def test_a_key_depends_on_every_part_and_not_on_their_order() -> None:
    assert key_of(a=1, b=[2]) == key_of(b=[2], a=1)
    assert len({key_of(a=1), key_of(a=2), key_of(b=1), key_of(a=[1])}) == 4


def test_a_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    prints = Fingerprints()
    first, second, third = (prints.of(tmp_path / name) for name in "abc")
    assert first == second != third


def test_the_software_is_told_by_its_source_and_its_libraries() -> None:
    import torch

    told = software()
    assert len(told["unfade"] or "") == 64
    assert told["torch"] == torch.__version__
    assert told["spandrel"] is None or told["spandrel"][0].isdigit()
