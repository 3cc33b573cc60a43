"""Stages' seconds: pieces add up, killed ones and the work of other processes included."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unfade.recipes.stages import spent, timed

# Works a second in a process of its own, and in another that it never waits for; then it is killed.
KILLED = """
import os, signal, subprocess, sys, time
from pathlib import Path
from unfade.recipes.stages import timed

BUSY = "import time\\nwhile time.process_time() < 1.5: pass\\ntime.sleep(60)"

def work():
    child = subprocess.Popen([sys.executable, "-c", BUSY])
    while time.process_time() < begun + 1: pass
    time.sleep(2.5)
    child.kill()
    os.kill(os.getpid(), signal.SIGKILL)

begun = time.process_time()
timed(Path(sys.argv[1]), "vae", work, every=0.2)
"""


def test_pieces_add_up_and_killed_ones_count(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    first = spent(tmp_path)["vae"]
    assert first.seconds > 2 and first.core_seconds is not None and first.core_seconds > 1.2
    assert len(first.commits) == 1 and first.commits[0]
    with (tmp_path / "seconds.jsonl").open("a") as file:
        file.write('{"stage": "va')
    with pytest.raises(KeyboardInterrupt):
        timed(tmp_path, "vae", interrupted)
    timed(tmp_path, "base", lambda: None)
    both = spent(tmp_path)
    assert list(both) == ["vae", "base"]
    assert both["vae"].seconds == pytest.approx(first.seconds + 0.6, abs=0.5)
    assert (both["vae"].core_seconds or 0) >= first.core_seconds
    # Done before and done at once: not noted again.
    lines = (tmp_path / "seconds.jsonl").read_text()
    timed(tmp_path, "base", lambda: None)
    assert (tmp_path / "seconds.jsonl").read_text() == lines
    assert all(json.loads(line)["commit"] for line in lines.splitlines() if line.endswith("}"))


def interrupted() -> None:
    time.sleep(0.6)
    raise KeyboardInterrupt
