"""HDF5's own locks: a file system that has none, and a file that is open for writing elsewhere."""

import os
import shutil
import subprocess
import sys

import pytest
from ase.build import bulk

import fastdesc as fd
from fastdesc.errors import InputError
from fastdesc.hdf5 import files
from fastdesc.hdf5.files import format_of, open_hdf5

NO_LOCKS = "#include <errno.h>\nint flock(int fd, int how) { errno = ENOLCK; return -1; }\n"
USE = """
import sys
import fastdesc as fd
from ase.build import bulk
d = fd.GaussianMoments(species=["Cu"], cutoff=3.0, n_radial=2, n_basis=3)
fd.convert(bulk("Cu"), "frames.h5", progress=False)
fd.featurize("frames.h5", "features.h5", d, progress=False)
fd.featurize("frames.h5", "features.h5", d, progress=False, resume=True)
fd.Potential(d, hidden=(4,)).save("model.h5")
print(len(fd.read_frames("frames.h5")), len(fd.open_features("features.h5")), fd.load("model.h5").n_parameters > 0)
"""


@pytest.mark.skipif(not (shutil.which("gcc") and sys.platform == "linux"), reason="needs gcc and Linux")
def test_a_file_system_without_locks(tmp_path):
    """Every call of flock fails, as on some parallel file systems: all is written and read all the same."""
    (tmp_path / "no_locks.c").write_text(NO_LOCKS)
    library = tmp_path / "no_locks.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, tmp_path / "no_locks.c"], check=True)
    environment = {k: v for k, v in os.environ.items() if k != "HDF5_USE_FILE_LOCKING"}
    environment |= {"LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(sys.path)}
    h5 = "import h5py; h5py.File('x.h5', 'w')"
    failed = subprocess.run([sys.executable, "-c", h5], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "No locks available" in failed.stderr, "HDF5 meets the file system without locks"
    done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1", "1", "True"]
    assert not list(tmp_path.glob("*.lock")) and not list(tmp_path.glob("*.part"))


def test_where_locks_can_neither_be_had_nor_left_out(tmp_path, monkeypatch):
    fd.convert(bulk("Cu"), tmp_path / "x.h5", progress=False)

    def refuse(name, **how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files, "CheckedFile", refuse)
    with pytest.raises(InputError, match=r"x.h5 is on a file system without locks; set HDF5_USE_FILE_LOCKING=FALSE in"):
        open_hdf5(tmp_path / "x.h5")


def test_a_file_in_use_elsewhere_says_so(tmp_path):
    path = fd.convert(bulk("Cu"), tmp_path / "x.h5", progress=False)
    before = path.read_bytes()
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        for attempt in (
            lambda: fd.read_frames(path), lambda: fd.load(path), lambda: fd.open_features(path),
            lambda: format_of(path), lambda: fd.convert(bulk("Cu"), path, progress=False),
        ):  # fmt: skip
            with pytest.raises(InputError, match=r"x.h5 is in use: another program has it open for writing; close it"):
                attempt()
        other.communicate(b"\n")
    assert path.read_bytes()[:8] == before[:8] and len(fd.read_frames(path)) == 1
