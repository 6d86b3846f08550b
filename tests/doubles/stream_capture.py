"""Streams, graphs and pools of the device that is not there: work is written down while a stream captures.

CUDA does nothing while it captures: what is launched is done when the graph is, on the memory that was named then. So
here. Work is done at once only to learn shapes; afterwards arrays from before are as they were, and those made while
capturing hold rubbish until the graph is launched. Refused is what CUDA or CuPy 14 refuse: waits, transfers, cuBLAS
(NotImplementedError); and what goes wrong silently there: memory from a pool that others use too, or that is gone when
the graph is launched, and work on another stream, which would not be captured.
"""

import types
import weakref

import numpy as np

CUBLAS = {"matmul", "dot", "vdot", "inner", "outer", "tensordot", "einsum"}
"""CuPy's setStream of cuBLAS: NotImplementedError while the stream captures."""
ALLOCATES = {"empty", "empty_like"}
"""No work, memory alone."""


class State:
    """What is current: a recording, streams, allocators, and whether a fused kernel runs."""

    def __init__(self):
        self.recording, self.streams, self.allocators, self.fusing = None, [], [], 0


STATE = State()


def root(array):
    """The array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def arrays_in(x):
    """All NumPy arrays of nested tuples, lists and dicts."""
    if isinstance(x, np.ndarray):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    return [a for part in x for a in arrays_in(part)] if isinstance(x, tuple | list) else []


def as_arrays(result):
    """A result whose NumPy scalars are arrays that can be written to."""
    if isinstance(result, np.generic):
        return np.array(result)
    return type(result)(map(as_arrays, result)) if isinstance(result, tuple | list) else result


class Recording:
    """What one stream has captured so far."""

    def __init__(self, pool):
        self.pool, self.steps, self.nodes, self.broken = pool, [], [], False
        self.own, self.before = {}, {}

    def add(self, name, call, given, written):
        """Do the work to see what it makes, keep it for the graph, and return what it made."""
        if name in CUBLAS:
            raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")
        for owner in map(root, written):
            if id(owner) not in self.own and id(owner) not in self.before:
                self.before[id(owner)] = owner, owner.copy()
        result = as_arrays(call())
        known = {id(root(a)) for a in [*given, *written]}
        new = [a for a in arrays_in(result) if id(root(a)) not in known]
        for a in new:
            if self.pool is None:
                self.broken = True
                raise RuntimeError(f"{name}: memory of a graph came from a pool that is not the graph's own")
            self.own[id(root(a))] = root(a)
        if name in ALLOCATES:
            poison(new)
        elif new or written:
            self.steps.append(lambda: [np.copyto(a, b) for a, b in zip(arrays_in(result), again(call), strict=True)])
            if not STATE.fusing:
                self.nodes.append(name)
        return result


def again(call):
    """What a call makes this time, as a list of arrays."""
    return arrays_in(as_arrays(call()))


def poison(arrays):
    """Fill arrays with what nobody can take for a result."""
    for a in arrays:
        a.fill(np.nan if a.dtype.kind in "fc" else np.iinfo(a.dtype).min if a.dtype.kind == "i" else 0)


class Stream:
    """A stream that can capture; its work is done when it returns."""

    def __init__(self, null=False, non_blocking=False, ptds=False, *, priority=None):
        self.non_blocking = non_blocking

    def __enter__(self):
        STATE.streams.append(self)
        return self

    def __exit__(self, *_):
        STATE.streams.pop()

    def synchronize(self):
        NOTE("waits", "synchronize")

    def begin_capture(self, mode=None):
        if not self.non_blocking:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        assert STATE.streams[-1:] == [self], "work goes to another stream, and would not be captured"
        STATE.recording = Recording(STATE.allocators[-1] if STATE.allocators else None)

    def end_capture(self):
        recording, STATE.recording = STATE.recording, None
        if recording is None:
            raise RuntimeError("cudaErrorIllegalState: the stream does not capture")
        for owner, values in recording.before.values():
            owner[...] = values
        poison(recording.own.values())
        if recording.broken:
            raise RuntimeError("cudaErrorStreamCaptureInvalidated: operation failed due to a previous error")
        return Graph(recording)

    def is_capturing(self):
        return STATE.recording is not None


class Graph:
    """Work that was captured; `nodes` are the names of its launches."""

    def __init__(self, recording):
        self._steps, self.nodes, self._pool = recording.steps, recording.nodes, recording.pool

    def launch(self, stream=None):
        NOTE("launches", "graph")
        if self._pool is not None and self._pool() is None:
            raise AssertionError("the graph's memory was given back: what it writes to belongs to others")
        for step in self._steps:
            step()


class MemoryPool:
    """A pool; memory itself comes from NumPy."""

    def malloc(self, size):
        raise AssertionError("this pool serves the double alone")

    def free_all_blocks(self, stream=None):
        raise AssertionError("a graph's memory was given back")


class using_allocator:
    """Context in which memory comes from the pool whose malloc is given."""

    def __init__(self, allocator=None):
        self._pool = None if allocator is None else weakref.ref(allocator.__self__)

    def __enter__(self):
        STATE.allocators.append(self._pool)

    def __exit__(self, *_):
        STATE.allocators.pop()


def work(name, call, given=(), written=()):
    """Do work of the device, or have it written down while a stream captures.

    Parameters
    ----------
    name : str
    call : callable
        Returns NumPy arrays or scalars; some may be views of `given`, which is no work.
    given, written : sequences of NumPy arrays
        What it reads, and what it writes to.
    """
    if STATE.recording is not None:
        return STATE.recording.add(name, call, given, written)
    result = call()
    known = {id(root(a)) for a in given}
    made = any(id(root(a)) not in known for a in arrays_in(as_arrays(result)))
    if (made or written) and not STATE.fusing and name not in ALLOCATES:
        NOTE("launches", name)
    return result


def refuse(what):
    """Raise what CUDA raises while it captures, which ends the capture too."""
    if STATE.recording is not None:
        STATE.recording.broken = True
        raise RuntimeError(f"cudaErrorStreamCaptureUnsupported: not permitted when stream is capturing: {what}")


def fuse(function):
    """One launch for all that the function does."""

    def fused(*args):
        STATE.fusing += 1
        try:
            result = function(*args)
        finally:
            STATE.fusing -= 1
        if STATE.recording is not None:
            STATE.recording.nodes.append("fused")
        else:
            NOTE("launches", "fused")
        return result

    return fused


def of_cuda(note):
    """What cupy.cuda has for graphs; `note` writes into the ledger."""
    global NOTE
    NOTE = note
    STATE.__init__()
    return types.SimpleNamespace(
        Stream=Stream, Graph=Graph, MemoryPool=MemoryPool, using_allocator=using_allocator
    )
