"""A device without a GPU: arrays that behave as CuPy's in what can go wrong, kernels on the emulator, and a ledger.

Its memory is the host's, so numbers are real; its rules are CuPy's. A NumPy array among device arrays, or a device
array handed to NumPy, is a TypeError; functions are those that CuPy has, with CuPy's signatures. What makes the host
wait for the device (get, float, bool, flatnonzero, boolean indices, ..) and what moves arrays to it is written down
with the line of fastdesc that asked for it. It knows nothing of speed, of streams, or of what happens at one time.
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

from fastdesc import cuda

PACKAGE = Path(cuda.__file__).parent
WAITING = {"flatnonzero", "nonzero", "argwhere", "unique", "bincount", "extract", "compress", "array_equal", "allclose"}
"""Functions whose result has a shape or value that the host must know: CuPy waits inside."""
TAKES_HOST = {"asarray", "array", "full", "full_like"}


class Ledger:
    """Lines of fastdesc that made the host wait (`waits`) or moved an array to the device (`uploads`), in order."""

    def __init__(self):
        self.waits, self.uploads = [], []

    def note(self, kind, what):
        """Write down who asked: the innermost line of the package, else of the test."""
        frame = sys._getframe(2)
        outer = frame
        while frame and not Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
            frame = frame.f_back
        frame = frame or outer
        name = Path(frame.f_code.co_filename).name
        getattr(self, kind).append(f"{name}:{frame.f_lineno} {frame.f_code.co_name}: {what}")

    def clear(self):
        """Forget all that was written."""
        self.waits.clear(), self.uploads.clear()


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
        if blocking:
            out[...] = self._host
            return out
        out.fill(np.nan)    # until somebody waits
        TRAVELLING.append((out, self._host.copy()))
        return out

    def _number(self, kind):
        LEDGER.note("waits", kind.__name__)
        return kind(self._host)

    __float__ = lambda self: self._number(float)  # noqa: E731
    __int__ = lambda self: self._number(int)  # noqa: E731
    __bool__ = lambda self: self._number(bool)  # noqa: E731
    __index__ = lambda self: self._number(int)  # noqa: E731

    def item(self, *at):
        LEDGER.note("waits", "item")
        return self._host.item(*at)

    def tolist(self):
        LEDGER.note("waits", "tolist")
        return self._host.tolist()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    # What stays on the device.
    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        keywords = {name: _unwrap(x) for name, x in keywords.items()}
        if out is not None:
            keywords["out"] = tuple(map(_unwrap, out))
        result = getattr(ufunc, method)(*map(_unwrap, inputs), **keywords)
        return out[0] if out is not None else _wrap(result)

    def __array_function__(self, function, kinds, args, keywords):
        raise TypeError(f"numpy.{function.__name__} came with an array of the device; use the array's own namespace")

    def __getitem__(self, key):
        return DeviceArray(self._host[_index(key)])

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("an array of the host was assigned into one of the device")
        self._host[_index(key)] = _unwrap(value)

    def __getattr__(self, name):
        if name.startswith("_") or not hasattr(real.ndarray, name):
            raise AttributeError(f"cupy.ndarray has no attribute {name}")
        return _checked(name, getattr(self._host, name), None)

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


def _checked(name, function, signature):
    """The function of NumPy, for arguments that CuPy's takes."""

    def call(*args, **keywords):
        if signature is not None:
            signature.bind(*args, **keywords)
        if name in WAITING or (name == "where" and len(args) == 1):
            LEDGER.note("waits", name)
        if name in TAKES_HOST:
            if args and isinstance(args[0], np.ndarray | list | tuple):
                LEDGER.note("uploads", name)
            if name == "asarray" and isinstance(args[0], DeviceArray) and len(args) == 1 and not keywords:
                return args[0]
            args = [a._host if isinstance(a, DeviceArray) else a for a in args]
            result = function(*args, **keywords)
            return _wrap(result.copy() if name == "asarray" else result)
        if name == "repeat" and isinstance(args[1], DeviceArray):
            raise TypeError("cupy.repeat takes an int or a list of the host")
        return _wrap(function(*map(_unwrap, args), **{k: _unwrap(v) for k, v in keywords.items()}))

    return call


class Ufunc:
    """A ufunc of CuPy."""

    def __init__(self, ufunc):
        self._ufunc = ufunc

    def __call__(self, *args, **keywords):
        return _wrap(self._ufunc(*map(_unwrap, args), **{k: _unwrap(v) for k, v in keywords.items()}))

    def at(self, a, indices, b):
        self._ufunc.at(_unwrap(a), _unwrap(indices), _unwrap(b))


class Cupy(types.ModuleType):
    """The module: what CuPy has, on DeviceArray."""

    ndarray = DeviceArray

    def __init__(self):
        super().__init__("cupy")
        self.cuda = types.SimpleNamespace(
            get_current_stream=lambda: STREAM,
            Event=_Event,
            get_elapsed_time=lambda begin, end: 1e3 * (end.time - begin.time),
            nvrtc=types.SimpleNamespace(getVersion=lambda: (0, 0)),
            runtime=types.SimpleNamespace(
                getDeviceProperties=lambda k: {"name": b"Test Double", "multiProcessorCount": 0, "totalGlobalMem": 0},
                driverGetVersion=lambda: 0,
                runtimeGetVersion=lambda: 0,
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
        return types.SimpleNamespace(free_all_blocks=lambda: None)

    @staticmethod
    def fuse(function):
        return function

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
STREAM = types.SimpleNamespace(synchronize=lambda: LEDGER.note("waits", "synchronize"))


class _Module:
    """Kernels of the emulator that take arrays of the device and none of the host."""

    def __init__(self, path, names):
        self._module = load(path, names)

    def get_function(self, name):
        kernel = self._module.get_function(name)

        def launch(grid, block, args, shared_mem=0):
            kernel(grid, block, tuple(map(_unwrap, args)), shared_mem=shared_mem)

        return launch


class _NeighborList:
    """vesin's, on arrays of the device."""

    def __init__(self, **keywords):
        self._search = VESIN(**keywords)

    def compute(self, points, box, periodic, quantities):
        found = self._search.compute(_unwrap(points), _unwrap(box), periodic, quantities)
        return _wrap(list(found))


@contextmanager
def device_double():
    """Context in which device="cuda" is the double; yields the ledger, empty."""
    import pytest
    import vesin

    global VESIN
    with pytest.MonkeyPatch.context() as m:
        VESIN = vesin.NeighborList
        m.setitem(sys.modules, "cupy", Cupy())
        pinned = types.SimpleNamespace(empty_pinned=lambda shape, dtype=float, order="C": np.empty(shape, dtype, order))
        m.setitem(sys.modules, "cupyx", pinned)
        m.setattr(vesin, "NeighborList", _NeighborList)
        m.setattr(cuda, "gpu_status", lambda: (True, "the test double"))
        m.setattr(cuda, "_load_with_cupy", lambda path, names: _Module(path, names))
        m.setattr(cuda, "_compiled", {})
        LEDGER.clear()
        yield LEDGER
