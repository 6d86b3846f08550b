"""Freed memory stays with the process: arrays of every batch come and go, and fresh pages cost time."""

import ctypes
import os
import sys

KEPT = 1 << 29
"""Bytes of freed memory that are not given back; what is in use at a time does not change."""
LARGEST = 1 << 25
"""Arrays up to this size, the largest glibc accepts, come from the heap; larger ones are fresh pages every time."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3    # of malloc.h


def keep_freed_memory():
    """Ask glibc not to give freed memory back after every batch, only to ask for it, page by page, in the next.

    A setting of the whole process, so programs of ours make it, not the library; it leaves a choice that is already
    made (MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_, GLIBC_TUNABLES) and other systems alone.

    Returns
    -------
    bool
        Whether the choice was made here.
    """
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
    if not sys.platform.startswith("linux") or any(name in os.environ for name in names):
        return False
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_MMAP_THRESHOLD, LARGEST) and libc.mallopt(_TRIM_THRESHOLD, KEPT))
    except (OSError, AttributeError):
        return False
