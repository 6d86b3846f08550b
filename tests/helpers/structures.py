"""Small named systems, each with one difficulty; every one is an ase.Atoms of a few atoms.

No distance is below 0.9 Å, and no structure is symmetric by accident: what is not named for its symmetry
is rattled, so that a wrong sign or index cannot hide.
"""

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule

ELEMENTS = ("H", "C", "O", "Na", "Cl", "Cu")


def rattled(atoms, seed, width=0.05):
    """Return `atoms` with normal displacements of `width` Å from a fixed seed."""
    atoms.positions += np.random.default_rng(seed).normal(0, width, atoms.positions.shape)
    return atoms


def lone_atom():
    return Atoms("Cu", positions=[(0.3, -0.2, 0.1)])


def dimer():
    return Atoms("OH", positions=[(0.1, 0.2, 0.3), (0.7, 0.8, -0.1)])


def collinear_triple():
    return Atoms("OCO", positions=[(0, 0, -1.16), (0, 0, 0), (0, 0, 1.18)])


def three_elements():
    return rattled(molecule("CH3OH"), 1)


def self_images():
    """One atom per cell, cell smaller than the cutoff: all neighbours are its own images."""
    return bulk("Cu", "fcc", a=3.6)


def triclinic():
    """Two elements, strained and rattled rock salt."""
    strain = np.array([[1.03, 0.02, -0.01], [0.0, 0.98, 0.04], [0.01, 0.0, 1.05]])
    atoms = bulk("NaCl", "rocksalt", a=5.0)
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    return rattled(atoms, 2, 0.1)


def skewed():
    """Angles near 30 degrees: the nearest images lie several cells away."""
    return Atoms(
        "CuO",
        positions=[(0.1, 0.2, 0.3), (3.0, 2.2, 1.1)],
        cell=[(3.4, 0, 0), (6.1, 3.3, 0), (-5.9, 4.1, 3.5)],
        pbc=True,
    )


def left_handed():
    """Two vectors of a triclinic cell exchanged: negative determinant."""
    atoms = triclinic()
    atoms.set_cell(atoms.cell[[1, 0, 2]], scale_atoms=False)
    return atoms


def slab():
    """Periodic in two directions, no third lattice vector."""
    atoms = Atoms("Cu2O", positions=[(0, 0, 0), (1.3, 1.4, 1.7), (0.1, 1.2, 3.2)], pbc=(True, True, False))
    atoms.set_cell([(2.7, 0.1, 0), (0.2, 2.6, 0.1), (0, 0, 0)])
    return atoms


def wire():
    """Periodic along y only, with a cell whose other vectors are short and must not matter."""
    cell = [(2, 0, 0), (0.1, 2.4, 0), (0, 0, 2)]
    return Atoms("CO", positions=[(0, 0, 0), (0.9, 1.1, 0.3)], cell=cell, pbc=(False, True, False))


def outside_the_cell():
    """The triclinic crystal with atoms moved by whole lattice vectors, far out of the cell."""
    atoms = triclinic()
    atoms.positions += np.array([[3, -2, 0], [-1, 4, 2]]) @ atoms.cell.array
    return atoms


def cluster_and_far_atom():
    """The last atom is 40 Å from all others."""
    return rattled(molecule("H2O"), 3) + Atoms("C", positions=[(40, 0, 0)])


ZOO = {
    make.__name__: make
    for make in (
        lone_atom, dimer, collinear_triple, three_elements, self_images, triclinic, skewed, left_handed,
        slab, wire, outside_the_cell, cluster_and_far_atom,
    )
}  # fmt: skip
