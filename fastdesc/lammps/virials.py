"""Virials of single atoms, for stresses of atoms and for heat flux.

    W_k = -sum_i r_ik (x) dE/dr_ik        over the atoms i that see k                                          (1)

is the virial of the forces that act on atom k in the pairs of others: what LAMMPS calls centroid virial. It sums to
the whole, and with energies that depend on the pairs of their own row alone it gives the right heat flux.
"""

import numpy as np

from fastdesc.backend.arrays import to_host
from fastdesc.backend.jit import kernel
from fastdesc.backend.threads import for_chunks

ATOMS = 512


def atom_virials(rij, drij, pairs):
    """Virials (1) of all atoms of a list with mirrors.

    Parameters
    ----------
    rij, drij : (3, n_pairs), Å and eV/Å
    pairs : Pairs

    Returns
    -------
    float64 (n_atoms, 9), eV
        In LAMMPS' order: xx, yy, zz, xy, xz, yz, yx, zx, zy; of xy, x is of r.
    """
    row, mirror, rij, drij = (to_host(x) for x in (pairs.row, pairs.mirror, rij, drij))
    out = np.empty((len(row) - 1, 9))
    for_chunks(lammps_atom_virials, len(out), ATOMS, after=(row, mirror, rij, drij, out))
    return out


@kernel
def lammps_atom_virials(first, last, row, mirror, rij, drij, out):
    """Formula (1) for atoms first .. last-1."""
    for k in range(first, last):
        w = np.zeros((3, 3))
        for p in range(row[k], row[k + 1]):
            m = mirror[p]
            for a in range(3):
                for b in range(3):
                    w[a, b] -= np.float64(rij[a, m]) * np.float64(drij[b, m])
        out[k, 0], out[k, 1], out[k, 2] = w[0, 0], w[1, 1], w[2, 2]
        out[k, 3], out[k, 4], out[k, 5] = w[0, 1], w[0, 2], w[1, 2]
        out[k, 6], out[k, 7], out[k, 8] = w[1, 0], w[2, 0], w[2, 1]
