"""Large freed blocks stay with the process where the C library can be asked to keep them."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource
import numpy
from unfade.core.memory import reuse_large_blocks
def touch():
    numpy.ones(48 << 20, numpy.uint8)
def faults():
    touch()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        touch()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
handed_back = faults()
assert reuse_large_blocks()
print(handed_back, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt is asked for on Linux only")
def test_a_second_large_block_takes_no_fresh_pages() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    # Ten blocks of 48 MiB, a fault for each page or, with large pages, for each 2 MiB.
    handed_back, kept = map(int, done.stdout.split())
    assert kept * 10 < handed_back
