"""Published s-MEAM files: pair style fastdesc beside LAMMPS' own meam/spline, in the same LAMMPS."""

import numpy as np
import pytest
from ase.build import bulk
from helpers.lammps_ranks import box, mpiexec, start
from helpers.lammps_run import published

from fastdesc.potential.meam import read_meam_spline

FILES = {"TiO.meam.spline": ("Ti", "O"), "Si_1.meam.spline": ("Si",)}
TOLERANCE = 1e-9

pytestmark = pytest.mark.skipif(
    mpiexec() is None or any(published(name) is None for name in FILES),
    reason="needs the packages lammps, with its potentials, and mpich, and a C++ compiler",
)


def shaken(elements):
    atoms = bulk("Si", "diamond", a=5.43, cubic=True).repeat(2) if elements == ("Si",) else (
        bulk("Ti", "bcc", a=3.3, cubic=True).repeat((4, 3, 3)))    # fmt: skip
    cell = atoms.cell.array.copy()
    cell[1, 0], cell[2, 1] = 0.7, -0.5
    atoms.set_cell(cell, scale_atoms=True)
    rng = np.random.default_rng(1)
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    atoms.set_chemical_symbols([elements[-1] if k % 9 == 0 else elements[0] for k in range(len(atoms))])
    return atoms


def test_equal_to_meam_spline(tmp_path):
    cases = []
    for name, elements in FILES.items():
        atoms, model = shaken(elements), tmp_path / f"{elements[0]}.h5"
        read_meam_spline(published(name), *(elements if len(elements) == 1 else ())).save(model)
        case = {
            "box": box(atoms), "positions": atoms.positions.tolist(), "model": str(model), "steps": 0,
            "types": [1 + elements.index(symbol) for symbol in atoms.get_chemical_symbols()], "elements": elements,
            "centroid": False,
        }  # fmt: skip
        other = ["pair_style meam/spline", f"pair_coeff * * {published(name)} {' '.join(elements)}"]
        cases += [case, {**case, "style": other}]
    found = start(1, cases, tmp_path)
    for ours, theirs in zip(found[::2], found[1::2], strict=True):
        for name in ("thermo", "forces", "energies"):
            assert abs(ours[name] - theirs[name]).max() <= TOLERANCE * abs(theirs[name]).max(), name
