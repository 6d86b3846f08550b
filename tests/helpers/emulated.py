"""CUDA kernels without a GPU: under the emulator, under a sanitizer, or written down."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cuda_emulator import gcc_status

from fastdesc.backend.cuda import kernels_folder

TESTS = Path(__file__).resolve().parents[1]
IMPORTABLE = [str(TESTS), str(TESTS / "kernels")]
"""What a process started by a test puts on its path."""
GCC, NO_GCC = gcc_status()
needs_gcc = pytest.mark.skipif(not GCC, reason=NO_GCC)
ORDERS = ("forward", "reverse", "random")


def under_sanitizer(sanitizer, code):
    """Run Python with a sanitizer's library loaded; return exit status and all output."""
    found = subprocess.run(
        ["g++", f"-print-file-name=lib{sanitizer[0]}san.so"], capture_output=True, text=True
    ).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip(f"g++ comes without its {sanitizer} sanitizer")
    options = {"LD_PRELOAD": found, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=TESTS.parent, env={**os.environ, **options}
    )
    output = done.stdout + done.stderr
    if "unexpected memory mapping" in output:
        pytest.skip("this kernel's address space randomisation is more than g++'s sanitizer can bear")
    return done.returncode, output


def file_of(path):
    """The name of a .cu file below kernels/, as launches give it."""
    return path.relative_to(kernels_folder()).as_posix()


class Recorder:
    """A loader whose kernels write down how they were called; the last of the arguments is the struct of scalars."""

    def __init__(self):
        self.calls, self.loaded = [], []

    def __call__(self, path, names):
        self.loaded += [(file_of(path), n) for n in names]
        return self

    def get_function(self, name):
        return lambda grid, block, args, shared_mem=0: self.calls.append((name, grid, block, args, shared_mem))
