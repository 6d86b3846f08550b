"""A device without a GPU: arrays that behave as CuPy's in what can go wrong, kernels on the emulator, and a ledger.

Its memory is the host's, so numbers are real; its rules are CuPy's. A NumPy array among device arrays, or a device
array handed to NumPy, is a TypeError; functions are those that CuPy has, with CuPy's signatures. What makes the host
wait for the device (get, float, bool, flatnonzero, boolean indices, ..) and what moves arrays to it is written down
with the line of fastdesc that asked for it. It knows nothing of speed, or of what happens at one time; streams that
capture are in stream_capture.py.
"""

import inspect
import sys
import time
import types
from contextlib import contextmanager
from pathlib import Path

import cupy as real
import numpy as np
from cuda_emulator import load
from doubles import stream_capture
from doubles.cupy_rules import Launchable, PageLocked, check_out, check_ufunc, is_by_value, method_signature
from doubles.stream_capture import arrays_in, work

import fastdesc
from fastdesc.backend import cuda

PACKAGE = Path(fastdesc.__path__[0])
WAITING = {"flatnonzero", "nonzero", "argwhere", "unique", "bincount", "extract", "compress", "array_equal", "allclose"}
"""Functions whose result has a shape or value that the host must know: CuPy waits inside."""
WRITES = {"fill", "copyto"}
TAKES_HOST = {"asarray", "array", "full", "full_like"}
JOINS = {"concatenate", "stack"}
AT_ONCE = 8
"""More arrays than these CuPy joins by one kernel, for which it moves a table of pointers to the device."""


class Ledger:
    """Lines of fastdesc that made the host wait (`waits`), moved an array to the device (`uploads`) or gave it work
    (`launches`), in order."""

    def __init__(self):
        self.waits, self.uploads, self.launches = [], [], []

    def note(self, kind, what):
        """Write down who asked: the innermost line of the package, else of the test."""
        if kind != "launches":
            stream_capture.refuse(what)
        if kind == "waits":
            PAGE_LOCKED.waited()
        frame = sys._getframe(2)
        outer = frame
        while frame and not Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            frame = frame.f_back
        frame = frame or outer
        name = Path(frame.f_code.co_filename).name
        getattr(self, kind).append(f"{name}:{frame.f_lineno} {frame.f_code.co_name}: {what}")

    def clear(self):
        """Forget all that was written."""
        self.waits.clear(), self.uploads.clear(), self.launches.clear()


LEDGER = Ledger()


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the device that is not there."""

    def __init__(self, host):
        self._host = np.asarray(host)

    # What the host learns without asking the device.
    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    strides = property(lambda self: self._host.strides)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: self._host.flags)
    T = property(lambda self: DeviceArray(self._host.T))

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return iter([DeviceArray(x) for x in self._host])

    # What makes it wait.
    def get(self, stream=None, order="C", out=None, blocking=True):
        if blocking:
            LEDGER.note("waits", "get")
        out = np.empty_like(self._host) if out is None else out
        check_out(self, out)
        if blocking:
            out[...] = self._host
            return out
        out.fill(np.nan)    # until somebody waits
        TRAVELLING.append((out, self._host.copy()))
        return out

    def set(self, arr, stream=None):
        """CuPy's: from an array of the host of the same shape and dtype."""
        LEDGER.note("uploads", "set")
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype:
            raise TypeError(f"{getattr(arr, 'dtype', type(arr))} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        PAGE_LOCKED.read(arr)
        self._host[...] = arr

    def _number(self, kind):
        LEDGER.note("waits", kind.__name__)
        return kind(self._host)

    __float__ = lambda self: self._number(float)  # noqa: E731
    __int__ = lambda self: self._number(int)  # noqa: E731
    __bool__ = lambda self: self._number(bool)  # noqa: E731
    __index__ = lambda self: self._number(int)  # noqa: E731

    def item(self):
        LEDGER.note("waits", "item")
        return self._host.item()

    def tolist(self):
        LEDGER.note("waits", "tolist")
        return self._host.tolist()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    # What stays on the device.
    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        if method == "__call__":
            check_ufunc(ufunc.__name__, keywords)
        keywords = {name: _unwrap(x) for name, x in keywords.items()}
        written = [] if out is None else list(map(_unwrap, out))
        if out is not None:
            keywords["out"] = tuple(written)
        inputs = [_unwrap(x) for x in inputs]
        result = work(ufunc.__name__, lambda: getattr(ufunc, method)(*inputs, **keywords), arrays_in(inputs), written)
        return out[0] if out is not None else _wrap(result)

    def __array_function__(self, function, kinds, args, keywords):
        raise TypeError(f"numpy.{function.__name__} came with an array of the device; use the array's own namespace")

    def __getitem__(self, key):
        index = _index(key)
        plain = index if isinstance(index, tuple) else (index,)
        if not any(k is Ellipsis for k in plain):
            index = (*plain, Ellipsis)    # an element is a view too, not NumPy's scalar
        return _wrap(work("take", lambda: self._taken(index), [self._host, *arrays_in(index)]))

    def _taken(self, index):
        """A view, or what CuPy's take makes: without NumPy's liking for the layout of the index."""
        found = self._host[index]
        return found if found.base is not None and np.may_share_memory(found, self._host) else found.copy("C")

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("an array of the host was assigned into one of the device")
        index, value = _index(key), _unwrap(value)
        work("assign", lambda: self._host.__setitem__(index, value), arrays_in([index, value]), [self._host])

    def __getattr__(self, name):
        if name.startswith("_") or not hasattr(real.ndarray, name):
            raise AttributeError(f"cupy.ndarray has no attribute {name}")
        return _checked(name, getattr(self._host, name), method_signature(name), self._host)

    def __repr__(self):
        return f"DeviceArray({self._host!r})"


def _wrap(x):
    if isinstance(x, np.ndarray | np.generic):
        return DeviceArray(x)
    return type(x)(map(_wrap, x)) if isinstance(x, tuple | list) else x


def _unwrap(x):
    if isinstance(x, DeviceArray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}: an array of the host among those of the device")
    return type(x)(map(_unwrap, x)) if isinstance(x, tuple | list) else x


def _index(key):
    keys = key if isinstance(key, tuple) else (key,)
    for k in keys:
        if isinstance(k, list | np.ndarray):
            LEDGER.note("uploads", "index")
        if getattr(k, "dtype", np.dtype(int)).kind == "b":
            LEDGER.note("waits", "boolean index")
    plain = tuple(k._host if isinstance(k, DeviceArray) else k for k in keys)
    return plain if isinstance(key, tuple) else plain[0]


def _checked(name, function, signature, own=None):
    """The function of NumPy, or the method of the array `own`, for arguments that CuPy's takes."""

    def call(*args, **keywords):
        if signature is not None:
            signature.bind(*(args if own is None else (own, *args)), **keywords)
        if name in WAITING or (name == "where" and len(args) == 1):
            LEDGER.note("waits", name)
        if name in JOINS and len(args[0]) > AT_ONCE:
            LEDGER.note("uploads", name)
        if name == "repeat" and isinstance(args[1], DeviceArray):
            raise TypeError("cupy.repeat takes an int or a list of the host")
        plain = [_unwrap(a) for a in args] if name not in TAKES_HOST else _of_either(name, args, keywords)
        if plain is None:
            return args[0]
        named = {k: _unwrap(v) for k, v in keywords.items()}
        given = [*arrays_in([plain, named]), *([] if own is None else [own])]
        written = arrays_in(named.get("out")) + (given[-1:] if own is not None and name in WRITES else [])
        if own is None and name in WRITES:
            written += given[:1]
        return _wrap(work(name, lambda: _owned(name, function(*plain, **named)), given, written))

    return call


def _decomposition(name):
    """A function of linalg that returns several arrays."""
    signature = inspect.signature(getattr(real.linalg, name))
    return _checked(name, lambda *args, **keywords: tuple(getattr(np.linalg, name)(*args, **keywords)), signature)


def _of_either(name, args, keywords):
    """Arguments of a function that takes arrays of the host too; None where CuPy returns what it was given."""
    if args and isinstance(args[0], np.ndarray | list | tuple) and not name.startswith("full"):
        LEDGER.note("uploads", name)
    if name == "asarray" and isinstance(args[0], DeviceArray) and len(args) == 1 and not keywords:
        return None
    return [a._host if isinstance(a, DeviceArray) else a for a in args]


def _owned(name, result):
    """CuPy's asarray of an array of the host shares no memory with it."""
    return result.copy() if name == "asarray" else result


class Ufunc:
    """A ufunc of CuPy."""

    def __init__(self, ufunc):
        self._ufunc = ufunc

    def __call__(self, *args, **keywords):
        check_ufunc(self._ufunc.__name__, keywords)
        return _checked(self._ufunc.__name__, self._ufunc, None)(*args, **keywords)

    def at(self, a, indices, b):
        plain = [_unwrap(x) for x in (a, indices, b)]
        work("at", lambda: self._ufunc.at(*plain), arrays_in(plain), plain[:1])


class _Device:
    """A device that can be taken; there are two, and nothing is different on the other."""

    taken = 0

    def __init__(self, number):
        self.number = number

    def use(self):
        _Device.taken = self.number


class Cupy(types.ModuleType):
    """The module: what CuPy has, on DeviceArray."""

    ndarray = DeviceArray

    def __init__(self):
        super().__init__("cupy")
        stream_capture.Stream.null = STREAM
        # CuPy's default is not to ask the device whether a decomposition went well, and so not to wait.
        self.linalg = types.SimpleNamespace(eigh=_decomposition("eigh"), qr=_decomposition("qr"))
        self.cuda = types.SimpleNamespace(
            **vars(stream_capture.of_cuda(LEDGER.note)),
            get_current_stream=lambda: (stream_capture.STATE.streams or [STREAM])[-1],
            Event=_Event,
            get_elapsed_time=lambda begin, end: 1e3 * (end.time - begin.time),
            Device=_Device,
            nvrtc=types.SimpleNamespace(getVersion=lambda: (0, 0)),
            runtime=types.SimpleNamespace(
                getDeviceProperties=lambda k: {"name": b"Test Double", "multiProcessorCount": 0, "totalGlobalMem": 0},
                getDeviceCount=lambda: 2,
                getDevice=lambda: _Device.taken,
                cudaDevAttrMultiProcessorCount=16,
                cudaDevAttrMaxSharedMemoryPerBlockOptin=97,
                deviceGetAttribute=lambda attribute, k: {16: 2, 97: 227 << 10}[attribute],
                driverGetVersion=lambda: 0,
                runtimeGetVersion=lambda: 0,
                memGetInfo=lambda: MEMORY,
            ),
        )

    @staticmethod
    def get_array_module(*arrays):
        return sys.modules["cupy"] if any(isinstance(a, DeviceArray) for a in arrays) else np

    @staticmethod
    def asnumpy(x, *_, **__):
        return x.get() if isinstance(x, DeviceArray) else np.asarray(x)

    @staticmethod
    def get_default_memory_pool():
        return types.SimpleNamespace(free_all_blocks=lambda: None, free_bytes=lambda: 0)

    @staticmethod
    def fuse(function):
        return stream_capture.fuse(function)

    def __getattr__(self, name):
        if name.startswith("__") or not (hasattr(real, name) and hasattr(np, name)):
            raise AttributeError(f"module 'cupy' has no attribute {name!r}")
        theirs, ours = getattr(real, name), getattr(np, name)
        if isinstance(ours, np.ufunc):
            return Ufunc(ours)
        if isinstance(ours, type) or not callable(ours):
            return ours
        try:
            signature = inspect.signature(theirs)
        except (TypeError, ValueError):
            signature = None
        return _checked(name, ours, signature)


class _Event:
    """A point in the time of the host: kernels of the double are done when they return."""

    def record(self):
        self.time = time.perf_counter()

    def synchronize(self):
        LEDGER.note("waits", "synchronize")
        while TRAVELLING:
            out, values = TRAVELLING.pop()
            out[...] = values


TRAVELLING = []
"""Copies that nobody has waited for."""
PAGE_LOCKED = PageLocked()
STREAM = stream_capture.Stream(null=True)
MEMORY = (64 << 30, 80 << 30)
"""Bytes that are free, and that there are."""


class _Module:
    """Kernels of the emulator that take arrays of the device and none of the host."""

    def __init__(self, path, names):
        self._module = load(path, names)

    def get_function(self, name):
        kernel = self._module.get_function(name)

        def launch(grid, block, args, shared_mem):
            plain = tuple(x if is_by_value(x) else _unwrap(x) for x in args)
            # Which arrays it writes to only the kernel knows; the struct is copied.
            arrays = arrays_in([x for x in plain if not is_by_value(x)])
            work(name, lambda: kernel(grid, block, plain, shared_mem=shared_mem), (), arrays)

        return Launchable(launch)


class _NeighborList:
    """vesin's on CUDA, for arrays of the device: it waits, drops pairs of no distance, and has room for so many."""

    def __init__(self, **keywords):
        self._search = VESIN(**keywords)

    def compute(self, points, box, periodic, quantities, copy=True):
        LEDGER.note("waits", "vesin")
        assert quantities == "ijSd"
        found = self._search.compute(_unwrap(points), _unwrap(box), periodic, quantities)
        room = len(points) * int(max(128, np.ceil(self._search.cutoff**3)))
        if len(found[0]) > room:
            raise RuntimeError(f"The number of neighbor pairs exceeds the maximum capacity of {room}")
        return [DeviceArray(x[found[3] > 0]) for x in found]


@contextmanager
def device_double():
    """Context in which device="cuda" is the double; yields the ledger, empty."""
    import pytest
    import vesin

    global VESIN
    with pytest.MonkeyPatch.context() as m:
        VESIN = vesin.NeighborList
        m.setitem(sys.modules, "cupy", Cupy())
        PAGE_LOCKED.__init__()
        m.setitem(sys.modules, "cupyx", types.SimpleNamespace(empty_pinned=PAGE_LOCKED.empty))
        m.setattr(vesin, "NeighborList", _NeighborList)
        m.setattr(cuda, "gpu_status", lambda: (True, "the test double"))
        m.setattr(cuda, "_load_with_cupy", lambda path, names: _Module(path, names))
        m.setattr(cuda, "_compiled", {})
        LEDGER.clear()
        yield LEDGER
