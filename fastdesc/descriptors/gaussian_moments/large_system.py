"""Gaussian moments of one large periodic cell on a device, float32: a thread an atom.

    M_i[s, c] = sum_j R_s(r_ij) m_c(u_ij)                                                               (1)
    dr_ij = u sum_c m_c sum_s R'_s dM_i[s, c] + (1 - u u) sum_c (dm_c/du) sum_s R_s dM_i[s, c] / r_ij   (2)
    F_i = sum_j (dr_ij - dr_ji),   W = sum_ij r_ij (x) dr_ij                                            (3)

as of moments.py and fastdesc/geometry.py, with R_s from a table (radial_table.py), over a list in slices
(large_list.py). What makes it fast where there are enough atoms for a thread each: atoms are sorted along a curve in
space, the threads of a warp read the list side by side, moments stay in registers, and vectors of pairs are made where
they are needed and stored nowhere; of pairs, gradients alone are, 16 bytes each.

Functions are named as the kernels of kernels/gaussian_moments/large_system.cu and take their arrays, which lie on a
device, or on the host while tests emulate one.
"""

from dataclasses import dataclass
from typing import Any

from fastdesc.backend import cuda
from fastdesc.backend.arrays import namespace
from fastdesc.descriptors.gaussian_moments.large_list import THREADS
from fastdesc.descriptors.gaussian_moments.radial_table import radial_tables
from fastdesc.numerics.radial import BASES

FILE = "gaussian_moments/large_system.cu"
WIDTH = 5
"""Of the kernels: radial channels in registers."""
STAGED = 48 << 10
"""Bytes of radial tables up to which a block keeps its own in shared memory."""


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
        """What kernels take of it besides the tables."""
        sizes = {"n_species": self.n_species, "n_radial": self.n_radial, "n_moments": self.n_moments}
        return sizes | {
            "knots": self.knots, "per_knot": self.per_knot, "cutoff": self.cutoff, "staged": self.shared > 0
        }  # fmt: skip

    @property
    def shared(self):
        """Bytes that a block of threads keeps of it: those of a slab of channels, or none where these are too many."""
        size = self.tables.nbytes // len(self.tables)
        return size if size <= STAGED else 0


def forces_and_virial(listed, places, cell, gradients):
    """Formula (3): forces (n_atoms, 3), float64 in eV/Å, atoms in their own order; virial (3, 3), float64 in eV."""
    xp, n = namespace(places), listed.n_atoms
    forces, virials = xp.empty((n, 3)), xp.empty((-(-n // THREADS), 9))
    given = listed.count, listed.start, listed.neighbour, listed.opposite, places, cell, listed.order
    gm_large_forces(*given, gradients, forces, virials)
    return forces, virials.sum(axis=0).reshape(3, 3)


# ------------------------------------------------------------------------------------------------------------ launches


def gm_large_moments(count, start, neighbour, places, column, cell, tables, moments, first):
    """Formula (1) for the atoms of the curve from `first` on, as many as moments (n_radial, n_moments, n) has.

    `column` int32 (n_atoms,) says for each atom of the curve in which column of the moments it is.
    """
    arrays = count, start, neighbour, places, column, cell, tables.tables, moments
    slabs = len(tables.tables)
    numbers = {"first": first, "moments_stride": cuda.row_stride(moments), **tables.numbers}
    _launch("gm_large_moments", moments.shape[-1], arrays, slabs, tables.shared, **numbers)


def gm_large_gradients(count, start, neighbour, places, column, cell, tables, dmoments, gradients, first):
    """Formula (2) for the atoms of the curve from `first` on, into their slots of gradients (n_slots, 4)."""
    arrays = count, start, neighbour, places, column, cell, tables.tables, dmoments, gradients
    numbers = {"first": first, "dmoments_stride": cuda.row_stride(dmoments), **tables.numbers}
    _launch("gm_large_gradients", dmoments.shape[-1], arrays, 1, tables.shared, **numbers)


def gm_large_forces(count, start, neighbour, opposite, places, cell, order, gradients, forces, virials):
    """Formula (3): forces, and sums of the virials of THREADS atoms each, (n_blocks, 9)."""
    arrays = count, start, neighbour, opposite, places, cell, order, gradients, forces, virials
    _launch("gm_large_forces", len(order), arrays)


def _launch(name, n_atoms, arrays, slabs=1, shared_mem=0, **numbers):
    numbers["n_atoms"] = n_atoms
    cuda.launch(FILE, name, n_atoms, THREADS, THREADS, arrays, y=slabs, shared_mem=shared_mem, **numbers)
