"""How the process asks the system for memory."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 1 << 30


def reuse_large_blocks() -> bool:
    """Lets the C library keep large blocks that are freed, for the next tile, instead of handing them back each time.

    Fresh pages cost as much as the arithmetic done on them. This concerns the whole process, so programs call it (the
    command does, at its start), the library never does. Returns whether it took effect: with glibc on Linux only.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, _KEEP) == 1 for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD))
