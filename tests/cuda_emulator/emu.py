"""Compiles CUDA C++ with g++ and runs it on NumPy arrays, with the call shape of cupy.RawModule and RawKernel."""

import ctypes
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import OrderedDict
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from fastdesc.backend.cuda import kernels_folder

HERE = Path(__file__).resolve().parent
CACHE = Path(
    os.environ.get("FASTDESC_EMULATOR_CACHE", Path(tempfile.gettempdir()) / f"fastdesc-emulator-{os.getuid()}")
)
ONE_AT_A_TIME = threading.Lock()
"""Networks launch from the threads that share a CPU's atoms; the run time knows one launch."""
WITH_STACKS = OrderedDict()
"""Libraries that keep the stacks of their threads from launch to launch, by number; the last ones that were used."""
MOST_WITH_STACKS = 48
"""Of 256 threads, two maps each; Linux gives a process 65 530."""
ORDERS = {"forward": 0, "reverse": 1, "random": 2}
COMMON = ("-std=c++20", "-fPIC", "-g1", "-fno-strict-aliasing")
WARNINGS = ("-Wall", "-Wno-unknown-pragmas", "-Wno-unused")
SANITIZERS = {
    "address": ("-DEMULATOR_ADDRESS",),
    "thread": ("-DEMULATOR_THREAD",),
    "undefined": (),
    None: (),
}


class EmulatorError(RuntimeError):
    """g++ refused a kernel, or a launch failed."""


def gcc_status():
    """Return (usable, reason)."""
    found = shutil.which("g++")
    return found is not None, f"g++ is {found}" if found else "g++ is not installed"


def _built(stem, key, command_for, suffix=""):
    """Return the path of what command_for(folder, output) makes, made once per key also by concurrent processes."""
    CACHE.mkdir(parents=True, exist_ok=True)
    output = CACHE / f"{stem}-{hashlib.sha256(repr(key).encode()).hexdigest()[:20]}{suffix}"
    with open(f"{output}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                command = [str(word) for word in command_for(Path(folder), Path(folder) / "output")]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    raise EmulatorError(f"{' '.join(command)}\n{done.stderr}")
                os.replace(Path(folder) / "output", output)
    return output


def _compiled_header(header, flags):
    """Return the path of a copy of a header; what g++ made of it lies beside, and g++ takes that if it can."""
    copy = _built("emulator", header.read_text(), lambda folder, out: ["cp", header, out], ".h")
    words = ["g++", *flags, "-x", "c++-header", copy]
    made = _built("emulator", (flags, copy.name), lambda folder, out: [*words, "-o", out], ".gch")
    beside = copy.with_name(f"{copy.name}.gch")
    beside.mkdir(exist_ok=True)    # of the files in a folder of this name g++ takes the one made with its own options
    with suppress(FileExistsError):
        os.link(made, beside / made.name)
    return copy


def _included(path, found):
    """Return {path: text} of a file and of what it includes."""
    if path not in found:
        found[path] = path.read_text()
        for name in re.findall(r'^\s*#include\s+"([^"]+)"', found[path], re.MULTILINE):
            beside = path.parent / name
            _included(beside.resolve() if beside.exists() else kernels_folder().resolve() / name, found)
    return found


class Module:
    """Kernels of one source file.

    Parameters
    ----------
    path : path of a .cu file
    names : name expressions of the kernels wanted
    sanitize : {None, "address", "thread", "undefined"}
        With "address" and "thread" the process must have started with that sanitizer's library preloaded.
    optimise : g++'s option
    """

    def __init__(self, path, names, sanitize=None, optimise="-O1"):
        path = Path(path).resolve()
        header, runtime = HERE / "emulator.h", HERE / "runtime.cpp"
        own = list(_included(runtime, {}).values())
        flags = (*COMMON, "-O2", *SANITIZERS[sanitize])
        compiled = _built("runtime", (flags, own), lambda folder, out: ["g++", *flags, "-c", runtime, "-o", out])
        flags = [*COMMON, optimise, f"-I{kernels_folder().resolve()}", "-march=native", "-ffp-contract=fast", *WARNINGS]
        if sanitize:
            flags += [f"-fsanitize={sanitize}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
        exports = "".join(f"EMULATED_EXPORT(kernel_{k}, {name})\n" for k, name in enumerate(names))
        text = f'#include "{path}"\n{exports}'
        included = header if sanitize else _compiled_header(header, flags)
        sources = [*_included(path, {}).values(), header.read_text()]

        def command(folder, out):
            (folder / "kernels.cpp").write_text(text)
            link = ["-x", "none", compiled, "-Wl,-Bsymbolic", "-o", out]
            return ["g++", "-shared", *flags, "-include", included, folder / "kernels.cpp", *link]

        self._library = ctypes.CDLL(str(_built(path.stem, (flags, text, sources, compiled), command)))
        self._library.emulator_error.restype = ctypes.c_char_p
        self._kernels = {name: Kernel(self._library, f"kernel_{k}", name) for k, name in enumerate(names)}

    def get_function(self, name):
        return self._kernels[name]

    def run_threads(self, order, seed=1):
        """Order of threads from now on: "forward", "reverse" or "random"."""
        self._library.emulator_order(ORDERS[order], ctypes.c_uint64(seed))

    def order_blocks(self, ordered):
        """Whether the thread sanitizer is to believe that a block ends before the next begins."""
        self._library.emulator_ordered_blocks(int(ordered))


class Kernel:
    """Called as (grid, block, args, shared_mem=0); arguments are NumPy arrays and NumPy scalars of the exact types.

    A struct is an array of one element, the bytes of the struct.
    """

    def __init__(self, library, symbol, name):
        self.name, self._library, self._function = name, library, getattr(library, symbol)
        signature = getattr(library, symbol + "_signature")
        signature.restype = ctypes.c_char_p
        text = signature().decode()
        self.signature = text.split(",") if text else []

    def _pointer(self, number, argument, wanted):
        """Return a ctypes object whose address is that of the argument; TypeError unless of the type wanted."""
        where = f"{self.name} argument {number}"
        if not isinstance(argument, np.ndarray | np.generic):
            raise TypeError(
                f"{where}: a {type(argument).__name__} came; CuPy would send int as int64, float as float64"
            )
        constant, star, kind = wanted.rpartition("*")
        found = argument.dtype.kind + str(argument.dtype.itemsize)
        if argument.dtype.kind == "V" and not star:
            # CuPy copies an array of one element; a NumPy scalar of kind V is nothing that it knows.
            if isinstance(argument, np.generic) or argument.size != 1 or found != wanted:
                raise TypeError(f"{where}: a {type(argument).__name__} of {found} came, the kernel takes {wanted}")
            return (ctypes.c_char * argument.itemsize).from_buffer_copy(argument.tobytes())
        if isinstance(argument, np.generic):
            if found != wanted:
                raise TypeError(f"{where}: {found} came, the kernel takes {wanted}")
            return np.ctypeslib.as_ctypes(np.array(argument))
        if not star:
            raise TypeError(f"{where}: an array came, the kernel takes the scalar {wanted}")
        if kind[0] != "V" and found != kind:
            raise TypeError(f"{where}: an array of {found} came, the kernel takes {wanted}")
        if not constant and not argument.flags.writeable:
            raise TypeError(f"{where}: a read-only array came, the kernel takes {wanted}")
        return ctypes.c_void_p(argument.ctypes.data)

    def __call__(self, grid, block, args, shared_mem=0):
        if len(args) != len(self.signature):
            raise TypeError(f"{self.name}: {len(args)} arguments came, the kernel takes {len(self.signature)}")
        values = [self._pointer(k, a, s) for k, (a, s) in enumerate(zip(args, self.signature, strict=True))]
        pointers = (ctypes.c_void_p * len(args))(*[ctypes.addressof(v) for v in values])
        sizes = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (grid, block)]
        with ONE_AT_A_TIME:
            _keep_stacks(self._library)
            failed = self._function(*sizes, ctypes.c_size_t(shared_mem), pointers)
        if failed:
            raise EmulatorError(f"{self.name}: {self._library.emulator_error().decode()}")


def _keep_stacks(library):
    """Of this library, and no longer those of the one whose last launch is longest ago."""
    WITH_STACKS[library._handle] = library
    WITH_STACKS.move_to_end(library._handle)
    if len(WITH_STACKS) > MOST_WITH_STACKS:
        WITH_STACKS.popitem(last=False)[1].emulator_release()


@cache
def _module(path, names, sanitize):
    return Module(path, names, sanitize)


def load(path, names, order="forward", seed=1, sanitize=None):
    """Loader for fastdesc.backend.cuda.executor; use functools.partial for another order of threads."""
    module = _module(path, tuple(names), sanitize)
    module.run_threads(order, seed)
    return module
