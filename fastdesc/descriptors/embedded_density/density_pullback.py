"""Embedded density, the part that runs over pairs: the pullback to pair vectors.

With the cotangents dA^t of the densities of all iterations t, and phi_kc = f_c R_k m_c =: P_k(r) m_c(r),

    D_k[c] = sum_t c^t_jk dA^t_i[k, c]                                                                        (1)
    dr = (r/|r|) sum_k P'_k sum_c D_k[c] m_c + sum_kc P_k D_k[c] dm_c/dr                                      (2)

so that all iterations share one visit of the pairs.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.embedded_density.density import block_scratch
from fastdesc.descriptors.embedded_density.orbitals import (
    CONSTANTS,
    ROW,
    constants_in_lanes,
    orbital_geometry,
    radial_values_and_slopes,
)
from fastdesc.descriptors.recursion.neighbours import rows_of_neighbours, slot_coefficients
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3, pull_0_to_2, pull_3
from fastdesc.simd import lanes, load, planes_of, scratch, splat, store
from fastdesc.simd.neighbour_block import fill_block, scatter_block
from fastdesc.simd.tuples import axpy, dot, load_tuple, store_tuple, zeros


@inner
def load_density(kind, array, i, n, n_radial, n_moments, memory, at):
    """Rows of an array like `density` into scratch rows of twenty."""
    for k in range(n_radial):
        for c in range(n_moments):
            store(memory, at + k * ROW + c, load(kind, array, k * n_moments + c, i, n))


@inner
def combined(kind, dfirst, later, own, columns, k, n_radial, half, n_later):
    """Formula (1) for one k and half of the monomials; `dfirst` holds coefficients times dA^0."""
    D = load_tuple(kind, dfirst, k * ROW + half * TEN, 10)
    for t in range(n_later):
        c = load(kind, own, t * columns + k)
        D = axpy(c, load_tuple(kind, later, (t * n_radial + k) * ROW + half * TEN, 10), D)
    return D


@inner
def _pull_slot(
    kind, u, normalized, values, slopes, dfirst, later, own, columns, n_radial, n_later, has_degree3, vectors, slot
):
    """Formula (2) for one slot."""
    x, y, z, inverse = u
    slope = splat(kind, 0.0)
    m = monomials_0_to_2(kind, x, y, z)
    f = zeros(slope, 10)
    for k in range(n_radial):
        D = combined(kind, dfirst, later, own, columns, k, n_radial, 0, n_later)
        slope = slope + load(kind, slopes, k) * dot(D, m)
        f = axpy(load(kind, values, k), D, f)
    wx, wy, wz = pull_0_to_2(f, x, y, z)
    if has_degree3:
        m = monomials_3(x, y, z)
        f = zeros(slope, 10)
        for k in range(n_radial):
            D = combined(kind, dfirst, later, own, columns, k, n_radial, 1, n_later)
            slope = slope + load(kind, slopes, k) * dot(D, m)
            f = axpy(load(kind, values, k), D, f)
        vx, vy, vz = pull_3(f, x, y, z)
        wx, wy, wz = wx + vx, wy + vy, wz + vz
    if normalized:  # x, y, z are of unit length: only what is across them turns them
        along = slope - (x * wx + y * wy + z * wz) * inverse
        dr = (x * along + wx * inverse, y * along + wy * inverse, z * along + wz * inverse)
    else:
        along = slope * inverse
        dr = (x * along + wx, y * along + wy, z * along + wz)
    store_tuple(vectors, 3 * slot, dr)


@inner
def _weighted_density(kind, constants, z, source, n_radial, halves, target):
    """target_k = coefficient_{z,k} source_k."""
    for k in range(n_radial):
        c = load(kind, constants, (z * CONSTANTS + 2) * n_radial + k)
        for half in range(halves):
            at = k * ROW + half * TEN
            store_tuple(target, at, axpy(c, load_tuple(kind, source, at, 10), zeros(c, 10)))


@kernel
def ed_density_pullback(
    kind, first, last, row, j, species, rij, alpha, r_s, coefficients, c, ddensity, drij, n_moments, normalized, cutoff
):
    """Pullback (2) of the densities of all iterations, atoms first .. last-1, to the vectors of their pairs.

    in   row, j, species, rij, alpha, r_s, coefficients as for ed_density
         c (planes, iterations, n_atoms, columns) of the iterations after the first, columns filled up from n_radial
         Rows ddensity (planes, 1 + iterations, n_radial, n_moments, n_atoms)
    out  Rows drij (planes, 3, n_pairs)
    """
    _, n_species, n_radial = alpha.shape
    halves, width, n_later = 2 if n_moments > TEN else 1, lanes(kind), c.shape[1]
    counts, starts, pairs, vectors = block_scratch(kind, row, first, last, n_species)
    values, slopes = scratch(kind, n_radial), scratch(kind, n_radial)
    columns = c.shape[3]
    own = scratch(kind, n_later * columns)
    where = np.empty(pairs.shape, np.int64)
    dfirst = scratch(kind, n_radial * ROW)
    densities = scratch(kind, (1 + n_later) * n_radial * ROW)
    densities[:] = 0
    later = densities[n_radial * ROW * planes_of(kind) * width :]
    constants = scratch(kind, n_species * CONSTANTS * n_radial)
    constants_in_lanes(kind, alpha, r_s, coefficients, constants)
    for i in range(first, last, width):
        n = min(width, last - i)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        if n_later > 0:
            rows_of_neighbours(j, pairs, starts[n_species], i, n, columns, where)
        load_density(kind, ddensity, i, n, (1 + n_later) * n_radial, n_moments, densities, 0)
        for z in range(n_species):
            if starts[z] == starts[z + 1]:
                continue
            _weighted_density(kind, constants, z, densities, n_radial, halves, dfirst)
            for slot in range(starts[z], starts[z + 1]):
                u, d, fc, dfc = orbital_geometry(kind, vectors, slot, normalized, cutoff)
                radial_values_and_slopes(kind, d, fc, dfc, constants, z, n_radial, values, slopes)
                for t in range(n_later):
                    slot_coefficients(kind, c, where, slot, t, own, t * columns)
                _pull_slot(
                    kind, u, normalized, values, slopes, dfirst, later, own, columns, n_radial, n_later, halves == 2,
                    vectors, slot,
                )  # fmt: skip
        scatter_block(kind, pairs, starts[n_species], n, vectors, drij)
