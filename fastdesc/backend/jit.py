"""How fastdesc compiles its Numba kernels, and where it keeps the result.

Numba's cache looks at one file only: a cached kernel does not notice that a function it calls has changed in
another. So the cache folder of a kernel is named by a hash of its module and of all modules of ours that this one
imports, and a change to any of them starts a new folder. All are in a folder that no other user can write to.
"""

import hashlib
import re
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import IndexDataCacheFile

import fastdesc
from fastdesc.backend import compilation  # noqa: F401 - says what happens while it does
from fastdesc.backend.inlined import inlined
from fastdesc.backend.private_folder import cache_base

_OPTIONS = {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
_PACKAGE = Path(fastdesc.__path__[0])
_IMPORT = re.compile(r"^\s*import (fastdesc[\w.]*)", re.MULTILINE)
_IMPORT_FROM = re.compile(r"^\s*from (fastdesc[\w.]*) import (\([^)]*\)|[^\n(]*)", re.MULTILINE)


def _module(name):
    """Path of the module or package `name`, such as "fastdesc.simd.tuples"; None when there is none."""
    below = _PACKAGE.joinpath(*name.split(".")[1:])
    return next((path for path in (below.with_suffix(".py"), below / "__init__.py") if path.exists()), None)


@cache
def _imported(source):
    """Our modules that a module imports, as paths: named submodules of a package, or its __init__.py."""
    text = re.sub(r"#.*", "", source.read_text(encoding="utf-8"))
    modules = set(_IMPORT.findall(text))
    for package, items in _IMPORT_FROM.findall(text):
        for item in items.strip("() \n").split(","):
            submodule = f"{package}.{item.split()[0]}" if item.strip() else package
            modules.add(submodule if _module(submodule) else package)
    modules.discard("fastdesc")    # resolves public names only
    return sorted(path for path in map(_module, modules) if path)


def _sources(source, seen):
    """A module and, through its imports, all of ours that it depends on."""
    if source not in seen:
        seen.add(source)
        for path in _imported(source):
            _sources(path, seen)
    return seen


@cache
def _hash_of(source):
    """Hash of what a module holds."""
    return hashlib.sha256(source.read_bytes()).digest()


@cache
def _hash_of_all(source):
    """Hash of a module, of all modules of ours that it depends on, and of Numba's version, in 16 digits."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_sources(Path(source).resolve(), set())):
        digest.update(_hash_of(path))
    return digest.hexdigest()[:16]


def cache_folder(source):
    """Folder of compiled kernels of the module at `source`; OSError where the disk takes none."""
    return cache_base() / f"numba-{_hash_of_all(source)}"


@contextmanager
def _numba_caches_in(folder):
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before


class _OneFileEach(IndexDataCacheFile):
    """Compiled code on disk: one file for each signature, named by a hash of it.

    Numba numbers the files and lists them in an index. Two processes that compile different signatures at the same time
    then both write file 1, and who finds it through the other's index runs code for other types: wrong numbers,
    silently. Names made of signatures cannot collide, and files appear whole (by a rename). The cache is a convenience:
    a full disk or a damaged file costs the time to compile, no more.
    """

    def _name_of(self, key):
        return self._data_name(int.from_bytes(hashlib.sha256(str(key).encode()).digest()[:8], "big"))

    def save(self, key, data):
        with suppress(OSError):
            self._save_data(self._name_of(key), data)

    def load(self, key):
        try:
            return self._load_data(self._name_of(key))
        except Exception:    # whatever a damaged file makes the reader raise
            return None

    def flush(self):
        """Nothing to forget: a change of the source changes the folder."""


def kernel(function, fastmath=False):
    """Compile a kernel: called from Python, releases the GIL, cached on disk where a disk lets us."""
    options = {**_OPTIONS, "fastmath": fastmath}
    try:
        folder = cache_folder(function.__code__.co_filename)
        folder.mkdir(exist_ok=True, mode=0o700)
        with _numba_caches_in(folder):
            compiled = numba.njit(cache=True, **options)(function)
        cache = compiled._cache
        # The folder's name knows the source, so where the source lies does not matter: checkouts share their kernels.
        cache._cache_file = _OneFileEach(str(folder), cache._impl.filename_base, None)
        return compiled
    except (OSError, RuntimeError):  # read-only home: compile anew in each process
        return numba.njit(**options)(function)


def contracting_kernel(function):
    """Compile a kernel in which a product and a sum may be one operation, rounded once."""
    return kernel(function, {"contract"})


def reordering_kernel(function):
    """Compile a kernel whose sums may also be taken in another order, always the same: in the lanes of a vector."""
    return kernel(function, {"contract", "reassoc", "nsz"})


def inner(function):
    """Compile a function that only kernels call, always inlined.

    One that stays out of line is looked up by name, and found in whatever was compiled or loaded first: last bits would
    depend on what ran before, and differ between the process that compiled and those that load.
    """
    return inlined(function, **_OPTIONS)
