"""Elastic constants and phonons of a trained potential, through ASE, beside those of its teacher.

    python examples/elastic_and_phonons.py

The teacher is ASE's EMT potential for copper. Elastic constants come from the slopes of stresses, phonons from
displaced atoms of a supercell: both are second derivatives, and only forces and stresses are asked for.
"""

import tempfile
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.phonons import Phonons
from ase.units import GPa

import fastdesc as fd


def crystals(n, seed):
    """Copper cells of 8 and 16 atoms near equilibrium, labelled by EMT."""
    rng, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True) * (1, rng.integers(1, 3), 2)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
        atoms.positions += rng.normal(0, rng.uniform(0.01, 0.1), atoms.positions.shape)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def relaxed(calculator):
    """The cubic cell where the stress vanishes."""
    atoms = bulk("Cu", cubic=True)
    atoms.calc = calculator
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4)
    return atoms


def elastic_constants(atoms, size=2e-3):
    """C11, C12, C44 of a cubic crystal, GPa: slopes of the stress by central differences of the strain."""
    voigt = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))

    def slope(a, b):
        """d stress_a / d strain_b; a shear strain in Voigt's notation is twice the off-diagonal element."""
        found = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            i, j = voigt[b]
            strain[i, j] = strain[j, i] = sign * size / (1 if i == j else 2)
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
            found.append(moved.get_stress()[a])
        return (found[0] - found[1]) / (2 * size) / GPa

    return slope(0, 0), slope(0, 1), slope(3, 3)


def phonons(calculator, a, points=((0.5, 0.0, 0.5), (0.5, 0.5, 0.5)), supercell=(4, 4, 4)):
    """Frequencies at X and L of the primitive cell, meV, ascending: (2, 3)."""
    with tempfile.TemporaryDirectory() as folder:
        found = Phonons(bulk("Cu", a=a), calculator, supercell=supercell, delta=0.02, name=str(Path(folder) / "phonon"))
        found.run()
        found.read(acoustic=True)
    return 1e3 * np.sort([found.band_structure([point])[0] for point in points], axis=1)


def main(n_train=80, epochs=120, supercell=(4, 4, 4)):
    """Train on EMT; return {property: (of the potential, of EMT)}."""
    descriptor = fd.GaussianMoments(species=["Cu"], cutoff=5.0, n_radial=4, max_rank=2)
    potential = fd.Potential(descriptor, hidden=(32, 32))
    fd.train(potential, crystals(n_train, 0), epochs=epochs, batch_atoms=128, stress_weight=1.0, progress=False)

    rows = {}
    for calculator in (fd.FastdescCalculator(potential), EMT()):
        atoms = relaxed(calculator)
        a = float(atoms.cell.lengths()[0])
        values = {"lattice constant, Å": a}
        values |= dict(zip(("C11, GPa", "C12, GPa", "C44, GPa"), elastic_constants(atoms), strict=True))
        at_x, at_l = phonons(calculator, a, supercell=supercell)
        values |= {"phonon at X, lowest, meV": at_x[0], "phonon at X, highest, meV": at_x[2]}
        values |= {"phonon at L, lowest, meV": at_l[0], "phonon at L, highest, meV": at_l[2]}
        for name, value in values.items():
            rows.setdefault(name, []).append(float(value))
    print(f"{'':28}{'potential':>10}{'EMT':>10}")
    for name, (ours, theirs) in rows.items():
        print(f"{name:28}{ours:10.3f}{theirs:10.3f}")
    return {name: tuple(values) for name, values in rows.items()}


if __name__ == "__main__":
    main()
