"""Gaussian moments of one large periodic cell on a device, float32: a thread an atom.

    M_i[s, c] = sum_j R_s(r_ij) m_c(u_ij)                                                               (1)
    dr_ij = u sum_c m_c sum_s R'_s dM_i[s, c] + (1 - u u) sum_c (dm_c/du) sum_s R_s dM_i[s, c] / r_ij   (2)
    F_i = sum_j (dr_ij - dr_ji),   W = sum_ij r_ij (x) dr_ij                                            (3)

as of moments.py and fastdesc/geometry.py, with R_s from a table (radial_table.py). What makes it fast where there are
enough atoms for a thread each:

- Atoms are sorted along a curve in space. 32 that follow one another are a slice, and the list of a slice is
  transposed: the threads of a warp read side by side, and neighbours of neighbours lie close together in the cache.
- Places are fractions of the cell, as int32 numbers of 2^-32. Differences wrap around to the nearest image by
  themselves, which is the only one within the cutoff where the cell is thicker than twice that of the list.
- Vectors of pairs are made where they are needed and stored nowhere; of pairs, gradients alone are, 16 bytes each.

Functions are named as the kernels of kernels/gaussian_moments/large_system.cu and take their arrays, which lie on a
device, or on the host while tests emulate one.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace
from fastdesc.descriptors.gaussian_moments.radial_table import radial_tables
from fastdesc.numerics.radial import BASES

FILE = "gaussian_moments/large_system.cu"
THREADS, SLICE, WIDTH = 128, 32, 5
"""Of the kernels: threads a block, atoms whose lists lie side by side, radial channels in registers."""
BINS = 1024
"""Along each vector of a cell at most, for the curve."""
MOST_SLOTS = 2**31 - 1
"""For slots are numbered in int32."""
STAGED = 48 << 10
"""Bytes of radial tables up to which a block keeps its own in shared memory."""


@dataclass
class SlicedList:
    """Neighbours of one cell, transposed within slices of 32 atoms.

    Attributes
    ----------
    order, rank : int32 (n_atoms,)
        Which atom is where on the curve, and where an atom is.
    count : int32 (n_atoms,)
        Neighbours of the atoms along the curve.
    start : int64 (n_slices + 1,)
        First slot of each slice: neighbour k of the atom a is slot start[a // 32] + 32 k + a % 32.
    neighbour, opposite : int32 (n_slots,)
        Place of the neighbour on the curve, slot of the mirror; not set where an atom has fewer neighbours.
    kept : dict
        What others made of the list and keep with it.
    """

    order: Any
    rank: Any
    count: Any
    start: Any
    neighbour: Any
    opposite: Any
    kept: dict = field(default_factory=dict)

    @property
    def n_atoms(self):
        return len(self.order)

    @property
    def n_slots(self):
        return len(self.neighbour)


@dataclass
class Tables:
    """Radial channels of a model on its device; see radial_table.py."""

    tables: Any
    n_species: int
    n_radial: int
    n_moments: int
    knots: int
    per_knot: float
    cutoff: float

    @classmethod
    def of(cls, family, beta):
        """Of a descriptor and its coefficients, an array of the host."""
        tables, knots = radial_tables(beta, BASES.index(family.basis), family.cutoff, WIDTH)
        sizes = len(beta), family.n_radial, family.n_moments, knots
        return cls(tables, *sizes, knots / family.cutoff, float(family.cutoff))

    @property
    def numbers(self):
        """What kernels take of it after the strides."""
        return (self.n_species, self.n_radial, self.n_moments, self.knots, self.per_knot, self.cutoff)

    @property
    def shared(self):
        """Bytes that a block of threads keeps of it: those of a slab of channels, or none where these are too many."""
        size = self.tables.nbytes // len(self.tables)
        return size if size <= STAGED else 0


def sliced(pairs, positions, cell, species, widths):
    """The list of one periodic cell, in slices.

    Parameters
    ----------
    pairs : Pairs
        Of one frame.
    positions : float64 (n_atoms, 3), Å
    cell : float64 (3, 3), Å
    species : int32 (n_atoms,)
    widths : 3 floats
        Thickness of the cell along each of its vectors, Å.

    Returns
    -------
    SlicedList, or None where there are more slots than can be numbered
    """
    xp, n = namespace(pairs.j), pairs.n_atoms
    order = _along_curve(xp, positions, cell, species, widths, pairs.cutoff)
    rank = xp.empty(n, np.int32)
    rank[order] = xp.arange(n, dtype=np.int32)
    count = (pairs.row[1:] - pairs.row[:-1]).astype(np.int32)[order]
    slices = xp.zeros(-(-n // SLICE) * SLICE, np.int32)
    slices[:n] = count
    start = xp.zeros(len(slices) // SLICE + 1, np.int64)
    start[1:] = xp.cumsum(slices.reshape(-1, SLICE).max(axis=1).astype(np.int64) * SLICE)
    n_slots = int(start[-1])    # the wait of a new list
    if n_slots > MOST_SLOTS:
        return None
    neighbour, opposite = xp.empty(n_slots, np.int32), xp.empty(n_slots, np.int32)
    gm_large_list(pairs.row, pairs.j, pairs.mirror, order, rank, start, neighbour, opposite)
    return SlicedList(order, rank, count, start, neighbour, opposite)


def _along_curve(xp, positions, cell, species, widths, cutoff):
    """Atoms in the order of their bins on a Z-order curve, int32; a bin is half a cutoff wide where that is enough."""
    n = len(positions)
    places, keys = xp.empty((n, 4), np.int32), xp.empty(n, np.int32)
    gm_large_places(xp.arange(n, dtype=np.int32), species, positions, cell, places)
    gm_large_keys(places, keys, *(int(min(max(2 * w / cutoff, 1), BINS)) for w in widths))
    return xp.argsort(keys).astype(np.int32)


def places_of(listed, positions, cell, species):
    """int32 (n_atoms, 4): where atoms are, along the curve, in parts of the cell, and their elements."""
    places = namespace(positions).empty((listed.n_atoms, 4), np.int32)
    gm_large_places(listed.order, species, positions, cell, places)
    return places


def forces_and_virial(listed, places, cell, gradients):
    """Formula (3): forces (n_atoms, 3), float64 in eV/Å, atoms in their own order; virial (3, 3), float64 in eV."""
    xp, n = namespace(places), listed.n_atoms
    forces, virials = xp.empty((n, 3)), xp.empty((-(-n // THREADS), 9))
    given = listed.count, listed.start, listed.neighbour, listed.opposite, places, cell, listed.order
    gm_large_forces(*given, gradients, forces, virials)
    return forces, virials.sum(axis=0).reshape(3, 3)


# ------------------------------------------------------------------------------------------------------------ launches


def gm_large_keys(places, keys, bins_a, bins_b, bins_c):
    """Numbers of bins along the curve, so many bins along each vector of the cell."""
    _launch("gm_large_keys", len(places), (places, keys, bins_a, bins_b, bins_c))


def gm_large_places(order, species, positions, cell, places):
    """Places in the order of the list."""
    _launch("gm_large_places", len(order), (order, species, positions, cell, places))


def gm_large_list(row, j, mirror, order, rank, start, neighbour, opposite):
    """A list transposed within slices."""
    _launch("gm_large_list", len(order), (row, j, mirror, order, rank, start, neighbour, opposite))


def gm_large_moments(count, start, neighbour, places, cell, tables, moments, first):
    """Formula (1) for the atoms of the curve from `first` on, as many as moments (n_radial, n_moments, n) has."""
    arrays = count, start, neighbour, places, cell, tables.tables, moments
    slabs = len(tables.tables)
    _launch_of_pairs("gm_large_moments", arrays, moments, first, tables, slabs)


def gm_large_gradients(count, start, neighbour, places, cell, tables, dmoments, gradients, first):
    """Formula (2) for the atoms of the curve from `first` on, into their slots of gradients (n_slots, 4)."""
    arrays = count, start, neighbour, places, cell, tables.tables, dmoments, gradients
    _launch_of_pairs("gm_large_gradients", arrays, dmoments, first, tables, 1)


def gm_large_forces(count, start, neighbour, opposite, places, cell, order, gradients, forces, virials):
    """Formula (3): forces, and sums of the virials of THREADS atoms each, (n_blocks, 9)."""
    arrays = count, start, neighbour, opposite, places, cell, order, gradients, forces, virials
    _launch("gm_large_forces", len(order), arrays)


def _launch_of_pairs(name, arrays, of_atoms, first, tables, slabs):
    numbers = first, cuda.row_stride(of_atoms), *tables.numbers, tables.shared > 0
    _launch(name, of_atoms.shape[-1], (*arrays, *numbers), slabs, tables.shared)


def _launch(name, n, args, slabs=1, shared_mem=0):
    cuda.launch(FILE, name, n, THREADS, THREADS, (n, *args), y=slabs, shared_mem=shared_mem)
