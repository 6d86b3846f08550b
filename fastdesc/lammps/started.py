"""The pair style in a LAMMPS that Python did not start: its program lmp, alone or under mpiexec (start_python.h)."""

import os

from fastdesc.backend.process import keep_freed_memory, prefer_avx512
from fastdesc.errors import FastdescError
from fastdesc.lammps import build


def folder():
    """Where the program lmp of the Python package looks for the pair style (its entry points lammps.plugins).

    Returns
    -------
    str
        The folder of what `fastdesc lammps` or `fastdesc lammps build` has compiled for this package; else one that
        is not there.
    """
    try:
        out = build.place(build.package_version())
    except (FastdescError, OSError):
        return os.devnull
    return str(out.parent) if out.is_file() else os.devnull


def take_over(path):
    """Serve the pair style at a path, called by itself; what a program of ours sets for the process is set here."""
    prefer_avx512()
    keep_freed_memory()
    from fastdesc.lammps import serve

    serve(os.path.realpath(path))
