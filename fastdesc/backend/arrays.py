"""The only judge of NumPy against CuPy: the device follows the array."""

import numpy as np

from fastdesc.backend.workspace import current
from fastdesc.errors import DeviceError, InputError

DTYPES = ("float32", "float64")
_DTYPES = {name: np.dtype(name) for name in DTYPES}
DEVICES = ("cpu", "cuda", "auto")
CACHE_LINE = 64
LOCKED = 1 << 20
"""Bytes above which what comes from a device is page-locked."""


def namespace(x):
    """Return the module, numpy or cupy, whose arrays `x` belongs to."""
    if isinstance(x, np.ndarray | np.generic):
        return np
    import cupy

    return cupy.get_array_module(x)


def resolve_device(device):
    """Turn "cpu", "cuda" or "auto" into "cpu" or "cuda".

    Raises
    ------
    InputError
        For any other word.
    DeviceError
        For "cuda" where no GPU is usable; the message says why.
    """
    if not isinstance(device, str) or device not in DEVICES:
        raise InputError(f"device {device!r} is not known; use one of {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    from fastdesc.backend.cuda import gpu_status

    usable, reason = gpu_status()
    if device == "auto":
        return "cuda" if usable else "cpu"
    if not usable:
        raise DeviceError(f"device 'cuda' was asked for but {reason}; use device 'cpu' or 'auto'")
    return "cuda"


def resolve_dtype(dtype):
    """Return np.dtype float32 or float64; InputError for anything else."""
    if type(dtype) is str and dtype in DTYPES:
        return _DTYPES[dtype]
    try:
        name = np.dtype(dtype).name if dtype is not None else None
    except (TypeError, ValueError):    # the latter: text that is no UTF-8
        name = None
    if name not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not supported; use 'float32' or 'float64'")
    return np.dtype(name)


def to_device(x, device):
    """Return `x` on "cpu" or "cuda", unchanged when it is there already."""
    if device == "cpu":
        return to_host(x)
    import cupy

    return cupy.asarray(x)


def to_host(x):
    """Return `x` as a NumPy array."""
    return x if isinstance(x, np.ndarray | np.generic) else x.get()


def start_to_host(x):
    """Begin to move an array to the host, and go on.

    Returns
    -------
    array : NumPy array, C-contiguous
        Page-locked for an array of a device, and complete only after wait().
    wait : callable
    """
    if isinstance(x, np.ndarray):
        return np.ascontiguousarray(x), lambda: None
    import cupy

    out, arrived = pinned(x.shape, x.dtype), cupy.cuda.Event()
    cupy.ascontiguousarray(x).get(out=out, blocking=False)
    arrived.record()
    return out, arrived.synchronize


def pinned(shape, dtype):
    """Uninitialised array of the host, page-locked: a device reads and writes it without waiting for the host."""
    import cupyx

    return cupyx.empty_pinned(shape, dtype)


def to_host_together(*arrays):
    """Return float64 arrays or scalars of one device as NumPy's; the host waits once for all of them."""
    xp = namespace(arrays[0])
    if xp is np:
        return arrays
    flat = xp.concatenate([a.reshape(-1) for a in arrays])
    # Where it is page-locked a large array travels at the full rate, and fresh pages need not be made.
    flat = flat.get(out=pinned(flat.shape, flat.dtype)) if flat.nbytes > LOCKED else flat.get()
    ends = np.cumsum([a.size for a in arrays])
    return tuple(x.reshape(a.shape) for x, a in zip(np.split(flat, ends[:-1]), arrays, strict=True))


def empty(shape, dtype, like=None):
    """Uninitialised array on the device of `like` (NumPy by default), from the workspace where the host has one.

    Such an array must not outlive the step that it belongs to (fastdesc/backend/workspace.py).
    """
    xp = np if like is None else namespace(like)
    workspace = current() if xp is np else None
    return xp.empty(shape, dtype) if workspace is None else workspace.empty(shape, dtype)


def joined(parts, axis=0):
    """Arrays of one device one after the other along an axis; a single one as it is.

    One after the other on a device, too: CuPy uploads a table to join more than eight.
    """
    if len(parts) == 1:
        return parts[0]
    axis %= parts[0].ndim
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    out, at = namespace(parts[0]).empty(shape, parts[0].dtype), 0
    for part in parts:
        out[(slice(None),) * axis + (slice(at, at + part.shape[axis]),)] = part
        at += part.shape[axis]
    return out


def stacked(a, b):
    """Two arrays of one shape on a leading axis, in memory as of `empty`."""
    xp = namespace(a)
    return np.stack([a, b], out=empty((2, *a.shape), a.dtype)) if xp is np else xp.stack([a, b])


def padded(shape, dtype, like=None):
    """Uninitialised array as of `empty`, whose rows on the host start at odd multiples of the cache line.

    With a power-of-two row length all rows would compete for the same cache sets there. On a device rows have no gaps:
    CuPy's products copy an array that has some.

    Parameters
    ----------
    shape : tuple of int
        The last axis is contiguous; only the leading stride is padded.
    dtype : dtype
    like : array, optional
        An array whose device is used; NumPy by default.
    """
    *lead, n = shape
    if like is not None and namespace(like) is not np:
        return empty(shape, dtype, like)
    per_line = CACHE_LINE // np.dtype(dtype).itemsize
    lines = -(-n // per_line) | 1
    return empty((*lead, lines * per_line), dtype, like)[..., :n]
