"""Pairs of the frames of a set: kept as long as they fit into an amount of memory, else found anew for every batch.

A pair takes thirty times the memory of a coordinate, and finding it a twentieth of the time of a step on it. Both ways
give the same numbers, to the last bit.
"""

import numpy as np

from fastdesc.backend.arrays import namespace, to_device
from fastdesc.descriptors.short_distances import ShortDistances, of_structures
from fastdesc.geometry import pair_vectors
from fastdesc.pairs import Pairs, joined
from fastdesc.training.prefetch import prefetched

AT_ONCE = 1 << 14
"""Atoms whose pairs are found at a time at first."""
INTEGERS = 20
"""Bytes of the integers of a pair: neighbour, shift, mirror."""


class PairStore:
    """Pairs of some frames, and their vectors.

    Parameters
    ----------
    structures : Structures
    cutoff : float
        In Å.
    dtype : dtype
    device : {"cpu", "cuda"}
    most : float
        Bytes of pairs that are kept.

    Attributes
    ----------
    n_pairs : (n_frames,) int
    kept : bool

    Raises
    ------
    InputError
        As Pairs.find.
    """

    def __init__(self, structures, cutoff, dtype, device, most):
        self._structures, self._cutoff, self._dtype, self._device = structures, cutoff, np.dtype(dtype), device
        found, vectors, counts, used, self.kept = [], [], [], 0, True
        for block in structures.blocks(AT_ONCE):
            pairs = Pairs.find(block, cutoff)
            counts.append(np.diff(pairs.starts))
            used += pairs.n_pairs * (INTEGERS + 3 * self._dtype.itemsize)
            self.kept = self.kept and used <= most
            if not self.kept:
                found, vectors = [], []
                continue
            rij = pair_vectors(block.positions, block.cells, pairs, self._dtype)
            found.append(pairs.to_device(device))
            vectors.append(to_device(rij, device))
        self.n_pairs, self.n_bytes = np.concatenate(counts), used
        if self.kept:
            pairs = rij = None
            several = len(found) > 1
            self._pairs = Pairs(*joined(found)) if several else found[0]
            self._rij = namespace(vectors[0]).concatenate(vectors, axis=1) if several else vectors[0]

    def take(self, frames):
        """Pairs of some frames, in the order asked for, and their vectors (3, n_pairs) in Å."""
        if self.kept:
            bounds, xp = self._pairs.starts, namespace(self._rij)
            rij = xp.concatenate([self._rij[:, bounds[f] : bounds[f + 1]] for f in frames], axis=1)
            return self._pairs.take(frames), rij
        some = self._structures.take(frames)
        pairs = Pairs.find(some, self._cutoff)
        rij = pair_vectors(some.positions, some.cells, pairs, self._dtype)
        return pairs.to_device(self._device), to_device(rij, self._device)

    def short_distances(self, descriptor):
        """How many distances lie below what a descriptor's filters were made for."""
        if self.kept:
            return ShortDistances.among(descriptor, self._rij)
        return of_structures(descriptor, self._structures)

    def ahead(self, make, arguments):
        """Yield make(x) for each x of `arguments`; where pairs are found anew, one ahead, in a thread."""
        if self.kept:
            yield from map(make, arguments)
            return
        yield from prefetched(make, arguments)
