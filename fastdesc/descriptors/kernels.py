"""How the kernels of all families are bound to a list of pairs: on the CPU in chunks of atoms, on a GPU by launches.

Each family has a class `Kernels` in its cpu.py and another in its cuda.py, with one method for each kernel, named as
the kernel. The methods of both take the same arrays and return the same.
"""

import numpy as np

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace
from fastdesc.backend.launch_shapes import atoms_per_warp, with_whole_rows
from fastdesc.backend.threads import for_chunks
from fastdesc.simd import kind_of, rows_of


class NumbaKernels:
    """Numba kernels, each run over chunks of atoms on all threads.

    Parameters
    ----------
    family : Family
    rij : ((2,) 3, n_pairs) array, Å
        All other arrays have a leading axis of two if it has.
    pairs : Pairs
    species : (n_atoms,) int32 array
    """

    chunk = 256

    def __init__(self, family, rij, pairs, species):
        self.family, self.dual, self.n_atoms = family, rij.ndim == 3, pairs.n_atoms
        self.planes = 2 if self.dual else 1
        self.leading = (kind_of(rij.dtype, self.dual),)
        """What kernels take before the first and last atom of a chunk."""
        self.pair_list = (pairs.row, pairs.j, species, self.rows(rij))
        self._alive = [rij]    # Rows are addresses

    @property
    def over_list(self):
        """What `for_chunks` takes between a kernel and its other arguments, for all atoms of the list."""
        return self.n_atoms, self.chunk, self.leading

    def over(self, array):
        """What `for_chunks` takes between a kernel and its other arguments, for the atoms of an array (.., n)."""
        return array.shape[-1], self.chunk, self.leading

    def rows(self, x):
        """Rows of an array, as of fastdesc.simd.rows_of; the caller keeps the array alive."""
        return rows_of(x, self.dual)

    def read(self, x):
        """Rows of an array from outside, or of a copy of it whose rows are contiguous."""
        if x.strides[-1] != x.itemsize:
            x = np.ascontiguousarray(x)
            self._alive.append(x)
        return self.rows(x)

    def task(self, kernel, *arguments):
        """Return what runs a kernel on atoms first .. last-1."""
        return lambda first, last: kernel(*self.leading, first, last, *arguments)

    def run_together(self, *tasks, chunk=None):
        """Run tasks one after the other for each chunk, when what one writes is still in the cache for the next.

        Returns
        -------
        list
            What the last task returned for each chunk, in order.
        """

        def run(first, last):
            return [task(first, last) for task in tasks][-1]

        return for_chunks(run, self.n_atoms, chunk or self.chunk)

    def sums(self, kernel, before, shapes, after):
        """Return a task that hands arrays of zeros to a kernel, between its other arguments, and returns them.

        Kernels add to them, in float64; `total` adds up those of all chunks.
        """

        def task(first, last):
            out = [np.zeros(shape) for shape in shapes]
            kernel(*self.leading, first, last, *before, *out, *after)
            return out

        return task

    @staticmethod
    def total(parts, shapes):
        """Add up what `sums` returned for each chunk, in order."""
        totals = [np.zeros(shape) for shape in shapes]
        for part in parts:
            for total, found in zip(totals, part, strict=True):
                total += found
        return totals


class CudaKernels:
    """CUDA kernels, each launched over all atoms; parameters as of NumbaKernels.

    Attributes
    ----------
    scalar : str
        Template argument of the kernels: "float", "Dual<float>", ..
    item : int
        Bytes of one scalar.
    warps : int
        Atoms of a block of the kernels that run over pairs: WARPS of kernels/pair_loops.cuh.
    """

    def __init__(self, family, rij, pairs, species):
        self.family, self.xp, self.dual, self.n_atoms = family, namespace(rij), rij.ndim == 3, pairs.n_atoms
        self.n_species = len(family.species_numbers)
        self.scalar = cuda.scalar_name(rij.dtype, self.dual)
        self.item = rij.itemsize * (1 + self.dual)
        self.warps = 32 // self.item
        self.rij = self.whole(rij)
        self.pair_list = (pairs.row, pairs.j, species, self.rij)

    def whole(self, x):
        """Return an array, or a copy of it whose rows are contiguous."""
        return with_whole_rows(self.xp, x)

    def partial_sums(self, row_bytes):
        """Return how many atoms a warp adds up for sums of `row_bytes`, and the number of such partial sums."""
        each = atoms_per_warp(self.n_atoms, row_bytes)
        return each, -(-self.n_atoms // (self.warps * each)) * self.warps
