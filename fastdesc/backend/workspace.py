"""Memory that a loop keeps: the arrays of a step lie where those of the step before lay.

Fresh pages cost more than the arithmetic on them. Within `kept_memory()` the arrays of the host that functions of ours
need for a while (fastdesc.backend.arrays.empty and padded) come from a workspace: it hands its blocks out in order,
and a step that asks in the same order finds the same blocks, grown where they were too small. An array that leaves the
block of `with` must be made by NumPy.
"""

import threading
from contextlib import contextmanager

import numpy as np

LINE = 64
"""Bytes; blocks begin at a cache line."""
GROWTH = 1.25
"""Lists of pairs vary in length from step to step."""
LARGEST = 1 << 29
"""Bytes that a thread's own workspace keeps after use; one that has grown beyond is given back."""

_here = threading.local()


class Workspace:
    """Blocks of memory in the order in which they are asked for; not to be shared by threads."""

    def __init__(self):
        self._blocks, self._arrays, self._next = [], [], 0
        self.n_bytes = 0    # memory held

    def __getstate__(self):
        return {}    # a copy has memory of its own

    def __setstate__(self, state):
        self.__init__()

    def empty(self, shape, dtype):
        """Uninitialised C-contiguous array, which the next use of the workspace may overwrite."""
        k = self._next
        self._next += 1
        if k < len(self._arrays):    # most steps ask for what the step before asked for
            known, its_dtype, array = self._arrays[k]
            if known == shape and its_dtype == dtype:
                return array
        its_dtype, dtype = dtype, np.dtype(dtype)
        wanted = dtype.itemsize
        for n in shape:
            wanted *= int(n)
        if k == len(self._blocks):
            self._blocks.append(np.empty(0, np.uint8))
            self._arrays.append(None)
        if len(self._blocks[k]) < wanted:
            block = _block(int(GROWTH * wanted) if len(self._blocks[k]) else wanted)
            self.n_bytes += len(block) - len(self._blocks[k])
            self._blocks[k] = block
        array = self._blocks[k][:wanted].view(dtype).reshape(shape)
        self._arrays[k] = shape, its_dtype, array
        return array

    def __enter__(self):
        self._before = getattr(_here, "workspace", None)
        self._next, _here.workspace = 0, self
        return self

    def __exit__(self, *error):
        _here.workspace = self._before


def current():
    """Workspace that this thread works in, or None."""
    return getattr(_here, "workspace", None)


@contextmanager
def kept_memory():
    """Work in the thread's own workspace; within another one, stay there."""
    if current() is not None:
        yield
        return
    own = getattr(_here, "own", None) or Workspace()
    _here.own = None    # a generator or callback that comes back here meanwhile gets another one
    with own:
        yield
    if own.n_bytes <= LARGEST:
        _here.own = own


def fresh_lines(shape, dtype):
    """Uninitialised array of its own that begins at a cache line."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return _block(n_bytes)[:n_bytes].view(dtype).reshape(shape)


def _block(n_bytes):
    """Bytes that begin at a cache line."""
    raw = np.empty(n_bytes + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + n_bytes]
