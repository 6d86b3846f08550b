"""Embedded density, the part that runs over pairs: pullbacks to pair vectors and to parameters of the elements.

With the cotangents dA^t of the densities of all iterations t, and phi_kc = f_c R_k m_c =: P_k(r) m_c(r),

    D_k[c] = sum_t c^t_jk dA^t_i[k, c]                                                                        (1)
    dr = (r/|r|) sum_k P'_k sum_c D_k[c] m_c + sum_kc P_k D_k[c] dm_c/dr                                      (2)
    dalpha_k = -sum_p (r - r_s)^2 P_k D_k.m,   dr_s = sum_p 2 alpha (r - r_s) P_k D_k.m                       (3)
    dcoefficients_{Z,k} = sum_{p, Z_j = Z} P_k sum_c dA^0_i[k, c] m_c                                         (4)

so that all iterations share one visit of the pairs.
"""

import numpy as np

from fastdesc.backend.jit import inner, kernel
from fastdesc.descriptors.embedded_density.density import block_scratch, rows_of_neighbours, slot_coefficients
from fastdesc.descriptors.embedded_density.orbitals import (
    CONSTANTS,
    ROW,
    constants_in_lanes,
    orbital_geometry,
    radial_values,
    radial_values_and_slopes,
)
from fastdesc.numerics.monomials import TEN, monomials_0_to_2, monomials_3, pull_0_to_2, pull_3
from fastdesc.simd import lanes, load, load_atoms, planes_of, scratch, splat, store
from fastdesc.simd.neighbour_block import block_slots, fill_block, scatter_block
from fastdesc.simd.tuples import axpy, dot, load_tuple, store_tuple, zeros


@inner
def _load_density(kind, array, i, n, n_radial, n_moments, memory, at):
    """Rows of an array like `density` into scratch rows of twenty."""
    for k in range(n_radial):
        for c in range(n_moments):
            store(memory, at + k * ROW + c, load_atoms(kind, array, k * n_moments + c, i, n))


@inner
def _combined(kind, dfirst, later, own, columns, k, n_radial, half, n_later):
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
        D = _combined(kind, dfirst, later, own, columns, k, n_radial, 0, n_later)
        slope = slope + load(kind, slopes, k) * dot(D, m)
        f = axpy(load(kind, values, k), D, f)
    wx, wy, wz = pull_0_to_2(f, x, y, z)
    if has_degree3:
        m = monomials_3(x, y, z)
        f = zeros(slope, 10)
        for k in range(n_radial):
            D = _combined(kind, dfirst, later, own, columns, k, n_radial, 1, n_later)
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
        block_slots(row, j, species, n_species, i, n, counts, starts)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        if n_later > 0:
            rows_of_neighbours(j, pairs, starts[n_species], i, n, columns, where)
        _load_density(kind, ddensity, i, n, (1 + n_later) * n_radial, n_moments, densities, 0)
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


@kernel
def ed_parameters_pullback(
    kind, first, last, row, j, species, rij, alpha, r_s, coefficients, c, ddensity, dparameters,
    n_moments, normalized, cutoff,
):  # fmt: skip
    """Pullbacks (3) and (4), summed over atoms first .. last-1.

    in   as for ed_density_pullback
    out  dparameters (3, planes, n_species, n_radial) float64, added to: dalpha, dr_s, dcoefficients
    """
    planes, n_species, n_radial = alpha.shape
    halves, width, n_later = 2 if n_moments > TEN else 1, lanes(kind), c.shape[1]
    counts, starts, pairs, vectors = block_scratch(kind, row, first, last, n_species)
    columns = c.shape[3]
    own = scratch(kind, n_later * columns)
    where = np.empty(pairs.shape, np.int64)
    densities = scratch(kind, (1 + n_later) * n_radial * ROW)
    densities[:] = 0
    none = scratch(kind, n_radial * ROW)
    none[:] = 0
    later = densities[n_radial * ROW * planes * width :]
    constants = scratch(kind, n_species * CONSTANTS * n_radial)
    constants_in_lanes(kind, alpha, r_s, coefficients, constants)
    values, totals = scratch(kind, n_radial), scratch(kind, 3 * n_radial)
    for i in range(first, last, width):
        n = min(width, last - i)
        block_slots(row, j, species, n_species, i, n, counts, starts)
        fill_block(kind, row, j, species, rij, i, n, cutoff, counts, starts, vectors, pairs)
        if n_later > 0:
            rows_of_neighbours(j, pairs, starts[n_species], i, n, columns, where)
        _load_density(kind, ddensity, i, n, (1 + n_later) * n_radial, n_moments, densities, 0)
        for z in range(n_species):
            here = z * CONSTANTS * n_radial
            totals[:] = 0
            for slot in range(starts[z], starts[z + 1]):
                u, d, fc, _ = orbital_geometry(kind, vectors, slot, normalized, cutoff)
                radial_values(kind, d, fc, constants, z, n_radial, values, 0)
                for t in range(n_later):
                    slot_coefficients(kind, c, where, slot, t, own, t * columns)
                one = monomials_0_to_2(kind, u[0], u[1], u[2])
                two = monomials_3(u[0], u[1], u[2])
                for k in range(n_radial):
                    e0 = dot(load_tuple(kind, densities, k * ROW, 10), one)
                    e = dot(_combined(kind, none, later, own, columns, k, n_radial, 0, n_later), one)
                    if halves == 2:
                        e0 = e0 + dot(load_tuple(kind, densities, k * ROW + TEN, 10), two)
                        e = e + dot(_combined(kind, none, later, own, columns, k, n_radial, 1, n_later), two)
                    P = load(kind, values, k)
                    e = (e + e0 * load(kind, constants, here + 2 * n_radial + k)) * P
                    x = d - load(kind, constants, here + n_radial + k)
                    ax = x * load(kind, constants, here + k)
                    store(totals, k, load(kind, totals, k) - x * x * e)
                    store(totals, n_radial + k, load(kind, totals, n_radial + k) + (ax + ax) * e)
                    store(totals, 2 * n_radial + k, load(kind, totals, 2 * n_radial + k) + e0 * P)
            for which in range(3):
                for k in range(n_radial):
                    for plane in range(planes):
                        at = ((which * n_radial + k) * planes + plane) * width
                        for lane in range(n):
                            dparameters[which, plane, z, k] += totals[at + lane]
