"""Which file a run's work is of."""

import os
from pathlib import Path

import pytest

from unfade.restore import chunks
from unfade.restore.chunks import fingerprint


def test_an_edit_anywhere_is_another_file(tmp_path: Path) -> None:
    """Of the same size, with the same beginning, the same end and the same time of writing."""
    data = bytearray(5 << 20)
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    first.write_bytes(data)
    found = {fingerprint(first)}
    for place in (0, (5 << 20) // 2, (5 << 20) - 1):
        changed = data.copy()
        changed[place] = 1
        second.write_bytes(changed)
        os.utime(second, ns=(first.stat().st_atime_ns, first.stat().st_mtime_ns))
        found.add(fingerprint(second))
    assert len(found) == 4
    second.write_bytes(data)
    os.utime(second, (1, 1))
    assert fingerprint(second) in found
    first.write_bytes(b"")
    assert fingerprint(first) not in found


def test_of_a_large_file_it_reads_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_BLOCK", 10)
    monkeypatch.setattr(chunks, "_BLOCKS", 5)
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(203))
    first = fingerprint(path)
    # 21 blocks, of which the first, the last and three at even distances are read.
    seen = set()
    for place in range(203):
        data = bytearray(203)
        data[place] = 1
        path.write_bytes(data)
        if fingerprint(path) != first:
            seen.add(place // 10)
    assert seen == {0, 5, 10, 15, 20}
