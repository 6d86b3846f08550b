"""The Jacobian of features with respect to positions, sparse: one dense block per centre and neighbour atom."""

from dataclasses import dataclass

import numpy as np

from fastdesc.arrays import namespace, to_host
from fastdesc.jit import kernel
from fastdesc.parallel import for_chunks

AT_ONCE = 40
"""Features pulled back before they are scattered: a block is then written in long runs, of some cache lines each."""
CHUNK = 256


@dataclass(frozen=True)
class Jacobian:
    """Derivatives of features with respect to positions, nonzero blocks only.

    Attributes
    ----------
    centre, atom : (n,) int
        Row n of `values` is d q[centre] / d x[atom]; a centre's dependence on its own position is included.
    values : (n, n_features, 3) 1/Å
    n_atoms : int
    """

    centre: np.ndarray
    atom: np.ndarray
    values: np.ndarray
    n_atoms: int

    def todense(self):
        """Return the full array, (n_atoms, n_features, n_atoms, 3)."""
        dense = np.zeros((self.n_atoms, self.values.shape[1], self.n_atoms, 3), self.values.dtype)
        dense[self.centre, :, self.atom] = self.values
        return dense


def row_jacobian(pull, rij, pairs, n_features):
    """Jacobian of features that depend only on the pairs of their own row.

    A pair belongs to one centre, so one pullback of a feature serves all centres at once.

    Parameters
    ----------
    pull : callable
        dq (n_features, n_atoms) -> drij (3, n_pairs).
    """
    xp = namespace(rij)
    n_atoms = pairs.n_atoms
    row, centre, atom = to_host(pairs.row), to_host(pairs.i).astype(np.int64), to_host(pairs.j)
    # A block per (centre, atom), its own among them; the images of one neighbour share a block.
    keys = np.concatenate([np.arange(n_atoms) * (n_atoms + 1), centre * n_atoms + atom])
    blocks, place = np.unique(keys, return_inverse=True)
    own, other = place[:n_atoms], place[n_atoms:]
    values = np.zeros((len(blocks), n_features, 3), rij.dtype)
    dq = xp.zeros((n_features, n_atoms), rij.dtype)
    pulled = np.empty((AT_ONCE, 3, len(atom)), rij.dtype)
    for start in range(0, n_features, AT_ONCE):
        stop = min(start + AT_ONCE, n_features)
        for f in range(start, stop):
            dq[f] = 1
            pulled[f - start] = to_host(pull(dq))
            dq[f] = 0

        def task(a, b, start=start, stop=stop):
            scatter_blocks(a, b, row, own, other, pulled[: stop - start], values, start)

        for_chunks(task, n_atoms, CHUNK)
    return Jacobian(blocks // n_atoms, blocks % n_atoms, values, n_atoms)


@kernel
def scatter_blocks(first, last, row, own, other, pulled, values, start):
    """Add d q_f / d r_p, features start .., to the block of the neighbour and subtract it from the centre's own.

    in   row (n_atoms+1,), own (n_atoms,), other (n_pairs,), pulled (n, 3, n_pairs)
    out  values (n_blocks, n_features, 3), the blocks of centres first .. last-1
    """
    for i in range(first, last):
        o = own[i]
        for p in range(row[i], row[i + 1]):
            k = other[p]
            for f in range(pulled.shape[0]):
                for c in range(3):
                    x = pulled[f, c, p]
                    values[k, start + f, c] += x
                    values[o, start + f, c] -= x
