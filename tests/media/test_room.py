"""The room costs nothing until it is used, and stays quiet."""

import subprocess
import sys
from pathlib import Path


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_importing_the_room_imports_no_library() -> None:
    answer = _run(
        "import sys, unfade.media; print([n for n in ('pyvips', 'av', 'torch') if n in sys.modules])"
    )
    assert answer.stdout.strip() == "[]"


def test_damaged_files_print_nothing_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(200))
    (tmp_path / "x.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(200))
    code = """
import sys
from unfade.core import InputError
from unfade.media.images import read_image
from unfade.media.video import read_video
for function, path in ((read_image, sys.argv[1]), (read_video, sys.argv[2])):
    try:
        function(path)
    except InputError as error:
        print(error)
"""
    answer = _run(code, str(tmp_path / "x.jpg"), str(tmp_path / "x.mp4"))
    assert answer.stderr == "" and len(answer.stdout.splitlines()) == 2
