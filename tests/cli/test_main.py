"""What all verbs share: help at once, exit codes, faults, spelling of options."""

import re
import subprocess
import sys
import time

import pytest

from unfade import __version__
from unfade.cli.app import EXIT_CODES
from unfade.core import errors


def test_help_answers_at_once_without_loading_torch():
    asked = (
        "import sys; from unfade.cli import main\ntry: main(['--help'])\nfinally: print(sorted(sys.modules))"
    )
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        ended = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - begun)
        assert "restore" in ended.stdout and "degrade" in ended.stdout
        for heavy in ("torch", "numpy", "pyvips", "av", "unfade.core"):
            assert f"'{heavy}'" not in ended.stdout
    assert min(times) < 0.5


def test_help_documents_every_exit_code(unfade):
    text = " ".join(unfade("--help").out.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in text


def test_the_table_is_that_of_the_errors():
    rows = re.findall(r"^\| (\d+) \| (.*?) \|$", errors.__doc__ or "", re.MULTILINE)
    documented = {int(code): meaning for code, meaning in rows}
    assert set(EXIT_CODES) == set(documented)
    assert {code: EXIT_CODES[code] for code in range(7)} == {code: documented[code] for code in range(7)}


def test_version(unfade):
    ended = unfade("--version")
    assert (ended.code, ended.out) == (0, f"unfade {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [["conjure"], ["restore"], ["restore", "a.png", "--scale", "5"], ["degrade"]]
)
def test_a_senseless_command_line_exits_2(unfade, arguments):
    assert unfade(*arguments).code == 2


def test_underscores_in_options_are_understood(restore, make_photo, tmp_path, contents):
    photo = make_photo(tmp_path / "a.png")
    assert restore(photo, "--save_frames", "--frames", "2", "--max_megapixels", "1", "--dry_run").code == 0
    assert contents(tmp_path) == ["a.png"]


def test_a_fault_of_ours_is_one_line_and_a_traceback_only_on_demand(
    unfade, monkeypatch, tmp_path, make_photo
):
    make_photo(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "unfade.restore.load", None)
    ended = unfade("restore", "a.png")
    assert ended.code == 1
    assert ended.err.startswith("fault: ") and ended.err.count("\n") == 1
    for arguments in (["--debug", "restore", "a.png"], ["restore", "a.png", "--debug"]):
        ended = unfade(*arguments)
        assert ended.code == 1 and "Traceback" in ended.err
    monkeypatch.setenv("UNFADE_DEBUG", "1")
    assert "Traceback" in unfade("restore", "a.png").err
