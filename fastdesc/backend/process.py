"""Settings of the whole process, which programs of ours make as they begin: kernels of OpenBLAS, and freed memory."""

import ctypes
import os
import sys

_AVX512 = {"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}


def prefer_avx512(cpuinfo="/proc/cpuinfo"):
    """Ask OpenBLAS for its AVX-512 kernels where the processor has them; networks then run up to twice as fast.

    Works only before NumPy is loaded, so programs of ours call it first; it leaves a choice that is already made
    (OPENBLAS_CORETYPE) and other processors alone.

    Returns
    -------
    bool
        Whether the choice was made here.
    """
    if "numpy" in sys.modules or "OPENBLAS_CORETYPE" in os.environ:
        return False
    try:
        with open(cpuinfo, encoding="ascii", errors="replace") as file:
            flags = next((set(line.split()) for line in file if line.startswith("flags")), set())
    except OSError:
        return False
    if not flags >= _AVX512:
        return False
    os.environ["OPENBLAS_CORETYPE"] = "SkylakeX"
    return True


KEPT = 1 << 29
"""Bytes of freed memory that are not given back; what is in use at a time does not change."""
LARGEST = 1 << 25
"""Arrays up to this size, the largest glibc accepts, come from the heap; larger ones are fresh pages every time."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3    # of malloc.h


def keep_freed_memory():
    """Ask glibc not to give freed memory back after every batch, only to ask for it, page by page, in the next.

    Featurizing takes 5 % less time; predictions and training on frames work in memory of their own anyway
    (fastdesc/backend/workspace.py).

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
