"""What CuPy and CUDA refuse, for the device that is not there: arguments, launches, and page-locked memory in use."""

import inspect
import re
import weakref
from functools import cache

import cupy as real
import numpy as np
from doubles.stream_capture import root

from fastdesc.backend.cuda import UNASKED_SHARED

UFUNC_KEYWORDS = {"out", "dtype", "casting"}
MOST_SHARED = 227 * 1024
"""Bytes of shared memory for a block of an H200; smaller GPUs give 64 to 100 KB."""


@cache
def method_signature(name):
    """Signature of a method of cupy.ndarray, which is compiled: by the first line of its documentation."""
    line = (getattr(real.ndarray, name).__doc__ or "").partition("\n")[0]
    given = re.search(r"\.\w+\((.*)\)", line)
    if given is None:
        return None
    found, kind = [], inspect.Parameter.POSITIONAL_OR_KEYWORD
    for word in given[1].split(", "):
        bare, has_default, _ = re.sub(r"^\w+ (?=\w)", "", word).partition("=")    # without a C type
        default = None if has_default else inspect.Parameter.empty
        if bare.startswith("*"):
            kind = inspect.Parameter.KEYWORD_ONLY
        if bare.strip("*"):
            own = inspect.Parameter.VAR_POSITIONAL if bare.startswith("*") else kind
            found.append(inspect.Parameter(bare.strip("*"), own, default=default))
    return inspect.Signature(found)


def check_ufunc(name, keywords):
    """TypeError for what a ufunc of NumPy's takes and one of CuPy's does not."""
    if set(keywords) - UFUNC_KEYWORDS:
        raise TypeError(f"{name}: Wrong arguments {sorted(set(keywords) - UFUNC_KEYWORDS)}")


def check_out(array, out):
    """What `get` refuses to write to."""
    if not isinstance(out, np.ndarray) or out.dtype != array.dtype:
        raise TypeError(f"{getattr(out, 'dtype', type(out))} array cannot be obtained from {array.dtype} array")
    if out.shape != array.shape:
        raise ValueError(f"Shape mismatch. Expected shape: {array.shape}, actual shape: {out.shape}")


def is_by_value(x):
    """Whether CuPy copies an array of the host into a kernel's arguments: a struct, and nothing longer than one."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "V" and x.size == 1


class Launchable:
    """A kernel that gets as much shared memory as it was allowed.

    Parameters
    ----------
    launch : callable
        (grid, block, args, shared_mem).
    """

    def __init__(self, launch):
        self._launch, self._shared = launch, UNASKED_SHARED

    @property
    def max_dynamic_shared_size_bytes(self):
        return self._shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, wanted):
        if wanted > MOST_SHARED:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self._shared = wanted

    def __call__(self, grid, block, args, shared_mem=0):
        if not isinstance(grid, tuple) or not isinstance(block, tuple):
            raise TypeError("grid and block must be tuples")
        if shared_mem > self._shared:
            raise RuntimeError(f"CUDA_ERROR_INVALID_VALUE: {shared_mem} bytes of shared memory, allowed {self._shared}")
        self._launch(grid, block, args, shared_mem)


class PageLocked:
    """Memory that the device reads while the host goes on: it may change only after somebody has waited."""

    def __init__(self):
        self._owners, self._read = [], []

    def empty(self, shape, dtype=float, order="C"):
        """cupyx.empty_pinned."""
        array = np.empty(shape, dtype, order)
        self._owners.append(weakref.ref(array))
        return array

    def read(self, array):
        """A copy to the device has begun."""
        if any(owner() is root(array) for owner in self._owners):
            self._read.append((array, array.copy()))

    def waited(self):
        """All copies are done; AssertionError if what they read was changed before."""
        read, self._read = self._read, []
        for array, values in read:
            assert np.array_equal(array, values, equal_nan=True), "page-locked memory changed while a copy read it"
