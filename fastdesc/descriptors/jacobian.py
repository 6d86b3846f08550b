"""The Jacobian of features with respect to positions, sparse: one dense block per centre and neighbour atom."""

from dataclasses import dataclass

import numpy as np

from fastdesc.backend.arrays import namespace, to_host
from fastdesc.backend.jit import kernel
from fastdesc.backend.memory import check_memory
from fastdesc.backend.threads import for_chunks

AT_ONCE = 40
"""Features pulled back before they are scattered: a block is then written in long runs, of some cache lines each."""
CHUNK = 256
MEMORY_ADVICE = "give fewer frames at a time, or write them with fd.featurize"


def check_jacobian_memory(structures, pairs, n_features, dtype):
    """InputError where a Jacobian is larger than the memory that is free: one block for each atom and neighbour."""
    in_frames = float((np.diff(structures.first).astype(np.float64) ** 2).sum())
    n = min(pairs.n_pairs + structures.n_atoms, in_frames)
    needed = 3 * n * n_features * np.dtype(dtype).itemsize
    what = f"derivatives of {n_features} features in {n:.1e} blocks"
    check_memory(needed, what, "use a smaller cutoff, or fewer frames")


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

    def todense(self) -> np.ndarray:
        """Return the full array, (n_atoms, n_features, n_atoms, 3)."""
        dense = np.zeros((self.n_atoms, self.values.shape[1], self.n_atoms, 3), self.values.dtype)
        dense[self.centre, :, self.atom] = self.values
        return dense


class RowBlocks:
    """The blocks of features that depend only on the pairs of their own row, filled bit by bit.

    One block per centre and neighbour atom, the centre's own among them; the images of one neighbour share a block. In
    memory components come before features, so that pieces of blocks are long runs.
    """

    def __init__(self, pairs, n_features, dtype, new=np.zeros):
        self.n_atoms, self.row = pairs.n_atoms, to_host(pairs.row)
        centre, atom = to_host(pairs.i).astype(np.int64), to_host(pairs.j)
        numbers = np.arange(self.n_atoms)
        names = numbers if pairs.names is None else pairs.names
        self._n_names = 1 + max(names.max(initial=0), atom.max(initial=0))
        keys = np.concatenate([numbers * self._n_names + names, centre * self._n_names + atom])
        self.blocks, place = np.unique(keys, return_inverse=True)
        self.own, self.other = place[: self.n_atoms], place[self.n_atoms :]
        self.values = new((len(self.blocks), 3, n_features), dtype)

    def add(self, first, last, feature, slopes):
        """Add d q_f / d r_p of the pairs of centres first .. last-1, for some features from number `feature` on.

        Parameters
        ----------
        slopes : (3, n_pairs of these centres, n) array
        """
        add_slopes(first, last, self.row, self.own, self.other, slopes, self.values, feature)

    def jacobian(self):
        """Return what has been filled in."""
        centre, atom = np.divmod(self.blocks, self._n_names)
        return Jacobian(centre, atom, self.values.transpose(0, 2, 1), self.n_atoms)


@kernel
def add_slopes(first, last, row, own, other, slopes, values, start):
    """Add d q_f / d r_p, features start .., to the block of the neighbour and subtract it from the centre's own.

    in   row (n_atoms+1,), own (n_atoms,), other (n_pairs,), slopes (3, row[last] - row[first], n)
    out  values (n_blocks, 3, n_features), the blocks of centres first .. last-1
    """
    for i in range(first, last):
        mine = own[i]
        for p in range(row[i], row[i + 1]):
            block = other[p]
            for c in range(3):
                for f in range(slopes.shape[2]):
                    x = slopes[c, p - row[first], f]
                    values[block, c, start + f] += x
                    values[mine, c, start + f] -= x


def zeros_in(memory):
    """What makes zeros in the arrays that `memory` makes; numpy.zeros for None."""
    if memory is None:
        return np.zeros

    def zeros(shape, dtype):
        array = memory(shape, dtype)
        array[...] = 0
        return array

    return zeros


def row_jacobian(pull, rij, pairs, n_features, memory=None):
    """Jacobian of features that depend only on the pairs of their own row.

    A pair belongs to one centre, so one pullback of a feature serves all centres at once.

    Parameters
    ----------
    pull : callable
        dq (n_features, n_atoms) -> drij (3, n_pairs).
    memory : callable, optional
        Makes the array of values, as numpy.empty does.
    """
    xp = namespace(rij)
    blocks = RowBlocks(pairs, n_features, rij.dtype, zeros_in(memory))
    dq = xp.zeros((n_features, pairs.n_atoms), rij.dtype)
    pulled = np.empty((AT_ONCE, 3, pairs.n_pairs), rij.dtype)
    for start in range(0, n_features, AT_ONCE):
        stop = min(start + AT_ONCE, n_features)
        for f in range(start, stop):
            dq[f] = 1
            pulled[f - start] = to_host(pull(dq))
            dq[f] = 0

        def task(a, b, start=start, stop=stop):
            mine = slice(blocks.row[a], blocks.row[b])
            blocks.add(a, b, start, np.ascontiguousarray(pulled[: stop - start, :, mine].transpose(1, 2, 0)))

        for_chunks(task, pairs.n_atoms, CHUNK)
    return blocks.jacobian()
