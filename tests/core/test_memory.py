"""Large freed blocks stay with the process where the C library can be asked to keep them."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy
from unfade.core.memory import reuse_large_blocks
if sys.argv[1] == "keep":
    assert reuse_large_blocks()
def touch():
    numpy.ones(48 << 20, numpy.uint8)
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt is asked for on Linux only")
def test_a_second_large_block_takes_no_fresh_pages() -> None:
    def faults(mode: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _FAULTS, mode], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    # Ten blocks of 48 MiB, a fault for each page or, with large pages, for each 2 MiB.
    assert faults("keep") * 10 < faults("hand back")
