"""Second derivatives of large structures: column by column, from what is within reach of each atom.

The energy of an atom depends on atoms within R = (T + 1) cutoffs, T the iterations of the descriptor. So column j
of the Hessian has rows within 2 R of atom j, and is that of a cluster of all atoms within 2 R of it: energies that
depend on x_j see all that they see in the crystal, and the others do not count. By translation, derivatives by images
of j are those by j of images of the other atoms; rows of images are added to those of their atoms.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fastdesc.errors import InputError
from fastdesc.geometry import pair_vectors
from fastdesc.pairs import Pairs
from fastdesc.potential import Potential
from fastdesc.potential.hessian import HessianProducts, atoms_asked_for
from fastdesc.structures import Structures


def sparse_hessian(
    potential: Potential, atoms: Atoms, indices: Sequence[int] | NDArray[np.int64] | None = None
) -> Any:
    """Second derivatives of the energy of a structure of any size, exact, as a sparse matrix; on the CPU.

    Time and memory grow with the number of atoms, not with its square. For cells that are not much larger than the
    reach of forces (two cutoffs, with iterations more) `Potential.hessian` is faster.

    Parameters
    ----------
    potential : Potential
    atoms : ase.Atoms
    indices : sequence of int, optional
        Atoms whose columns are asked for; all by default.

    Returns
    -------
    scipy.sparse.csr_array, (3 n_atoms, 3 n), eV/Å²
        d²E/dx_ia dx_jb at row 3 i + a and column 3 k + b, j the k-th of the n atoms asked for. Periodic images of an
        atom move with it.

    Raises
    ------
    InputError
        As Potential.hessian.
    """
    if not hasattr(potential, "descriptor"):
        raise InputError(f"potential is a {type(potential).__name__}; give a Potential")
    structures = Structures.from_ase(atoms)
    if structures.n_frames != 1:
        raise InputError(f"{structures.n_frames} frames came; a Hessian is of one ase.Atoms")
    structures.species(potential.descriptor.species_numbers)
    n = structures.n_atoms
    own = np.arange(n) if indices is None else atoms_asked_for(indices, n)
    reach = 2 * (getattr(potential.descriptor, "iterations", 0) + 1) * potential.descriptor.cutoff
    pairs = Pairs.find(structures, reach)
    rij = pair_vectors(structures.positions, structures.cells, pairs, np.float64)
    parts = [_column(potential, structures.numbers, pairs, rij, j) for j in own]
    rows = np.concatenate([rows for rows, _ in parts])
    values = np.concatenate([values for _, values in parts])
    columns = np.repeat(np.arange(len(own)), [len(rows) for rows, _ in parts])
    # Blocks of three by three: of rows i, of columns k.
    at = (np.arange(3)[:, None] + 3 * rows[:, None, None] + np.zeros((1, 3), int)).reshape(-1)
    across = (np.arange(3) + 3 * columns[:, None, None] + np.zeros((3, 1), int)).reshape(-1)
    out = csr_array((values.reshape(-1), (at, across)), shape=(3 * n, 3 * len(own)))    # which adds up images
    out.eliminate_zeros()
    return out


def _column(potential, numbers, pairs, rij, j):
    """Rows (m,) and blocks (m, 3, 3) of the columns of one atom."""
    row = slice(int(pairs.row[j]), int(pairs.row[j + 1]))
    around = np.concatenate([[j], pairs.j[row]])
    positions = np.concatenate([np.zeros((1, 3)), rij[:, row].T])
    product = HessianProducts(potential, Atoms(numbers[around], positions=positions))
    blocks, v = np.empty((len(around), 3, 3)), np.zeros((len(around), 3))
    for b in range(3):
        v[0, b] = 1.0
        blocks[:, :, b] = product(v)
        v[0, b] = 0.0
    near = np.abs(blocks).max(axis=(1, 2)) > 0
    return around[near], blocks[near]
