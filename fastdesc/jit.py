"""How fastdesc compiles its Numba kernels, and where it keeps the result.

Numba's cache looks at one file only: a cached kernel does not notice that a function it calls has changed in
another. So the cache folder of a kernel is named by a hash of its module and of all modules of ours that this one
imports, and a change to any of them starts a new folder.
"""

import hashlib
import os
import re
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numba

_OPTIONS = {"error_model": "numpy", "nogil": True}
_PACKAGE = Path(__file__).parent
_IMPORT = re.compile(r"^\s*(?:from|import) fastdesc\.([\w.]+)", re.MULTILINE)


@cache
def _imported(source):
    """Our modules that a module imports, as paths."""
    names = _IMPORT.findall(source.read_text(encoding="utf-8"))
    paths = (_PACKAGE.joinpath(*name.split(".")).with_suffix(".py") for name in names)
    return [path for path in paths if path.exists()]


def _sources(source, seen):
    """A module and, through its imports, all of ours that it depends on."""
    if source not in seen:
        seen.add(source)
        for path in _imported(source):
            _sources(path, seen)
    return seen


def cache_folder(source):
    """Folder of compiled kernels of the module at `source`."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_sources(Path(source).resolve(), set())):
        digest.update(path.read_bytes())
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
        folder = cache_folder(function.__code__.co_filename)
        folder.mkdir(parents=True, exist_ok=True)
        with _numba_caches_in(folder):
            return numba.njit(cache=True, **_OPTIONS)(function)
    except (OSError, RuntimeError):  # read-only home: compile anew in each process
        return numba.njit(**_OPTIONS)(function)


def inner(function):
    """Compile a function that only kernels call."""
    return numba.njit(**_OPTIONS)(function)
