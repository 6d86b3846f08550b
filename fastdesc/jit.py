"""How fastdesc compiles its Numba kernels, and where it keeps the result.

Numba's cache looks at one file only: a cached kernel does not notice that a function it calls has changed in
another. So the cache folder is named by a hash of all our sources, and a new version starts a new folder.
"""

import hashlib
import os
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numba

_OPTIONS = {"error_model": "numpy", "nogil": True}


@cache
def cache_folder():
    """Folder of compiled kernels for exactly these sources and this Numba."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    base = os.environ.get("FASTDESC_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastdesc" / f"numba-{digest.hexdigest()[:16]}"


@contextmanager
def _numba_caches_in(folder):
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


def kernel(function):
    """Compile a kernel: called from Python, releases the GIL, cached on disk where a disk lets us."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with _numba_caches_in(cache_folder()):
            return numba.njit(cache=True, **_OPTIONS)(function)
    except (OSError, RuntimeError):  # read-only home: compile anew in each process
        return numba.njit(**_OPTIONS)(function)


def inner(function):
    """Compile a function that only kernels call."""
    return numba.njit(**_OPTIONS)(function)
