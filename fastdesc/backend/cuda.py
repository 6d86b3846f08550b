"""The only judge of CUDA: is there a GPU, where are the kernels, how are they compiled and launched.

Kernels are CUDA C++ in kernels/, compiled by NVRTC through CuPy when they are first launched. Nothing here
imports CuPy before that. Tests run the same sources on NumPy arrays: see `executor`.
"""

import ctypes
import hashlib
import importlib.util
import json
import os
import re
import struct
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastdesc
from fastdesc.backend import declarations
from fastdesc.errors import DeviceError, nearest

OPTIONS = ("-std=c++17",)
"""What we ask of NVRTC."""
ADDED_BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy's RawModule adds unasked, so that an offline compile can do the same."""
UNASKED_SHARED = 48 * 1024
"""Bytes of dynamic shared memory that a kernel gets without asking."""

_executors = []
_compiled = {}


# ------------------------------------------------------------------------------------------------------- where to run


@cache
def gpu_status():
    """Return (usable, reason). Asks the driver, not CuPy; takes 0.1 ms where there is none."""
    if os.environ.get("FASTDESC_GPU") == "0":
        return False, "the GPU is switched off by FASTDESC_GPU=0"
    if importlib.util.find_spec("cupy") is None:
        return False, "CuPy is not installed (pip install 'fastdesc[cuda13]' or 'fastdesc[cuda12]')"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False, "there is no NVIDIA driver (libcuda.so.1 was not found)"
    error = driver.cuInit(0)
    if error:
        return False, f"the NVIDIA driver did not start (cuInit returned {error})"
    version, needed = ctypes.c_int(0), _cuda_of_cupy()
    driver.cuDriverGetVersion(ctypes.byref(version))
    if version.value // 1000 < needed:
        known = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
        return False, f"the NVIDIA driver knows {known} and CuPy is for {needed} (update it, or take the other extra)"
    count = ctypes.c_int(0)
    driver.cuDeviceGetCount(ctypes.byref(count))
    return count.value > 0, f"the NVIDIA driver found {count.value} CUDA device(s)"


def take_gpu(rank):
    """Use one GPU of this machine in this thread from now on: that of a rank, in turn where ranks are more."""
    import cupy

    cupy.cuda.Device(rank % cupy.cuda.runtime.getDeviceCount()).use()


def _cuda_of_cupy():
    """Major version of the CUDA that CuPy was made for; 0 where its name does not tell."""
    for major in (13, 12):
        with suppress(PackageNotFoundError):
            distribution(f"cupy-cuda{major}x")
            return major
    return 0


def active_for(x):
    """Tell whether CUDA kernels work on `x`: a CuPy array, or any array while an executor is installed."""
    return bool(_executors) or not isinstance(x, np.ndarray)


class Limits(NamedTuple):
    """What a GPU has: multiprocessors, and bytes of shared memory that a block may ask for."""

    multiprocessors: int
    shared_bytes: int


EMULATED = Limits(2, 227 << 10)
"""Of a GPU that there is not: as few multiprocessors as show what their number changes, and a block of an H100."""


def limits():
    """Limits of the current GPU, or of that which an executor stands for."""
    if _executors:
        return _executors[-1][2]
    import cupy

    runtime = cupy.cuda.runtime
    asked = runtime.cudaDevAttrMultiProcessorCount, runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin
    return Limits(*(runtime.deviceGetAttribute(attribute, runtime.getDevice()) for attribute in asked))


@contextmanager
def executor(loader, limits=EMULATED):
    """Compile kernels by `loader` instead of CuPy; tests run them on NumPy arrays so.

    Parameters
    ----------
    loader : callable
        loader(path, names) returns an object whose get_function(name) returns a callable
        (grid, block, args, shared_mem=0), as cupy.RawModule does.
    limits : Limits
        Of the GPU that it stands for.
    """
    _executors.append((loader, {}, limits))
    try:
        yield
    finally:
        _executors.pop()


# ---------------------------------------------------------------------------------------------------------- sources


@cache
def kernels_folder():
    """Folder of the .cu and .cuh files: inside the installed package, else beside it in the checkout."""
    package = Path(fastdesc.__path__[0])
    for folder in (package / "kernels", package.parent / "kernels"):
        if any(folder.rglob("*.cu")):
            return folder
    raise DeviceError(f"no CUDA sources in {package / 'kernels'} or {package.parent / 'kernels'}; reinstall fastdesc")


def inline_includes(file, _seen=None):
    """Return the text of kernels/<file> with our own includes, named by their path below kernels/, put in place.

    CuPy's cache of compiled kernels looks at the text alone: it would not notice a changed header.
    """
    seen = set() if _seen is None else _seen
    lines = [f'#line 1 "{file}"']
    for number, line in enumerate((kernels_folder() / file).read_text().splitlines(), 1):
        include = re.match(r'\s*#include\s+"([^"]+)"', line)
        header = include[1] if include else None
        if header and header not in seen:
            seen.add(header)
            lines += [inline_includes(header, seen), f'#line {number + 1} "{file}"']
        else:
            lines.append("" if header or line.strip() == "#pragma once" else line)
    return "\n".join(lines)


@cache
def source(file):
    """Return the self-contained text of kernels/<file>."""
    return inline_includes(file)


@cache
def specialisations(file):
    """Return the name expressions that a .cu file declares, in order.

    They are declared in its comments, and are what is compiled in tests::

        // specialise gm_moments<S, NR>  S: float, double; NR: 4, 8
    """
    names = []
    for kernel_name, parameters, values in re.findall(r"//\s*specialise\s+(\w+)(?:<([^>]*)>)?[ \t]*(.*)", source(file)):
        parameters = parameters.replace(",", " ").split()
        choices = {k.strip(): [v.strip() for v in vs.split(",")] for k, vs in re.findall(r"(\w+):([^;]*)", values)}
        for chosen in product(*(choices[p] for p in parameters)):
            names.append(f"{kernel_name}<{', '.join(chosen)}>" if chosen else kernel_name)
    return tuple(names)


def all_specialisations():
    """Return {file: name expressions} of all .cu files."""
    folder = kernels_folder()
    files = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.cu")))
    return {file: specialisations(file) for file in files}


# ---------------------------------------------------------------------------------------------------------- arguments


def _declarations(file):
    """Return {kernel: (template parameters, parameters)} as they stand in the text."""
    return declarations.kernels(source(file))


@cache
def parameters(file, name):
    """Return [(name, is_pointer, dtype), ...] of a kernel's parameters; see `declarations.parameters`.

    Raises
    ------
    DeviceError
        For a kernel that the file does not have, or that does not take arrays and one plain struct after them.
    """
    return declarations.parameters(source(file), file, name)


def scalar_name(dtype, dual):
    """Return the C++ name of a scalar: "float", "double", "Dual<float>" or "Dual<double>"."""
    name = {"float32": "float", "float64": "double"}[np.dtype(dtype).name]
    return f"Dual<{name}>" if dual else name


def row_stride(x):
    """Elements from one row of x (.., n) to the next; what kernels call x_stride.

    Raises
    ------
    TypeError
        If values within a row are not adjacent, or rows not evenly spaced.
    """
    stride, rows = None, 1
    for axis in range(x.ndim - 2, -1, -1):
        if x.shape[axis] > 1:
            step, uneven = divmod(x.strides[axis], rows * x.itemsize)
            if uneven or stride not in (None, step):
                raise TypeError(f"rows of an array with shape {x.shape}, strides {x.strides} are not evenly spaced")
            stride = step
        rows *= x.shape[axis]
    if x.shape[-1] > 1 and x.strides[-1] != x.itemsize:
        raise TypeError(f"rows of an array with shape {x.shape}, strides {x.strides} are not contiguous")
    return x.shape[-1] if stride is None else stride


# ------------------------------------------------------------------------------------------------------------ kernels


class Kernel:
    """A compiled kernel; call it as kernel(grid, block, arrays, scalars, shared_mem=0).

    Arrays are in the order in which the kernel takes them; `scalars` is a dict of all fields of its struct.

    Raises
    ------
    DeviceError
        For more shared memory than the GPU has.
    """

    def __init__(self, file, name, function):
        self.file, self.name, self._function = file, name, function
        *self._arrays, (_, _, self._struct) = parameters(file, name)
        self._format, self._bytes = declarations.packing(self._struct), np.dtype(f"V{self._struct.itemsize}")

    def _check(self, arrays):
        if len(arrays) != len(self._arrays):
            raise TypeError(f"{self.name} takes {len(self._arrays)} arrays, and {len(arrays)} came")
        for argument, (name, _, dtype) in zip(arrays, self._arrays, strict=True):
            if not getattr(argument, "ndim", 0):
                raise TypeError(f"{self.name}: {name} is an array, and {type(argument).__name__} came")
            if dtype is not None and argument.dtype != dtype:
                raise TypeError(f"{self.name}: {name} is an array of {dtype}, and one of {argument.dtype} came")

    def packed(self, scalars):
        """Return the struct of a launch as CuPy passes it by value: an array of NumPy's without axes.

        Its dtype has no fields: CuPy would ask for a description of each, 20 us a launch.
        """
        try:
            values = [scalars[name] for name in self._struct.names]
            if len(values) == len(scalars):
                return np.ndarray((), self._bytes, self._format.pack(*values))
        except (KeyError, TypeError, ValueError, OverflowError, struct.error):
            pass
        raise TypeError(f"{self.name}: {self._objection(scalars)}")

    def _objection(self, scalars):
        fields = self._struct.fields
        for name in fields:
            if name not in scalars:
                return f"the scalar {name} is missing"
        for name in scalars:
            if name not in fields:
                return f"there is no scalar {name!r}{nearest(name, fields)}"
        for name, (dtype, _) in fields.items():
            try:
                struct.pack(dtype.char, scalars[name])
            except (TypeError, ValueError, OverflowError, struct.error):
                return f"{name} is {dtype}, and {scalars[name]!r} came"
        return f"the scalars {', '.join(fields)} could not be packed"

    def _ask_for(self, shared_mem):
        try:
            self._function.max_dynamic_shared_size_bytes = shared_mem
        except RuntimeError as problem:    # CUDADriverError is one
            raise DeviceError(
                f"{self.name} needs {shared_mem} bytes of shared memory for a block and this GPU has less ({problem}); "
                "use fewer radial functions, or device 'cpu'"
            ) from problem

    def __call__(self, grid, block, arrays, scalars, shared_mem=0):
        self._check(arrays)
        given = self.packed(scalars)
        if shared_mem > UNASKED_SHARED:
            self._ask_for(shared_mem)
        self._function(grid, block, (*arrays, given), shared_mem=shared_mem)


def source_hash(file):
    """Hash of the self-contained text of kernels/<file> and of the options it is compiled with."""
    return hashlib.sha256("\0".join((source(file), *OPTIONS)).encode()).hexdigest()


@cache
def carried_cubins():
    """What the folder $FASTDESC_CUBINS holds for this device: {file: {"cubin", "source", "kernels"}}; None without it.

    `python -m bench.gpu.carry` makes such a folder on a machine that has a compiler and no GPU.
    """
    folder = os.environ.get("FASTDESC_CUBINS")
    if not folder:
        return None
    import cupy

    described = json.loads((Path(folder) / "cubins.json").read_text())
    ours = f"sm_{cupy.cuda.Device().compute_capability}"
    return described["files"] if described["arch"] == ours else None


class _Cubin:
    """A module that was compiled elsewhere; kernels go by the names of their instances, as in cupy.RawModule."""

    def __init__(self, path, lowered):
        import cupy

        self._module, self._lowered = cupy.RawModule(path=str(path)), lowered

    def get_function(self, name):
        return self._module.get_function(self._lowered[name])


def _load_with_cupy(path, names):
    import cupy

    file = path.relative_to(kernels_folder()).as_posix()
    entry = (carried_cubins() or {}).get(file)
    if entry and entry["source"] == source_hash(file) and set(names) <= set(entry["kernels"]):
        return _Cubin(Path(os.environ["FASTDESC_CUBINS"]) / entry["cubin"], entry["kernels"])
    return cupy.RawModule(code=source(file), options=OPTIONS, name_expressions=names)


def kernel(file, name):
    """Return a Kernel of kernels/<file>, compiled once per process.

    Parameters
    ----------
    file : str
        "gaussian_moments/gaussian_moments.cu"
    name : str
        Name expression, as "gm_moments<Dual<float>, 5>".
    """
    loader, compiled, _ = _executors[-1] if _executors else (_load_with_cupy, _compiled, None)
    if (file, name) not in compiled:
        function = loader(kernels_folder() / file, (name,)).get_function(name)
        compiled[file, name] = Kernel(file, name, function)
    return compiled[file, name]


def launch(file, name, n, per_block, block, arrays, /, y=1, z=1, shared_mem=0, **scalars):
    """Run a kernel on n items, per_block of them to each block of `block` threads; nothing at all for n = 0.

    Parameters
    ----------
    arrays : sequence of arrays
        In the order in which the kernel takes them.
    **scalars
        All fields of the kernel's struct, by name.

    Raises
    ------
    TypeError
        For a scalar that is missing, unknown or of another type, and for other arrays than the kernel takes.
    """
    if n > 0:
        kernel(file, name)((-(-n // per_block), y, z), (block,), arrays, scalars, shared_mem)
